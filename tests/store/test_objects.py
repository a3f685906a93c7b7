"""Tests of publishing to an object store and reading from it, against moto's server over a socket on loopback."""

import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from click.testing import CliRunner
from moto.server import ThreadedMotoServer

from anonproxy.audit.ledger import Ledger, verify_lines
from anonproxy.cli.report import command as report_command
from anonproxy.cli.settle import command as settle_command
from anonproxy.ingest import import_store
from anonproxy.ingest.recorder import Recorder
from anonproxy.model.errors import StoreError
from anonproxy.store.manifest import MANIFEST, is_ours
from anonproxy.store.objects import Objects, open_objects
from anonproxy.store.publish import Publisher
from anonproxy.store.purge import purge
from anonproxy.store.read import open_store
from anonproxy.store.settle import settle
from tests.ingest.recorders import World, count_events, recording, request
from tests.ingest.test_run_import import run
from tests.store.examples import DATE, DAY_S, HOUR_S, MIDNIGHT, K, Notes, settings, tree, visits, write
from tests.support import invented_logs

pytestmark = pytest.mark.slow  # the server takes seconds to import

NEXT_DAY = "2026-11-22"
_numbers = count()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Give HOST:PORT of an S3 service."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


@dataclass(frozen=True)
class Bucket:
    """A bucket of the service, seen without pyarrow."""

    endpoint: str
    name: str

    @property
    def address(self) -> str:
        """Give what stands in store.path."""
        return f"s3://{self.name}/store?endpoint_override={self.endpoint}&scheme=http&region=us-east-1"

    def ask(self, method: str, path: str = "", body: bytes | None = None) -> bytes:
        """Send one request."""
        connection = HTTPConnection(self.endpoint)
        try:
            connection.request(method, f"/{self.name}{path}", body, {"Authorization": "AWS anonproxy:unchecked"})
            response = connection.getresponse()
            assert response.status < 300
            return response.read()
        finally:
            connection.close()

    def names(self) -> set[str]:
        """Return the keys of all objects."""
        return {unquote(key) for key in re.findall("<Key>(.*?)</Key>", self.ask("GET", "?list-type=2").decode())}

    def contents(self) -> dict[str, bytes]:
        """Return the bytes of all objects."""
        return {key: self.ask("GET", f"/{key}") for key in self.names()}


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Give a new bucket, and the credentials for it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anonproxy")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anonproxy")
    return make_bucket(endpoint)


def make_bucket(endpoint: str) -> Bucket:
    """Make a new bucket."""
    made = Bucket(endpoint, f"bucket-{next(_numbers)}")
    made.ask("PUT")
    return made


class Stopped(BaseException):
    """What kill -9 would be."""


@dataclass(frozen=True, slots=True)
class Counting(Objects):
    """Objects that note each change, and end before one of them."""

    left: int | None = None
    changes: list[tuple[str, str]] = field(default_factory=list)

    def _change(self, act: str, name: str) -> None:
        if len(self.changes) == self.left:
            raise Stopped
        self.changes.append((act, name))

    def write(self, name: str, data: bytes) -> None:
        """Put, or end before it."""
        self._change("write", name)
        Objects.write(self, name, data)

    def delete(self, name: str) -> None:
        """Delete, or end before it."""
        self._change("delete", name)
        Objects.delete(self, name)

    def delete_folder(self, name: str) -> None:
        """Delete a mark, or end before it."""
        self._change("delete_folder", name)
        Objects.delete_folder(self, name)


def publisher(root: Path, bucket: Bucket) -> Publisher:
    """Return a publisher as a process that has just started has it."""
    return Publisher(root, open_objects(bucket.address))


def work(root: Path, now: int, **changes: Any) -> None:
    """Settle and purge a work folder, as it is done before each publishing."""
    settle(root, now, settings(**changes), K, Notes())
    purge(root, now, settings(**changes), K, Notes())


def totals(path: Path | str) -> list[tuple[Any, ...]]:
    """Return what a reader sees of each day: rows, values, and visits."""
    with open_store(path).connect() as connection:
        return connection.execute(
            "SELECT date::VARCHAR, (SELECT count(*) FROM hits h WHERE h.date = d.date), "
            "(SELECT count(*) FROM vocabulary v WHERE v.date = d.date), visits "
            "FROM daily d WHERE dimension = 'total' ORDER BY date"
        ).fetchall()


def test_what_is_settled_is_published_and_read_as_from_the_folder(tmp_path: Path, bucket: Bucket) -> None:
    """Writing, settling, publishing and reading, with several sites and dates."""
    sites = ("www", "kids")
    write(tmp_path, visits(12) + visits(11, DAY_S, site="kids"), sites)
    work(tmp_path, MIDNIGHT + 3 * DAY_S)
    publisher(tmp_path, bucket).publish(MIDNIGHT + 3 * DAY_S, settings(), Notes())
    assert totals(bucket.address) == totals(tmp_path) != []
    for view in ("hits", "daily", "vocabulary"):
        near, far = (open_store(path).dataset(view).to_table() for path in (tmp_path, bucket.address))
        assert near.sort_by([(name, "ascending") for name in near.column_names]) == far.sort_by(
            [(name, "ascending") for name in far.column_names]
        )
    assert sorted(tree(tmp_path).values()) == sorted(
        data for key, data in bucket.contents().items() if not key.endswith(MANIFEST)
    )


def test_nothing_hot_and_no_signing_key_is_published(tmp_path: Path, bucket: Bucket) -> None:
    """Visit numbers stay on the machine, and so does what signs the ledger, which verifies from the bucket alone."""
    ledger = Ledger(tmp_path / "ledger", MIDNIGHT)
    write(tmp_path, visits(12) + visits(12, DAY_S))
    work(tmp_path, MIDNIGHT + DAY_S + 6 * HOUR_S)
    assert list(tmp_path.glob(f"hot/*/date={NEXT_DAY}/**/*.parquet"))
    publisher(tmp_path, bucket).publish(
        MIDNIGHT + 2 * DAY_S, settings(), lambda event, details: ledger.append(event, details, MIDNIGHT)
    )
    keys = {key.removeprefix("store/") for key in bucket.names()}
    assert all(is_ours(key) or key == MANIFEST for key in keys)
    assert not any(NEXT_DAY in key or key.startswith("hot") for key in keys)
    found = bucket.contents()
    secret = (tmp_path / "ledger" / "signing-key.pem").read_bytes()
    assert secret not in found.values()
    assert b"PRIVATE" not in b"".join(found.values())
    (entries,) = (data for key, data in found.items() if key.endswith(".jsonl"))
    (public,) = (data for key, data in found.items() if key.endswith(".pem"))
    assert [entry.event for entry in verify_lines(entries, public, ledger.head)] == ["published"]


def test_publishing_again_changes_nothing(tmp_path: Path, bucket: Bucket) -> None:
    """No object is put, no entry is made."""
    write(tmp_path, visits(12))
    work(tmp_path, MIDNIGHT + 2 * DAY_S)
    notes = Notes()
    publisher(tmp_path, bucket).publish(MIDNIGHT + 2 * DAY_S, settings(), notes)
    there = bucket.contents()
    again = publisher(tmp_path, bucket)
    again.objects = counting = Counting(again.objects.filesystem, again.objects.prefix)
    again.publish(MIDNIGHT + 2 * DAY_S, settings(), notes)
    assert counting.changes == []
    assert bucket.contents() == there
    assert notes.events() == ["published"]


def test_what_is_over_is_deleted_whether_or_not_the_folder_still_has_it(tmp_path: Path, bucket: Bucket) -> None:
    """Tiers end in the bucket when they end in the folder, and also when the folder was lost meanwhile."""
    write(tmp_path / "one", visits(12) + visits(12, DAY_S))
    work(tmp_path / "one", MIDNIGHT + 3 * DAY_S)
    publisher(tmp_path / "one", bucket).publish(MIDNIGHT + 3 * DAY_S, settings(), Notes())
    (tmp_path / "two").mkdir()
    anew = publisher(tmp_path / "two", bucket)
    for day, kinds in (
        (89, {"hits", "daily", "vocabulary"}),
        (90, {"daily", "vocabulary"}),
        (800, set[str]()),
    ):
        anew.publish(MIDNIGHT + day * DAY_S, settings(), Notes())
        anew.publish(MIDNIGHT + day * DAY_S, settings(), Notes())
        assert {key.split("/")[1] for key in bucket.names() if DATE in key} == kinds
    assert not any("date=" in key for key in bucket.names())


def test_a_lost_work_folder_costs_what_was_not_settled(tmp_path: Path, bucket: Bucket) -> None:
    """What was published stays, new days join it, and the new ledger begins beside the old one."""
    for name, first_s in (("old", 0), ("new", 2 * DAY_S)):
        root = tmp_path / name
        root.mkdir()
        ledger = Ledger(root / "ledger", MIDNIGHT)
        ledger.append("started", {}, MIDNIGHT)
        write(root, visits(12, first_s))
        work(root, MIDNIGHT + first_s + 2 * DAY_S)
        publisher(root, bucket).publish(MIDNIGHT + first_s + 2 * DAY_S, settings(), Notes())
    assert [day for day, *_ in totals(bucket.address)] == [DATE, "2026-11-23"]
    assert sum(key.endswith(".jsonl") for key in bucket.names()) == 2


