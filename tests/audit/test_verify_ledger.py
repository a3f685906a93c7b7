"""The script without our code and the audit agree on every tampering, in the same words."""

import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from anonproxy.audit.checks.foreign import CHECK as FOREIGN
from anonproxy.audit.checks.ledger import CHECK as LEDGER_CHECK
from anonproxy.audit.evidence import Anchor, Evidence
from anonproxy.audit.ledger import Ledger
from anonproxy.audit.published import verify_published
from anonproxy.audit.specimen import (
    DAILY,
    HITS,
    LEDGER,
    NOW,
    SEALED,
    TODAY,
    YESTERDAY,
    change_rows,
    plant,
    read_rows,
    sign,
    tidy,
    write_day,
    write_hour,
    write_rows,
    write_specimen,
)
from anonproxy.audit.tree import DAY_S, HOUR_S
from anonproxy.store.purge import purge
from anonproxy.store.seal import seal
from anonproxy.store.settle import settle
from tests.store.examples import MIDNIGHT, K, settings, visits, write

SCRIPT = Path(__file__).parents[2] / "scripts" / "verify-ledger"
PUBLIC_KEY = "ledger/public-key.pem"
OTHER_HITS = "hits/site=www/date=2026-11-19/hits.parquet"
OTHER_HOUR = "hot/site=www/date=2026-11-21/11.parquet"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a store whose entries hold digests, and beside it its public key and head as they were published."""
    root = tmp_path_factory.mktemp("original") / "store"
    write_specimen(root)
    write_day(root, YESTERDAY - DAY_S)
    write_hour(root, TODAY + 11 * HOUR_S)
    (root.parent / "earlier").write_bytes((root / SEALED).read_bytes())
    change_rows(root, SEALED, lambda rows: rows.pop())
    (root.parent / "published.pem").write_bytes((root / PUBLIC_KEY).read_bytes())
    (root.parent / "head").write_text(head(root))
    sign(root, "rotated", {})
    return root.parent


@pytest.fixture
def store(original: Path, tmp_path: Path) -> Path:
    """Return a copy of the store, to tamper with."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path / "store"


def digest(root: Path, path: str) -> str:
    """Return a file's SHA-256."""
    return sha256((root / path).read_bytes()).hexdigest()


def head(root: Path) -> str:
    """Return the SHA-256 of the last line."""
    return sha256(lines(root)[-1]).hexdigest()


def lines(root: Path) -> list[bytes]:
    """Return the lines of the ledger."""
    return (root / LEDGER).read_bytes().splitlines(keepends=True)


