"""The ledger shows every tampering and survives every crash."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from anonproxy.audit.ledger import (
    FILE,
    PUBLIC_KEY,
    SIGNING_KEY,
    Ledger,
    LedgerBroken,
    read_ledger,
    verify_lines,
)

NOW = 1_800_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a ledger of five entries."""
    ledger = Ledger(tmp_path / "ledger", NOW)
    for number in range(5):
        ledger.append("sealed", {"file": f"hour-{number}", "rows": number}, NOW + 3600 * number)
    return tmp_path / "ledger"


def test_reads_back(folder: Path) -> None:
    """What was appended is read back, verified, in order, to the minute."""
    entries = read_ledger(folder)
    assert [entry.details["rows"] for entry in entries] == [0, 1, 2, 3, 4]
    assert {entry.time_s % 60 for entry in entries} == {0}


def _edit(lines: list[bytes]) -> list[bytes]:
    return [lines[0].replace(b'"rows":0', b'"rows":9'), *lines[1:]]


TAMPERINGS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "changed": (_edit, "entry 0: its signature"),
    "removed": (lambda lines: lines[:1] + lines[2:], "entry 1: expected number 1, got 2"),
    "first removed": (lambda lines: lines[1:], "entry 0: expected number 0, got 1"),
    "reordered": (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "entry 1: expected number 1"),
    "repeated": (lambda lines: [*lines, lines[-1]], "entry 5: expected number 5, got 4"),
    "foreign line": (lambda lines: [*lines, b"{}\n"], "entry 5: not a signed entry"),
    "garbage": (lambda lines: [*lines, b"\xff\x00\n"], "entry 5: not a signed entry"),
    "torn": (lambda lines: [*lines[:-1], lines[-1][:-9]], "entry 4: torn"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_names_the_tampered_entry(folder: Path, name: str) -> None:
    """Each tampering is named with the first entry it touches."""
    tamper, message = TAMPERINGS[name]
    path = folder / FILE
    path.write_bytes(b"".join(tamper(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(LedgerBroken, match=message):
        read_ledger(folder)


def test_published_head_shows_truncation(folder: Path) -> None:
    """A chain that was cut off at its end verifies by itself, but not against an earlier published head."""
    path, key = folder / FILE, (folder / PUBLIC_KEY).read_bytes()
    head = Ledger(folder, NOW).head
    whole = path.read_bytes()
    assert len(list(verify_lines(whole, key, expected_head=head))) == 5
    cut = b"".join(whole.splitlines(keepends=True)[:-1])
    with pytest.raises(LedgerBroken, match="cut off or replaced"):
        list(verify_lines(cut, key, expected_head=head))


def test_another_key_is_not_believed(folder: Path, tmp_path: Path) -> None:
    """A whole chain forged with another key fails against the published one."""
    Ledger(tmp_path / "forged", NOW).append("sealed", {}, NOW)
    with pytest.raises(LedgerBroken, match="entry 0: its signature"):
        list(verify_lines((tmp_path / "forged" / FILE).read_bytes(), (folder / PUBLIC_KEY).read_bytes()))


@pytest.mark.parametrize("kept_bytes", [1, 20, -1])
def test_torn_line_is_mended_by_name(folder: Path, kept_bytes: int) -> None:
    """A line torn by a crash is cut off at the next start, and an entry says that it was."""
    path = folder / FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:kept_bytes])
    Ledger(folder, NOW).append("started", {}, NOW)
    entries = read_ledger(folder)
    assert [entry.event for entry in entries[-2:]] == ["mended", "started"]


def test_signing_key_is_the_owners_alone(folder: Path) -> None:
    """The signing key can be read by its owner only, and is the only private key there."""
    assert stat.S_IMODE((folder / SIGNING_KEY).stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == sorted([FILE, PUBLIC_KEY, SIGNING_KEY])


def test_lines_are_canonical_json(folder: Path) -> None:
    """Each line is sorted, compact JSON, so that a stranger's script can verify it."""
    for line in (folder / FILE).read_text().splitlines():
        assert json.dumps(json.loads(line), sort_keys=True, separators=(",", ":")) == line
