"""What is to run: settings, and the sockets, certificates, pages and store that they name. All can be had, or none."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anonproxy.model.errors import OperatorError, StoreBusy
from anonproxy.model.settings import Settings
from anonproxy.proxy.listeners import bind_listener, parse_listen, render_address
from anonproxy.proxy.notify import NONE_GIVEN, Given
from anonproxy.proxy.pages import read_own_pages
from anonproxy.proxy.sites import parse_upstream
from anonproxy.proxy.tls import Certificates
from anonproxy.store.lock import StoreLock

# The listeners that visitors reach, and how; then all of them.
VISITORS: Final = {"listen": "http", "tls_listen": "https"}
LISTENERS: Final = (*VISITORS, "admin_listen")


def verify_all_taken(
    given: Given, listeners: Mapping[str, socket.socket], explain: Callable[[socket.socket], str]
) -> None:
    """Refuse a socket on which visitors, or lines, would wait for ever.

    Raises: OperatorError
    """
    for listener in given.values():
        if listener not in listeners.values():
            raise OperatorError(f"systemd listens on {explain(listener)}")


def explain_stray(listener: socket.socket) -> str:
    """Say what to do about a socket that no setting names."""
    address = render_address(listener).partition("//")[2]
    return (
        f"{address}, but no listener in [proxy] is there. "
        f'Write listen = "{address}", or take it out of anonproxy.socket'
    )


def verify_no_loop(settings: Settings, *listeners: socket.socket) -> None:
    """Refuse an upstream that is the proxy itself.

    Raises: OperatorError
    """
    own = {listener.getsockname()[:2] for listener in listeners}
    for site in settings.sites:
        if parse_upstream(site.upstream)[1:] in own:
            raise OperatorError(f"site {site.name}: its upstream is the proxy's own address; name the site's instead")


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is to run: settings that are known to work, the sockets they name, the certificates they need, and the store
    to write to, which stays locked while one writer follows another.
    """

    settings: Settings
    listeners: Mapping[str, socket.socket]  # by the name of their setting
    certificates: Certificates | None
    own_pages: Mapping[str, str]
    lock: StoreLock

    def fds(self, setting: str) -> tuple[int, ...]:
        """Return the listener of a setting, if there is one, as children inherit it."""
        return (self.listeners[setting].fileno(),) if setting in self.listeners else ()

    def close(self, kept: "Plan | None" = None) -> None:
        """Close the listeners that no other plan uses, and let go of the store."""
        for listener in self.listeners.values():
            if kept is None or listener not in kept.listeners.values():
                listener.close()
        if kept is None or self.lock is not kept.lock:
            self.lock.release()


def lock_store(settings: Settings, before: Plan | None) -> StoreLock:
    """Lock the store that settings name, unless the plan before holds it already.

    Raises: StoreError
    """
    if before and before.settings.store.folder == settings.store.folder:
        return before.lock
    try:
        return StoreLock(Path(settings.store.folder))
    except StoreBusy as error:
        raise StoreBusy(f"{error}; if it is an import, start that again afterwards: it goes on beside this") from None


def make_plan(settings: Settings, before: Plan | None = None, given: Given = NONE_GIVEN) -> Plan:
    """Open what the settings name; a listener whose setting didn't change, or that is given, is taken over.

    Raises: OperatorError when a listener, a certificate, a page or the store can't be had; nothing new stays open then
    """
    proxy = settings.proxy
    certificates = Certificates(proxy.certificates) if proxy.tls_listen else None
    listeners: dict[str, socket.socket] = {}
    plan = Plan(settings, listeners, certificates, read_own_pages(proxy.error_pages), lock_store(settings, before))
    try:
        for setting in LISTENERS:
            address = getattr(proxy, setting)
            if before and address == getattr(before.settings.proxy, setting) and setting in before.listeners:
                listeners[setting] = before.listeners[setting]
            elif address:
                opened = given.get((socket.SOCK_STREAM, parse_listen(address)[1]))
                listeners[setting] = opened or bind_listener(setting, address)
        verify_all_taken(given, listeners, explain_stray)
        verify_no_loop(settings, *listeners.values())
    except OperatorError:
        plan.close(kept=before)
        raise
    return plan
