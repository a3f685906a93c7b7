"""A process that serves writes into the store and nowhere else.

Where its standard output and error go is a file now and then: that is searched with the logs, and no finding by itself.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Finding, Outcome
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.processes import OpenFile, Process
from anonproxy.audit.specimen_process import Fault, plant_fault

# Memory that has the form of a file: the counts that processes share, and locks between processes of Python's.
IN_MEMORY: Final = re.compile(r"/memfd:anonproxy-counters|/dev/shm/sem\.\w{1,32}", re.ASCII)


def look(evidence: Evidence) -> Outcome:
    """Go through everything that the processes have open."""
    processes, outputs, root = evidence.machine.processes, evidence.machine.outputs, evidence.root.resolve()
    files = [(process, file) for process in processes for file in process.files or ()]
    findings = [finding for process, file in files for finding in find(process, file, outputs, root)]
    unknown = [
        f"{process.shown}: its open files are not shown; run the audit as root"
        for process in processes
        if process.files is None
    ]
    return Outcome({"processes": len(processes), "open files": len(files)}, tuple(findings), tuple(unknown))


def find(process: Process, file: OpenFile, outputs: Collection[Path], root: Path) -> Iterator[Finding]:
    """Find a file that is written outside of the store, or that has no name any more."""
    if IN_MEMORY.fullmatch(file.path):
        return
    if file.is_memory:
        yield Finding(process.shown, f"keeps a file in memory that isn't declared{_describe(file)}")
    elif file.is_deleted and file.is_writable:
        yield Finding(process.shown, f"writes to a file that was deleted, so that nobody sees it{_describe(file)}")
    elif file.is_writable and Path(file.path) not in outputs and not Path(file.path).is_relative_to(root):
        folder = Path(file.path).parent
        yield Finding(process.shown, f"writes outside of the store, to a file in {folder}{_describe(file)}")


def _describe(file: OpenFile) -> str:
    """Say which it is; its name is not repeated, since it could be anybody's."""
    return " (a mapping)" if file.number is None else f" (descriptor {file.number})"


def sabotage(root: Path) -> None:
    """Write a log beside the store."""
    plant_fault(root, Fault("log = open(store + '.log', 'a')"))


CHECK: Final = Check(
    code="process-files",
    claim="Processes write into the store and nowhere else",
    how="Every file that a process has open, and every mapping that it writes to, is in the store, or is memory that "
    "is declared; none is deleted and still written. Standard output and error are searched like a log.",
    look=look,
    sabotage=sabotage,
)
