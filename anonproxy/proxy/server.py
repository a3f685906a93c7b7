"""The supervisor: binds the sockets once, starts one writer and the workers, brings back what ends, stops in order."""

import asyncio
import errno
import functools
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import Settings
from anonproxy.proxy import quiet
from anonproxy.proxy.admin import MAX_HEAD_BYTES, handle_admin, is_ready
from anonproxy.proxy.channel import open_channel
from anonproxy.proxy.child import EXIT_OPERATOR, Assignment
from anonproxy.proxy.counters import Counters
from anonproxy.proxy.say import Say, count_noun, say
from anonproxy.proxy.sites import parse_upstream

WRITER: Final = "anonproxy.proxy.writer"
WORKER: Final = "anonproxy.proxy.worker"

# -P: the working directory is nobody's package. -O drops mitmproxy's type checks of every event, about a fifth of a
# request's work.
FLAGS: Final[dict[str, tuple[str, ...]]] = {WRITER: ("-P",), WORKER: ("-P", "-O")}
# Debug switches that print traffic, and those that write TLS secrets to a file.
TALKATIVE: Final = frozenset(
    {
        "PYTHONFAULTHANDLER",
        "PYTHONDEVMODE",
        "PYTHONASYNCIODEBUG",
        "PYTHONINSPECT",
        "PYTHONVERBOSE",
        "SSLKEYLOGFILE",
        "MITMPROXY_SSLKEYLOGFILE",
    }
)

# A child that ends at once is started again after 0.5 s, then 1, 2, … up to 30 s; one that lived a minute starts anew.
BACKOFF_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S: Final = 60.0
# Beyond drain_s, for the last flush of the writer and the farewells of the workers.
GRACE_S: Final = 20.0
POLL_S: Final = 0.05

