"""`anonproxy check`: say whether a configuration and this machine are fit to run."""

import errno
import http.client
import os
import pwd
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.markup import escape

from anonproxy.cli import EXIT_WRONG, options
from anonproxy.clock import now
from anonproxy.config import read_settings
from anonproxy.ingest.control import ROOT
from anonproxy.ingest.countries import describe_countries
from anonproxy.ingest.formats import find_format
from anonproxy.model.errors import OperatorError, StoreError
from anonproxy.model.settings import Settings, is_loopback
from anonproxy.proxy.collect.pipe import choose_place
from anonproxy.proxy.collect.places import explain_place, verify_place
from anonproxy.proxy.collect.status_page import ask_status
from anonproxy.proxy.control import control_name, is_served
from anonproxy.proxy.pages import read_own_pages
from anonproxy.proxy.plan import LISTENERS
from anonproxy.proxy.tls import read_certificates
from anonproxy.store.objects import open_objects

CONNECT_TIMEOUT_S: Final = 3.0
LOW_DISK_BYTES: Final = 256 * 1024 * 1024  # a year of a small library's totals fits several times

# How many datagrams wait at an AF_UNIX socket: what systemd sets does for thousands of requests a second, while the
# kernel's own 10 are full whenever the receiver sleeps for some milliseconds. Both are measured (docs/operations.md).
QUEUE: Final = Path("/proc/sys/net/unix/max_dgram_qlen")
ENOUGH_DATAGRAMS: Final = 512
# What is made there when a service starts isn't there before.
MADE_BY_SYSTEMD: Final = "unix:/run/"

