"""No process that serves can leave its memory behind, and nobody looks into it: it holds the key and raw requests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Finding, Outcome
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.processes import ROOT, Process
from anonproxy.audit.specimen_process import Fault, plant_fault


def look(evidence: Evidence) -> Outcome:
    """Ask the kernel for limits, dumpability and tracers."""
    processes = evidence.machine.processes
    return Outcome(
        {"processes": len(processes)},
        tuple(finding for process in processes for finding in find(process)),
        tuple(
            f"{process.shown}: nobody tells whether it can be dumped; run the audit as root"
            for process in processes
            if process.is_dumpable is None
        ),
        tuple(_figures(processes)),
    )


def find(process: Process) -> Iterator[Finding]:
    """Find ways in which memory gets out of a process."""
    if process.core_limits != ("0", "0"):
        yield Finding(process.shown, "may leave a core dump: its limit isn't 0 (LimitCORE=0)")
    if process.is_dumpable:
        yield Finding(
            process.shown, "others of its user may read its memory, and a crash may dump it (PR_SET_DUMPABLE)"
        )
    if process.status.get("TracerPid", "0") != "0":
        yield Finding(process.shown, "is traced by another process, which reads its memory")


def _figures(processes: tuple[Process, ...]) -> Iterator[str]:
    """Say what makes a break-in worse, and is no leak by itself."""
    if any(process.user == ROOT for process in processes):
        yield "they run as root; a user of its own could change nothing but the store"
    if any(process.status.get("NoNewPrivs") == "0" for process in processes):
        yield "they could gain rights by programs like sudo; NoNewPrivileges=yes in the unit forbids it"


def sabotage(root: Path) -> None:
    """Serve without forbidding others to look."""
    plant_fault(root, Fault("dumpable = 1"))


CHECK: Final = Check(
    code="process-memory",
    claim="No process leaves its memory behind or shows it",
    how="Of each process that serves the store the kernel is asked: its limit for core dumps is 0, others of its user "
    "can't read it, and nothing traces it.",
    look=look,
    sabotage=sabotage,
)
