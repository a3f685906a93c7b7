"""The processes that serve a store, as the kernel tells of them, and the swap of the machine that they run on.

Who serves is found by what only they can hold: the socket that answers for a store, and the lock on its folder. With
them come the supervisor above and every process below. What others may not see of a process is None here.
"""

import ctypes
import os
import platform
import re
import socket
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
STANDARD: Final = frozenset({1, 2})  # output and error
TEMPORARY: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - it is looked into, and nothing is made there
ROOT: Final = 0

# linux/capability.h; the numbers of get_robust_list(2) by machine.
CAP_SYS_PTRACE: Final = 1 << 19
CAPABILITY_VERSION: Final = 0x20080522
GET_ROBUST_LIST: Final = {"x86_64": 274, "aarch64": 100, "riscv64": 100}

_INTERPRETER: Final = re.compile(r"python[\d.]*")
_PROGRAMS: Final = frozenset({"anonproxy", "mitmdump"})
_SERVING: Final = frozenset({"run", "collect", "ingest", "mitmdump", "anonproxy"})
_MODULE: Final = re.compile(r"anonproxy(\.[a-z_]+)*")
_UNIT: Final = re.compile(r"/([\w@.:\\-]+\.service)(?:/|$)", re.ASCII)
_HELD: Final = re.compile(r"FLOCK\s+ADVISORY\s+WRITE\s+(\d+)\s+([0-9a-f]+):([0-9a-f]+):(\d+)\s")
_SHARED: Final = re.compile(r"\S+ .w.s \S+ \S+ (\d+)\s+(/.*)")

# Block devices that are memory, or encrypt; a key for the swap of an encrypted one is the administrator's affair.
_MEMORY_DEVICE: Final = re.compile(r"/dev/zram\d+")
_ENCRYPTED: Final = "CRYPT-"


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A regular file that a process holds open, or maps so that what it writes gets there."""

    number: int | None  # the descriptor; None for a mapping
    path: str
    is_writable: bool
    is_deleted: bool
    is_memory: bool


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment."""

    pid: int
    user: int
    arguments: tuple[str, ...]
    status: Mapping[str, str]
    core_limits: tuple[str, str]  # soft, hard
    is_dumpable: bool | None
    environment: Mapping[str, str] | None
    files: tuple[OpenFile, ...] | None
    mounts: str  # the view of the file system that it shares with others
    may_swap: bool  # what holds it together with others sets no limit of its own
    began_s: int
    unit: str  # of systemd, "" for none
    is_in_journal: bool
    is_piped: bool  # what it prints goes to another program, and not to systemd's journal

    @property
    def shown(self) -> str:
        """Name it as a report may: arguments could say anything."""
        return f"process {self.pid} ({self.name})"

    @property
    def name(self) -> str:
        """Give the module or program that runs."""
        words = [Path(word).name for word in self.arguments[:6]]
        known = next((word for word in words if word in _PROGRAMS or _MODULE.fullmatch(word)), "")
        return known or (words[0] if words and _INTERPRETER.fullmatch(words[0]) else "a program")

    @property
    def is_serving(self) -> bool:
        """Tell whether it runs a part of our software that serves, and isn't a shell that was told to start one."""
        words = [Path(word).name for word in self.arguments[:6]]
        is_program = bool(words) and bool(_INTERPRETER.fullmatch(words[0]) or words[0] in _PROGRAMS)
        verb = words[words.index("anonproxy") + 1 :][:1] if "anonproxy" in words else [self.name.partition(".")[0]]
        return is_program and bool(_SERVING & {*verb})

    @property
    def swapped_kb(self) -> int:
        """Tell how much of its memory is swapped out."""
        return int(self.status.get("VmSwap", "0").split()[0])

    @property
    def written(self) -> frozenset[str]:
        """Give the files that it may write to, as far as they have a name."""
        named = (file for file in self.files or () if not file.is_memory and not file.is_deleted)
        return frozenset(file.path for file in named if file.is_writable)

    @property
    def printed(self) -> frozenset[str]:
        """Give the files that standard output and error go to."""
        return frozenset(file.path for file in self.files or () if file.number in STANDARD)


