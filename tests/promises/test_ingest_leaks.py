"""Promise 1 for old logs: nothing of them that identifies anyone is written, shown, or left anywhere.

Logs are full of it. After an import, and after one that was killed on the way, every byte of the store, of the
temporary folder and of what was printed is searched for every secret of the log, in every encoding.
"""

import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import duckdb
import pytest

from anonproxy.audit.marks import Mark
from anonproxy.audit.search import search, search_bytes
from anonproxy.clock import now
from anonproxy.ingest.import_store import open_for_import
from anonproxy.ingest.jobs import read_here, read_in_processes
from anonproxy.ingest.run_import import Tally, run_import
from anonproxy.model.settings import Settings
from tests.ingest.test_run_import import do_nothing, nothing
from tests.support.invented_logs import plan, settings
from tests.support.marked_requests import Marks
from tests.support.sample_logs import COMBINED, EZPROXY, LINE, parse_line, read_lines

pytestmark = pytest.mark.slow

EZPROXYS_OWN = 906  # a status that no other server has, so it is stored as none
STATUS = re.compile(r'" (\d{3}) (?:\d+|-)')

HOUR_S = 3_600
DAY_S = 86_400
IDLE_S = 1_800

CONFIG = """
[store]
path = "{store}"
[privacy]
time_zone = "UTC"
k = 5
[[sites]]
name = "www"
upstream = "http://127.0.0.1:9"
sitemap = ""
"""


