"""An audit proves its checks first, tells everything it found, and never calls nothing a proof."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner

from anonproxy.audit.check import Figure, Finding, Outcome, Verdict
from anonproxy.audit.checks import BUCKET, CHECKS, PROCESS_CHECKS, SURROUNDINGS
from anonproxy.audit.checks.buckets import CHECK as BUCKETS
from anonproxy.audit.checks.ledger import CHECK as LEDGER_CHECK
from anonproxy.audit.checks.reidentification import CHECK as REIDENTIFICATION
from anonproxy.audit.evidence import Anchor, Evidence
from anonproxy.audit.ledger import Ledger
from anonproxy.audit.run import NO_PROCESSES, run_audit
from anonproxy.audit.specimen import (
    HITS,
    LEDGER,
    NOW,
    SEALED,
    TODAY,
    YESTERDAY,
    Row,
    change_rows,
    own,
    read_rows,
    tidy,
    visit_rows,
    write_specimen,
)
from anonproxy.audit.tree import HOUR_S
from anonproxy.cli.audit import command
from anonproxy.model.errors import StoreError
from anonproxy.model.hit import Hit
from anonproxy.model.settings import StoreSettings
from anonproxy.model.vocabularies import OSES, Origin
from anonproxy.model.vocabulary import Entry, Vocabulary
from anonproxy.store.purge import purge
from anonproxy.store.seal import seal
from anonproxy.store.settle import settle
from anonproxy.store.write import SegmentWriter
from tests.support.servers import ProxyProcess, run_nginx, run_proxy, wait_until


@pytest.fixture(scope="module")
def specimen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clean specimen of a store, not to be touched."""
    root = tmp_path_factory.mktemp("specimen") / "store"
    write_specimen(root)
    return root


@pytest.fixture
def store(specimen: Path, tmp_path: Path) -> Path:
    """Return a clean specimen of a store."""
    return shutil.copytree(specimen, tmp_path / "store")


def leak(store: Path) -> None:
    """Store an exact length."""
    change_rows(store, SEALED, lambda rows: rows[0].update(size_bytes=5_417))


# --- The audit itself -----------------------------------------------------------------------------------------------


def test_every_check_proves_itself(store: Path) -> None:
    """Each check fails on its own sabotage and passes a clean specimen, before it may say anything."""
    report = run_audit(store, NOW)
    assert report.verdict == Verdict.PASS
    assert {result.check.code for result in report.results if not result.control.is_passed} == set()
    assert len(report.results) == len(CHECKS) >= 12


def test_every_check_is_documented() -> None:
    """The table of what an auditor would ask names every check, and no other."""
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if re.match(r"\| \d", line)]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, 21))
    named = {code for row in rows for code in re.findall(r"`([a-z]+(?:-[a-z]+)*)`", row.split("|")[3])}
    assert named == {check.code for check in (*CHECKS, BUCKET, SURROUNDINGS, *PROCESS_CHECKS)}


def blind(_: Evidence) -> Outcome:
    """See nothing."""
    return Outcome({"files": 1})


def nervous(_: Evidence) -> Outcome:
    """See something everywhere."""
    return Outcome({"files": 1}, (Finding("here", "something"),))


def helpless(_: Evidence) -> Outcome:
    """Never know."""
    return Outcome({"files": 1}, (), ("who can tell",))


@pytest.mark.parametrize("look", [blind, nervous, helpless])
def test_check_that_fails_its_control_is_an_error(store: Path, look: Callable[[Evidence], Outcome]) -> None:
    """A check that finds nothing, or something everywhere, is an error whatever it says."""
    report = run_audit(store, NOW, checks=(replace(BUCKETS, look=look),))
    assert [result.verdict for result in report.results] == [Verdict.ERROR]
    assert report.verdict == Verdict.ERROR


def test_no_checks_prove_nothing(store: Path) -> None:
    """An empty list of checks doesn't pass."""
    assert run_audit(store, NOW, checks=()).verdict == Verdict.UNKNOWN


def test_empty_store_proves_nothing(tmp_path: Path) -> None:
    """A store without a row can't pass as clean."""
    (tmp_path / "store").mkdir(0o700)
    report = run_audit(tmp_path / "store", NOW)
    assert report.verdict == Verdict.UNKNOWN
    assert {result.verdict for result in report.results} == {Verdict.UNKNOWN}


def test_missing_store_is_the_operators_error(tmp_path: Path) -> None:
    """Where there is no store there is nothing to audit."""
    with pytest.raises(StoreError, match="no such folder"):
        run_audit(tmp_path / "nowhere", NOW)


