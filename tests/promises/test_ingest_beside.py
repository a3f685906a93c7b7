"""Old logs are imported into the store of a proxy that serves: no page and no row is lost, whoever is killed meanwhile.

The real proxy stands in front of a real nginx, visitors ask without a pause, and the real command imports a month of
logs beside. First the import is killed, then the writer; at last the days are those of an import that nobody disturbed,
to the byte, and nothing raw of the logs stands in the store, in what was printed, or in the writer's memory.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from anonproxy.audit.checks import CHECKS
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.search import search, search_bytes
from anonproxy.clock import now
from anonproxy.config import read_settings
from anonproxy.ingest.import_store import open_for_import
from anonproxy.ingest.jobs import read_here
from anonproxy.ingest.run_import import run_import
from tests.ingest.recorders import entries
from tests.ingest.test_run_import import nothing
from tests.keys.test_memory import find_in_memory
from tests.promises.test_ingest_leaks import marked_log
from tests.promises.test_load_run import WITHIN_S, find_children, is_at_rest
from tests.support.invented_logs import invent, plan, write_log
from tests.support.marked_requests import Marks
from tests.support.servers import ProxyProcess, run_nginx, run_proxy, wait_until

pytestmark = pytest.mark.slow

CONFIG = """\
[store]
path = "{{store}}"
flush_s = 0.2
[privacy]
k = 5
[proxy]
listen = "127.0.0.1:{{port}}"
admin_listen = "127.0.0.1:{{admin_port}}"
[[sites]]
name = "www"
upstream = "http://127.0.0.1:{origin}"
sitemap = ""
"""
PAGES = {"index.html": b"<h1>Library</h1>"}
DAYS = 16
# As a visitor does; without a pause the import would hardly get a turn.
PAUSE_S = 0.02
VERIFY_LEDGER = Path(__file__).parents[2] / "scripts" / "verify-ledger"


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[ProxyProcess]:
    """Run the real proxy in front of nginx."""
    with (
        run_nginx(tmp_path / "nginx", PAGES) as origin,
        run_proxy(tmp_path / "proxy", CONFIG.format(origin=origin)) as process,
    ):
        yield process


@contextmanager
def asking(proxy: ProxyProcess) -> Iterator[list[int]]:
    """Ask for a page again and again, and give the statuses of the answers."""
    answered: list[int] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(PAUSE_S):
            answered.append(proxy.get("/"))

    visitor = threading.Thread(target=ask, daemon=True)
    visitor.start()
    try:
        yield answered
    finally:
        ended.set()
        visitor.join(WITHIN_S)
        assert not visitor.is_alive()


def ingest(proxy: ProxyProcess, *logs: Path) -> "subprocess.Popen[bytes]":
    """Start an import as an operator does."""
    call = [sys.executable, "-m", "anonproxy", "ingest", "--config", str(proxy.config), *map(str, logs)]
    return subprocess.Popen(
        call,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=proxy.temporary,
        env={**os.environ, "TMPDIR": str(proxy.temporary)},
        start_new_session=True,
    )


def count_imported(proxy: ProxyProcess) -> int:
    """Count the days that the ledger says were imported."""
    return (proxy.store / "ledger" / "ledger.jsonl").read_bytes().count(b'"event":"imported"')


def settled(root: Path) -> dict[str, bytes]:
    """Return the files of all settled days."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for kind in ("hits", "daily")
        for path in (root / kind).rglob("*")
        if path.is_file()
    }


def test_import_beside_a_proxy_that_serves(proxy: ProxyProcess, tmp_path: Path) -> None:
    """Every page comes, every row is there or counted, and so is every day; nothing raw is left anywhere."""
    marks, first = Marks(), (datetime.fromtimestamp(now(), UTC) - timedelta(days=DAYS + 5)).date()
    logs = (
        write_log(tmp_path / "access.log", invent(days=DAYS, first=first)),
        marked_log(tmp_path / "marked.log", marks, 200),
    )
    with asking(proxy) as answered:
        killed = ingest(proxy, *logs)
        wait_until(lambda: count_imported(proxy) > 0, WITHIN_S, "the first day")
        os.killpg(killed.pid, signal.SIGKILL)
        said = [killed.communicate()[0]]
        before = count_imported(proxy)
        assert 0 < before < DAYS

        again = ingest(proxy, *logs)
        wait_until(lambda: count_imported(proxy) > before, WITHIN_S, "the next day")
        os.kill(find_children(proxy, "writer")[0], signal.SIGKILL)
        said += [again.communicate(timeout=180)[0]]
        assert again.returncode == 0, said
        assert b"anonproxy goes on recording into this store" in said[-1]
        assert b"of days that were imported before" in said[-1]

        [writer] = find_children(proxy, "writer")
        needles = {mark.label: mark.secret.encode() for mark in marks.made} | {"control": b"anonproxy.proxy"}
        assert find_in_memory(writer, needles) == {"control"}

    wait_until(lambda: is_at_rest(proxy.metrics()), WITHIN_S, "all counted")
    told = proxy.metrics()
    lost = told['anonproxy_dropped_total{reason="writer_down"}']
    assert set(answered) == {200}
    assert told["anonproxy_hits_written_total"] + lost == told["anonproxy_requests_total"] == len(answered)
    assert told["anonproxy_faults_total"] == 0
    assert proxy.stop() == 0
    with duckdb.connect() as connection:
        [rows] = connection.execute(f"SELECT count(*) FROM '{proxy.store}/hot/**/*.parquet'").fetchall()
    assert rows[0] == told["anonproxy_hits_written_total"]

    own, config = tmp_path / "own", read_settings(proxy.config)
    with open_for_import(own, config) as store:
        run_import(plan(config, *logs, now_s=int(now())), read_here, store.write, nothing)
    assert settled(proxy.store) == settled(own)
    assert {entry.details["settings_sha256"] for entry in entries(proxy.store) if entry.event == "configured"} == {
        entry.details["settings_sha256"] for entry in entries(own) if entry.event == "configured"
    }

    ledger = proxy.store / "ledger"
    verified = [VERIFY_LEDGER, ledger / "ledger.jsonl", ledger / "public-key.pem", "--store", proxy.store]
    subprocess.run([sys.executable, *map(str, verified)], check=True, capture_output=True)
    evidence = Evidence(proxy.store, now(), config)
    assert [finding for check in CHECKS for finding in check.look(evidence).findings] == []

    found = search(proxy.written_places, marks.made)
    assert (found.hits, found.unopened) == ([], [])
    assert search_bytes(b"".join(said), marks.made).hits == []
