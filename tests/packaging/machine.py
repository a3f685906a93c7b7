"""A Debian machine of our own: a fresh system in a folder, and its systemd in namespaces, cut off from this one."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.support.servers import wait_until

PROJECT: Final = Path(__file__).parents[2]
RELEASE: Final = "trixie"
# What the package depends on, and what the tests use. Nothing else is there: dpkg refuses what depends on more, and
# what needs more than it says doesn't start.
PACKAGES: Final = "systemd,python3,libstdc++6,systemd-sysv,dbus,nginx-light,curl,procps"
PATIENCE_S: Final = 60.0

# The cgroup that the new namespace begins at must be left before it can be seen as the root of all.
ENTER: Final = """
mount -t cgroup2 none "$1/mnt"
mkdir "$1/mnt/$2"
echo $$ >"$1/mnt/$2/cgroup.procs"
umount "$1/mnt"
exec unshare --mount --uts --ipc --net --pid --cgroup --fork --kill-child bash -euc "$3" boot "$1"
"""
BOOT: Final = """
ip link set lo up
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
echo 512 >proc/sys/net/unix/max_dgram_qlen # as systemd would; but of the kernel that both share it changes nothing
mount --bind -o ro proc/sys proc/sys
mkdir -p outside
pivot_root . outside
umount -l outside
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=journal --show-status=no
"""
LEAVE: Final = """
mount -t cgroup2 none "$1/mnt"
find "$1/mnt/$2" -depth -type d -exec rmdir {} +
"""


@dataclass(frozen=True)
class Machine:
    """A machine that runs."""

    root: Path
    init: int  # the process that is systemd

    def run(self, script: str, *, is_fine: bool = True) -> str:
        """Run a shell script on the machine, as root, and return what it says."""
        call = ["nsenter", f"--target={self.init}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root"]
        inside = ["env", "-i", "-C", "/", "HOME=/root", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        ended = subprocess.run(
            [*call, *inside, "bash", "-euc", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=PATIENCE_S,
        )
        assert (ended.returncode == 0) == is_fine, ended.stdout
        return ended.stdout

    def write(self, path: str, text: str) -> None:
        """Write a file of the machine."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def build_package(folder: Path) -> Path:
    """Build the Debian package as an operator does."""
    _do(["packaging/build-deb", str(folder)])
    [package] = folder.glob("*.deb")
    return package


def bootstrap(root: Path) -> None:
    """Make a fresh system of packages, from where this machine has its own."""
    sites = _do(["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]).split()
    mirror = next(site for site in sites if urlsplit(site).path.strip("/") == "debian")
    _do(["mmdebstrap", "--variant=essential", f"--include={PACKAGES}", RELEASE, str(root), mirror])


@contextmanager
def booted(root: Path) -> Iterator[Machine]:
    """Boot a system."""
    group = f"machine-{time.monotonic_ns()}"
    outside = subprocess.Popen(["unshare", "--mount", "bash", "-euc", ENTER, "enter", str(root), group, BOOT])
    try:
        wait_until(lambda: bool(_find_systemd(outside.pid)), PATIENCE_S, "the machine")
        machine = Machine(root, _find_systemd(outside.pid)[0])
        wait_until(lambda: _is_up(machine), PATIENCE_S, "systemd")
        yield machine
    finally:
        outside.kill()  # and with it everything inside
        outside.wait()
        time.sleep(0.5)
        subprocess.run(["unshare", "--mount", "bash", "-euc", LEAVE, "leave", str(root), group], check=False)


def _find_systemd(parent: int) -> list[int]:
    """Find systemd among a process's children, which before it are the commands that prepare its place."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in children if _name_of(child) == "systemd"]


def _name_of(process: str) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return ""


def _is_up(machine: Machine) -> bool:
    try:
        return machine.run("systemctl is-system-running || true").strip() in {"running", "degraded"}
    except AssertionError:
        return False


def _do(command: list[str]) -> str:
    ended = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout
