"""A worker: serves pages and hands raw requests to the writer. It holds no key and writes nothing."""

import asyncio
import gc
import resource
import signal
import socket
from collections.abc import Callable
from typing import Final

from anonproxy.anonymize.request import RawRequest
from anonproxy.clock import steady
from anonproxy.model.errors import OperatorError
from anonproxy.proxy import quiet
from anonproxy.proxy.addon import AnonproxyAddon
from anonproxy.proxy.channel import BATCH_S, Sender
from anonproxy.proxy.child import Assignment, begin_child, heed_signals
from anonproxy.proxy.counters import Counters, Row
from anonproxy.proxy.limits import SWEEP_S, address_key
from anonproxy.proxy.master import LeanMaster
from anonproxy.proxy.talkers import Talkers
from anonproxy.proxy.tls import LOOK_S, Certificates, follow_files

# How long connections without a request stay open when a worker stops: one may be on its way.
LINGER_S: Final = 1.0
# How often a stopping worker looks whether it may go.
DRAIN_STEP_S: Final = 0.05


async def serve(assignment: Assignment, row: Row, addon: AnonproxyAddon, talkers: Talkers) -> None:
    """Serve until SIGTERM, then finish running requests as long as the settings allow."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    heed_signals()
    master = LeanMaster(assignment.settings, addon)
    await master.start([socket.socket(fileno=fd) for fd in assignment.listen_fds])

    def report_top() -> bytes:
        return talkers.report(steady(), addon.records.count_connections(address_key)).to_json()

    beside = [
        loop.create_task(serve_tls(master, assignment)),
        loop.create_task(forget_in_time(addon, talkers)),
        *(loop.create_task(tell_top(socket.socket(fileno=fd), report_top)) for fd in assignment.asked_fds),
    ]
    row["ready"] = 1
    await stopping.wait()
    row["ready"] = 0
    master.stop_accepting()
    began_s, drain_s = loop.time(), assignment.settings.proxy.drain_s
    while (waited_s := loop.time() - began_s) < drain_s and (
        addon.records.unfinished or (master.has_visitors and waited_s < LINGER_S)
    ):
        await asyncio.sleep(DRAIN_STEP_S)
    for task in beside:
        task.cancel()
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


def soon(send: Callable[[], None]) -> None:
    """Hand over what has been finished meanwhile, in a moment."""
    asyncio.get_running_loop().call_later(BATCH_S, send)


async def forget_in_time(addon: AnonproxyAddon, talkers: Talkers) -> None:
    """Let go of addresses as time passes, whether or not anybody asks for pages."""
    while True:
        await asyncio.sleep(SWEEP_S)
        addon.rate_limit.forget(steady())
        talkers.forget(steady())


async def tell_top(asked: socket.socket, report: Callable[[], bytes]) -> None:
    """Tell the supervisor who asks most whenever it wants to know."""
    asked.setblocking(False)
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(asked, 1):
        await loop.sock_sendall(asked, report())


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
    channel = socket.socket(fileno=assignment.channel_fd)
    sender = Sender(channel, assignment.index, row, lambda: bool(counters.writer["ready"]), soon)
    talkers = Talkers(steady())

    def take(request: RawRequest) -> None:
        sender(request)
        if assignment.asked_fds:
            talkers.note(request, steady())

    addon = AnonproxyAddon(assignment.settings, take, row.count, own_pages=assignment.own_pages)
    gc.freeze()  # what was imported stays; the collector need not look at it again
    asyncio.run(serve(assignment, row, addon, talkers))
    sender.send()


if __name__ == "__main__":
    main()
