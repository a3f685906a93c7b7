"""The writer of `collect`: makes rows of log lines, in bulk. It holds keys and writes the store, as that of `run`."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from anonproxy.clock import steady
from anonproxy.ingest.batch import RAW_SCHEMA
from anonproxy.ingest.formats import LogFormat, Parsed, Rejection, find_format, parse_lines
from anonproxy.ingest.recorder import Recorder
from anonproxy.ingest.stream import strip_headers
from anonproxy.model.settings import Settings
from anonproxy.model.vocabularies import DropReason
from anonproxy.proxy.channel import Receiver
from anonproxy.proxy.collect.blocks import take_block
from anonproxy.proxy.writer import run_writer

# Work in bulk costs some milliseconds, however few lines there are: so they are gathered this long, or up to this much.
BATCH_S: Final = 1.0
BATCH_BYTES: Final = 4 * 1024 * 1024

# Pages and the receiver come first: lines that wait are kept.
NICE: Final = 5

REASONS: Final = {
    Rejection.BAD_TIME: DropReason.BAD_TIME,
    Rejection.TOO_LONG: DropReason.OVERSIZED,
}
ANY_HOST: Final = "*"


def gather(receiver: Receiver) -> Iterator[bytes]:
    """Give what comes in batches, until nobody can send any more."""
    blocks: list[bytes] = []
    try:
        while True:
            blocks, ends_s = [take_block(receiver)], steady() + BATCH_S
            room = BATCH_BYTES - len(blocks[0])
            while room > 0 and receiver.is_waiting(ends_s - steady()):
                blocks.append(take_block(receiver))
                room -= len(blocks[-1])
            yield b"".join(blocks)
            blocks = []
    except EOFError:
        if blocks:
            yield b"".join(blocks)


def read_batch(batch: bytes, log_format: LogFormat, host: str) -> tuple[pa.Table, Counter[DropReason]]:
    """Read lines into requests, and count by reason those that none came of. Lines that name no host get one."""
    try:
        parsed = parse_lines(strip_headers(batch), log_format)
    except Exception:  # whatever it is, its text may hold a line: count them and forget them
        return RAW_SCHEMA.empty_table(), Counter({DropReason.INTERNAL_ERROR: batch.count(b"\n")})
    requests = parsed.requests
    if "raw_host" not in requests.column_names:
        requests = requests.append_column("raw_host", pa.repeat(pa.scalar(host.encode(), pa.binary()), len(requests)))
    return requests, count_rejected(parsed)


def count_rejected(parsed: Parsed) -> Counter[DropReason]:
    """Count lines by the reason why no request came of them."""
    rejected = Counter({reason: len(parsed.rejected.get(why, ())) for why, reason in REASONS.items()})
    rejected[DropReason.UNREADABLE] = parsed.lines - parsed.requests.num_rows - rejected.total()
    return +rejected


def choose_host(settings: Settings) -> str:
    """Return the host that lines without one are for: one of the site that is named, else of the first."""
    sites = {site.name: site for site in settings.sites}
    site = sites.get(settings.collect.site, settings.sites[0])
    return next((host.replace(ANY_HOST, "www") for host in site.hosts if host != ANY_HOST), "")


def record_all(receiver: Receiver, recorder: Recorder, settings: Settings) -> None:
    """Record what comes until nobody can send any more, or the supervisor wants another writer."""
    with contextlib.suppress(OSError):  # a sandbox may forbid it; lines are recorded all the same
        os.nice(NICE)
    log_format, host = find_format(settings.collect.format).behind(settings.proxy), choose_host(settings)
    for batch in gather(receiver):
        recorder.record_table(*read_batch(batch, log_format, host))


if __name__ == "__main__":
    run_writer(record_all)