def marked_log(path: Path, marks: Marks, count: int) -> Path:
    """Write a log in which every field holds a secret of its own, and some lines are broken ones."""
    chance = random.Random(1)
    first_s = (now() // DAY_S - 3) * DAY_S
    with path.open("w", encoding="utf-8") as log:
        for number in range(count):
            at = datetime.fromtimestamp(first_s + number * DAY_S / count, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
            client = marks.address("client address") if number < 40 else f"198.51.100.{number % 200}"
            user, word = (marks.word("user name"), marks.word("path")) if number < 40 else ("-", "events")
            term = marks.word("search term") if number < 40 else "x"
            referrer = f"https://{marks.word('referrer')}.example/{marks.word('referrer path')}" if number < 40 else "-"
            agent = f"Mozilla/5.0 {marks.word('user agent')}" if number < 40 else "Mozilla/5.0 Firefox/147.0"
            log.write(f'{client} - {user} [{at}] "GET /{word}?q={term} HTTP/1.1" 200 5 "{referrer}" "{agent}"\n')
            if number < 40:
                broken = chance.choice(("{w}", "{w} - - [{w}] {w}", '{a} - - [{t}] "{w}" 200 5 "{w}', "{a} {w}\x00"))
                log.write(broken.format(w=marks.word("broken line"), a=marks.address("broken address"), t=at) + "\n")
    return path


@pytest.mark.parametrize("is_killed", [False, True], ids=["to its end", "killed"])
def test_secrets_of_a_log_stand_nowhere(tmp_path: Path, is_killed: bool) -> None:
    """Not in the store, the ledger, a temporary folder, the summary or the messages; interrupted or not."""
    marks, root, temporary = Marks(), tmp_path / "store", tmp_path / "tmp"
    log = marked_log(tmp_path / "access.log", marks, 20_000)
    control = search([log], marks.made)
    assert len({hit.label for hit in control.hits}) == len({mark.label for mark in marks.made})
    temporary.mkdir()
    config = tmp_path / "anonproxy.toml"
    config.write_text(CONFIG.format(store=root), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "anonproxy", "ingest", "-c", str(config), "--jobs", "2", str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=temporary,
        env={**os.environ, "TMPDIR": str(temporary)},
        start_new_session=True,
    )
    if is_killed:
        assert process.stdout
        process.stdout.readline()  # it has begun
        try:
            process.wait(2.0)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    said, _ = process.communicate(timeout=120)
    assert search_bytes(said, marks.made).hits == []
    found = search([temporary, *([root] if root.exists() else [])], marks.made)
    assert (found.hits, found.unopened) == ([], [])
    if not is_killed:
        assert process.returncode == 0, said
        with duckdb.connect() as connection:
            rows = connection.execute(f"SELECT count(*) FROM '{root}/hits/**/*.parquet'").fetchone()
        assert rows
        assert rows[0] > 19_900


def run(root: Path, config: Settings, now_s: int, *paths: Path, jobs: int = 0, **changes: object) -> Tally:
    """Import as the verb does, at some time."""
    engine = read_in_processes(jobs, do_nothing) if jobs else read_here
    with open_for_import(root, config) as store:
        task = plan(config, *paths, now_s=now_s, **changes)  # type: ignore[arg-type]
        return run_import(task, engine, store.write, nothing)


def total(root: Path, what: str) -> int:
    """Sum up a column of the days' totals."""
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT sum({what}) FROM '{root}/daily/**/*.parquet' WHERE dimension = 'total'"
        ).fetchone()
    return int(found[0]) if found else 0


def statuses(root: Path) -> Counter[int]:
    """Count the rows by status."""
    with duckdb.connect() as connection:
        return Counter(dict(connection.execute(
            f"SELECT status, count(*) FROM '{root}/hits/**/*.parquet' GROUP BY ALL"
        ).fetchall()))  # fmt: skip


def count_visits(times: dict[str, list[float]]) -> int:
    """Count visits as one does with a pencil: half an hour of silence, four hours, or midnight's key ends one."""
    visits = 0
    for of_client in times.values():
        start_s = last_s = -1e12
        for time_s in sorted(of_client):
            if (
                time_s - last_s > IDLE_S
                or time_s - start_s >= 4 * HOUR_S
                or (time_s + HOUR_S) // DAY_S != (last_s + HOUR_S) // DAY_S
            ):
                visits, start_s = visits + 1, time_s
            last_s = time_s
    return visits


@pytest.mark.needs_samples
def test_an_ezproxy_log_leaves_no_login_token_or_term(samples: Path, tmp_path: Path) -> None:
    """Logins, tickets, sessions and search terms are in no byte; visits, statuses and hosts are those of the log."""
    root = tmp_path / "store"
    sites = [
        {"name": "sciencedirect", "hosts": ["www.sciencedirect.com"], "upstream": "http://127.0.0.1:9", "sitemap": ""},
        {"name": "others", "hosts": ["*"], "upstream": "http://127.0.0.1:9", "sitemap": "", "presets": ["ezproxy"]},
    ]
    config = settings(root, privacy={"time_zone": "Europe/Paris", "epoch_cut": "00:00"}, sites=sites)
    tally = run(root, config, int(datetime(2012, 12, 9, tzinfo=UTC).timestamp()), samples / EZPROXY, jobs=2)
    lines = [line for line in read_lines(samples / EZPROXY) if LINE.fullmatch(line)]
    assert (tally.read, tally.written, tally.rejected, tally.lost) == (32_530, len(lines), {}, {})

    found = [match for match in map(LINE.fullmatch, lines) if match]
    logins = {match["login"] for match in found} - {"-"}
    values = {value for match in found for _, value in parse_qsl(urlsplit(match["target"]).query)}
    telling = sorted(value for value in values if 8 <= len(value) <= 80 and re.search(r"\d", value))[::12]
    terms = {value for match in found for name, value in parse_qsl(urlsplit(match["target"]).query) if name[:2] == "qs"}
    secrets = {*logins, *telling, *(term for term in terms if len(term) >= 10)}
    marks = [Mark("secret of the log", secret) for secret in sorted(secrets) if len(secret.encode()) >= 8]
    assert len(marks) > 500
    control = search_bytes("\n".join(lines).encode(), marks[:50])
    assert control.hits
    result = search([root], marks)
    assert (result.hits, result.unopened) == ([], [])

    requests = [parse_line(line) for line in lines]
    known = Counter(0 if request.status == EZPROXYS_OWN else request.status for request in requests)
    assert statuses(root) == known
    by_site = {"sciencedirect": 0, "others": 0}
    times: dict[str, list[float]] = {}
    for request in requests:
        site = "sciencedirect" if request.raw_host.partition(":")[0] == "www.sciencedirect.com" else "others"
        by_site[site] += 1
        times.setdefault(f"{site} {request.raw_client}", []).append(request.time_s)
    assert {site: sum(rows for name, _, rows in tally.days if name == site) for site in by_site} == by_site
    # A visit that never reaches a page and goes on over midnight (UTC) counts on both days.
    assert 0 <= total(root, "visits") - count_visits(times) <= 2


@pytest.mark.needs_samples
def test_a_combined_log_is_counted_as_it_is(samples: Path, tmp_path: Path) -> None:
    """Statuses, days and assets of the sample are those that one counts in its text."""
    root = tmp_path / "store"
    config = settings(root, privacy={"time_zone": "UTC"})
    tally = run(root, config, int(datetime(2015, 5, 25, tzinfo=UTC).timestamp()), samples / COMBINED)
    requests = [parse_line(line) for line in read_lines(samples / COMBINED)]
    assert (tally.read, tally.unaccounted) == (10_000, 0)
    assert tally.written + tally.rejected.total() + tally.lost.total() == 10_000
    assert tally.written >= 9_999
    found = filter(None, map(STATUS.search, read_lines(samples / COMBINED)))
    assert statuses(root) == Counter(int(each[1]) for each in found)
    with duckdb.connect() as connection:
        stored = dict(connection.execute(
            f"SELECT kind, count(*) FROM '{root}/hits/**/*.parquet' GROUP BY ALL"
        ).fetchall())  # fmt: skip
    ending = re.compile(r"\.(png|jpe?g|gif|css|js|ico|svg|woff)$", re.IGNORECASE)
    assets = sum(bool(ending.search(urlsplit(each.raw_target).path)) for each in requests if each.raw_client)
    assert abs(stored["asset"] - assets) <= assets // 50


@pytest.mark.needs_samples
def test_every_sample_format_goes_through_the_whole(samples: Path, tmp_path: Path) -> None:
    """Each file is recognised, and each of its requests is a row."""
    for path in sorted((samples / "formats").iterdir()):
        root = tmp_path / path.name
        config = settings(root, store={"path": str(root), "daily_months": 120, "hits_days": 365})
        starts_at = plan(config, path).sources[0].starts_at
        tally = run(root, config, int(starts_at) + 9 * DAY_S, path)
        assert (tally.rejected, tally.lost) == ({}, {}), path.name
        assert tally.written == tally.read - tally.ignored > 0, path.name
