"""A canary's requests carry what they say they carry, its counting can't be fooled, and it shows no secret."""

import random
from collections import Counter
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anonproxy.audit.canary import (
    Sent,
    Target,
    Tell,
    account_for,
    force,
    judge_control,
    judge_marks,
    judge_rows,
    parse_target,
    search_journal,
)
from anonproxy.audit.check import Verdict
from anonproxy.audit.probes import MAKERS, PROBES, Marker, Probe
from anonproxy.audit.search import search, search_bytes
from anonproxy.audit.watch import Look, Metrics, RowCounter, find_admin
from anonproxy.model.errors import OperatorError, StoreError
from anonproxy.model.parse_settings import parse_settings
from anonproxy.model.settings import Settings

HOST = "www.example.org"
BRANCH = "a.branch.example.org"
DAY = date(2026, 11, 21)

# What stands in a request in a form that only a program which reads it gets back; four bytes prove nothing.
HIDDEN = {"barcode in full-width digits", "address in a binary PROXY preamble"}


def settings(proxy: str = "", hosts: str = '["www.example.org", "*.branch.example.org"]', more: str = "") -> Settings:
    """Write a configuration."""
    text = f'[store]\npath = "/nowhere"\n[proxy]\n{proxy}\n[[sites]]\nname = "www"\nhosts = {hosts}\n'
    return parse_settings(f'{text}upstream = "http://127.0.0.1:8000"\n{more}', "test", {})


def counts(requests: int, written: int, **dropped: int) -> Metrics:
    """Write what a proxy counts."""
    return Metrics(requests, written, dropped)


# --- What is sent --------------------------------------------------------------------------------------------


def test_enough_is_sent() -> None:
    """There are more than 40 kinds of requests, each with a name and labels of its own."""
    marker = Marker()
    for probe in PROBES:
        probe.write(marker, HOST)
    assert len(PROBES) > 40
    for names in ([probe.name for probe in PROBES], [mark.label for mark in marker.made]):
        assert [name for name, times in Counter(names).items() if times > 1] == []


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_each_mark_is_in_its_request(probe: Probe) -> None:
    """Every mark that a request makes is found in its bytes, so that a proxy which wrote them would be found out."""
    marker = Marker()
    message = probe.write(marker, HOST)
    found = {hit.label for hit in search_bytes(message, marker.made).hits}
    assert {mark.label for mark in marker.made} - found - HIDDEN == set()


@pytest.mark.parametrize("name", MAKERS)
def test_every_maker_remembers(name: str) -> None:
    """Whatever is made is remembered under the label that its place gives it."""
    marker = Marker(random.Random(1))
    assert MAKERS[name](marker, "label")
    assert {mark.label.partition(",")[0] for mark in marker.made} == {"label"}


def test_secrets_are_fresh() -> None:
    """Two runs have no secret in common, or the search would find what an earlier one left in a log."""
    secrets: list[set[str]] = []
    for _ in range(2):
        marker = Marker()
        for probe in PROBES:
            probe.write(marker, HOST)
        secrets.append({mark.secret for mark in marker.made})
    assert not secrets[0] & secrets[1]


def test_messages_are_well_formed() -> None:
    """What counts as HTTP has one host, and the length that it says."""
    for probe in PROBES:
        if probe.is_http and probe.rows == 1:
            head, _, body = probe.write(Marker(), HOST).partition(b"\r\n\r\n")
            fields = [line.partition(b": ")[::2] for line in head.split(b"\r\n")[1:]]
            named = {name.lower(): value for name, value in fields}
            assert len(named) == len(fields), probe.name
            assert b"transfer-encoding" in named or int(named.get(b"content-length", 0)) == len(body), probe.name


# --- Where to ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host", "wanted"),
    [
        ("http://127.0.0.1:8080", None, Target("http", "127.0.0.1", 8080, HOST, "www", True)),
        ("http://localhost:8080/", None, Target("http", "localhost", 8080, HOST, "www", True)),
        ("http://127.0.0.1:8081", None, Target("http", "127.0.0.1", 8081, HOST, "www", False)),
        ("https://www.example.org", None, Target("https", HOST, 443, HOST, "www", False)),
        ("https://a.branch.example.org", None, Target("https", BRANCH, 443, BRANCH, "www")),
        ("http://[::1]:8080", HOST, Target("http", "::1", 8080, HOST, "www", True)),
    ],
)  # fmt: skip
def test_target(url: str, host: str | None, wanted: Target) -> None:
    """The host is the one that was named, else the URL's, else the site's; only the listener itself is direct."""
    assert parse_target(url, settings(), host) == wanted


def test_target_for_any_host() -> None:
    """A site for any host takes the URL's, and rows are expected of requests for unknown hosts."""
    target = parse_target("http://127.0.0.1:8080", settings(hosts="[]"))
    assert (target.host, target.takes_any_host) == ("127.0.0.1", True)
    few, many = (Sent.plan(PROBES, t) for t in (parse_target("http://127.0.0.1:8080", settings()), target))
    assert few.least == few.most < many.least == many.most


def test_target_without_configuration() -> None:
    """Without a configuration nothing is known of what stands in between, so less is demanded."""
    target = parse_target("http://127.0.0.1:8080", None, HOST)
    assert target == Target("http", "127.0.0.1", 8080, HOST)
    known = Sent.plan(PROBES, parse_target("http://127.0.0.1:8080", settings()))
    sent = Sent.plan(PROBES, target)
    assert 40 < sent.least < known.least < sent.most == sent.requests


@pytest.mark.parametrize("url", ["library.example.org", "ftp://x", "http://", "http://x:port", "http://[::1"])
def test_no_url(url: str) -> None:
    """What is no URL of a website is refused with an example."""
    with pytest.raises(OperatorError, match="Write it like"):
        parse_target(url, settings())


def test_unknown_host_is_refused() -> None:
    """A host that no site has is refused before anything is sent."""
    with pytest.raises(OperatorError, match="--host"):
        parse_target("http://127.0.0.1:8080", settings(), "other.example")


# --- Counting ------------------------------------------------------------------------------------------------


def write_rows(path: Path, rows: int) -> None:
    """Write a file with so many rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"site": ["www"] * rows}), path)


def test_rows_are_counted_once(tmp_path: Path) -> None:
    """Sealed hours, open segments and segments in a merge count once each, at every stage of the merge."""
    day = tmp_path / "hot/site=www/date=2026-11-21"
    counter = RowCounter(tmp_path, "www", DAY)
    assert counter.count() == 0
    write_rows(day / "09.parquet", 1)
    write_rows(day / "10.open/0123456789abcdef.parquet", 2)
    write_rows(tmp_path / "hot/site=www/date=2026-11-20/09.parquet", 100)
    write_rows(tmp_path / "hot/site=other/date=2026-11-21/09.parquet", 1000)
    assert counter.count() == 3
    write_rows(day / "10.parquet.tmp", 2)
    assert counter.count() == 3
    (day / "10.open").rename(day / "10.closing")
    assert counter.count() == 3
    (day / "10.parquet.tmp").rename(day / "10.parquet")
    assert counter.count() == 3
    (day / "10.closing/0123456789abcdef.parquet").unlink()
    (day / "10.closing").rmdir()
    assert counter.count() == 3
    assert RowCounter(tmp_path, None, DAY).count() == 1003


def test_no_store() -> None:
    """A folder that isn't there is no store with no rows."""
    with pytest.raises(StoreError, match="--store"):
        RowCounter(Path("/nowhere/at/all"), None, DAY).count()


def test_broken_store(tmp_path: Path) -> None:
    """A file that can't be read is not passed over."""
    path = tmp_path / "hot/site=www/date=2026-11-21/09.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 no PAR1")
    with pytest.raises(StoreError, match="audit"):
        RowCounter(tmp_path, None, DAY).count()


METRICS = """\
# HELP anonproxy_requests_total Requests.
# TYPE anonproxy_requests_total counter
anonproxy_requests_total 9
anonproxy_hits_written_total 5
anonproxy_pending_rows 1
anonproxy_queued_requests 1
anonproxy_dropped_total{reason="disk"} 2
anonproxy_dropped_total{reason="late"} 0
"""


def test_metrics() -> None:
    """The proxy's own counts are read; what another program says is not taken for them."""
    assert Metrics.parse(METRICS) == Metrics(9, 5, {"disk": 2, "late": 0})
    assert Metrics.parse("node_cpu_seconds_total 5\n") is None
    assert Metrics.parse("") is None


@pytest.mark.parametrize(
    ("listen", "address"),
    [("127.0.0.1:9901", ("127.0.0.1", 9901)), ("0.0.0.0:1", ("127.0.0.1", 1)), ("[::]:2", ("::1", 2))],
)
def test_admin_address(listen: str, address: tuple[str, int]) -> None:
    """A listener for all addresses is asked at this machine's own."""
    assert find_admin(settings(f'admin_listen = "{listen}"')) == address
    assert find_admin(None) is None


@pytest.mark.parametrize(
    ("added", "done"),
    [(Look(9, None), 9), (Look(9, counts(12, 8, disk=2, late=1)), 11)],
)
def test_done(added: Look, done: int) -> None:
    """A request is done once it is a row on disk or counted as dropped."""
    assert added.done == done


EXACT = Sent(requests=20, least=10, most=10)
BETWEEN = Sent(requests=20, least=10, most=15)