@dataclass(frozen=True, slots=True)
class Swap:
    """A place that memory can be swapped to."""

    path: str
    is_safe: bool  # it is encrypted, or memory itself


@dataclass(frozen=True, slots=True)
class Machine:
    """What serves a store here, and what this machine does with memory."""

    processes: tuple[Process, ...] = ()
    swaps: tuple[Swap, ...] = ()
    hidden: str = ""  # what serves the store and can't be seen from here

    @property
    def outputs(self) -> tuple[Path, ...]:
        """Give the files that the processes print to, whatever the number of the descriptor.

        Those are standard output and error of any of them, and what all write to: what a process begins with goes on to
        its children, where it may have another number, so that nobody prints there but who is meant to.
        """
        printed = frozenset[str]().union(*(process.printed for process in self.processes))
        shared = frozenset.intersection(*(process.written for process in self.processes)) if self.processes[1:] else ()
        return tuple(sorted(map(Path, printed.union(shared))))

    @property
    def units(self) -> tuple[str, ...]:
        """Give the services whose journal holds what the processes print."""
        return tuple(sorted({process.unit for process in self.processes if process.unit and process.is_in_journal}))

    @property
    def veiled(self) -> tuple[str, ...]:
        """Say whose output, journal and temporary files can't be found from here."""
        veiled = [process for process in self.processes if process.files is None or process.environment is None]
        if not veiled:
            return ()
        what = "what they print to, their journal and their temporary files are not shown"
        return (f"{', '.join(process.shown for process in veiled)}: {what}; run as root",)

    def temporary_files(self, root: Path) -> Iterator[Path]:
        """Give what users who serve left in temporary folders since their processes began, but for the store.

        Folders are those that the processes see. What root left in those that all share is left out, since root does
        other things as well.
        """
        own = _read_link(PROC / "self/ns/mnt")
        views = {(process.user, process.mounts): process for process in reversed(self.processes)}
        for (user, mounts), process in views.items():
            if user != ROOT or mounts != own:
                for folder in TEMPORARY:
                    seen = Path(f"{PROC}/{process.pid}/root{folder}")
                    yield from _changed(seen, user, process.began_s, root.resolve())


NO_MACHINE: Final = Machine()


def look_around(root: Path) -> Machine:
    """Find what serves a store on this machine; nothing where nothing does. The process that asks is left out."""
    holders = _find_holders(root) if root.is_dir() else set()
    if ROOT in holders:
        return Machine(hidden="what serves this store runs in another container: run this there")
    known = {pid: process for pid in _list_pids() if pid != os.getpid() and (process := _peek(pid))}
    tops = {_climb(known, pid) for pid in holders if pid in known}
    family = sorted({pid for top in tops for pid in _descend(known, top)})
    return Machine(tuple(found for pid in family if (found := read_process(pid))), tuple(read_swaps()))


def socket_name(root: Path) -> bytes:
    """Return the name of the socket that answers for a store; it is told here a second time on purpose."""
    return b"\0anonproxy-" + sha256(os.fsencode(root.resolve())).hexdigest()[:32].encode()


def _find_holders(root: Path) -> set[int]:
    """Find who answers for a store and who holds its lock; zero stands for somebody out of sight."""
    return {*_ask_peer(root), *_read_locks(root)} - {os.getpid()}


def _ask_peer(root: Path) -> Iterator[int]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(socket_name(root))
        except OSError:
            return
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        yield struct.unpack("3i", credentials)[0]


def _read_locks(root: Path) -> Iterator[int]:
    status = root.stat()
    device = (os.major(status.st_dev), os.minor(status.st_dev))
    for pid, major, minor, inode in _HELD.findall(_read(PROC / "locks")):
        if int(inode) == status.st_ino and (int(major, 16), int(minor, 16)) == device:
            yield int(pid)


