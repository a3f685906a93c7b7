"""Run the audit: prove each check on its own sabotage, then look at the store."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Outcome, Verdict
from anonproxy.audit.checks import CHECKS, surroundings
from anonproxy.audit.evidence import NO_ANCHOR, Anchor, Evidence, Progress, ignore_progress
from anonproxy.audit.limits import Limits
from anonproxy.audit.specimen import LEDGER, NOW, write_specimen
from anonproxy.model.settings import Settings

NOTHING: Final = "the store holds no rows, so there is nothing to prove it on"


@dataclass(frozen=True, slots=True)
class Control:
    """How a check did on a specimen: a clean one must pass, a sabotaged one must fail."""

    clean: Verdict
    sabotaged: Verdict

    @property
    def is_passed(self) -> bool:
        """Tell whether the check can be believed."""
        return self.clean == Verdict.PASS and self.sabotaged == Verdict.FAIL


@dataclass(frozen=True, slots=True)
class Result:
    """What one check came to, and whether it can be believed."""

    check: Check
    control: Control
    outcome: Outcome

    @property
    def verdict(self) -> Verdict:
        """Return the check's answer, or error where the check failed its own test."""
        return self.outcome.verdict if self.control.is_passed else Verdict.ERROR


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit came to."""

    root: Path
    limits: str
    row_count: int
    file_count: int
    results: tuple[Result, ...]
    limits_in_force: Limits
    head: str  # of the ledger; none where there is no ledger
    unproven: tuple[str, ...]  # what the auditor would have had to bring along

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
) -> Report:
    """Audit a store, and hold it to its settings, or to limits that are given instead; also other folders if named.

    Raises: StoreError when it can't be read
    """
    checks = (*checks, surroundings.CHECK) if look_in else checks
    with _specimen() as specimen:
        controls = [_prove(check, specimen, progress, done, len(checks)) for done, check in enumerate(checks)]
    evidence = Evidence(root, now_s, settings, progress, limits, anchor, look_in)
    row_count = evidence.row_count
    results = []
    for done, (check, control) in enumerate(zip(checks, controls, strict=True)):
        progress("checking", done, len(checks))
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
    )


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
    progress("proving", done, total)
    sabotaged = specimen.with_name(check.code)
    shutil.copytree(specimen, sabotaged)
    check.sabotage(sabotaged)
    # The ledger's folder is the specimen's only text: it stands for the logs that surround a store.
    verdicts = [check.look(Evidence(root, NOW, look_in=(root / "ledger",))).verdict for root in (specimen, sabotaged)]
    shutil.rmtree(sabotaged)
    return Control(*verdicts)
