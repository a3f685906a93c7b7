"""Run the audit: prove each check on its own sabotage, then look at the store."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final

from anonproxy.audit.bucket import Bucket
from anonproxy.audit.check import Check, Outcome, Verdict
from anonproxy.audit.checks import BUCKET, CHECKS, PROCESS_CHECKS, SURROUNDINGS
from anonproxy.audit.evidence import NO_ANCHOR, Anchor, Evidence, Progress, ignore_progress
from anonproxy.audit.limits import Limits
from anonproxy.audit.processes import NO_MACHINE, Machine
from anonproxy.audit.specimen import LEDGER, NOW, write_specimen
from anonproxy.audit.specimen_bucket import fetch_specimen
from anonproxy.audit.specimen_process import serve
from anonproxy.model.settings import Settings

NOTHING: Final = "the store holds no rows, so there is nothing to prove it on"
NO_PROCESSES: Final = (
    "No process that serves this store was found here, so none was looked at. Run the audit on the proxy's machine "
    "while it runs to see that, too"
)


@dataclass(frozen=True, slots=True)
class Control:
    """How a check did on a specimen: a clean one must pass, a sabotaged one must fail."""

    clean: Verdict
    sabotaged: Verdict

    @property
    def is_passed(self) -> bool:
        """Tell whether the check can be believed."""
        return self.clean == Verdict.PASS and self.sabotaged == Verdict.FAIL

    @property
    def is_blind(self) -> bool:
        """Tell whether the check could see nothing either way, as who may not look into processes."""
        return self.clean == self.sabotaged == Verdict.UNKNOWN


@dataclass(frozen=True, slots=True)
class Result:
    """What one check came to, and whether it can be believed."""

    check: Check
    control: Control
    outcome: Outcome

    @property
    def is_blind(self) -> bool:
        """Tell whether who asks may see nothing of what the check is about, here as little as in its specimen."""
        return self.check in PROCESS_CHECKS and self.control.is_blind and self.outcome.verdict == Verdict.UNKNOWN

    @property
    def verdict(self) -> Verdict:
        """Return the check's answer, or error where the check failed its own test."""
        return self.outcome.verdict if self.control.is_passed or self.is_blind else Verdict.ERROR


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit came to."""

    root: Path | str  # the folder, or the address of a bucket
    limits: str
    row_count: int
    file_count: int
    results: tuple[Result, ...]
    limits_in_force: Limits
    head: str  # of the ledger; none where there is no ledger
    unproven: tuple[str, ...]  # what the auditor would have had to bring along
    unseen: tuple[str, ...]  # what is not here to be looked at

    @property
    def verdict(self) -> Verdict:
        """Return pass only where every check passed, and there was at least one; else the gravest answer."""
        gravest = (Verdict.FAIL, Verdict.ERROR, Verdict.UNKNOWN)
        found = {result.verdict for result in self.results} or {Verdict.UNKNOWN}
        return next((verdict for verdict in gravest if verdict in found), Verdict.PASS)


def run_audit(
    root: Path,
    now_s: float,
    settings: Settings | None = None,
    checks: Sequence[Check] = CHECKS,
    progress: Progress = ignore_progress,
    limits: Limits | None = None,
    anchor: Anchor = NO_ANCHOR,
    look_in: Sequence[Path] = (),
    machine: Machine = NO_MACHINE,
    bucket: Bucket | None = None,
) -> Report:
    """Audit a store, and hold it to its settings, or to limits that are given instead.

    Folders that are named, processes that serve the store, and the bucket that it was fetched from are looked at, too.

    Raises: StoreError when the store can't be read
    """
    around = (SURROUNDINGS,) if machine.processes or any(path.exists() for path in look_in) else ()
    checks = (*checks, *(BUCKET,) * (bucket is not None), *around, *(PROCESS_CHECKS if machine.processes else ()))
    with _specimen() as specimen:
        controls = [_prove(check, specimen, progress, done, len(checks)) for done, check in enumerate(checks)]
    evidence = Evidence(root, now_s, settings, progress, limits, anchor, look_in, machine, bucket)
    row_count = evidence.row_count
    results = []
    for done, (check, control) in enumerate(zip(checks, controls, strict=True)):
        progress(f"checking: {check.claim}", done, len(checks))
        results.append(Result(check, control, _look(check, evidence, is_empty=not row_count)))
    files = sum(node.kind == "file" for node in evidence.nodes)
    return Report(
        root,
        evidence.limits.source,
        row_count,
        files,
        tuple(results),
        evidence.limits,
        _find_head(evidence),
        anchor.limits,
        _name_unseen(machine) if bucket is None else (),
    )


def _name_unseen(machine: Machine) -> tuple[str, ...]:
    if machine.hidden:
        return (f"{machine.hidden[0].upper()}{machine.hidden[1:]}",)
    return () if machine.processes else (NO_PROCESSES,)


def _find_head(evidence: Evidence) -> str:
    """Give the hash of the ledger's last whole line, to be written down for the next audit."""
    lines = (evidence.read(LEDGER) or b"").splitlines(keepends=True)
    return next((sha256(line).hexdigest() for line in reversed(lines) if line.endswith(b"\n")), "")


@contextmanager
def _specimen() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="anonproxy-audit-") as folder:
        specimen = Path(folder, "clean")
        write_specimen(specimen)
        yield specimen


def _look(check: Check, evidence: Evidence, *, is_empty: bool) -> Outcome:
    """Let a check look; where it breaks down it could not tell, and what broke it may not be repeated."""
    try:
        outcome = check.look(evidence)
    except Exception as error:
        return Outcome({}, (), (f"the check broke down ({type(error).__name__})",))
    return replace(outcome, unknown=(*outcome.unknown, NOTHING)) if is_empty else outcome


def _prove(check: Check, specimen: Path, progress: Progress, done: int, total: int) -> Control:
    progress(f"proving: {check.claim}", done, total)
    sabotaged = specimen.with_name(check.code)
    shutil.copytree(specimen, sabotaged)
    check.sabotage(sabotaged)
    verdicts = [_judge_specimen(check, root) for root in (specimen, sabotaged)]
    shutil.rmtree(sabotaged)
    return Control(*verdicts)


def _judge_specimen(check: Check, root: Path) -> Verdict:
    """Have a check look at a specimen of a store and, where it is about that, at what serves or publishes it."""
    # The ledger's folder is the specimen's only text: it stands for the logs that surround a store.
    look_in = (root / "ledger",)
    if check is BUCKET:
        fetched, bucket = fetch_specimen(root)
        return check.look(Evidence(fetched, NOW, bucket=bucket)).verdict
    if check not in PROCESS_CHECKS:
        return check.look(Evidence(root, NOW, look_in=look_in)).verdict
    try:
        with serve(root) as machine:
            return check.look(Evidence(root, NOW, look_in=look_in, machine=machine)).verdict
    except OSError:
        return Verdict.ERROR