def _list_pids() -> list[int]:
    return sorted(int(name) for name in os.listdir(PROC) if name.isdecimal())


def _peek(pid: int) -> tuple[int, Process] | None:
    """Give the parent of a process, and of itself what all may know."""
    status = _read_status(pid)
    return (int(status.get("PPid", 0)), _make(pid, status)) if status else None


def _climb(known: Mapping[int, tuple[int, Process]], pid: int) -> int:
    """Go up from a holder as long as what stands above runs our software."""
    while (parent := known[pid][0]) in known and known[parent][1].is_serving:
        pid = parent
    return pid


def _descend(known: Mapping[int, tuple[int, Process]], top: int) -> Iterator[int]:
    yield top
    for pid, (parent, _) in known.items():
        if parent == top:
            yield from _descend(known, pid)


def read_process(pid: int) -> Process | None:
    """Read what the kernel tells of a process; None when it has ended, also while it was read."""
    status = _read_status(pid)
    process = _make(pid, status, is_deep=True) if status else None
    return process if _read_status(pid) else None


def _make(pid: int, status: Mapping[str, str], *, is_deep: bool = False) -> Process:
    user = int(status.get("Uid", "0").split()[0])
    environment = _read_environment(pid) if is_deep else None
    pipes = _read_pipes(pid) if is_deep else {}
    journal = {number for number, pipe in pipes.items() if pipe == (environment or {}).get("JOURNAL_STREAM")}
    return Process(
        pid,
        user,
        tuple(_read(PROC / f"{pid}/cmdline").split("\0")[:-1]),
        status,
        _read_core_limits(pid),
        is_dumpable(pid, user) if is_deep else None,
        environment,
        _read_files(pid) if is_deep else None,
        _read_link(PROC / f"{pid}/ns/mnt"),
        _may_swap(pid),
        _read_start(pid),
        next(iter(_UNIT.findall(_read(PROC / f"{pid}/cgroup"))), ""),
        bool(journal),
        bool(STANDARD & pipes.keys() - journal),
    )


def is_dumpable(pid: int, user: int) -> bool | None:
    """Tell whether a process can leave a core dump and be read by others of its user; None where nobody tells.

    The kernel gives the files of a process that isn't dumpable to root. Where it is root's anyway, one can only try:
    whoever is not allowed to trace, but of the same user, gets an answer if it is dumpable.

    Source: proc(5), "/proc/PID"; ptrace(2), "Ptrace access mode checking"
    """
    try:
        if user != ROOT:
            return (PROC / f"{pid}/environ").stat().st_uid == user
        return _may_trace_as_equal(pid) if os.geteuid() == ROOT else None
    except OSError:
        return None


def _may_trace_as_equal(pid: int) -> bool | None:
    """Ask for a thing that tracing allows, without the capability to trace whatever one likes."""
    number = GET_ROBUST_LIST.get(platform.machine())
    if number is None:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets):
        return None
    effective = sets[0]
    sets[0] = effective & ~CAP_SYS_PTRACE
    try:
        if libc.capset(header, sets):
            return None
        head, size = ctypes.c_void_p(), ctypes.c_size_t()
        refused: int = libc.syscall(number, pid, ctypes.byref(head), ctypes.byref(size))
        return not refused
    finally:
        sets[0] = effective
        libc.capset(header, sets)


def _read_status(pid: int) -> dict[str, str]:
    """Read what everybody may know of a process; nothing when it has ended, even if nobody has noticed yet."""
    lines = (line.partition(":") for line in _read(PROC / f"{pid}/status").splitlines())
    status = {name: value.strip() for name, _, value in lines}
    return {} if status.get("State", "Z").startswith("Z") else status


def _read_core_limits(pid: int) -> tuple[str, str]:
    line = re.search(r"^Max core file size +(\S+) +(\S+)", _read(PROC / f"{pid}/limits"), re.MULTILINE)
    return (line[1], line[2]) if line else ("unknown", "unknown")


