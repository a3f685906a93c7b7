"""The supervisor: starts one writer and the workers on sockets of its own, brings back what ends, stops in order."""

import asyncio
import contextlib
import functools
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from anonproxy.clock import now
from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import Settings
from anonproxy.proxy import quiet
from anonproxy.proxy.admin import MAX_HEAD_BYTES, handle_admin, is_ready
from anonproxy.proxy.channel import END, open_channel
from anonproxy.proxy.child import EXIT_OPERATOR, Assignment, hold_signals
from anonproxy.proxy.control import RELOAD, TOP, serve_control
from anonproxy.proxy.counters import Counters, repair_counts, settle_counts
from anonproxy.proxy.listeners import render_address
from anonproxy.proxy.notify import READY, STOPPING, keep_alive, notify, take_listeners
from anonproxy.proxy.plan import VISITORS, Plan, make_plan
from anonproxy.proxy.say import Say, count_noun, say, speak
from anonproxy.proxy.talkers import MAX_REPORT_BYTES, Report, merge_reports, render_report
from anonproxy.proxy.tls import Certificates, follow_files, render_day

WRITER: Final = "anonproxy.proxy.writer"
WORKER: Final = "anonproxy.proxy.worker"

# The working directory is nobody's package.
ISOLATED: Final = ("-P",)
# -O drops mitmproxy's type checks of every event, about a fifth of a request's work.
FLAGS: Final[dict[str, tuple[str, ...]]] = {WORKER: (*ISOLATED, "-O")}
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
# In which children that a reload starts must work.
START_S: Final = 30.0
# A worker that is busy for longer is left out of what `anonproxy top` shows.
ASK_S: Final = 2.0
# As many as the settings allow.
MAX_WORKERS: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class Role:
    """A child that should always run."""

    module: str
    assignment: Assignment


def warn_of_dates(certificates: Certificates) -> None:
    """Say which certificates browsers refuse just now; they are served all the same."""
    for one in certificates.all:
        if not one.is_valid_at(now()):
            days = {"begins": render_day(one.begins_s), "ends": render_day(one.ends_s)}
            say(Say.CERTIFICATE_INVALID, path=one.path, **days)


@dataclass(frozen=True, slots=True, eq=False)
class Post:
    """A child that is kept running until it may leave."""

    role: Role
    may_leave: asyncio.Event
    keeping: "asyncio.Task[None]"

    @property
    def is_given_up(self) -> bool:
        """Tell whether the child said that it can't work with its settings."""
        return self.keeping.done() and not self.may_leave.is_set()


