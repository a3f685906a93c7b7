"""What serves a store is found and looked at: real processes, each with one fault, and the running proxy with none."""

import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from anonproxy.audit.check import Outcome, Verdict
from anonproxy.audit.checks import PROCESS_CHECKS, SURROUNDINGS
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.processes import Machine, OpenFile, Process, Swap, look_around, read_process, socket_name
from anonproxy.audit.run import NO_PROCESSES, run_audit
from anonproxy.audit.specimen import NOW, write_specimen
from anonproxy.audit.specimen_process import Fault, plant_fault, serve
from anonproxy.ingest import control
from tests.support.servers import ProxyProcess, run_nginx, run_proxy

CHECKS = (*PROCESS_CHECKS, SURROUNDINGS)
KEY = bytes(range(32)).hex()
NOBODY = 65534
# Temporary folders are everybody's: another process that runs tests meanwhile has a user and a name of its own.
SOMEBODY = 100_000 + os.getpid()
PLANTED = f"anonproxy-test-{os.getpid()}-"
PROJECT = Path(__file__).parents[2]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="what a process has open, only root is told")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a clean specimen of a store."""
    write_specimen(tmp_path / "store")
    return tmp_path / "store"


def judge(store: Path, machine: Machine) -> dict[str, Outcome]:
    """Return what each check of processes, and of what they leave around, came to."""
    evidence = Evidence(store, NOW, machine=machine)
    return {check.code: check.look(evidence) for check in CHECKS}


@pytest.fixture(autouse=True)
def _tidy_up() -> Iterator[None]:
    """Remove what a planted process left in a temporary folder."""
    yield
    for path in Path(tempfile.gettempdir()).glob(f"{PLANTED}*"):
        path.unlink()


def keeping(name: str) -> Callable[[Path], Fault]:
    """Let mitmproxy have kept a file in the home of who serves."""

    def plant(store: Path) -> Fault:
        folder = store.parent / "home" / ".mitmproxy"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(b"jane")
        return Fault(environment={"HOME": str(folder.parent)})

    return plant


FAULTS: dict[str, tuple[Fault | Callable[[Path], Fault], set[str]]] = {
    "a process that may dump its memory": (Fault("core = 1 << 20"), {"process-memory"}),
    "a process that others may look into": (Fault("dumpable = 1"), {"process-memory"}),
    "a process of another user that may be looked into": (
        Fault("os.setuid(65534); dumpable = 1"), {"process-memory"}),
    "a process that is traced": (Fault("ctypes.CDLL(None).ptrace(0, 0, 0, 0)"), {"process-memory"}),
    "memory swapped to a disk": (Fault(swapped_kb=12, swap="/dev/sda2"), {"process-swap"}),
    "a log beside the store": (Fault("log = open(store + '.log', 'a')"), {"process-files"}),
    "a deleted file that is written": (
        Fault("log = open(store + '.log', 'a'); os.unlink(log.name)"), {"process-files"}),
    "a mapping of a file outside": (
        Fault(
            "log = open(store + '.map', 'w+b'); log.truncate(4096); kept = mmap.mmap(log.fileno(), 4096); log.close()"
        ),
        {"process-files"},
    ),
    "a file in memory": (Fault("os.memfd_create('jane')"), {"process-files"}),
    "a key in the environment": (Fault(environment={"LANG": KEY}), {"process-words"}),
    "a password in the environment": (Fault(environment={"DB_PASSWORD": "jane"}), {"process-words"}),
    "TLS secrets that are written down": (Fault(environment={"SSLKEYLOGFILE": "/x"}), {"process-words"}),
    "a key in an argument": (Fault(arguments=(f"--key={KEY}",)), {"process-words"}),
    "traffic that is saved": (Fault(arguments=("-w", "flows")), {"process-words"}),
    "flows in mitmproxy's folder": (keeping("jane.flows"), {"mitmproxy-files"}),
    "options in mitmproxy's folder": (keeping("config.yaml"), {"mitmproxy-files"}),
    "an address on standard error": (
        Fault(
            "log = os.open(store + '.err', os.O_CREAT | os.O_WRONLY); os.dup2(log, 2); os.close(log); "
            "os.write(2, b'203.0.113.9\\n')"
        ),
        {"surroundings"},
    ),
    "an address in a temporary file of its user": (
        Fault(
            f"import tempfile; os.setuid({SOMEBODY}); file, kept = tempfile.mkstemp(prefix='{PLANTED}'); "
            "os.write(file, b'203.0.113.9\\n'); os.close(file)"
        ),
        {"surroundings"},
    ),
}  # fmt: skip
HARMLESS: dict[str, Fault | Callable[[Path], Fault]] = {
    "nothing": Fault(),
    "a file that is read": Fault("log = open('/proc/self/status')"),
    "a file of the store": Fault("log = open(store + '/hot/x.tmp', 'w')"),
    "the counts that processes share": Fault("os.memfd_create('anonproxy-counters')"),
    "credentials of an object store": Fault(environment={"AWS_SECRET_ACCESS_KEY": "k" * 40}),
    "a secret that is a file": Fault(environment={"DB_PASSWORD_FILE": "/run/secrets/x", "TOKEN": ""}),
    "a path of as many letters as a key": Fault(arguments=("/" + "x" * 42, "--config=/" + "x" * 42)),
    "the digest of a commit": Fault(environment={"COMMIT": "5d1f0c2ab3e49876" * 2, "INVOCATION_ID": "0" * 32}),
    "mitmproxy's own authority": keeping("mitmproxy-ca-cert.pem"),
}


def plant(store: Path, fault: Fault | Callable[[Path], Fault]) -> None:
    """Plant a fault for what is going to serve a store."""
    plant_fault(store, fault if isinstance(fault, Fault) else fault(store))


@as_root
@pytest.mark.parametrize("name", FAULTS)
def test_finds_the_fault_and_nothing_else(
    store: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    """Each fault of a real process fails the check that is for it, and no other; no name or value is repeated."""
    fault, expected = FAULTS[name]
    plant(store, fault)
    with serve(store) as machine:
        outcomes = judge(store, machine)
    found = {code: outcome.verdict for code, outcome in outcomes.items() if outcome.verdict != Verdict.PASS}
    assert found == dict.fromkeys(expected, Verdict.FAIL), [outcomes[code] for code in found]
    shown = " ".join(str(finding) for outcome in outcomes.values() for finding in outcome.findings)
    assert not any(secret in shown for secret in ("jane", KEY, "203.0.113", "store.log"))
    record_property("found_by", ", ".join(sorted(expected)))


@as_root
@pytest.mark.parametrize("name", HARMLESS)
def test_raises_no_false_alarm(store: Path, name: str) -> None:
    """What a sound process does passes, and each check says how much it looked at."""
    plant(store, HARMLESS[name])
    with serve(store) as machine:
        outcomes = judge(store, machine)
    assert {code: outcome for code, outcome in outcomes.items() if outcome.verdict != Verdict.PASS} == {}
    assert all(outcomes[check.code].looked_at for check in PROCESS_CHECKS)


def test_swap_that_may_be_used_is_no_pass(store: Path) -> None:
    """Nobody tells what was swapped out and back again, so a disk in clear that may be used leaves the answer open."""
    with serve(store) as machine:
        (check,) = (check for check in PROCESS_CHECKS if check.code == "process-swap")
        verdicts = {
            "in clear": check.look(Evidence(store, NOW, machine=replace(machine, swaps=(Swap("/dev/sda2", False),)))),
            "encrypted": check.look(Evidence(store, NOW, machine=replace(machine, swaps=(Swap("/dev/dm-0", True),)))),
        }
        barred = tuple(replace(process, may_swap=False) for process in machine.processes)
        limited = Machine(barred, (Swap("/dev/sda2", False),))
        verdicts["not allowed"] = check.look(Evidence(store, NOW, machine=limited))
    assert {name: outcome.verdict for name, outcome in verdicts.items()} == {
        "in clear": Verdict.UNKNOWN,
        "encrypted": Verdict.PASS,
        "not allowed": Verdict.PASS,
    }
    assert "MemorySwapMax=0" in verdicts["in clear"].unknown[0]


def test_what_is_not_shown_is_no_pass(store: Path) -> None:
    """Whoever may not look into processes is told so, with the remedy, and gets no pass."""
    with serve(store) as machine:
        veiled = tuple(
            replace(process, is_dumpable=None, files=None, environment=None) for process in machine.processes
        )
    outcomes = judge(store, Machine(veiled))
    for code in ("process-memory", "process-files", "process-words"):
        assert outcomes[code].verdict == Verdict.UNKNOWN
        assert "run the audit as root" in outcomes[code].unknown[0]


AS_ANOTHER = """
import json, os, sys
from pathlib import Path
from anonproxy.audit.checks import PROCESS_CHECKS, SURROUNDINGS
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.processes import look_around
root, user = Path(sys.argv[1]), int(sys.argv[2])
os.setgroups([])
os.setuid(user)
evidence = Evidence(root, float(sys.argv[3]), machine=look_around(root))
outcomes = {check.code: check.look(evidence) for check in (*PROCESS_CHECKS, SURROUNDINGS)}
print(json.dumps({code: [outcome.verdict, *outcome.unknown] for code, outcome in outcomes.items()}))
"""


@pytest.fixture
def open_store() -> Iterator[Path]:
    """Return a specimen of a store that belongs to nobody in particular, in a folder that all may enter."""
    with tempfile.TemporaryDirectory() as folder:
        write_specimen(Path(folder, "store"))
        for path in (Path(folder), *Path(folder).rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        yield Path(folder, "store")


@as_root
@pytest.mark.parametrize("server", ["", f"os.setuid({NOBODY}); dumpable = 0"], ids=["root's", "the auditor's own"])
def test_an_auditor_without_rights_gets_no_pass(open_store: Path, server: str) -> None:
    """Whoever isn't root is told what they can't see, even of their own processes, and what to do about it."""
    plant_fault(open_store, Fault(server))
    with serve(open_store):
        command = [sys.executable, "-c", AS_ANOTHER, str(open_store), str(NOBODY), str(NOW)]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True)
    told = json.loads(done.stdout)
    hidden = {code: unknown for code, (verdict, *unknown) in told.items() if verdict == Verdict.UNKNOWN}
    assert hidden.keys() - {"process-memory", "process-swap"} == {
        "process-files", "process-words", "mitmproxy-files", "surroundings",
    }  # fmt: skip
    assert all("as root" in what for code in hidden if code != "process-swap" for what in hidden[code])
    assert "their journal and their temporary files are not shown" in hidden["surroundings"][0]


def test_a_blind_check_is_no_error(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that may see nothing, on its specimens neither, can't tell; it is not called broken."""
    for name in ("environment", "files"):
        monkeypatch.setattr(f"anonproxy.audit.processes._read_{name}", lambda _pid: None)
    with serve(store) as machine:
        report = run_audit(store, NOW, checks=(), machine=machine)
    verdicts = {result.check.code: result.verdict for result in report.results}
    blind = ("process-files", "process-words", "mitmproxy-files")
    assert {result.check.code for result in report.results if result.is_blind} == {*blind}
    assert {code: verdicts[code] for code in blind} == dict.fromkeys(blind, Verdict.UNKNOWN)
    assert verdicts["process-memory"] == verdicts["process-swap"] == Verdict.PASS