@pytest.mark.parametrize(
    ("sent", "added", "verdict", "said"),
    [
        (EXACT, Look(10, None), Verdict.PASS, "exactly"),
        (EXACT, Look(10, counts(12, 10, unknown_site=2)), Verdict.PASS, "exactly"),
        (EXACT, Look(14, counts(14, 14)), Verdict.PASS, "4 or more are other visitors'"),
        (BETWEEN, Look(12, counts(12, 12)), Verdict.PASS, "something may stand in between"),
        (EXACT, Look(0, None), Verdict.FAIL, "10 must be there"),
        (EXACT, Look(0, counts(10, 10)), Verdict.FAIL, "10 must be there"),
        (EXACT, Look(7, counts(10, 7, disk=3)), Verdict.FAIL, "3 disk dropped"),
        (EXACT, Look(9, counts(10, 9)), Verdict.FAIL, "10 must be there"),
        (EXACT, Look(-5, None), Verdict.FAIL, "10 must be there"),
        (EXACT, Look(12, counts(0, 0)), Verdict.FAIL, "0 rows"),
        (EXACT, Look(30, counts(25, 25)), Verdict.PASS, "20 or more are other visitors'"),
    ],
)
def test_rows_are_judged(sent: Sent, added: Look, verdict: Verdict, said: str) -> None:
    """Too few rows fail, and so do rows that the proxy didn't write; more of them are other visitors'."""
    assert judge_rows(sent, added).verdict == verdict
    assert said in account_for(sent, added)


def test_difference_of_looks() -> None:
    """What was added is told by both counts, and by rows alone where the proxy stopped answering."""
    before, after = Look(5, counts(7, 5, disk=2, late=1)), Look(9, counts(12, 9, disk=3, late=1))
    assert after - before == Look(4, counts(5, 4, disk=1))
    assert Look(9, None) - before == Look(4, None)


# --- Judging -------------------------------------------------------------------------------------------------


def test_findings_show_no_secret(tmp_path: Path) -> None:
    """A mark that is found goes by its label and place; neither its text nor a file name with it is repeated."""
    marker = Marker()
    secret = marker.fill("{word:search term}", HOST)
    (tmp_path / "access.log").write_text(f"GET /?q={secret.upper()}\n")
    (tmp_path / f"{secret}.txt").write_text("")
    outcome = judge_marks(search([tmp_path], marker.made), len(marker.made))
    shown = "\n".join(map(str, outcome.findings))
    assert outcome.verdict == Verdict.FAIL
    assert f"{tmp_path}/access.log: “search term”" in shown
    assert secret not in shown.lower()


def test_what_cannot_be_searched_is_no_pass(tmp_path: Path) -> None:
    """A file that can't be opened leaves the question open."""
    (tmp_path / "log.gz").write_bytes(b"\x1f\x8b no gzip")
    outcome = judge_marks(search([tmp_path], Marker().made), 0)
    assert outcome.verdict == Verdict.UNKNOWN


def test_control() -> None:
    """The search finds every mark of every request in a disguise."""
    marker = Marker()
    for probe in PROBES:
        probe.write(marker, HOST)
    outcome = judge_control(marker.made)
    assert outcome.verdict == Verdict.PASS, outcome.unknown
    assert outcome.looked_at == {"marks": len(marker.made)}


def refusing(command: str) -> dict[str, str | int | bool]:
    """Answer as a proxy whose disk refuses does."""
    return {"sealed": False, "made_at": 1} if command == "seal" else {"made_at": 1}


def silent(_: str) -> dict[str, str | int | bool]:
    """Answer as nobody does."""
    raise StoreError("nothing records into this store. Start it with `anonproxy run`")


@pytest.mark.parametrize(
    ("tell", "verdict", "said"),
    [
        (lambda command: {"sealed": True} if command == "seal" else {"made_at": 1}, Verdict.PASS, ()),
        (refusing, Verdict.UNKNOWN, ("the proxy could not seal: its disk refused",)),
        (silent, Verdict.UNKNOWN, ("the proxy could not be told to seal. nothing records into this store. Start it "
                                   "with `anonproxy run`",)),
    ],
)  # fmt: skip
def test_what_is_not_forced_is_said(tell: Tell, verdict: Verdict, said: tuple[str, ...]) -> None:
    """Without a sealed hour and a new key the search is no proof, and the reason is told."""
    outcome = force(tell)
    assert (outcome.verdict, outcome.unknown) == (verdict, said)


def test_journal_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the service logged to systemd's journal since the canary began is searched; an unreadable one is no pass."""
    marker = Marker()
    secret = marker.fill("{word:search term}", HOST)
    program = tmp_path / "journalctl"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for script, verdict in (
        ("echo started", Verdict.PASS),
        (f'test "$2" = --since=@1795274400 && echo "GET /?q={secret}"', Verdict.FAIL),
        ("exit 1", Verdict.UNKNOWN),
    ):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        outcome = search_journal("anonproxy.service", 1_795_274_400, marker.made)
        assert judge_marks(search([program], []), 1, [outcome]).verdict == verdict
        assert secret not in str(outcome)