class Supervisor:
    """Everything that `anonproxy run` runs; `anonproxy collect` differs in what stands here first."""

    writer_module: ClassVar = WRITER
    worker_module: ClassVar = WORKER
    stopping: ClassVar = Say.STOPPING
    writer_ended: ClassVar = Say.WRITER_ENDED
    worker_ended: ClassVar = Say.WORKER_ENDED

    def __init__(self, plan: Plan, read_again: Callable[[], Settings]) -> None:
        self._plan = plan
        self._read_again = read_again
        # While workers of an old configuration finish, those of the new one count in rows of their own.
        self._counters = Counters.create(2 * MAX_WORKERS)
        self._sending, self._receiving = open_channel()
        self._children: dict[Role, asyncio.subprocess.Process] = {}
        self._asking: dict[Role, socket.socket] = {}  # where workers are asked who asks most
        self._looking = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[str]] = set()
        self._first_row = 0
        self._writer: Post
        self._workers: list[Post] = []
        self._leaving: list[Post] = []  # workers of the configuration before
        self._admin: asyncio.Server
        self._following: asyncio.Task[None]

    async def run(self, control: str) -> int:
        """Serve until SIGTERM or SIGINT; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        answering = await serve_control(control, {RELOAD: self._reload_or_refuse, TOP: self._look_at_top})
        self._writer = self._post(self._writer_role(self._plan))
        self._workers = [self._post(role) for role in self._worker_roles(self._plan)]
        await self._open_admin()
        announcing = loop.create_task(self._announce())
        living = loop.create_task(keep_alive())
        await self._stopping.wait()
        notify(STOPPING)
        announcing.cancel()
        async with self._reloading:
            is_refused = self._writer.is_given_up
            if answering:
                answering.close()
            await self._end()
        living.cancel()
        return EXIT_OPERATOR if is_refused else 0

    async def _end(self) -> None:
        """Let everything end in order."""
        plan = self._plan
        self._following.cancel()
        say(self.stopping, seconds=plan.settings.proxy.drain_s)
        for setting in VISITORS:
            if setting in plan.listeners:
                plan.listeners[setting].close()
        await self._stop([*self._workers, *self._leaving], plan.settings.proxy.drain_s)
        self._sending.close()  # by which the writer knows that nothing more will come
        await self._stop([self._writer], plan.settings.proxy.drain_s)
        self._admin.close()
        settle_counts(self._counters)
        say(
            Say.STOPPED,
            requests=self._counters.total("requests"),
            written=self._counters.total("written"),
            dropped=sum(self._counters.dropped().values()),
        )

    async def reload(self) -> str:
        """Take the configuration anew, whole; return why it can't be, and serve on as before in that case."""
        async with self._reloading:
            problem = "it stops just now" if self._stopping.is_set() else await self._try_reload()
            if problem:
                say(Say.REFUSED, problem=problem)
            if self._writer.is_given_up:
                self._stopping.set()
            return problem

    async def _reload_or_refuse(self) -> str:
        if problem := await self.reload():
            raise OperatorError(problem)
        return ""

    async def _look_at_top(self) -> str:
        """Ask the workers who asks most, and forget it."""
        if not self._plan.settings.proxy.top:
            raise OperatorError("proxy.top is false in its configuration, so it keeps no addresses to show")
        # Here, because it takes a moment and memory: few ever ask, and workers have pages to serve.
        from anonproxy.anonymize.agent import name_agent

        async with self._looking:
            reports = await asyncio.gather(*(ask_worker(asking) for asking in self._asking.values()))
        return render_report(merge_reports(report for report in reports if report), name_agent)

    def _reload_soon(self) -> None:
        task = asyncio.get_running_loop().create_task(self.reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _try_reload(self) -> str:
        await self._stop(self._leaving, self._plan.settings.proxy.drain_s)
        before = self._plan
        try:
            plan = self._make_plan(self._read_again(), before)
        except OperatorError as error:
            return str(error)
        if plan.settings != before.settings and not await self._replace_writer(plan):
            await self._replace_writer(before)
            plan.close(kept=before)
            return "the store can't be used with it; the line before says why"
        self._first_row = MAX_WORKERS - self._first_row
        workers = [self._post(role) for role in self._worker_roles(plan)]
        rows = [self._counters.workers[post.role.assignment.index] for post in workers]
        if not await self._is_true_soon(lambda: all(row["ready"] for row in rows)):
            await self._stop(workers, 0)
            self._first_row = MAX_WORKERS - self._first_row
            await self._replace_writer(before)
            plan.close(kept=before)
            return "its workers don't start"
        self._plan, self._leaving, self._workers = plan, self._workers, workers
        speak(plan.settings.proxy.log_format)
        self._dismiss(self._leaving)
        await self._open_admin(before)
        before.close(kept=plan)
        self._say_serving(Say.RELOADED)
        return ""

    def _make_plan(self, settings: Settings, before: Plan) -> Plan:
        return make_plan(settings, before)

    async def _replace_writer(self, plan: Plan) -> bool:
        """End the writer after what was sent to it, and begin another; return whether it works."""
        self._writer.may_leave.set()
        while self._writer.role in self._children and not self._writer.keeping.done():
            with contextlib.suppress(BlockingIOError):  # it has much to read yet
                self._sending.send(END, socket.MSG_DONTWAIT)
                break
            await asyncio.sleep(POLL_S)
        await self._stop([self._writer], GRACE_S)
        self._writer = self._post(self._writer_role(plan))
        return await self._is_true_soon(lambda: bool(self._counters.writer["ready"]))

    async def _is_true_soon(self, condition: Callable[[], bool]) -> bool:
        """Wait for what new children do; False when it takes too long or the writer gives up."""
        deadline_s = asyncio.get_running_loop().time() + START_S
        while not condition():
            if self._writer.is_given_up or asyncio.get_running_loop().time() > deadline_s:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def _open_admin(self, before: Plan | None = None) -> None:
        """Answer on the admin listener, and watch the certificates, of the present plan."""
        listener = self._plan.listeners["admin_listen"]
        if before is None or before.listeners["admin_listen"] is not listener:
            if before:
                self._admin.close()
            self._admin = await asyncio.start_server(
                functools.partial(handle_admin, self._counters), sock=listener, limit=MAX_HEAD_BYTES
            )
        if before:
            self._following.cancel()
        self._following = asyncio.get_running_loop().create_task(self._follow())

    def _writer_role(self, plan: Plan) -> Role:
        return Role(
            self.writer_module,
            Assignment(
                plan.settings, os.getpid(), self._counters.fd, self._receiving.fileno(), lock_fds=(plan.lock.fd,)
            ),
        )

    def _worker_roles(self, plan: Plan) -> list[Role]:
        worker = Assignment(
            plan.settings,
            os.getpid(),
            self._counters.fd,
            self._sending.fileno(),
            listen_fds=plan.fds("listen"),
            tls_fds=plan.fds("tls_listen"),
            own_pages=dict(plan.own_pages),
        )
        numbers = range(self._first_row, self._first_row + plan.settings.proxy.workers)
        return [Role(self.worker_module, replace(worker, index=number)) for number in numbers]

    def _post(self, role: Role) -> Post:
        may_leave = asyncio.Event()
        return Post(role, may_leave, asyncio.get_running_loop().create_task(self._keep(role, may_leave)))

    async def _keep(self, role: Role, may_leave: asyncio.Event) -> None:
        """Run a child, and run it again whenever it ends, until it may leave or says that it can't work."""
        loop = asyncio.get_running_loop()
        is_writer = role.module == self.writer_module
        row = self._counters.writer if is_writer else self._counters.workers[role.assignment.index]
        failures = 0
        while not may_leave.is_set():
            started_s = loop.time()
            status = await self._run_once(role, may_leave)
            was_ready, row["ready"] = row["ready"], 0
            if not is_writer:
                repair_counts(row)
            if may_leave.is_set():
                return
            if is_writer and status == EXIT_OPERATOR and not was_ready and not failures:
                if not self._reloading.locked():  # else the reload decides
                    self._stopping.set()
                return
            failures = 0 if loop.time() - started_s > STEADY_S else failures
            pause_s = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
            failures += 1
            sentence = self.writer_ended if is_writer else self.worker_ended
            say(sentence, index=role.assignment.index % MAX_WORKERS + 1, status=status, seconds=pause_s)
            await self._pause(may_leave, pause_s)

    async def _run_once(self, role: Role, may_leave: asyncio.Event) -> int:
        """Run a child to its end; return its exit status."""
        try:
            child = self._children[role] = await self._start(role)
        except OSError as error:  # no process or no memory to be had just now
            return error.errno or 1
        if may_leave.is_set():  # it came too late to be told with the others
            child.terminate()
        try:
            return await child.wait()
        finally:
            del self._children[role]
            if asking := self._asking.pop(role, None):
                asking.close()

    async def _start(self, role: Role) -> asyncio.subprocess.Process:
        """Start a child; with a worker that remembers who asks most, keep a line to ask it."""
        if role.module != WORKER or not role.assignment.settings.proxy.top:
            return await start_child(role.module, role.assignment)
        asking, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with asked:
            child = await start_child(role.module, replace(role.assignment, asked_fds=(asked.fileno(),)))
        asking.setblocking(False)
        self._asking[role] = asking
        return child

    async def _pause(self, until: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await until.wait()
        except TimeoutError:
            pass

    def _dismiss(self, posts: Sequence[Post]) -> None:
        """Ask children to end."""
        for post in posts:
            post.may_leave.set()
            self._signal(post.role, signal.SIGTERM)

    async def _stop(self, posts: Sequence[Post], drain_s: float) -> None:
        """Ask children to end, and make those end that don't."""
        self._dismiss(posts)
        late: set[asyncio.Task[None]] = set()
        if posts:
            _, late = await asyncio.wait([post.keeping for post in posts], timeout=drain_s + GRACE_S)
        for post in posts:
            if post.keeping in late:
                self._signal(post.role, signal.SIGKILL)
                await post.keeping

    def _signal(self, role: Role, number: signal.Signals) -> None:
        child = self._children.get(role)
        if child is not None and child.returncode is None:
            child.send_signal(number)

    async def _announce(self) -> None:
        """Tell systemd once pages are served, counted or not, and say that everything works, once it does."""
        while not any(row["ready"] for row in self._counters.workers):
            await asyncio.sleep(POLL_S)
        notify(READY)
        while not is_ready(self._counters):
            await asyncio.sleep(POLL_S)
        self._say_serving(Say.STARTED)

    def _say_serving(self, sentence: Say) -> None:
        plan = self._plan
        say(
            sentence,
            address=" ".join(
                render_address(plan.listeners[setting], scheme)
                for setting, scheme in VISITORS.items()
                if setting in plan.listeners
            ),
            sites=count_noun(len(plan.settings.sites), "site"),
            workers=count_noun(plan.settings.proxy.workers, "worker"),
            admin_address=render_address(plan.listeners["admin_listen"]),
        )

    async def _follow(self) -> None:
        """Say it when certificates change; the workers read them themselves."""
        if certificates := self._plan.certificates:
            warn_of_dates(certificates)

            def tell(taken: bool) -> None:
                say(Say.CERTIFICATES_CHANGED if taken else Say.CERTIFICATES_KEPT)
                warn_of_dates(certificates)

            await follow_files(certificates, tell)


async def ask_worker(asking: socket.socket) -> Report | None:
    """Ask a worker who asks most; None when it has something better to do."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while asking.recv(MAX_REPORT_BYTES):  # an answer that came too late for the question before
            pass
    try:
        async with asyncio.timeout(ASK_S):
            await loop.sock_sendall(asking, b"?")
            return Report.from_json(await loop.sock_recv(asking, MAX_REPORT_BYTES))
    except (OSError, TimeoutError, ValueError):
        return None


async def start_child(module: str, assignment: Assignment) -> asyncio.subprocess.Process:
    """Start a child: same interpreter, same package, nothing in its arguments."""
    with hold_signals():  # else a child that is told to stop as it starts takes along what has come for it
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *FLAGS.get(module, ISOLATED),
            "-m",
            module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=sys.stderr,
            pass_fds=assignment.inherited_fds,
            env=child_environment(),
        )
    if child.stdin is None:
        raise RuntimeError("a child without standard input")
    child.stdin.write(assignment.to_json())
    child.stdin.close()
    return child


def child_environment() -> dict[str, str]:
    """Return the environment without the switches that make Python or OpenSSL talk."""
    return {name: value for name, value in os.environ.items() if name not in TALKATIVE}


def run_proxy(settings: Settings, read_again: Callable[[], Settings], control: str) -> int:
    """Serve the settings' sites until told to stop; return the exit status.

    Raises: OperatorError when a listener or a certificate can't be had
    """
    plan = make_plan(settings, given=take_listeners())
    quiet.silence()
    quiet.harden()
    speak(settings.proxy.log_format)

    async def supervise() -> int:
        return await Supervisor(plan, read_again).run(control)

    return asyncio.run(supervise())