def test_finds_what_is_printed_under_another_number(store: Path) -> None:
    """Of a standard error that a whole family writes to, as another descriptor, the file is searched; nobody's else."""
    with serve(store) as machine:
        (process,) = machine.processes
    log, own = (OpenFile(7, f"/var/log/{name}.log", True, False, False) for name in ("shared", "own"))
    parent, child = replace(process, files=(log, own)), replace(process, files=(replace(log, number=3),))
    family = Machine((parent, child))
    assert family.outputs == (Path(log.path),)
    assert Machine((parent,)).outputs == ()
    (check,) = (check for check in PROCESS_CHECKS if check.code == "process-files")
    (finding,) = check.look(Evidence(store, NOW, machine=family)).findings
    assert "to a file in /var/log (descriptor 7)" in str(finding)


def test_says_that_no_process_was_looked_at(store: Path) -> None:
    """Of a store that nothing serves here, the report says so and judges no process."""
    assert look_around(store) == look_around(store.parent / "nowhere") == Machine(swaps=look_around(store).swaps)
    report = run_audit(store, NOW, checks=())
    assert report.unseen == (NO_PROCESSES,)
    assert report.results == ()


def test_asks_where_the_proxy_answers(store: Path) -> None:
    """The name of the socket by which processes are found is the one that the recorder answers on."""
    assert socket_name(store) == control.socket_name(store)


