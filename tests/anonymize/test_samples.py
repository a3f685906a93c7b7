"""Real logs: what they hold that is nobody's business is not in the store, and what a library asks is."""

import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anonproxy.anonymize.place import CountryLookup, load_bundled_country
from anonproxy.anonymize.request import RawRequest
from anonproxy.anonymize.steps import anonymize, build_context
from anonproxy.audit.marks import SHORT_BYTES, Mark
from anonproxy.audit.search import search
from anonproxy.keys.ring import KeyRing
from anonproxy.keys.visits import Visits
from anonproxy.model.columns import HIT_COLUMNS
from anonproxy.model.hit import Dropped
from anonproxy.model.settings import Settings
from anonproxy.model.vocabularies import REDACTED, UNLISTED, UNMATCHED, DropReason
from anonproxy.model.vocabulary import Vocabulary
from anonproxy.store.write import SegmentWriter
from tests.support.sample_logs import COMBINED, CUT, EZPROXY, ZONE, read_lines, read_requests, split_epochs

pytestmark = [pytest.mark.needs_samples, pytest.mark.slow]

COUNTRIES: Final = CountryLookup(load_bundled_country())
HIT_NAMES: Final = {column.name for column in HIT_COLUMNS}
PLACEHOLDERS: Final = {UNLISTED, UNMATCHED, REDACTED}

# Shorter secrets are looked for in the stored strings only: five letters, in a hundred spellings, stand somewhere in
# any few hundred kilobytes of visit numbers.
SURE_BYTES: Final = 8

# Of each sort of secret so many are searched for, chosen by chance; of rarer ones all.
SAMPLED: Final = 300

# Parameters of URLs in the sample that hold what must not be kept, by what it is.
PARAMETERS: Final[Mapping[str, str]] = {
    "login": "user|userid|_user|_userid",
    "ticket": "ticket",
    "session token": "session|md5|sqtrkid|registrationId|ei|wchp|_ArticleListID",
    "search term": "q|qs_[a-z]+|(?:add)?SearchText|sterm|sisr_search|query|_srch|term|text",
}

SITES: Final[Mapping[str, Sequence[str]]] = {
    "articles": ["www.sciencedirect.com"],
    "pdf": ["pdn.sciencedirect.com"],
    "feeds": ["rss.sciencedirect.com"],
    "proxy": ["gate1.inist.fr"],
    "elsewhere": ["*"],
}

Show = Callable[[str], None]


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Show:
    """Give a way to print figures, also when the test passes."""

    def write(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}")

    return write


class Stored(NamedTuple):
    """What became of a log."""

    root: Path
    public: str  # what may be stored of this log, in small letters: the vocabulary, and the pages that k people read
    lines: int
    dropped: Counter[DropReason]

    def tables(self) -> Iterator[pa.Table]:
        """Read every file that was written."""
        return (pq.ParquetFile(path).read() for path in sorted(self.root.rglob("*.parquet")))

    def hits(self) -> pa.Table:
        """Read the rows."""
        return pa.concat_tables(table for table in self.tables() if set(table.column_names) >= HIT_NAMES)

    def words(self) -> dict[str, set[str]]:
        """Read the published vocabulary, by column."""
        words: dict[str, set[str]] = {}
        for table in self.tables():
            if "origin" in table.column_names:
                for entry in table.to_pylist():
                    words.setdefault(entry["column"], set()).add(entry["value"])
        return words


def store_log(path: Path, root: Path, sites: Mapping[str, Sequence[str]], presets: Sequence[str]) -> Stored:
    """Anonymise a log line by line into a store."""
    root.mkdir()
    settings = Settings.model_validate(
        {
            "store": {"path": str(root)},
            "privacy": {"epoch_cut": CUT, "time_zone": ZONE},
            "sites": [
                {"name": name, "hosts": hosts, "upstream": "http://127.0.0.1:1", "presets": presets}
                for name, hosts in sites.items()
            ],
        }
    )
    requests = read_requests(path)
    ring = KeyRing(settings.privacy, requests[0].time_s)
    visits = Visits(ring, settings.privacy.visit_idle_min * 60, settings.privacy.visit_max_h * 3600)
    context = build_context(settings, visits, COUNTRIES)
    writer = SegmentWriter(root, context.vocabulary)
    public = "\n".join([*lasting_words(context.vocabulary, sites), *shared_paths(requests, settings.privacy.k)])
    stored = Stored(root, public.lower(), len(requests), Counter())
    for epoch in split_epochs(requests):
        if ring.rotate_when_due(epoch[0].time_s):
            visits.forget()
            context.forget()
        for request in epoch:
            outcome = anonymize(request, context)
            refused = outcome if isinstance(outcome, Dropped) else writer.add(outcome)
            if refused:
                stored.dropped[refused.reason] += 1
        writer.flush()
        assert writer.pending == 0
    return stored


def lasting_words(vocabulary: Vocabulary, sites: Iterable[str]) -> Iterator[str]:
    """List what may be stored whoever visits."""
    yield from sites
    yield from (str(value) for column in HIT_COLUMNS for value in column.values)
    yield from (entry.value for site in sites for entry in vocabulary.entries(site))


def shared_paths(requests: Iterable[RawRequest], k: int) -> Iterator[str]:
    """List the paths that at least k addresses asked for."""
    clients: dict[str, set[str]] = {}
    for request in requests:
        clients.setdefault(request.raw_target.partition("?")[0], set()).add(request.raw_client)
    return (path for path, asking in clients.items() if len(asking) >= k)