def test_progress_is_told(store: Path) -> None:
    """Whoever waits learns what is done and how much is left."""
    told: list[tuple[str, int, int]] = []
    run_audit(store, NOW, progress=lambda *step: told.append(step))
    wanted = {f"{step}: {check.claim}" for step in ("proving", "checking") for check in CHECKS}
    assert {what for what, _, _ in told} == {"reading", *wanted}
    assert all(0 <= done < total for _, done, total in told)


# --- On the real thing ----------------------------------------------------------------------------------------------


def test_real_store_passes(tmp_path: Path) -> None:
    """What the store room writes, seals, settles and purges passes every check."""
    root = tmp_path / "store"
    root.mkdir(0o700)
    ledger = Ledger(root / "ledger", YESTERDAY)
    settings = StoreSettings(path=str(root))
    writer = SegmentWriter(root, real_vocabulary())
    for start_s in (YESTERDAY + 9 * HOUR_S, YESTERDAY + 10 * HOUR_S, TODAY + 10 * HOUR_S, TODAY + 15 * HOUR_S):
        for visits in (4, 20):
            for row in visit_rows(start_s, visits):
                assert writer.add(Hit(**{**row, "time": start_s})) is None
            assert writer.flush() == visits * 5
        seal(root, NOW, lambda event, details: ledger.append(event, details, NOW))
    settle(root, NOW, settings, 10, lambda event, details: ledger.append(event, details, NOW))
    purge(root, NOW, settings, 10, lambda event, details: ledger.append(event, details, NOW))
    report = run_audit(root, NOW)
    assert [str(finding) for result in report.results for finding in result.outcome.findings] == []
    assert report.verdict == Verdict.PASS
    assert report.row_count > 4 * 24 * 5


def real_vocabulary() -> Vocabulary:
    """Return the vocabulary that the rows of a specimen need."""
    words = (
        *(("route", route, Origin.CONFIGURED, None) for route in ("/events", "/search", "/record/{id}", "/hours")),
        *(("network", network, Origin.ADMITTED, 10) for network in ("203.0.113.0/24", "2001:db8::/32")),
        ("network_class", "remote", Origin.CONFIGURED, None),
        ("referrer", "google.com", Origin.LIST, None),
        ("language", "en", Origin.CONFIGURED, None),
    )
    return Vocabulary(Entry("www", *word) for word in words)


# --- The command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command believe that it is the day of the specimen."""
    monkeypatch.setattr("anonproxy.cli.audit.now", lambda: float(NOW))


@pytest.mark.usefixtures("today")
def test_command_tells_a_clean_store(store: Path) -> None:
    """Each check has its line with what it looked at; the controls are stated; the end is for everybody."""
    result = CliRunner().invoke(command, ["--store", str(store)])
    assert result.exit_code == 0, result.output
    assert all(check.claim in result.output for check in CHECKS)
    assert result.output.count("✓") == len(CHECKS)
    words = " ".join(result.output.split())
    assert f"Each of the {len(CHECKS)} checks found its own planted leak first" in words
    assert "In plain words" in words


@pytest.mark.usefixtures("today")
def test_command_tells_a_leak(store: Path) -> None:
    """A finding stands below its check with its place, and the exit status is 1."""
    leak(store)
    result = CliRunner().invoke(command, ["--store", str(store)])
    assert result.exit_code == 1
    words = " ".join(result.output.split())
    assert re.search(rf"{SEALED}, size_bytes of row \d+: none of its 24 buckets \(a number of 4 digits\)", words)
    assert f"{len(CHECKS) - 1} pass, 1 fail" in words


@pytest.mark.usefixtures("today")
@pytest.mark.parametrize("sabotage", [None, leak], ids=["clean", "leaking"])
def test_command_tells_machines(store: Path, sabotage: object) -> None:
    """The JSON holds each check's claim, way, figures, verdict, control and findings."""
    if sabotage:
        leak(store)
    result = CliRunner().invoke(command, ["--store", str(store), "--json"])
    told = json.loads(result.stdout)
    assert result.exit_code == (1 if sabotage else 0)
    assert told["verdict"] == ("fail" if sabotage else "pass")
    assert told["rows"] == 164
    for check in told["checks"]:
        assert check["control"] == {"passed": True, "clean": "pass", "sabotaged": "fail"}
        assert check["looked_at"]
        assert {"code", "claim", "how", "verdict", "findings", "unknown"} <= check.keys()
    failed = [check for check in told["checks"] if check["verdict"] == "fail"]
    assert [check["code"] for check in failed] == (["buckets"] if sabotage else [])
    assert all(finding.keys() == {"where", "what"} for check in failed for finding in check["findings"])