REMOTE = Path("/usr/lib/systemd/systemd-journal-remote")


def write_journal(folder: Path, *said: tuple[str, str]) -> None:
    """Write a journal as systemd does, with what some units said.

    Source: systemd's "Journal Export Format"; a text of several lines stands behind its length
    """
    entries = b"".join(
        f"__REALTIME_TIMESTAMP=17953{second:011}\n_BOOT_ID={1:032x}\n_SYSTEMD_UNIT={unit}\nMESSAGE\n".encode()
        + struct.pack("<Q", len(text))
        + f"{text}\n\n".encode()
        for second, (unit, text) in enumerate(said)
    )
    target = folder / "system.journal"
    subprocess.run([REMOTE, f"--output={target}", "-"], input=entries, check=True, capture_output=True)


def judge_journal(store: Path) -> Outcome:
    """Return what comes of looking around a store whose server prints to the journal."""
    with serve(store) as machine:
        processes = tuple(replace(p, unit="anonproxy.service", is_in_journal=True) for p in machine.processes)
        return SURROUNDINGS.look(Evidence(store, NOW, machine=Machine(processes)))


@as_root
@pytest.mark.skipif(not REMOTE.exists(), reason="only systemd-journal-remote writes a journal without being systemd")
@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ([("anonproxy.service", "anonproxy serves"), ("sshd.service", "from 203.0.113.9")], Verdict.PASS),
        ([("anonproxy.service", "started"), ("anonproxy.service", "client 203.0.113.9")], Verdict.FAIL),
        ([("anonproxy.service", "two lines\nclient 203.0.113.9")], Verdict.FAIL),
        ([("sshd.service", "what the service said was rotated away")], Verdict.PASS),
        ([], Verdict.UNKNOWN),
    ],
)
def test_reads_the_journal_of_the_service(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, str]], verdict: Verdict
) -> None:
    """What a service prints to systemd's journal is read from there; of a machine that keeps none nobody can tell."""
    journal = tmp_path / "journal"
    journal.mkdir()
    if said:
        write_journal(journal, *said)
    # The real journalctl, which is only told where this journal lies.
    program = tmp_path / "bin" / "journalctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shutil.which("journalctl")} --directory={journal} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    outcome = judge_journal(store)
    assert outcome.verdict == verdict, outcome
    assert outcome.looked_at["journals"] == 1
    assert "203.0.113.9" not in str(outcome)