def test_what_is_not_ours_stays(tmp_path: Path, bucket: Bucket) -> None:
    """An object of another name is neither read nor deleted, be it beside ours."""
    foreign = {"store/hits/site=www/notes.txt", "store/mine/report.csv", "other/x", "store/hits/site=www/hits.parquet"}
    for key in foreign:
        bucket.ask("PUT", f"/{key}", b"mine")
    write(tmp_path, visits(12))
    work(tmp_path, MIDNIGHT + 2 * DAY_S)
    for days in (2, 2000):
        publisher(tmp_path, bucket).publish(MIDNIGHT + days * DAY_S, settings(), Notes())
        assert foreign <= bucket.names()
    assert {key for key in bucket.names() if not key.endswith("/")} == foreign | {"store/manifest.json"}


def test_a_broken_file_of_the_folder_takes_nothing_away(tmp_path: Path, bucket: Bucket) -> None:
    """What was published of it before still counts."""
    write(tmp_path, visits(12))
    work(tmp_path, MIDNIGHT + 2 * DAY_S)
    ours = publisher(tmp_path, bucket)
    ours.publish(MIDNIGHT + 2 * DAY_S, settings(), Notes())
    before = totals(bucket.address)
    (tmp_path / f"hits/site=www/date={DATE}/hits.parquet").write_bytes(b"broken")
    ours.publish(MIDNIGHT + 2 * DAY_S, settings(), Notes())
    assert totals(bucket.address) == before


def test_two_publishers_are_noticed(tmp_path: Path, bucket: Bucket) -> None:
    """The one that finds another's manifest stops; after its own, however it ended, it goes on."""
    for name in ("one", "two"):
        write(tmp_path / name, visits(12, DAY_S * (name == "two")))
        work(tmp_path / name, MIDNIGHT + 3 * DAY_S)
    one, two = (publisher(tmp_path / name, bucket) for name in ("one", "two"))
    service, one.objects = one.objects, Counting(one.objects.filesystem, one.objects.prefix, 3)
    with pytest.raises(Stopped):
        one.publish(MIDNIGHT + 3 * DAY_S, settings(), Notes())
    one.objects = service
    one.publish(MIDNIGHT + 3 * DAY_S, settings(), Notes())
    one.publish(MIDNIGHT + 3 * DAY_S, settings(), Notes())
    two.publish(MIDNIGHT + 3 * DAY_S, settings(), Notes())
    with pytest.raises(StoreError, match="another anonproxy publishes"):
        one.publish(MIDNIGHT + 3 * DAY_S, settings(), Notes())
    assert len(totals(bucket.address)) == 2


def test_a_newer_or_foreign_manifest_is_refused_and_kept(tmp_path: Path, bucket: Bucket) -> None:
    """Neither read nor written over."""
    write(tmp_path, visits(12))
    work(tmp_path, MIDNIGHT + 2 * DAY_S)
    for content, message in (
        (b'{"files": {}, "schema": 2}', "Upgrade anonproxy"),
        (b"hello", "another prefix"),
        (b'{"files": {"../../etc/passwd": "%b"}, "schema": 1}' % (b"0" * 64), "another prefix"),
    ):
        bucket.ask("PUT", "/store/manifest.json", content)
        with pytest.raises(StoreError, match=message):
            open_store(bucket.address).connect()
        with pytest.raises(StoreError, match=message):
            publisher(tmp_path, bucket).publish(MIDNIGHT + 2 * DAY_S, settings(), Notes())
        assert bucket.contents() == {"store/manifest.json": content}


def test_nothing_there_and_no_answer_are_told(bucket: Bucket) -> None:
    """The messages say what to do, and hold no credentials."""
    with pytest.raises(StoreError, match="nothing published there yet"):
        open_store(bucket.address).connect()
    with pytest.raises(StoreError, match="doesn't answer") as caught:
        open_store("s3://bucket/store?endpoint_override=127.0.0.1:1&scheme=http").connect()
    assert "anonproxy'" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "s3://key:secret@bucket/store",
        "s3:///store",
        "s3://bucket/store?access_key=secret",
        "s3://bucket//store",
        "s3://bucket/store#secret",
    ],
)
def test_an_address_that_is_none_is_refused_without_quoting_it(address: str) -> None:
    """Credentials in it are refused, too."""
    with pytest.raises(StoreError, match=r"store\.path") as caught:
        open_objects(address)
    assert "secret" not in str(caught.value)


