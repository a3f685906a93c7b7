"""The journal and the disk agree, at whatever instant the writer dies."""

import re
import shutil
from collections import defaultdict
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from anonproxy.audit.ledger import Ledger, read_ledger
from anonproxy.store.purge import purge
from anonproxy.store.seal import Journal, seal
from anonproxy.store.settle import settle
from tests.store.examples import DAY_S, MIDNIGHT, K, settings, tree, visits, write
from tests.store.kill import deaths, killed_after

Act = Callable[[Path, Journal], None]


def open_journal(root: Path) -> Journal:
    """Open the real ledger of a store, as the recorder does at its start."""
    ledger = Ledger(root / "ledger", MIDNIGHT)
    return lambda event, details: ledger.append(event, details, MIDNIGHT)


def digests(root: Path) -> dict[str, list[str]]:
    """Return the digests that the ledger has of each file, oldest first."""
    found = defaultdict(list)
    for entry in read_ledger(root / "ledger"):
        if entry.event == "sealed":
            found[str(entry.details["file"])].append(str(entry.details["sha256"]))
        elif entry.event == "settled":
            for kind in ("hits", "daily"):
                place = f"{kind}/site={entry.details['site']}/date={entry.details['date']}/{kind}.parquet"
                found[place].append(str(entry.details[f"{kind}_sha256"]))
    return found


def final_files(root: Path) -> dict[str, str]:
    """Return the digests of the files that have a final name."""
    return {
        name: sha256(data).hexdigest()
        for name, data in tree(root).items()
        if re.fullmatch(r"(hot|hits|daily)/[^.]*\.parquet", name)
    }


def seal_twice(root: Path, journal: Journal) -> None:
    """Seal an hour, and once more with late rows."""
    seal(root, MIDNIGHT + DAY_S, journal)
    write(root, visits(12, first=20))
    seal(root, MIDNIGHT + DAY_S, journal)


def settle_a_day(root: Path, journal: Journal) -> None:
    """Settle the day."""
    settle(root, MIDNIGHT + 2 * DAY_S, settings(), K, journal)


def purge_hits(root: Path, journal: Journal) -> None:
    """Purge the hits of the day."""
    purge(root, MIDNIGHT + 100 * DAY_S, settings(), K, journal)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "act", "kinds", "least"),
    [
        ([], seal_twice, ["hot"], 35),
        ([seal_twice], settle_a_day, ["daily", "hits"], 25),
        ([seal_twice, settle_a_day], purge_hits, ["daily"], 3),
    ],
)
def test_every_file_with_a_final_name_stands_in_the_ledger(
    tmp_path: Path, before: list[Act], act: Act, kinds: list[str], least: int
) -> None:
    """Killed at any step, it bears a digest that the ledger holds, and once the next start mended it, the newest one.

    What the ledger says was written and not deleted is there then, too, and nothing else.
    """
    ready = tmp_path / "ready"
    write(ready, visits(12))
    open_journal(ready)
    for each in before:
        each(ready, open_journal(ready))
    for step in deaths():
        root = Path(shutil.copytree(ready, tmp_path / str(step)))
        with killed_after(step) as fate:
            act(root, open_journal(root))
        told = digests(root)
        assert all(digest in told[name] for name, digest in final_files(root).items())
        act(root, open_journal(root))
        told, left = digests(root), final_files(root)
        assert {name: told[name][-1] for name in left} == left
        assert sorted(name.partition("/")[0] for name in left) == kinds
        if not fate.came:
            break
    assert step > least