@as_root
def test_a_journal_that_can_not_be_read_is_no_pass(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where journalctl refuses, or isn't there, nobody can tell what a service said."""
    program = tmp_path / "journalctl"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "in the group systemd-journal" in judge_journal(store).unknown[0]
    program.unlink()
    assert "there is no journalctl" in judge_journal(store).unknown[0]


def test_knows_a_stream_of_the_journal(store: Path) -> None:
    """A process whose standard error is the stream that systemd named prints to the journal; another pipe is told."""
    reader, writer = os.pipe()
    stream = os.fstat(writer)
    environment = {"JOURNAL_STREAM": f"{stream.st_dev}:{stream.st_ino}"}
    plant_fault(store, Fault(f"os.dup2(os.open('/proc/{os.getpid()}/fd/{writer}', os.O_WRONLY), 2)", environment))
    with serve(store) as machine:
        (process,) = machine.processes
        outcome = SURROUNDINGS.look(Evidence(store, NOW, machine=replace(machine, processes=(process,))))
    os.close(reader)
    os.close(writer)
    assert (process.is_in_journal, process.is_piped) == (True, True)  # standard output is the specimen's own pipe
    assert "prints to another program" in str(outcome.figures[0])


@pytest.mark.parametrize(
    ("arguments", "name", "is_serving"),
    [
        (("/usr/bin/python3", "/usr/bin/anonproxy", "run"), "anonproxy", True),
        (("python3.13", "-P", "-m", "anonproxy.proxy.writer"), "anonproxy.proxy.writer", True),
        (("/opt/bin/mitmdump", "-s", "x.py"), "mitmdump", True),
        (("python3", "-m", "anonproxy", "collect"), "anonproxy", True),
        (("python3", "-m", "anonproxy", "demo"), "anonproxy", False),
        (("/usr/bin/anonproxy", "audit"), "anonproxy", False),
        (("anonproxy",), "anonproxy", False),
        (("python3", "-m", "pytest"), "python3", False),
        (("bash", "-c", "anonproxy run"), "a program", False),
        (("jane",), "a program", False),
        ((), "a program", False),
    ],
)
def test_names_what_runs(arguments: tuple[str, ...], name: str, is_serving: bool) -> None:
    """A process is named by what of ours it runs; whatever else stands in its arguments is not repeated."""
    process = replace(myself(), arguments=arguments)
    assert (process.name, process.is_serving) == (name, is_serving)


def myself() -> Process:
    """Return this very process."""
    process = read_process(os.getpid())
    assert process
    return process


def test_reads_what_the_kernel_tells() -> None:
    """Of this process the kernel tells what we know of it."""
    process = myself()
    assert (process.pid, process.user) == (os.getpid(), os.geteuid())
    assert process.is_dumpable
    assert process.arguments
    assert time.time() - 7 * 86_400 < process.began_s <= time.time() + 1
    assert read_process(2**22 + 1) is None


CONFIG = """\
[store]
path = "{{store}}"
flush_s = 0.2
[proxy]
listen = "127.0.0.1:{{port}}"
admin_listen = "127.0.0.1:{{admin_port}}"
workers = 2
[audit]
look_in = ["{logs}", "{logs}/nowhere"]
[[sites]]
name = "www"
upstream = "http://127.0.0.1:{origin}"
sitemap = ""
"""


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """Run the real proxy in front of a real nginx, as root with a log of its own."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "logs").mkdir()
    (folder / "logs" / "front.log").write_text("started\n")
    with (
        run_nginx(folder / "nginx", {"index.html": b"hello"}) as origin,
        run_proxy(folder / "proxy", CONFIG.format(origin=origin, logs=folder / "logs")) as process,
    ):
        yield process


def audit(proxy: ProxyProcess) -> dict[str, dict[str, object]]:
    """Run `anonproxy audit` beside the running proxy, and return what each check came to."""
    command = [sys.executable, "-m", "anonproxy", "audit", "--config", str(proxy.config), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return {check["code"]: check for check in json.loads(done.stdout)["checks"]}


@pytest.mark.slow
def test_the_running_proxy_is_looked_at(proxy: ProxyProcess) -> None:
    """The supervisor, the writer and the workers are found with nothing but the store's path, and are sound."""
    assert proxy.get("/")
    names = sorted(process.name for process in look_around(proxy.store).processes)
    assert names == ["anonproxy", "anonproxy.proxy.worker", "anonproxy.proxy.worker", "anonproxy.proxy.writer"]
    checks = audit(proxy)
    verdicts = {check.code: checks[check.code]["verdict"] for check in CHECKS}
    if not all(swap.is_safe for swap in look_around(proxy.store).swaps):  # of the machine that tests
        assert verdicts.pop("process-swap") == "can't tell"
    if os.geteuid() == 0:
        assert verdicts == dict.fromkeys(verdicts, "pass"), checks
    else:
        assert set(verdicts.values()) <= {"pass", "can't tell"}
    assert all(checks[check.code]["looked_at"] for check in CHECKS)


@pytest.mark.slow
def test_the_machine_can_be_left_out(proxy: ProxyProcess) -> None:
    """Whoever asks for the store alone gets no check of processes or logs, and is told so."""
    command = [sys.executable, "-m", "anonproxy", "audit", "-c", str(proxy.config), "--json", "--store-only"]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout)
    assert not {check["code"] for check in told["checks"]} & {check.code for check in CHECKS}
    assert told["unseen"] == ["Logs, temporary folders and processes were left out on request"]


@pytest.mark.slow
def test_the_configuration_names_where_to_look(proxy: ProxyProcess) -> None:
    """A log that the configuration names is searched without being named again, and so is what the proxy prints."""
    log = proxy.folder.parent / "logs" / "front.log"
    before = log.read_text()
    for path in (log, proxy.output):
        content = path.read_bytes()
        with path.open("ab") as file:
            file.write(b"client 203.0.113.9\n")
        surroundings = audit(proxy)["surroundings"]
        assert surroundings["verdict"] == "fail"
        assert f"{path}, line " in str(surroundings["findings"])
        path.write_bytes(content)
    assert log.read_text() == before


def test_modes_of_the_specimen_are_left(store: Path) -> None:
    """Serving a specimen changes nothing in it."""
    copy = shutil.copytree(store, store.parent / "copy")
    with serve(copy):
        pass
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
    assert sorted(path.relative_to(copy) for path in copy.rglob("*")) == sorted(
        path.relative_to(store) for path in store.rglob("*")
    )