def edit(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    """Return a tampering that rewrites the ledger's lines."""

    def tamper(root: Path) -> None:
        (root / LEDGER).write_bytes(b"".join(change(lines(root))))

    return tamper


def forge(root: Path) -> None:
    """Write a chain of one's own, with a key of one's own."""
    for path in (root / "ledger").iterdir():
        path.unlink()
    Ledger(root / "ledger", NOW).append("started", {}, NOW)


def sign_anew(root: Path) -> None:
    """Write another chain with the right key, as who holds the machine could."""
    (root / LEDGER).unlink()
    Ledger(root / "ledger", YESTERDAY).append("started", {"version": "0.1.0"}, YESTERDAY)


def add_with_another_key(root: Path) -> None:
    """Add an entry that follows the chain but is signed with another key."""
    other = root.parent / "other"
    Ledger(other, NOW).append("rotated", {}, NOW)
    entry = json.loads((other / "ledger.jsonl").read_bytes())
    entry |= {"seq": len(lines(root)), "previous": head(root)}
    line = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    (root / LEDGER).write_bytes((root / LEDGER).read_bytes() + line)


def restore_purged(root: Path) -> None:
    """Bring a file back that was deleted."""
    sign(root, "purged", {"tier": "hits", "site": "www", "date": "2026-11-20"})


def exchange(root: Path, one: str, other: str) -> None:
    """Let two files change places."""
    (root / one).rename(root / "x")
    (root / other).rename(root / one)
    (root / "x").rename(root / other)
    tidy(root)


def take_day_away(root: Path) -> None:
    """Delete a settled day, and say nothing."""
    for path in (HITS, DAILY):
        (root / path).unlink()


def replace_key(root: Path) -> None:
    """Lay a public key of one's own into the store, for auditors who trust what they find."""
    Ledger(root.parent / "other", NOW)
    plant(root, PUBLIC_KEY, (root.parent / "other/public-key.pem").read_bytes())


CHAIN: dict[str, tuple[Callable[[Path], None], str]] = {
    "an event changed": (edit(lambda ls: [ls[0].replace(b"started", b"stopped"), *ls[1:]]), "entry 0: its signature"),
    "a digest changed": (
        edit(lambda ls: [line.replace(b'_sha256":"', b'_sha256":"0') for line in ls]),
        "its signature",
    ),
    "a time changed": (edit(lambda ls: [*ls[:-1], ls[-1].replace(b'"time":1', b'"time":2')]), "its signature"),
    "an entry removed": (edit(lambda ls: [*ls[:2], *ls[3:]]), "entry 2: expected number 2, got 3"),
    "the first entry removed": (edit(lambda ls: ls[1:]), "entry 0: expected number 0, got 1"),
    "entries reordered": (edit(lambda ls: [ls[0], ls[2], ls[1], *ls[3:]]), "entry 1: expected number 1, got 2"),
    "an entry repeated": (edit(lambda ls: [*ls, ls[-1]]), "expected number"),
    "an entry added with another key": (add_with_another_key, "its signature is not by the published key"),
    "an empty object added": (edit(lambda ls: [*ls, b"{}\n"]), "not a signed entry"),
    "a list added": (edit(lambda ls: [*ls, b"[]\n"]), "not a signed entry"),
    "garbage added": (edit(lambda ls: [*ls, b"\xff\x00\n"]), "not a signed entry"),
    "an empty line added": (edit(lambda ls: [*ls, b"\n"]), "not a signed entry"),
    "a space added": (edit(lambda ls: [*ls[:-1], ls[-1].replace(b",", b", ", 1)]), "not written as it was signed"),
    "a word said twice": (edit(lambda ls: [*ls[:-1], ls[-1].replace(b"{", b'{"event":"x",', 1)]), "not written as"),
    "the last line torn": (edit(lambda ls: [*ls[:-1], ls[-1][:-9]]), "torn, its line has no end"),
    "the end cut off": (edit(lambda ls: ls[:-2]), "the published head is not in this chain"),
    "the whole cut off": (edit(lambda ls: []), "the published head is not in this chain"),
    "all replaced with another key": (forge, "entry 0: its signature"),
    "all replaced with the right key": (sign_anew, "the published head is not in this chain"),
}

FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a sealed hour changed": (lambda root: write_rows(root, SEALED, read_rows(root, SEALED)[1:]), SEALED),
    "settled hits changed": (lambda root: write_rows(root, HITS, read_rows(root, HITS)[1:]), HITS),
    "totals swapped": (lambda root: plant(root, DAILY, (root / HITS).read_bytes()), DAILY),
    "a byte changed": (lambda root: plant(root, HITS, (root / HITS).read_bytes()[:-1] + b"\0"), HITS),
    "a sealed hour missing": (lambda root: (root / SEALED).unlink(), SEALED),
    "settled hits missing": (lambda root: (root / HITS).unlink(), HITS),
    "an hour added": (
        lambda root: write_hour(root, TODAY + 9 * HOUR_S, is_journalled=False),
        "hot/site=www/date=2026-11-21/09.parquet",
    ),
    "a day added": (
        lambda root: write_day(root, YESTERDAY - 2 * DAY_S, is_journalled=False),
        "daily/site=www/date=2026-11-18/daily.parquet hits/site=www/date=2026-11-18/hits.parquet",
    ),
    "a broken file added": (
        lambda root: plant(root, "hot/site=www/date=2026-11-21/10.0123456789abcdef.broken", b"?"),
        "hot/site=www/date=2026-11-21/10.0123456789abcdef.broken",
    ),
    "a deleted file restored": (restore_purged, HITS),
    "a file cut off": (lambda root: plant(root, HITS, (root / HITS).read_bytes()[:-99]), HITS),
    "a file emptied": (lambda root: plant(root, SEALED, b""), SEALED),
    "bytes added to a file": (lambda root: plant(root, SEALED, (root / SEALED).read_bytes() + b"jane"), SEALED),
    "two days exchanged": (lambda root: exchange(root, HITS, OTHER_HITS), f"{OTHER_HITS} {HITS}"),
    "an hour in the place of another": (
        lambda root: plant(root, SEALED, (root / OTHER_HOUR).read_bytes()), SEALED),
    "an hour moved to another": (
        lambda root: (root / OTHER_HOUR).rename(root / OTHER_HOUR.replace("/11.", "/12.")),
        f"{OTHER_HOUR} {OTHER_HOUR.replace('/11.', '/12.')}"),
    "hits and totals exchanged": (lambda root: exchange(root, HITS, DAILY), f"{DAILY} {HITS}"),
    "an earlier version of a file": (lambda root: plant(root, SEALED, (root.parent / "earlier").read_bytes()), SEALED),
    "a day taken away as if it had been purged": (
        take_day_away, f"{DAILY} {HITS}"),
    "the store's own key replaced": (replace_key, PUBLIC_KEY),
    "the store's own key destroyed": (lambda root: plant(root, PUBLIC_KEY, b"?"), PUBLIC_KEY),
}  # fmt: skip


