"""A worker: serves pages and hands raw requests to the writer. It holds no key and writes nothing."""

import asyncio
import gc
import resource
import signal
import socket
from typing import Final

from anonproxy.proxy import quiet
from anonproxy.proxy.addon import AnonproxyAddon
from anonproxy.proxy.channel import Sender
from anonproxy.proxy.child import Assignment, begin_child
from anonproxy.proxy.counters import Counters, Row
from anonproxy.proxy.master import LeanMaster

# How often a stopping worker looks whether it may go.
DRAIN_STEP_S: Final = 0.05


async def serve(assignment: Assignment, row: Row, addon: AnonproxyAddon) -> None:
    """Serve until SIGTERM, then finish running requests as long as the settings allow."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    master = LeanMaster(assignment.settings, addon)
    await master.start([socket.socket(fileno=fd) for fd in assignment.listen_fds])
    row["ready"] = 1
    await stopping.wait()
    row["ready"] = 0
    master.stop_accepting()
    end_s = loop.time() + assignment.settings.proxy.drain_s
    while addon.records.unfinished and loop.time() < end_s:
        await asyncio.sleep(DRAIN_STEP_S)
    addon.done()


def repair_counts(row: Row) -> None:
    """Account for the one request that a killed predecessor may have counted but not handed over."""
    row["sent"] = max(row["sent"], row["seen"])
    kept = row["sent"] + row["dropped_queue_full"] + row["dropped_writer_down"] + row["dropped_internal_error"]
    row["dropped_internal_error"] += max(0, row["requests"] - kept)
    row["disconnected"] = row["connected"]


def raise_file_limit() -> None:
    """Allow as many open connections as the administrator does: each visitor takes one, and one to the site."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    """Run as a child of the supervisor."""
    assignment = begin_child()
    quiet.follow_parent(assignment.parent)
    raise_file_limit()
    counters = Counters(assignment.counters_fd, assignment.settings.proxy.workers + 1)
    row = counters.workers[assignment.index]
    repair_counts(row)
    channel = socket.socket(fileno=assignment.channel_fd)
    sender = Sender(channel, assignment.index, row, lambda: bool(counters.writer["ready"]))
    addon = AnonproxyAddon(assignment.settings, sender, row.count)
    gc.freeze()  # what was imported stays; the collector need not look at it again
    asyncio.run(serve(assignment, row, addon))


if __name__ == "__main__":
    main()