def find_secrets(text: str) -> dict[str, set[str]]:
    """Collect what must not be kept from the raw lines, by what it is."""
    secrets = {
        name: set(map(unquote_plus, re.findall(rf"[?&](?:{parameters})=([^&\s\"]+)", text)))
        for name, parameters in PARAMETERS.items()
    }
    secrets["login"] |= set(re.findall(r"^\S+ \S+ (\S+) \[", text, re.MULTILINE))
    secrets["address"] = set(re.findall(r"^([0-9.]+) ", text, re.MULTILINE))
    return secrets


def choose_marks(secrets: Mapping[str, set[str]], public: str, show: Show) -> list[Mark]:
    """Choose what is searched for."""
    chance = random.Random(20121130)
    marks = []
    for name, values in secrets.items():
        telling = sorted(value for value in values if is_telling(value, public))
        chosen = chance.sample(telling, min(SAMPLED, len(telling)))
        show(f"{name}: {len(values)} in the log, {len(telling)} that prove something, {len(chosen)} searched for")
        marks += [Mark(f"{name} {number}", value) for number, value in enumerate(chosen)]
    return marks


def is_telling(secret: str, public: str) -> bool:
    """Tell whether a secret in the store would prove that it was kept; 203.0.113.0 is also its network's name."""
    is_long = len(secret.encode("utf-8", "replace")) >= SHORT_BYTES
    return is_long and secret.lower() not in public and not secret.endswith(".0")


def assert_nothing_kept(stored: Stored, marks: Sequence[Mark], show: Show) -> None:
    """Look for secrets in every stored string, and for every form of them in the bytes."""
    columns = (column for table in stored.tables() for column in table.columns if pa.types.is_string(column.type))
    everything = "\n".join({value.lower() for column in columns for value in column.unique().to_pylist() if value})
    assert [mark.label for mark in marks if mark.secret.lower() in everything] == []
    sure = [mark for mark in marks if len(mark.secret) >= SURE_BYTES]
    found = search([stored.root], sure)
    assert found.is_clean, (found.hits[:5], found.unopened[:5])
    assert found.pages > 0
    show(f"{len(marks)} secrets, none in any string; {len(sure)} of them, none in any form in the bytes of")
    show(f"{found.files} files, {found.size_bytes:,} bytes, {found.pages} pages\n")


def assert_closed_and_complete(stored: Stored) -> None:
    """Check that every string is in a vocabulary, and that each line is a row or was dropped for a reason."""
    hits, words = stored.hits(), stored.words()
    for column in HIT_COLUMNS:
        if pa.types.is_string(column.type) and column.name != "site":
            known = column.values or words.get(column.name, set())
            assert set(hits[column.name].unique().to_pylist()) - {None} <= known, column.name
    assert hits.num_rows + stored.dropped.total() == stored.lines
    assert stored.dropped.keys() <= {DropReason.BAD_ADDRESS}


def show_routes(stored: Stored, show: Show) -> Counter[tuple[str, str, str]]:
    """Print the kinds and the most frequent pages; return all pages with their rows."""
    hits = stored.hits()
    routes = Counter(zip(*(hits[name].to_pylist() for name in ("site", "kind", "route")), strict=True))
    dropped = ", ".join(f"{count} {reason}" for reason, count in stored.dropped.items()) or "none"
    show(f"{stored.lines} lines, {hits.num_rows} rows, dropped: {dropped}; {len(routes)} pages")
    show("  ".join(f"{kind} {count}" for kind, count in Counter(hits["kind"].to_pylist()).most_common()))
    for (site, kind, route), count in routes.most_common(25):
        show(f"{count:7} {site:10} {kind:9} {route}")
    return routes


def test_the_ezproxy_sample_leaves_its_pages_and_nobody(samples: Path, tmp_path: Path, show: Show) -> None:
    """No login, ticket, session token, search term or address is stored, while pages by host and kind stay useful."""
    stored = store_log(samples / EZPROXY, tmp_path / "store", SITES, ["ezproxy"])
    routes = show_routes(stored, show)
    assert_closed_and_complete(stored)
    secrets = find_secrets("\n".join(read_lines(samples / EZPROXY)))
    marks = choose_marks(secrets, stored.public, show)
    assert len(marks) >= 4 * SAMPLED
    assert_nothing_kept(stored, marks, show)
    assert sum(count for (_, _, route), count in routes.items() if route in PLACEHOLDERS) < stored.lines * 0.1
    for page in (
        ("articles", "item", "/science/article/**"),
        ("articles", "search", "/science/{list}"),
        ("feeds", "feed", "/publication/science/{journal}"),
        ("proxy", "account", "/login"),
        ("proxy", "account", "/connect"),
    ):
        assert routes[page] > 100, page


def test_the_apache_sample_stays_in_the_closed_world(samples: Path, tmp_path: Path, show: Show) -> None:
    """Without any rule of its own a site's pages come in by admission, and nothing else of the log does."""
    stored = store_log(samples / COMBINED, tmp_path / "store", {"www": ["*"]}, [])
    routes = show_routes(stored, show)
    assert_closed_and_complete(stored)
    text = "\n".join(read_lines(samples / COMBINED))
    secrets = find_secrets(text)
    secrets["User-Agent"] = set(re.findall(r'"([^"]+)"$', text, re.MULTILINE))
    secrets["Referer's query"] = set(re.findall(r'"https?://[^"?]+[?]([^"]+)" "', text))
    assert_nothing_kept(stored, choose_marks(secrets, stored.public, show), show)
    admitted = {page: count for page, count in routes.items() if page[2] not in PLACEHOLDERS}
    assert len(admitted) > 12
    assert sum(admitted.values()) > stored.lines * 0.3
