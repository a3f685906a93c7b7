"""`anonproxy check`: say whether a configuration and this machine are fit to run."""

import http.client
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import click
from rich.console import Console

from anonproxy.cli import EXIT_WRONG, options
from anonproxy.clock import now
from anonproxy.config import read_settings
from anonproxy.ingest.countries import describe_countries
from anonproxy.model.errors import StoreError
from anonproxy.model.settings import Settings
from anonproxy.proxy.tls import read_certificates
from anonproxy.store.objects import open_objects

CONNECT_TIMEOUT_S: Final = 3.0
LOW_DISK_BYTES: Final = 256 * 1024 * 1024  # a year of a small library's totals fits several times

Level = Literal["fine", "warning", "wrong"]
_SIGNS: Final[dict[Level, str]] = {"fine": "[green]✓[/]", "warning": "[yellow]![/]", "wrong": "[red]✗[/]"}


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that was looked at, and what to do about it."""

    level: Level
    subject: str
    message: str
    remedy: str = ""


@click.command("check")
@options.config
@click.pass_context
def command(ctx: click.Context, config_path: Path | None) -> None:
    """Say whether a configuration and this machine are fit to run.

    Nothing is started and nothing is changed. Exit status 1 when something must be mended first.
    """
    path = options.find_config(config_path)
    settings = read_settings(path)
    console = Console(highlight=False)
    console.print(f"{_SIGNS['fine']} [bold]configuration[/]: {path} is valid")
    observations = [observation for look in LOOKS for observation in look(settings)]
    for observation in observations:
        remedy = f"\n    [dim]{observation.remedy}[/]" if observation.remedy else ""
        console.print(
            f"{_SIGNS[observation.level]} [bold]{observation.subject}[/]: {observation.message}{remedy}",
            soft_wrap=True,
        )
    if any(observation.level == "wrong" for observation in observations):
        ctx.exit(EXIT_WRONG)


def _look_at_store(settings: Settings) -> Iterator[Observation]:
    path = Path(settings.store.folder)
    existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
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


def _look_at_listeners(settings: Settings) -> Iterator[Observation]:
    fields = {field: getattr(settings.proxy, field) for field in ("listen", "tls_listen", "admin_listen")}
    for field, address in fields.items():
        if not address:
            continue
        host, _, port = address.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host.strip("[]"), int(port)))
            except PermissionError:
                yield Observation("wrong", f"proxy.{field}", f"{address} needs a privilege that this user lacks",
                                  "Use a port from 1024 up, or give the service CAP_NET_BIND_SERVICE")  # fmt: skip
            except OSError as error:
                yield Observation("warning", f"proxy.{field}", f"{address} can't be had now ({error.strerror})",
                                  "Fine if anonproxy runs already; else choose another port")  # fmt: skip
            else:
                yield Observation("fine", f"proxy.{field}", f"{address} is free")


def _look_at_certificates(settings: Settings) -> Iterator[Observation]:
    for certificate in read_certificates(settings.proxy.certificates):
        names = ", ".join(certificate.names)
        if certificate.is_valid_at(now()):
            yield Observation("fine", "certificate", f"for {names}")
        else:
            yield Observation(
                "warning", "certificate", f"for {names} is not valid today", "Renew it: browsers refuse it"
            )


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
    yield Observation("fine", "countries", describe_countries(settings.country, now()))


def _look_at_machine(_: Settings) -> Iterator[Observation]:
    swaps = Path("/proc/swaps")
    if swaps.exists() and len(swaps.read_text().splitlines()) > 1:
        yield Observation("warning", "swap", "is on: memory, and with it the session key, may reach a disk",
                          "Switch it off, encrypt it, or run the service with MemorySwapMax=0")  # fmt: skip
    else:
        yield Observation("fine", "swap", "is off")


LOOKS: Final[tuple[Callable[[Settings], Iterator[Observation]], ...]] = (
    _look_at_store,
    _look_at_objects,
    _look_at_listeners,
    _look_at_certificates,
    _look_at_sites,
    _look_at_countries,
    _look_at_machine,
)