@pytest.mark.usefixtures("today")
def test_command_reads_the_configuration(store: Path, tmp_path: Path) -> None:
    """With a configuration the store is the one that it names, and held to what it promises."""
    config = tmp_path / "anonproxy.toml"
    text = (
        f'[store]\npath = "{store}"\n[privacy]\nk = 11\n[[sites]]\nname = "www"\nupstream = "http://127.0.0.1:8000"\n'
    )
    config.write_text(text)
    result = CliRunner().invoke(command, ["--config", str(config), "--json"])
    told = json.loads(result.stdout)
    assert result.exit_code == 1
    assert told["limits"] == "as configured"
    assert {check["code"] for check in told["checks"] if check["verdict"] == "fail"} == {"closed-world", "networks"}


def test_command_tells_an_empty_store(tmp_path: Path) -> None:
    """An empty store is neither clean nor dirty, and the exit status is 1."""
    (tmp_path / "store").mkdir(0o700)
    result = CliRunner().invoke(command, ["--store", str(tmp_path / "store")])
    assert result.exit_code == 1
    assert "holds no rows" in result.output


# --- What the auditor brings along -----------------------------------------------------------------------------------


def head_of(store: Path, entries: int) -> str:
    """Return the head that the ledger had after some entries."""
    return sha256((store / LEDGER).read_bytes().splitlines(keepends=True)[entries - 1]).hexdigest()


def begin_anew(store: Path) -> None:
    """Let who holds the machine sign another ledger with a key of their own, the public one included."""
    shutil.rmtree(store / "ledger")
    ledger = Ledger(store / "ledger", YESTERDAY)
    ledger.append("started", {"version": "0.1.0"}, YESTERDAY)
    for path in (HITS, SEALED):
        own(store, path)


def cut_off(store: Path) -> None:
    """Take the last entry away, and what it speaks of."""
    lines = (store / LEDGER).read_bytes().splitlines(keepends=True)
    (store / LEDGER).write_bytes(b"".join(lines[:-1]))
    (store / SEALED).unlink()
    tidy(store)


@pytest.mark.parametrize("tamper", [begin_anew, cut_off], ids=["another key", "cut off"])
def test_what_was_brought_along_shows_what_the_store_can_not(store: Path, tamper: Callable[[Path], None]) -> None:
    """By its own key a forged ledger passes, and the audit says what that can't show; by the published it fails."""
    anchor = Anchor((store / "ledger/public-key.pem").read_bytes(), head_of(store, 5))
    tamper(store)
    alone = run_audit(store, NOW, checks=(LEDGER_CHECK,))
    assert (alone.verdict, len(alone.unproven)) == (Verdict.PASS, 2)
    report = run_audit(store, NOW, checks=(LEDGER_CHECK,), anchor=anchor)
    assert (report.verdict, report.unproven, report.unseen) == (Verdict.FAIL, (), (NO_PROCESSES,))


def test_key_that_was_brought_along_replaces_the_stores_own(store: Path, tmp_path: Path) -> None:
    """With the published key in hand nothing depends on the one in the store; what isn't a key is said to be none."""
    key = tmp_path / "published.pem"
    (store / "ledger/public-key.pem").rename(key)
    tidy(store)
    assert run_audit(store, NOW, checks=(LEDGER_CHECK,)).verdict == Verdict.UNKNOWN
    report = run_audit(store, NOW, checks=(LEDGER_CHECK,), anchor=Anchor(key.read_bytes()))
    assert (report.verdict, report.head, len(report.unproven)) == (Verdict.PASS, head_of(store, 5), 1)
    (result,) = run_audit(store, NOW, checks=(LEDGER_CHECK,), anchor=Anchor(b"?")).results
    assert [str(finding) for finding in result.outcome.findings] == [
        "the public key that was brought along: is not a public key"
    ]