def test_stopped_between_any_two_requests_a_reader_sees_one_state_or_the_other(
    tmp_path: Path, endpoint: str, bucket: Bucket
) -> None:
    """A new day comes, an old one's rows end, a file changes; the next run completes it, and nothing is left over."""
    early, late, other = (tmp_path / name for name in ("early", "late", "other"))
    now = MIDNIGHT + 90 * DAY_S + 6 * HOUR_S
    write(early, visits(12) + visits(12, DAY_S))
    work(early, MIDNIGHT + 3 * DAY_S)
    shutil.copytree(early, late)
    write(late, visits(12, 89 * DAY_S))
    work(late, now)
    write(other, visits(15, DAY_S))
    work(other, now)
    changed = f"daily/site=www/date={NEXT_DAY}/daily.parquet"
    shutil.copy(other / changed, late / changed)

    publisher(late, bucket).publish(now, settings(), Notes())
    wanted, after, states = bucket.contents(), totals(bucket.address), []
    for left in count():
        each = make_bucket(endpoint)
        publisher(early, each).publish(MIDNIGHT + 3 * DAY_S, settings(), Notes())
        before = totals(each.address)
        ours = publisher(late, each)
        ours.objects = Counting(ours.objects.filesystem, ours.objects.prefix, left)
        try:
            ours.publish(now, settings(), Notes())
            break
        except Stopped:
            states.append(totals(each.address))
        for _ in range(2):
            publisher(late, each).publish(now, settings(), Notes())
        assert {name: data for name, data in each.contents().items() if not name.endswith("/")} == wanted
        assert not any(DATE in name for name in each.names() if "/hits/" in name)
    assert before != after
    assert states == [before] * states.count(before) + [after] * states.count(after)
    assert len(states) > states.count(before) > 4


def test_a_file_of_many_megabytes_is_published_whole(tmp_path: Path, bucket: Bucket) -> None:
    """Large objects travel in parts."""
    objects, data = open_objects(bucket.address), os.urandom(12_000_000)
    objects.write("large", data)
    assert objects.read("large") == data
    objects.delete("large")
    objects.delete("large")
    with pytest.raises(FileNotFoundError):
        objects.read("large")


def test_a_recorder_publishes_what_it_settles(tmp_path: Path, bucket: Bucket) -> None:
    """From requests to the bucket, days of it, in the recorder's own order; and no visit number on the way."""
    world = World()
    with recording(tmp_path, world, path=bucket.address, work_path=str(tmp_path)) as recorder:
        for _ in range(3 * 4):
            for number in range(12):
                recorder.record(request(world.time_s, f"198.51.100.{number + 1}"))
            world.wait(6 * HOUR_S)
            recorder.tick()
            recorder.keep_house()
        assert "publish_failed" not in recorder.counts
        assert open_store(bucket.address).dataset("hits").count_rows() == 24 + 48 + 48
        assert count_events(tmp_path)["published"] == count_events(tmp_path)["settled"] == 3
        bucket.ask("DELETE", "/store/manifest.json")
        recorder.keep_house()
        assert recorder.counts["publish_failed"] == 1
    assert not any("/hot/" in name for name in bucket.names())


@pytest.mark.parametrize("is_running", [False, True], ids=["by itself", "beside a recorder"])
def test_an_import_is_published(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, is_running: bool
) -> None:
    """Whoever writes the days, the bucket has them all in the end, published once."""
    monkeypatch.setattr(import_store, "now", lambda: float(invented_logs.NOW_S))
    root, world = tmp_path / "store", World(invented_logs.NOW_S)
    log = invented_logs.write_log(tmp_path / "access.log", invented_logs.invent(days=3))
    config = invented_logs.settings(root, store={"path": bucket.address, "work_path": str(root)})
    recorder = Recorder(config, world.clock, world.steady) if is_running else None
    assert run(root, config, log).written > 0
    if recorder:
        recorder.keep_house()
        recorder.close()
    assert totals(bucket.address) == totals(root)
    assert len(totals(root)) == count_events(root)["imported"] == 3
    assert count_events(root)["published"] == 1


def test_the_verbs_publish_too(tmp_path: Path, bucket: Bucket) -> None:
    """Settling by hand reaches the bucket, and a report reads from there."""
    root, day_s = tmp_path / "store", (int(time.time()) // DAY_S - 3) * DAY_S
    write(root, visits(12, day_s - MIDNIGHT))
    config = tmp_path / "anonproxy.toml"
    config.write_text(
        f'[store]\npath = "{bucket.address}"\nwork_path = "{root}"\n'
        '[[sites]]\nname = "www"\nupstream = "http://127.0.0.1:9"\n'
    )
    run = CliRunner().invoke(settle_command, ["--config", str(config), "--trust-clock"])
    assert run.exit_code == 0, run.output
    assert "published: files 3" in run.output
    read = CliRunner().invoke(report_command, ["days", "--store", bucket.address, "--since", "5d", "--format", "csv"])
    assert read.exit_code == 0, read.output
    assert ",12," in read.output