def _read_environment(pid: int) -> dict[str, str] | None:
    try:
        content = (PROC / f"{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return None
    return dict(word.partition("=")[::2] for word in content.split("\0") if word)


def _read_files(pid: int) -> tuple[OpenFile, ...] | None:
    """List the regular files that a process has open or writes to by a mapping; None without the right to know."""
    folder = PROC / f"{pid}/fd"
    found = []
    try:
        for number in sorted(map(int, os.listdir(folder))):
            try:
                status, path = os.stat(folder / str(number)), os.readlink(folder / str(number))
                flags = int(re.findall(r"flags:\s*(\d+)", _read(PROC / f"{pid}/fdinfo/{number}"))[0], 8)
            except (FileNotFoundError, IndexError):  # closed meanwhile
                continue
            if stat.S_ISREG(status.st_mode):
                found.append(_make_file(number, path, is_writable=bool(flags & os.O_ACCMODE), names=status.st_nlink))
        for inode, path in _SHARED.findall((PROC / f"{pid}/maps").read_text(errors="replace")):
            if int(inode):
                found.append(_make_file(None, path, is_writable=True, names=not path.endswith(" (deleted)")))
    except OSError:
        return None
    return tuple(found)


def _make_file(number: int | None, path: str, *, is_writable: bool, names: int) -> OpenFile:
    bare = path.removesuffix(" (deleted)")
    return OpenFile(number, bare, is_writable, is_deleted=not names, is_memory=bare.startswith("/memfd:"))


def _may_swap(pid: int) -> bool:
    """Tell whether no control group above a process keeps it from being swapped out."""
    group = next(iter(re.findall(r"^0::(/.*)$", _read(PROC / f"{pid}/cgroup"), re.MULTILINE)), "/")
    folder = Path("/sys/fs/cgroup", group.lstrip("/"))
    return not any(_read(above / "memory.swap.max").strip() == "0" for above in (folder, *folder.parents))


def _read_pipes(pid: int) -> dict[int, str]:
    """Give the pipes and sockets that a process has open, by descriptor, named as systemd names that of its journal."""
    pipes = {}
    with suppress(OSError):
        for number in map(int, os.listdir(PROC / f"{pid}/fd")):
            with suppress(FileNotFoundError):  # closed meanwhile
                status = os.stat(PROC / f"{pid}/fd/{number}")
                if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode):
                    pipes[number] = f"{status.st_dev}:{status.st_ino}"
    return pipes


def _read_start(pid: int) -> int:
    """Tell when a process began.

    Units: unix seconds
    """
    fields = _read(PROC / f"{pid}/stat").rpartition(")")[2].split()
    booted = re.search(r"^btime (\d+)", _read(PROC / "stat"), re.MULTILINE)
    return int(booted[1]) + int(fields[19]) // os.sysconf("SC_CLK_TCK") if booted and len(fields) > 19 else 0


def _changed(folder: Path, user: int, since_s: float, store: Path) -> Iterator[Path]:
    """Give the files of a user below a folder that changed since; links are not followed."""
    seen_as = Path("/", *folder.parts[4:])
    for parent, folders, names in os.walk(folder):
        inside = seen_as / Path(parent).relative_to(folder)
        folders[:] = sorted(name for name in folders if inside / name != store)
        for path in (Path(parent, name) for name in sorted(names)):
            try:
                status = path.lstat()
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode) and status.st_uid == user and status.st_mtime >= since_s:
                yield path


def read_swaps() -> Iterator[Swap]:
    """List what this machine swaps to."""
    for line in _read(PROC / "swaps").splitlines()[1:]:
        path = line.split()[0]
        mapper = _read(Path("/sys/block", Path(path).resolve().name, "dm/uuid"))
        yield Swap(path, bool(_MEMORY_DEVICE.fullmatch(path)) or mapper.startswith(_ENCRYPTED))


def _read_link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _read(path: Path) -> str:
    """Read a small file of the kernel; nothing where it has none, or doesn't tell."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
