"""No memory of a process that serves is swapped to a disk, where it would outlive the key's destruction."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Finding, Outcome
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.processes import Machine
from anonproxy.audit.specimen_process import Fault, plant_fault

REMEDY: Final = "MemorySwapMax=0 in the unit, swapoff, or encrypted swap"


def look(evidence: Evidence) -> Outcome:
    """Ask the kernel what is swapped out, and whether something could be."""
    machine = evidence.machine
    return Outcome(
        {"processes": len(machine.processes), "places to swap to": len(machine.swaps)},
        tuple(find(machine)),
        tuple(_suspect(machine)),
    )


def find(machine: Machine) -> Iterator[Finding]:
    """Find what is on a disk just now. Where there is no swap any more, it has been brought back."""
    if all(swap.is_safe for swap in machine.swaps):
        return
    for process in machine.processes:
        if process.swapped_kb:
            what = f"{process.swapped_kb:,} kB of its memory are swapped to a disk without encryption: {REMEDY}"
            yield Finding(process.shown, what)


def _suspect(machine: Machine) -> Iterator[str]:
    """Say of whom something may have been there: nobody tells what was swapped out and back again."""
    if all(swap.is_safe for swap in machine.swaps):
        return
    for process in machine.processes:
        if process.may_swap and not process.swapped_kb:
            yield f"{process.shown} may have been swapped to a disk without encryption before: {REMEDY}"


def sabotage(root: Path) -> None:
    """Swap a part of a process to a disk."""
    plant_fault(root, Fault(swapped_kb=12, swap="/dev/sda2"))


CHECK: Final = Check(
    code="process-swap",
    claim="No memory of a process is swapped to a disk in clear",
    how="Of each process that serves the store the kernel is asked how much is swapped out, and whether it may be; "
    "swap that is encrypted, or in memory itself, does no harm.",
    look=look,
    sabotage=sabotage,
)