@pytest.mark.usefixtures("today")
def test_command_takes_what_was_brought_along(store: Path, tmp_path: Path) -> None:
    """The command holds the ledger to a key and a head that are given to it, and says so."""
    key = tmp_path / "published.pem"
    key.write_bytes((store / "ledger/public-key.pem").read_bytes())
    arguments = ["--store", str(store), "--public-key", str(key), "--head", f" {head_of(store, 3).upper()}"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "The ledger is the one that was published: 5 entries" in words
    assert "verified with the public key" not in words


@pytest.mark.usefixtures("today")
def test_command_says_what_the_stores_own_key_can_not_show(store: Path) -> None:
    """Without a key and a head of the auditor's own the output says what is not shown, and gives the head."""
    words = " ".join(CliRunner().invoke(command, ["--store", str(store)]).output.split())
    assert "verified with the public key that lies in the store" in words
    assert "whether its last entries were cut off" in words
    assert head_of(store, 5) in words


@pytest.mark.usefixtures("today")
def test_command_looks_in_other_folders(store: Path, tmp_path: Path) -> None:
    """A log that is named is looked at by a check more, which proves itself as well."""
    log = tmp_path / "access.log"
    log.write_text("started\n")
    arguments = ["--store", str(store), "--look-in", str(log), "--json"]
    assert CliRunner().invoke(command, arguments).exit_code == 0
    log.write_text("started\n203.0.113.9 GET /divorce\n")
    result = CliRunner().invoke(command, arguments)
    check = json.loads(result.stdout)["checks"][-1]
    assert (check["code"], check["verdict"], check["control"]["passed"]) == ("surroundings", "fail", True)
    assert check["findings"] == [{"where": f"{log}, line 2", "what": "shows an internet address"}]
    assert "divorce" not in result.output


# --- Figures --------------------------------------------------------------------------------------------------------


def figures(store: Path) -> str:
    """Return what the check of re-identification measured."""
    return " ".join(map(str, REIDENTIFICATION.look(Evidence(store, NOW)).figures)).replace("\u00a0", " ")


def test_figures_tell_who_stands_alone(store: Path) -> None:
    """Shares of rows that are alone or below k, groups of one page, unique trails: each is told, and none fails."""
    alone = "hits: rows that stand alone by time, network, place, device and language: {} (to aim at: at most 5.0 %)"
    trails = "hot: visits, of 17, that opened pages in an order that no other visit has: {}."
    assert alone.format("0.0 %") in figures(store)
    assert "hits: rows in a group of one page only (l-diversity 1): 0.0 % (to aim at: at most 10.0 %)" in figures(store)
    assert trails.format("0.0 %") in figures(store)
    assert "coarser" not in figures(store)

    def make_odd(rows: list[Row]) -> None:
        rows[:] = [
            {**row, "route": "/hours", "os": os}
            for row, os in zip((r for r in rows if not r["bot"]), OSES, strict=False)
        ]

    change_rows(store, HITS, make_odd)
    assert alone.format("100.0 %") in figures(store)
    assert "No coarser time or network would change it" in figures(store)
    measured = REIDENTIFICATION.look(Evidence(store, NOW)).figures
    assert [figure.is_met for figure in measured if isinstance(figure, Figure) and figure.aim] == [False, False, False]
    visit = next(row["visit"] for row in read_rows(store, SEALED) if row["visit"])
    change_rows(
        store,
        SEALED,
        lambda rows: [row.update(route="/hours") for row in rows if row["visit"] == visit and row["step"] == 1],
    )
    assert trails.format("5.9 %") in figures(store)


# --- In front of a real site ----------------------------------------------------------------------------------------

CONFIG = """\
[store]
path = "{store}"
flush_s = 0.2
[proxy]
listen = "127.0.0.1:{port}"
admin_listen = "127.0.0.1:{admin_port}"
trusted_proxies = ["127.0.0.0/8"]
[[sites]]
name = "www"
upstream = "http://127.0.0.1:UPSTREAM"
routes = [{{ path = "/events" }}]
"""


def visit(proxy: ProxyProcess) -> None:
    """Send what all sorts of visitors send."""
    for number in range(40):
        proxy.get(
            ("/events", "/", "/patron/21234000123456", "/search?q=divorce", "/kids/owls")[number % 5],
            {
                "X-Forwarded-For": f"203.0.113.{number}" if number % 2 else f"2001:db8:{number}::1",
                "User-Agent": ("Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0", "curl/8")[
                    number % 3 == 0
                ],
                "Referer": "https://www.google.com/search?q=divorce",
            },
        )


def has_rows(proxy: ProxyProcess, expected: int) -> bool:
    """Tell whether the store holds so many rows."""
    return proxy.store.is_dir() and Evidence(proxy.store, NOW).row_count >= expected


@pytest.mark.slow
def test_live_proxy_passes(tmp_path: Path) -> None:
    """What a real proxy wrote passes while it is still writing, and after it was killed."""
    with (
        run_nginx(tmp_path / "site", {"events": b"<h1>Events</h1>", "index.html": b"<h1>Library</h1>"}) as port,
        run_proxy(tmp_path / "proxy", CONFIG.replace("UPSTREAM", str(port))) as proxy,
    ):
        for expected in (40, 80):
            visit(proxy)
            wait_until(partial(has_rows, proxy, expected), 20, "rows written")
            result = CliRunner().invoke(command, ["--config", str(proxy.config)])
            assert result.exit_code == 0, result.output
        proxy.kill()
        result = CliRunner().invoke(command, ["--config", str(proxy.config)])
        assert "✗" not in result.output