def run_script(root: Path, *arguments: str, **published: str) -> tuple[int, list[str]]:
    """Run the script within this process; return its exit status and what it calls broken."""
    argv, printed = sys.argv, []
    sys.argv = [str(SCRIPT), str(root / LEDGER), str(root.parent / "published.pem"), *arguments]
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(
                str(SCRIPT), init_globals={"print": lambda text, **_: printed.append(text)}, run_name="__main__"
            )
    finally:
        sys.argv = argv
    status = ended.value.code
    assert isinstance(status, int)
    return status, [text.removeprefix("BROKEN  ") for text in printed if text.startswith("BROKEN")]


def append(ledger: Ledger, now_s: float, event: str, details: Mapping[str, str | int]) -> None:
    """Append an entry, as a journal does."""
    ledger.append(event, details, now_s)


def verify_with_package(root: Path, now_s: float = NOW) -> list[str]:
    """Verify with the package: the chain against what was published, then the check of the audit."""
    key, published_head = (root.parent / name for name in ("published.pem", "head"))
    published = verify_published(root, key.read_bytes(), published_head.read_text())
    if published.broken:
        return [published.broken]
    evidence = Evidence(root, now_s, anchor=Anchor(key.read_bytes()))
    return sorted(str(finding) for finding in LEDGER_CHECK.look(evidence).findings)


def verify_with_script(root: Path) -> tuple[int, list[str]]:
    """Verify with the script, against all that was published."""
    status, broken = run_script(root, "--head", (root.parent / "head").read_text(), "--store", str(root))
    return status, sorted(broken)


def test_whole_store_verifies(store: Path) -> None:
    """What wasn't touched is broken to neither."""
    assert verify_with_package(store) == []
    assert verify_with_script(store) == (0, [])


@pytest.mark.parametrize("name", CHAIN)
def test_both_name_the_tampered_entry(store: Path, name: str) -> None:
    """A tampering with the chain is named with its entry, in the same words by both."""
    tamper, expected = CHAIN[name]
    tamper(store)
    (broken,) = verify_with_package(store)
    assert expected in broken
    assert verify_with_script(store) == (1, [broken])


@pytest.mark.parametrize("name", FILES)
def test_both_name_the_tampered_file(store: Path, name: str) -> None:
    """A file that was changed, is missing or was added is named, in the same words by both, and no other is."""
    tamper, paths = FILES[name]
    tamper(store)
    broken = verify_with_package(store)
    assert [message.partition(": ")[0] for message in broken] == paths.split()
    assert verify_with_script(store) == (1, broken)


@pytest.mark.parametrize("path", ["hot/site=www/notes.txt", "visitors.csv", "ledger/epoch.key", "hits/x.parquet"])
def test_both_name_a_foreign_file(store: Path, path: str) -> None:
    """A file that belongs to no store at all is named by the script, and by a check of its own."""
    plant(store, path, b"?")
    assert len(FOREIGN.look(Evidence(store, NOW)).findings) == 1
    assert verify_with_script(store) == (1, [f"{path}: no entry says that it was written"])


def test_any_earlier_head_will_do(store: Path, tmp_path: Path) -> None:
    """Every head that the chain ever had verifies, by both; what was added since is counted. One to come doesn't."""
    hashes = [sha256(line).hexdigest() for line in lines(store)]
    for number, earlier in enumerate(["0" * 64, *hashes]):
        (tmp_path / "head").write_text(earlier)
        assert verify_with_script(store) == (0, [])
        published = verify_published(store, None, earlier)
        assert (published.broken, published.since_head) == ("", len(hashes) - number)
    sign(store, "rotated", {})
    (tmp_path / "head").write_text(head(store))
    edit(lambda ls: ls[:-1])(store)
    assert verify_with_script(store)[0] == 1
    assert "head is not in this chain" in verify_with_package(store)[0]


