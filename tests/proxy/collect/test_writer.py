"""The writer reads what servers send, whatever the format, and gathers it into batches of which none is lost."""

import os
from collections.abc import Iterator
from typing import Any, cast

import pyarrow as pa
import pytest

from anonproxy.ingest.formats import LogFormat, Parsed, find_format
from anonproxy.model.settings import ProxySettings, Settings
from anonproxy.model.vocabularies import DropReason
from anonproxy.proxy.channel import Receiver, open_channel
from anonproxy.proxy.collect import writer
from anonproxy.proxy.collect.blocks import BlockSender
from anonproxy.proxy.collect.writer import choose_host, gather, read_batch, record_all
from anonproxy.proxy.counters import Counters

COMBINED = b'203.0.113.7 - - [02/Mar/2026:17:00:00 +0000] "GET /a HTTP/1.1" 200 5 "-" "Firefox"\n'


def settings_with(**collect: Any) -> Settings:
    """Return settings with three sites."""
    hosts: dict[str, list[str]] = {"a": ["*.a.example", "a.example"], "b": ["b.example"], "c": []}
    sites = [{"name": name, "hosts": names, "upstream": "http://127.0.0.1:1"} for name, names in hosts.items()]
    return Settings.model_validate({"store": {"path": "/s"}, "collect": collect, "sites": sites})


@pytest.mark.parametrize(("site", "host"), [("", "www.a.example"), ("b", "b.example"), ("c", "")])
def test_lines_without_a_host_are_for_the_named_site(site: str, host: str) -> None:
    """A line that names no host is for the site that is configured, or for the first."""
    assert choose_host(settings_with(site=site)) == host
    requests, rejected = read_batch(b"<190>Mar  2 17:00:00 nginx: " + COMBINED, find_format("combined"), host)
    assert requests["raw_host"].to_pylist() == [host.encode()]
    assert requests["raw_client"].to_pylist() == [b"203.0.113.7"]
    assert not rejected


def test_a_host_that_is_logged_counts() -> None:
    """Where the line names a host, that one is taken."""
    requests, _ = read_batch(b"b.example:443 " + COMBINED, find_format("vhost_combined"), "www.a.example")
    assert requests["raw_host"].to_pylist() == [b"b.example"]


def test_lines_of_which_no_request_comes_are_counted_by_reason() -> None:
    """Every line is a request or is counted, empty ones too."""
    block = COMBINED + b"nonsense\n\n" + COMBINED.replace(b"Mar", b"Foo") + COMBINED
    requests, rejected = read_batch(block, find_format("combined"), "")
    assert requests.num_rows == 2
    assert rejected == {DropReason.UNREADABLE: 2, DropReason.BAD_TIME: 1}


def test_a_mistake_of_the_reader_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Lines that the reader stumbles over are counted and forgotten, and so is what its error says of them."""

    def stumble(block: bytes, _format: LogFormat) -> Parsed:
        raise ValueError(block)

    monkeypatch.setattr(writer, "parse_lines", stumble)
    requests, rejected = read_batch(COMBINED * 3, find_format("combined"), "")
    assert (requests.num_rows, rejected) == (0, {DropReason.INTERNAL_ERROR: 3})
    assert "203.0.113.7" not in "".join(capfd.readouterr())


@pytest.fixture
def counters() -> Iterator[Counters]:
    """Give zeroed counters for one receiver."""
    made = Counters.create(workers=1)
    yield made
    os.close(made.fd)


def test_batches_hold_everything_in_order(counters: Counters, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are gathered up to a size or a moment, and what came before the end is given before it."""
    monkeypatch.setattr(writer, "BATCH_BYTES", 100)
    sending, receiving = open_channel()
    with receiving:
        with sending:
            sender = BlockSender(sending, 0, counters.workers[0], lambda: True)
            blocks = [b"%d\n" % number * 10 for number in range(20)]
            for block in blocks:
                sender.put(block)
                sender.pump()
        batches = list(gather(Receiver(receiving, counters)))
    assert b"".join(batches) == b"".join(blocks)
    assert 1 < len(batches) < len(blocks)


def forbid(_step: int) -> int:
    """Do as a sandbox does that lets nobody change priorities."""
    raise PermissionError


def test_whom_a_trusted_proxy_forwards_is_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server behind a load balancer sends both addresses, and the client is chosen as `run` chooses it. That the
    writer may not stand back costs no line.
    """
    recorded: list[bytes] = []

    class Recorder:
        def record_table(self, requests: pa.Table, rejected: object) -> None:
            recorded.extend(requests["raw_client"].to_pylist())

    line = COMBINED.replace(b"203.0.113.7", b"10.0.0.1").replace(b"\n", b' "198.51.100.1, 203.0.113.7"\n')
    proxy = ProxySettings.model_validate({"trusted_proxies": ["10.0.0.0/8"]})
    settings = settings_with(format="nginx_main").model_copy(update={"proxy": proxy})
    monkeypatch.setattr(writer, "gather", lambda _receiver: iter([line]))
    monkeypatch.setattr(os, "nice", forbid)
    record_all(cast(Any, None), cast(Any, Recorder()), settings)
    assert recorded == [b"203.0.113.7"]
