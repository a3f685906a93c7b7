"""The supervisor of `collect`: as that of `run`, with a receiver of log lines in the place of workers that serve pages.

It holds the sockets that lines come in by, so that lines wait in the kernel while a receiver is started again.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import ClassVar, Final

from anonproxy.ingest.formats import find_format
from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import Settings
from anonproxy.proxy import quiet
from anonproxy.proxy.child import Assignment
from anonproxy.proxy.collect.places import bind_place, count_drops, explain_stray, find_given
from anonproxy.proxy.collect.status_page import Tally, ask_status
from anonproxy.proxy.listeners import bind_listener, render_address
from anonproxy.proxy.notify import NONE_GIVEN, Given, take_listeners
from anonproxy.proxy.plan import Plan, lock_store, verify_all_taken
from anonproxy.proxy.say import Say, count_noun, say, speak
from anonproxy.proxy.server import Role, Supervisor

ADMIN: Final = "admin_listen"
# How often the losses are looked at.
LOOK_S: Final = 1.0


def make_plan(settings: Settings, before: Plan | None = None, given: Given = NONE_GIVEN) -> Plan:
    """Open what the settings name; a listener whose setting didn't change, or that is given, is taken over.

    Raises: OperatorError when one or the store can't be had, or the format isn't known; nothing new is left open then
    """
    find_format(settings.collect.format)
    listeners: dict[str, socket.socket] = {}
    plan = Plan(settings, listeners, None, {}, lock_store(settings, before))
    is_same_admin = before and before.settings.proxy.admin_listen == settings.proxy.admin_listen
    try:
        for place in (ADMIN, *settings.collect.listen):
            if before and place in before.listeners and (place != ADMIN or is_same_admin):
                listeners[place] = before.listeners[place]
            elif place == ADMIN:
                listeners[place] = bind_listener(ADMIN, settings.proxy.admin_listen)
            else:
                listeners[place] = find_given(place, given) or bind_place(place)
        verify_all_taken(given, listeners, explain_stray)
    except OperatorError:
        plan.close(kept=before)
        raise
    return plan


class CollectSupervisor(Supervisor):
    """Everything that `anonproxy collect` runs."""

    writer_module: ClassVar = "anonproxy.proxy.collect.writer"
    worker_module: ClassVar = "anonproxy.proxy.collect.receiver"
    stopping: ClassVar = Say.COLLECT_STOPPING
    writer_ended: ClassVar = Say.COLLECT_WRITER_ENDED
    worker_ended: ClassVar = Say.RECEIVER_ENDED

    def _make_plan(self, settings: Settings, before: Plan) -> Plan:
        return make_plan(settings, before)

    def _worker_roles(self, plan: Plan) -> list[Role]:
        receiver = Assignment(
            plan.settings,
            os.getpid(),
            self._counters.fd,
            self._sending.fileno(),
            index=self._first_row,
            listen_fds=tuple(plan.listeners[place].fileno() for place in plan.settings.collect.listen),
        )
        return [Role(self.worker_module, receiver)]

    async def _look_at_top(self) -> str:
        raise OperatorError("`anonproxy collect` remembers no addresses. Ask the server that serves the pages")

    def _say_serving(self, sentence: Say) -> None:
        plan = self._plan
        say(
            Say.COLLECT_RELOADED if sentence == Say.RELOADED else Say.COLLECTING,
            places=" ".join(plan.settings.collect.listen),
            sites=count_noun(len(plan.settings.sites), "site"),
            admin_address=render_address(plan.listeners[ADMIN]),
        )

    async def _follow(self) -> None:
        """Count what is lost on the way: in the kernel, and between nginx's own count and the lines that came."""
        plan, row, tally = self._plan, self._counters.writer, Tally()
        datagrams = [listener for listener in plan.listeners.values() if listener.type == socket.SOCK_DGRAM]
        drops_then = row["kernel_lost"] - sum(map(count_drops, datagrams))
        served_then, missing_then = row["server_requests"], row["missing"]
        while True:
            row["kernel_lost"] = drops_then + sum(map(count_drops, datagrams))
            if url := plan.settings.collect.status_page:
                status = await asyncio.to_thread(ask_status, url)
                if status:
                    tally.compare(status, self._counters.total("requests"))
                    row["server_requests"] = served_then + tally.served
                    row["missing"] = missing_then + tally.missing
            await asyncio.sleep(LOOK_S)


def run_collect(settings: Settings, read_again: Callable[[], Settings], control: str) -> int:
    """Collect log lines until told to stop; return the exit status.

    Raises: OperatorError when a listener can't be had, or the format isn't known
    """
    plan = make_plan(settings, given=take_listeners())
    speak(settings.proxy.log_format)
    quiet.silence()
    quiet.harden()

    async def supervise() -> int:
        return await CollectSupervisor(plan, read_again).run(control)

    return asyncio.run(supervise())