_BIND_REMEDIES: Final = {
    errno.EADDRINUSE: "something else listens there; stop it or choose another port",
    errno.EACCES: "this user may not; use a port from 1024 up, or give the service CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


@dataclass(frozen=True, slots=True, eq=False)
class Role:
    """A child that should always run."""

    module: str
    assignment: Assignment


def parse_listen(address: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Parse "host:port" or "[host]:port", whose form the settings have checked."""
    host, _, port = address.rpartition(":")
    bare = host.strip("[]")
    return (socket.AF_INET6 if ":" in bare else socket.AF_INET), (bare, int(port))


def bind_listener(setting: str, address: str) -> socket.socket:
    """Bind and listen.

    Raises: OperatorError that names the setting, when the address can't be had
    """
    family, where = parse_listen(address)
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(where)
        listener.listen()
    except (OSError, UnicodeError) as error:
        listener.close()
        remedy = _BIND_REMEDIES.get(getattr(error, "errno", None) or 0, type(error).__name__)
        raise OperatorError(f"proxy.{setting}: can't listen on {address}: {remedy}") from None
    return listener


def render_address(listener: socket.socket) -> str:
    """Return where a listener can be reached, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def verify_no_loop(settings: Settings, listener: socket.socket) -> None:
    """Refuse an upstream that is the proxy itself.

    Raises: OperatorError
    """
    for site in settings.sites:
        if parse_upstream(site.upstream)[1:] == listener.getsockname()[:2]:
            raise OperatorError(f"site {site.name}: its upstream is the proxy's own address; name the site's instead")


class Supervisor:
    """Everything that `anonproxy run` runs."""

    def __init__(self, settings: Settings, listeners: Sequence[socket.socket], admin: socket.socket) -> None:
        self._settings = settings
        self._listeners = listeners
        self._admin = admin
        self._counters = Counters.create(settings.proxy.workers)
        self._sending, self._receiving = open_channel()
        self._children: dict[Role, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._refused = False  # the writer said that it can't work with these settings

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        admin = await asyncio.start_server(
            functools.partial(handle_admin, self._counters), sock=self._admin, limit=MAX_HEAD_BYTES
        )
        writer, *workers = self._roles()
        keepers = {role: loop.create_task(self._keep(role)) for role in (writer, *workers)}
        announcing = loop.create_task(self._announce())
        await self._stopping.wait()
        announcing.cancel()
        say(Say.STOPPING, seconds=self._settings.proxy.drain_s)
        for listener in self._listeners:
            listener.close()
        await self._stop([(role, keepers[role]) for role in workers])
        self._sending.close()  # by which the writer knows that nothing more will come
        await self._stop([(writer, keepers[writer])])
        admin.close()
        say(
            Say.STOPPED,
            requests=self._counters.total("requests"),
            written=self._counters.total("written"),
            dropped=sum(self._counters.dropped().values()),
        )
        return EXIT_OPERATOR if self._refused else 0

    def _roles(self) -> list[Role]:
        sending, receiving = self._sending.fileno(), self._receiving.fileno()
        writer = Assignment(self._settings, os.getpid(), self._counters.fd, receiving)
        fds = tuple(listener.fileno() for listener in self._listeners)
        workers = (
            replace(writer, channel_fd=sending, listen_fds=fds, index=i) for i in range(self._settings.proxy.workers)
        )
        return [Role(WRITER, writer), *(Role(WORKER, worker) for worker in workers)]

    async def _keep(self, role: Role) -> None:
        """Run a child, and run it again whenever it ends, until everything stops."""
        loop = asyncio.get_running_loop()
        is_writer = role.module == WRITER
        row = self._counters.writer if is_writer else self._counters.workers[role.assignment.index]
        failures = 0
        while not self._stopping.is_set():
            started_s = loop.time()
            status = await self._run_once(role)
            was_ready, row["ready"] = row["ready"], 0
            if self._stopping.is_set():
                return
            if is_writer and status == EXIT_OPERATOR and not was_ready and not failures:
                self._refused = True
                self._stopping.set()
                return
            failures = 0 if loop.time() - started_s > STEADY_S else failures
            pause_s = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
            failures += 1
            sentence = Say.WRITER_ENDED if is_writer else Say.WORKER_ENDED
            say(sentence, index=role.assignment.index + 1, status=status, seconds=pause_s)
            await self._pause(pause_s)

    async def _run_once(self, role: Role) -> int:
        """Run a child to its end; return its exit status."""
        try:
            child = self._children[role] = await start_child(role)
        except OSError as error:  # no process or no memory to be had just now
            return error.errno or 1
        if self._stopping.is_set():  # it came too late to be told with the others
            child.terminate()
        return await child.wait()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _stop(self, kept: Sequence[tuple[Role, "asyncio.Task[None]"]]) -> None:
        """Ask children to end, and make those end that don't."""
        for role, _ in kept:
            self._signal(role, signal.SIGTERM)
        tasks = [task for _, task in kept]
        _, late = await asyncio.wait(tasks, timeout=self._settings.proxy.drain_s + GRACE_S)
        for role, task in kept:
            if task in late:
                self._signal(role, signal.SIGKILL)
                await task

    def _signal(self, role: Role, number: signal.Signals) -> None:
        child = self._children.get(role)
        if child is not None and child.returncode is None:
            child.send_signal(number)

    async def _announce(self) -> None:
        """Say that everything works, once it does."""
        while not is_ready(self._counters):
            await asyncio.sleep(POLL_S)
        say(
            Say.STARTED,
            address=" ".join(render_address(listener) for listener in self._listeners),
            sites=count_noun(len(self._settings.sites), "site"),
            workers=count_noun(self._settings.proxy.workers, "worker"),
            admin_address=render_address(self._admin),
        )


async def start_child(role: Role) -> asyncio.subprocess.Process:
    """Start a child: same interpreter, same package, nothing in its arguments."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *FLAGS[role.module],
        "-m",
        role.module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        pass_fds=role.assignment.inherited_fds,
        env=child_environment(),
    )
    if child.stdin is None:
        raise RuntimeError("a child without standard input")
    child.stdin.write(role.assignment.to_json())
    child.stdin.close()
    return child


def child_environment() -> dict[str, str]:
    """Return the environment without the switches that make Python or OpenSSL talk."""
    return {name: value for name, value in os.environ.items() if name not in TALKATIVE}


def run_proxy(settings: Settings) -> int:
    """Serve the settings' sites until told to stop; return the exit status.

    Raises: OperatorError when a listener can't be had
    """
    listeners = [bind_listener("listen", settings.proxy.listen)]
    verify_no_loop(settings, listeners[0])
    admin = bind_listener("admin_listen", settings.proxy.admin_listen)
    quiet.silence()
    quiet.harden()

    async def supervise() -> int:
        return await Supervisor(settings, listeners, admin).run()

    return asyncio.run(supervise())