def test_published_is_told_in_words(store: Path, tmp_path: Path) -> None:
    """The comparison with what was published says how much was compared, or what is wrong."""
    key, head = (tmp_path / "published.pem").read_bytes(), (tmp_path / "head").read_text()
    assert str(verify_published(store, key, head)) == (
        f"The ledger is the one that was published: {len(lines(store))} entries, signed and linked; "
        "nothing before the head has changed, entries since: 1"
    )
    assert verify_published(store, None, None).since_head is None
    assert verify_published(store, b"?", None).broken == "what was given is not a public key"
    assert verify_published(tmp_path / "nowhere", key, None).broken == "it can't be read"
    sign_anew(store)
    assert str(verify_published(store, key, head)).startswith("The ledger is not the one that was published: ")


def test_truncation_without_a_head_shows_in_the_files(store: Path) -> None:
    """Without an earlier head, an end that was cut off shows where the entries of files were in it."""
    (store / LEDGER).write_bytes(b"".join(lines(store)[:-3]))
    status, broken = run_script(store, "--store", str(store))
    assert (status, sorted(broken)) == (
        1,
        [
            f"{SEALED}: is not the file whose digest stands in the ledger",
            f"{OTHER_HOUR}: no entry says that it was written",
        ],
    )


def test_a_restored_backup_is_told_and_no_tampering(store: Path) -> None:
    """A backup leaves hours out: they are missing until the ledger is told, in a signed entry, that they are lost."""
    hour = write_hour(store, TODAY - 3 * DAY_S)
    (store / hour).unlink()
    tidy(store)
    (missing,) = verify_with_package(store)
    assert verify_with_script(store) == (1, [missing])
    sign(store, "lost", {"file": hour})
    assert verify_with_package(store) == []
    assert verify_with_script(store) == (0, [])
    (store / SEALED).unlink()
    (broken,) = verify_with_package(store)
    assert verify_with_script(store) == (1, [broken])


def test_ledger_alone_is_enough(store: Path) -> None:
    """The chain is verified without the store; an empty one proves nothing."""
    assert run_script(store) == (0, [])
    (store / LEDGER).write_bytes(b"")
    assert run_script(store) == (1, ["the ledger has no entry, so it proves nothing"])


def test_store_that_was_kept_verifies(tmp_path: Path) -> None:
    """What the store itself writes, seals, settles and purges, both verify; and both see what is missing then."""
    root = tmp_path / "store"
    root.mkdir(0o700)
    ledger = Ledger(root / "ledger", MIDNIGHT)
    (tmp_path / "published.pem").write_bytes((root / PUBLIC_KEY).read_bytes())
    for day in range(4):
        now = MIDNIGHT + day * DAY_S + 12 * HOUR_S
        write(
            root, [hit._replace(time=hit.time + day * DAY_S) for hit in visits(20, 9 * HOUR_S) + visits(5, 11 * HOUR_S)]
        )
        journal = partial(append, ledger, now)
        seal(root, now, journal)
        settle(root, now, settings(), K, journal)
        purge(root, now, settings(hits_days=3), K, journal)
    (tmp_path / "head").write_text(ledger.head)
    assert verify_with_package(root, now) == []
    assert verify_with_script(root) == (0, [])
    files = sorted(
        path for path in root.rglob("*.parquet") if "vocabulary" not in path.parts and path.parent.suffix == ""
    )
    assert {path.relative_to(root).parts[0] for path in files} == {"hot", "hits", "daily"}
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[:-9] + bytes(9))
        name = path.relative_to(root).as_posix()
        assert verify_with_script(root) == (1, [f"{name}: is not the file whose digest stands in the ledger"])
        assert verify_with_package(root, now) == verify_with_script(root)[1]
        path.write_bytes(content)


def test_script_stands_alone(store: Path, tmp_path: Path) -> None:
    """The script runs without this package, and short enough to be read: it says what it verified, or what it lacks."""
    assert "anonproxy" not in "".join(line for line in SCRIPT.read_text().splitlines() if "import" in line)
    assert len(SCRIPT.read_text().splitlines()) < 220
    arguments = [str(store / LEDGER), str(tmp_path / "published.pem"), "--head", (tmp_path / "head").read_text()]
    done = subprocess.run(
        [sys.executable, "-I", str(SCRIPT), *arguments, "--store", str(store)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(lines(store))} entries from 2026-11-20 to 2026-11-21, signed and linked" in done.stdout
    assert "nothing before it has changed; entries since: 1" in done.stdout
    assert "6 files are there as they were written; 4 others have no digest" in done.stdout
    missing = subprocess.run(
        [sys.executable, "-I", str(SCRIPT), "nowhere", arguments[1]], capture_output=True, cwd=tmp_path, check=False
    )
    assert (missing.returncode, missing.stdout) == (2, b"")