Level = Literal["fine", "warning", "wrong"]
_SIGNS: Final[dict[Level, str]] = {"fine": "[green]✓[/]", "warning": "[yellow]![/]", "wrong": "[red]✗[/]"}


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that was looked at, and what to do about it."""

    level: Level
    subject: str
    message: str
    remedy: str = ""


Look = Callable[[Settings], Iterator[Observation]]


@click.command("check")
@options.config
@click.option("--collect", "collects", is_flag=True,
              help="Look at what `anonproxy collect` needs, too. By itself once [collect] says anything.")  # fmt: skip
@click.pass_context
def command(ctx: click.Context, config_path: Path | None, collects: bool) -> None:
    """Say whether a configuration and this machine are fit to run.

    Nothing is started and nothing is changed. Exit status 1 when something must be mended first.
    """
    path = options.find_config(config_path)
    settings = read_settings(path)
    console = Console(highlight=False)
    looks = choose_looks(
        path,
        is_running=is_served(control_name(path)),
        collects=collects or bool(settings.collect.model_fields_set),
    )
    observations = [observation for look in looks for observation in _observe(look, settings)]
    for observation in observations:
        subject, message, remedy = map(escape, (observation.subject, observation.message, observation.remedy))
        line = f"{_SIGNS[observation.level]} [bold]{subject}[/]: {message}"
        console.print(f"{line}\n    [dim]{remedy}[/]" if remedy else line, soft_wrap=True)
    if any(observation.level == "wrong" for observation in observations):
        ctx.exit(EXIT_WRONG)


def choose_looks(path: Path, *, is_running: bool, collects: bool) -> tuple[Look, ...]:
    """Return what is looked at, in this order."""
    return (
        partial(_look_at_configuration, path),
        _look_at_store,
        _look_at_objects,
        partial(_look_at_listeners, is_running),
        *((partial(_look_at_collect, is_running),) if collects else ()),
        _look_at_certificates,
        _look_at_pages,
        _look_at_sites,
        _look_at_countries,
        _look_at_machine,
    )


def _observe(look: Look, settings: Settings) -> Iterator[Observation]:
    """Look; what would keep anonproxy from starting is one thing among others to mend."""
    try:
        yield from look(settings)
    except OperatorError as error:
        for line in str(error).splitlines():
            subject, _, message = line.partition(": ")
            yield Observation("wrong", subject, message)


@contextmanager
def acting_as_service(settings: Settings) -> Iterator[None]:
    """Let root read files as the user that the store belongs to, who runs the service and may read less.

    A root who may become nobody else, as in a container, reads as root.
    """
    try:
        store = Path(settings.store.folder).stat()
    except OSError:  # there is none yet
        store = None
    if store is None or os.geteuid() != ROOT or store.st_uid == ROOT:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    with ExitStack() as restoring:
        with suppress(PermissionError):
            os.setgroups(find_groups(store.st_uid, store.st_gid))
            restoring.callback(os.setgroups, groups)
            os.setegid(store.st_gid)
            restoring.callback(os.setegid, group)
            os.seteuid(store.st_uid)
            restoring.callback(os.seteuid, ROOT)
        yield


def find_groups(user: int, group: int) -> list[int]:
    """Return the groups of a user, who may be one without a name."""
    try:
        return os.getgrouplist(pwd.getpwuid(user).pw_name, group)
    except KeyError:
        return [group]


def _look_at_configuration(path: Path, settings: Settings) -> Iterator[Observation]:
    with acting_as_service(settings):
        is_read = os.access(path, os.R_OK, effective_ids=True)
    if is_read:
        yield Observation("fine", "configuration", f"{path} is valid")
    else:
        yield Observation("wrong", "configuration", f"{path} can't be read by the user that anonproxy runs as",
                          "Let its group read it: chgrp anonproxy, chmod g+r")  # fmt: skip


def _look_at_store(settings: Settings) -> Iterator[Observation]:
    path = Path(settings.store.folder)
    folders = (path.absolute(), *path.absolute().parents)
    existing = next(folder for folder in folders if os.access(folder, os.F_OK, effective_ids=True))
    if not os.access(existing, os.W_OK | os.X_OK, effective_ids=True):
        yield Observation("wrong", "store", f"{existing} can't be written by this user",
                          f"Run as the user of the service, or: install -d -m 700 -o anonproxy {path}")  # fmt: skip
    elif shutil.disk_usage(existing).free < LOW_DISK_BYTES:
        yield Observation("warning", "store", f"less than {LOW_DISK_BYTES >> 20} MiB free on its disk",
                          "Pages are served all the same, but rows are dropped once the disk is full")  # fmt: skip
    else:
        yield Observation("fine", "store", f"{path} can be written")


def _look_at_objects(settings: Settings) -> Iterator[Observation]:
    if settings.store.is_published:
        try:
            open_objects(settings.store.path).list()
        except StoreError as error:
            yield Observation("wrong", "object store", str(error))
        except OSError:
            yield Observation("wrong", "object store", "the bucket can't be listed",
                              "Check store.path, the AWS_ variables, and that the bucket exists")  # fmt: skip
        else:
            yield Observation("fine", "object store", "the bucket can be listed")


def _look_at_listeners(is_running: bool, settings: Settings) -> Iterator[Observation]:
    """Look whether the proxy can listen."""
    for setting in LISTENERS:
        if address := getattr(settings.proxy, setting):
            yield _try_place(f"proxy.{setting}", f"tcp:{address}", is_running=is_running)


def _look_at_collect(is_running: bool, settings: Settings) -> Iterator[Observation]:
    """Look whether lines can come in by every way that is configured, and whether many can at once."""
    collect = settings.collect
    for place in collect.listen:
        yield _try_place("collect.listen", place, is_running=is_running)
        if not place.startswith("unix:") and not is_loopback(place[4:]):
            yield Observation("warning", "collect.listen", f"{place} is reached from other machines, in clear",
                              "Only for a network that is yours alone, or a tunnel: lines hold addresses")  # fmt: skip
    if any(place.startswith("unix:") for place in collect.listen):
        yield from _look_at_queue()
    try:
        choose_place(settings)
    except OperatorError as error:
        yield Observation("warning", "collect --pipe", str(error).partition(": ")[2],
                          "Fine unless Apache sends its log")  # fmt: skip
    if collect.status_page and not is_running:  # who else asks for it would count as a line that is missing
        yield _look_at_status_page(collect.status_page)
    try:
        find_format(collect.format)
    except OperatorError as error:
        yield Observation("wrong", "collect.format", str(error))
    else:
        yield Observation("fine", "collect.format", "is understood")


def _try_place(subject: str, place: str, *, is_running: bool) -> Observation:
    """Look whether a place could be listened on; where it is taken, systemd may hold it for us."""
    shown = place.removeprefix("tcp:") if subject.startswith("proxy.") else place
    try:
        verify_place(place)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EADDRINUSE and is_running:
            return Observation("fine", subject, f"{shown} is in use, and anonproxy runs")
        remedy = explain_place(place, error)
        if number == errno.EADDRINUSE:
            return Observation(
                "warning", subject, f"{shown} is taken", f"Fine if it is one of our .socket units; else {remedy}"
            )
        is_made = number == errno.ENOENT and place.startswith(MADE_BY_SYSTEMD)
        return Observation("warning" if is_made else "wrong", subject, f"{shown} can't be had", remedy)
    return Observation("fine", subject, f"{shown} is free")


def _look_at_queue() -> Iterator[Observation]:
    try:
        datagrams = int(QUEUE.read_text())
    except OSError:
        return
    if datagrams < ENOUGH_DATAGRAMS:
        yield Observation("warning", "net.unix.max_dgram_qlen",
                          f"only {datagrams} lines wait at an AF_UNIX socket, and nginx drops the next",
                          "Set it to 4096 in /etc/sysctl.d/, then restart; or take udp:127.0.0.1:5514")  # fmt: skip
    else:
        yield Observation("fine", "net.unix.max_dgram_qlen", f"{datagrams} lines may wait at an AF_UNIX socket")


def _look_at_status_page(url: str) -> Observation:
    if ask_status(url):
        return Observation("fine", "collect.status_page", f"{url} answers")
    return Observation("warning", "collect.status_page", f"{url} is silent, or isn't nginx's stub_status",
                       "Lost lines can't be counted without; `anonproxy front nginx --collect` prints it")  # fmt: skip


def _look_at_certificates(settings: Settings) -> Iterator[Observation]:
    with acting_as_service(settings):
        certificates = read_certificates(settings.proxy.certificates)
    for certificate in certificates:
        names = ", ".join(certificate.names)
        if certificate.is_valid_at(now()):
            yield Observation("fine", "certificate", f"for {names}")
        else:
            yield Observation(
                "warning", "certificate", f"for {names} is not valid today", "Renew it: browsers refuse it"
            )


def _look_at_pages(settings: Settings) -> Iterator[Observation]:
    with acting_as_service(settings):
        own = read_own_pages(settings.proxy.error_pages)
    if own:
        yield Observation("fine", "proxy.error_pages", f"{', '.join(own)} are shown")


def _look_at_sites(settings: Settings) -> Iterator[Observation]:
    for site in settings.sites:
        parts = urlsplit(site.upstream)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=CONNECT_TIMEOUT_S)
        host = next((host for host in site.hosts if "*" not in host), parts.netloc)
        try:
            connection.request("HEAD", "/", headers={"Host": host})
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            yield Observation("warning", f"site {site.name}", f"{site.upstream} is silent ({type(error).__name__})",
                              "Visitors would get a 502 page until it does")  # fmt: skip
        else:
            yield Observation("fine", f"site {site.name}", f"{site.upstream} answers with {status}")
        finally:
            connection.close()


def _look_at_countries(settings: Settings) -> Iterator[Observation]:
    with acting_as_service(settings):
        described = describe_countries(settings.country, now())
    yield Observation("fine", "countries", described)


def _look_at_machine(_: Settings) -> Iterator[Observation]:
    swaps = Path("/proc/swaps")
    if swaps.exists() and len(swaps.read_text().splitlines()) > 1:
        yield Observation("warning", "swap", "is on: memory, and with it the session key, may reach a disk",
                          "Switch it off, encrypt it, or run the service with MemorySwapMax=0")  # fmt: skip
    else:
        yield Observation("fine", "swap", "is off")
