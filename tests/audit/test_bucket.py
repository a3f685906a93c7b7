"""A published store is fetched, held to its manifest, and audited like a folder; what was tampered with is named."""

import json
import logging
import stat
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest
from click.testing import CliRunner
from moto.server import ThreadedMotoServer
from pyarrow.fs import LocalFileSystem

from anonproxy.audit.bucket import MANIFEST, copy, fetch
from anonproxy.audit.check import Verdict
from anonproxy.audit.checks import BUCKET, CHECKS
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.ledger import Ledger
from anonproxy.audit.run import run_audit
from anonproxy.audit.specimen import DAILY, HITS, NOW, TODAY, YESTERDAY, sign, write_day, write_specimen
from anonproxy.audit.specimen_bucket import fetch_specimen, find_bucket, find_object, write_bucket
from anonproxy.audit.tree import DAY_S
from anonproxy.cli.audit import command
from anonproxy.model.errors import StoreError
from anonproxy.model.settings import StoreSettings
from anonproxy.store.objects import open_objects
from anonproxy.store.publish import Publisher
from tests.store.test_objects import Bucket

_numbers = count()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a specimen of a store, and what it publishes beside it."""
    root = tmp_path / "store"
    write_specimen(root)
    write_bucket(root)
    return root


def judge(store: Path) -> dict[str, Verdict]:
    """Fetch what a store published, and return what each check that doesn't pass came to."""
    root, bucket = fetch_specimen(store)
    evidence = Evidence(root, NOW, bucket=bucket)
    verdicts = {check.code: check.look(evidence).verdict for check in (*CHECKS, BUCKET)}
    return {code: verdict for code, verdict in verdicts.items() if verdict != Verdict.PASS}


def edit_manifest(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    """Return a tampering with the manifest."""

    def tamper(store: Path) -> None:
        path = find_bucket(store) / MANIFEST
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return tamper


def put(name: str, content: bytes = b"jane") -> Callable[[Path], None]:
    """Return a tampering that puts an object beside the others."""

    def tamper(store: Path) -> None:
        path = find_bucket(store) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return tamper


def swap_totals(store: Path) -> None:
    """Publish other totals under a name and a digest that fit."""
    content = find_object(store, DAILY).read_bytes()
    (store / DAILY).write_bytes(content[:-9] + bytes(9))
    find_object(store, DAILY).unlink()
    write_bucket(store)


TAMPERINGS: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "an object changed": (
        lambda store: find_object(store, HITS).write_bytes(find_object(store, DAILY).read_bytes()),
        {"bucket", "ledger", "anatomy"},
    ),
    "an object missing": (lambda store: find_object(store, HITS).unlink(), {"bucket", "ledger"}),
    "an object that was not published": (put("visitors.csv"), {"bucket", "foreign-files"}),
    "a key in the bucket": (put("ledger/signing-key.pem", bytes(range(32))), {"bucket"}),
    "a day of visit numbers": (put("hot/site=www/date=2026-11-21/jane.parquet"), {"bucket", "foreign-files"}),
    "an address in a name": (put("jane@example.org"), {"bucket", "foreign-files", "detectors"}),
    "a manifest that says more": (edit_manifest(lambda said: said.update(note="jane")), {"bucket"}),
    "a manifest that names what no store has": (
        edit_manifest(lambda said: said["files"].update({"jane": "0" * 64})),  # type: ignore[attr-defined]
        {"bucket"},
    ),
    "totals published anew": (swap_totals, {"ledger"}),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_finds_what_was_tampered_with(store: Path, name: str, record_property: Callable[[str, object], None]) -> None:
    """Whatever is changed, missing or too much in a bucket fails the checks that are for it, and no other."""
    tamper, expected = TAMPERINGS[name]
    tamper(store)
    verdicts = judge(store)
    assert {code for code, verdict in verdicts.items() if verdict == Verdict.FAIL} == expected
    root = store.with_name("store.fetched")
    evidence = Evidence(root, NOW, bucket=copy(LocalFileSystem(), str(find_bucket(store)), root.with_name("again")))
    assert not any("jane" in str(finding) for finding in BUCKET.look(evidence).findings)
    record_property("found_by", ", ".join(sorted(expected)))


def test_what_was_published_passes(store: Path) -> None:
    """A bucket as it was published passes every check, and its copy is laid out as a store, hot rows left out."""
    assert judge(store) == {}
    root = store.with_name("store.fetched")
    assert {path.name for path in root.iterdir()} == {"hits", "daily", "vocabulary", "ledger"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")} == {0o700, 0o600}


def test_a_work_folder_that_was_lost_is_no_finding(store: Path) -> None:
    """What an earlier work folder wrote is explained by its own ledger, which lies beside the present one."""
    bucket = find_bucket(store)
    older = store.with_name("older")
    write_specimen(older)
    write_day(older, YESTERDAY - DAY_S)
    manifest = json.loads((bucket / MANIFEST).read_text())
    for path in write_bucket(older).rglob("*"):
        is_of_its_own = "date=2026-11-19" in str(path) or "/ledger/" in str(path)
        if path.is_file() and path.name != MANIFEST and is_of_its_own:
            put(path.relative_to(find_bucket(older)).as_posix(), path.read_bytes())(store)
    named = json.loads((find_bucket(older) / MANIFEST).read_text())["files"]
    manifest["files"] |= {path: digest for path, digest in named.items() if "date=2026-11-20" not in path}
    (bucket / MANIFEST).write_text(json.dumps(manifest))
    sign(store, "rotated", {}, NOW)
    assert judge(store) == {}
    (ledger,) = (path for path in bucket.glob("ledger/*/*.jsonl") if b"2026-11-19" in path.read_bytes())
    ledger.write_bytes(ledger.read_bytes().replace(b"settled", b"deleted"))
    assert judge(find_again(store))["ledger"] == Verdict.FAIL


def find_again(store: Path) -> Path:
    """Return the same store under another name, to be fetched once more."""
    again = store.with_name("again")
    find_bucket(store).rename(find_bucket(again))
    return again


def test_bucket_without_a_manifest_is_no_store(tmp_path: Path) -> None:
    """Where nothing was published there is nothing to audit."""
    with pytest.raises(StoreError, match="nothing was published there"):
        copy(LocalFileSystem(), str(tmp_path), tmp_path / "copy")


@pytest.mark.parametrize("address", ["s3://", "s3://x?nonsense=1", "s3://key:secret@x/store"])
def test_refuses_what_is_no_address(address: str) -> None:
    """An address that is none is refused with an example."""
    with pytest.raises(StoreError, match="s3://BUCKET/PREFIX"), fetch(address):
        pass


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


@pytest.mark.slow
def test_command_audits_a_published_store(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the proxy published to an object store is audited by its address, and nothing stays on the disk."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anonproxy")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anonproxy")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("anonproxy.cli.audit.now", lambda: float(NOW))
    (tmp_path / "tmp").mkdir()
    bucket = Bucket(endpoint, f"audited-{next(_numbers)}")
    bucket.ask("PUT")
    root = tmp_path / "work"
    write_specimen(root)
    ledger = Ledger(root / "ledger", NOW)
    (tmp_path / "published.pem").write_bytes((root / "ledger/public-key.pem").read_bytes())
    publisher = Publisher(root, open_objects(bucket.address))
    publisher.publish(NOW, StoreSettings(path="unused"), lambda event, details: ledger.append(event, details, NOW))
    arguments = ["--store", bucket.address, "--public-key", str(tmp_path / "published.pem"), "--head", ledger.head]
    done = CliRunner().invoke(command, [*arguments, "--json"])
    told = json.loads(done.output)
    assert (done.exit_code, told["verdict"], told["store"]) == (0, "pass", bucket.address.partition("?")[0])
    assert told["published"] == {"entries": 6, "since_head": 0, "broken": ""}
    assert {check["code"] for check in told["checks"]} >= {"bucket", "ledger", "anatomy"}
    assert list((tmp_path / "tmp").iterdir()) == []
    name = next(name for name in bucket.names() if "daily.parquet" in name or "/daily." in name)
    bucket.ask("PUT", f"/{name}", b"rows of someone")
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 1
    assert f"{DAILY}: is not the file whose digest stands in the manifest" in " ".join(done.output.split())


@pytest.mark.slow
def test_command_says_what_it_can_not_reach(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that isn't there, or that nobody lets us read, is an error that names the remedy."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anonproxy")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anonproxy")
    address = f"s3://nowhere/store?endpoint_override={endpoint}&scheme=http&region=us-east-1"
    done = CliRunner().invoke(command, ["--store", address])
    assert isinstance(done.exception, StoreError)
    assert "Credentials come from the environment" in str(done.exception) or "nothing was published" in str(
        done.exception
    )


def test_audit_of_a_bucket_judges_no_process(store: Path) -> None:
    """Of a bucket nobody expects processes, so their absence is not told as a gap."""
    root, bucket = fetch_specimen(store)
    report = run_audit(root, NOW, bucket=bucket)
    assert report.verdict == Verdict.PASS
    assert report.unseen == ()
    assert [result.check.code for result in report.results][-1] == "bucket"


def test_digests_are_of_the_bytes(store: Path) -> None:
    """What a bucket held is remembered by the digests of its objects, the manifest left out."""
    _, bucket = fetch_specimen(store)
    assert TODAY > YESTERDAY
    assert sha256((store / DAILY).read_bytes()).hexdigest() in bucket.digests.values()
    assert MANIFEST not in bucket.digests
