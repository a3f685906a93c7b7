"""A worker: serves pages and hands raw requests to the writer. It holds no key and writes nothing."""

import asyncio
import gc
import resource
import signal
import socket
from typing import Final

from anonproxy.model.errors import OperatorError
from anonproxy.proxy import quiet
from anonproxy.proxy.addon import AnonproxyAddon
from anonproxy.proxy.channel import Sender
from anonproxy.proxy.child import Assignment, begin_child
from anonproxy.proxy.counters import Counters, Row
from anonproxy.proxy.master import LeanMaster
from anonproxy.proxy.tls import LOOK_S, Certificates, follow_files

# How long connections without a request stay open when a worker stops: one may be on its way.
LINGER_S: Final = 1.0
# How often a stopping worker looks whether it may go.
DRAIN_STEP_S: Final = 0.05


async def serve(assignment: Assignment, row: Row, addon: AnonproxyAddon) -> None:
    """Serve until SIGTERM, then finish running requests as long as the settings allow."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    master = LeanMaster(assignment.settings, addon)
    await master.start([socket.socket(fileno=fd) for fd in assignment.listen_fds])
    serving_tls = loop.create_task(serve_tls(master, assignment))
    row["ready"] = 1
    await stopping.wait()
    row["ready"] = 0
    master.stop_accepting()
    began_s, drain_s = loop.time(), assignment.settings.proxy.drain_s
    while (waited_s := loop.time() - began_s) < drain_s and (
        addon.records.unfinished or (addon.records.visitors and waited_s < LINGER_S)
    ):
        await asyncio.sleep(DRAIN_STEP_S)
    serving_tls.cancel()
    addon.done()


async def serve_tls(master: LeanMaster, assignment: Assignment) -> None:
    """Serve over TLS with the certificates as they are; without any that can be used, wait for some."""
    sockets = [socket.socket(fileno=fd) for fd in assignment.tls_fds]
    while sockets:
        try:
            certificates = Certificates(assignment.settings.proxy.certificates)
        except OperatorError:  # they were in order when the supervisor looked, and may be again
            await asyncio.sleep(LOOK_S)
        else:
            await master.start(sockets, certificates.context)
            await follow_files(certificates)


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
    counters = Counters(assignment.counters_fd)
    row = counters.workers[assignment.index]
    repair_counts(row)
    channel = socket.socket(fileno=assignment.channel_fd)
    sender = Sender(channel, assignment.index, row, lambda: bool(counters.writer["ready"]))
    addon = AnonproxyAddon(assignment.settings, sender, row.count)
    gc.freeze()  # what was imported stays; the collector need not look at it again
    asyncio.run(serve(assignment, row, addon))


if __name__ == "__main__":
    main()
