"""The ledger shows every tampering and survives every crash."""

import json
import resource
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
from anonproxy.model.errors import StoreError
from tests.store.kill import deaths, killed_after

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


def test_torn_line_is_mended_by_name(folder: Path) -> None:
    """A line torn by a crash at any byte is replaced at the next start by an entry that says how much it was."""
    path = folder / FILE
    *whole, last = path.read_bytes().splitlines(keepends=True)
    for kept_bytes in range(1, len(last)):
        path.write_bytes(b"".join(whole) + last[:kept_bytes])
        Ledger(folder, NOW).append("started", {}, NOW)
        entries = read_ledger(folder)
        assert [entry.event for entry in entries[-2:]] == ["mended", "started"]
        assert entries[-2].details == {"torn_bytes": kept_bytes}


def test_zeros_of_a_power_cut_are_a_torn_line(folder: Path) -> None:
    """A file system may have made room for a line that never came."""
    with (folder / FILE).open("ab") as file:
        file.write(bytes(300))
    Ledger(folder, NOW)
    assert read_ledger(folder)[-1].details == {"torn_bytes": 300}


def test_a_mend_that_is_torn_itself_is_mended_by_name(folder: Path) -> None:
    """Killed while mending, at any byte, the next start still finds that something was torn."""
    path = folder / FILE
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(700))
    Ledger(folder, NOW)
    mend = path.read_bytes()[len(whole) :]
    for kept_bytes in range(0, len(mend), 7):
        path.write_bytes(whole + mend[:kept_bytes] + bytes(700 - kept_bytes))
        Ledger(folder, NOW)
        assert [entry.event for entry in read_ledger(folder)[5:]] == ["mended"]


def test_a_full_disk_leaves_the_chain_as_it_was(folder: Path) -> None:
    """What the disk refuses isn't in the chain, torn or whole, and the next entry follows the last whole one."""
    path = folder / FILE
    ledger = Ledger(folder, NOW)
    head = ledger.head
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, hard))
    try:
        for _ in range(2):
            with pytest.raises(OSError, match="short write"):
                ledger.append("sealed", {}, NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ledger.head == head
    ledger.append("stopped", {}, NOW)
    assert [entry.event for entry in read_ledger(folder)[5:]] == ["stopped"]


def test_what_was_taken_from_the_file_meanwhile_is_not_papered_over(folder: Path) -> None:
    """A ledger that was shortened under the writer gets no more entries: it would have a hole."""
    ledger = Ledger(folder, NOW)
    (folder / FILE).write_bytes(b"")
    with pytest.raises(OSError, match="shorter than it was"):
        ledger.append("sealed", {}, NOW)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / SIGNING_KEY).write_text("none"), "not an Ed25519 key"),
        (lambda folder: (folder / SIGNING_KEY).unlink(), "its signature is not by"),
        (lambda folder: (folder / FILE).write_bytes((folder / FILE).read_bytes() + b"{}\n"), "not a signed entry"),
    ],
    ids=["key spoilt", "key lost", "foreign entry"],
)
def test_what_cant_be_continued_is_refused(folder: Path, spoil: Callable[[Path], object], message: str) -> None:
    """A chain whose end isn't ours isn't continued, and the message says what to do with it."""
    spoil(folder)
    with pytest.raises(StoreError, match=message):
        Ledger(folder, NOW)


def test_killed_at_any_step_of_its_making_a_ledger_begins(tmp_path: Path) -> None:
    """The next start has a key, a published half of it and no leftovers."""
    for step in deaths():
        folder = tmp_path / str(step) / "ledger"
        folder.parent.mkdir()
        with killed_after(step) as fate:
            Ledger(folder, NOW).append("started", {}, NOW)
        Ledger(folder, NOW).append("started", {}, NOW)
        assert {entry.event for entry in read_ledger(folder)} == {"started"}
        assert sorted(path.name for path in folder.iterdir()) == sorted([FILE, PUBLIC_KEY, SIGNING_KEY])
        if not fate.came:
            break
    assert step > 5


def test_remembers_what_happened_last(folder: Path) -> None:
    """The newest entry of a kind is found, also after a restart."""
    Ledger(folder, NOW).append("configured", {"settings_sha256": "a"}, NOW + 60)
    ledger = Ledger(folder, NOW)
    assert ledger.latest("sealed")["rows"] == 4
    assert ledger.latest("configured") == {"settings_sha256": "a"}
    assert ledger.latest("purged") == {}
    assert ledger.newest({"sealed", "configured"}) == "configured"
    assert ledger.newest({"purged"}) is None
    assert ledger.last_s == NOW + 60


def test_signing_key_is_the_owners_alone(folder: Path) -> None:
    """The signing key can be read by its owner only, and is the only private key there."""
    assert stat.S_IMODE((folder / SIGNING_KEY).stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == sorted([FILE, PUBLIC_KEY, SIGNING_KEY])


def test_lines_are_canonical_json(folder: Path) -> None:
    """Each line is sorted, compact JSON, so that a stranger's script can verify it."""
    for line in (folder / FILE).read_text().splitlines():
        assert json.dumps(json.loads(line), sort_keys=True, separators=(",", ":")) == line
