"""Watch what the proxy writes: the rows in its store, and what it counts itself, until nothing moves any more."""

import http.client
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final, Self

from anonproxy.audit.parquet_pages import BrokenParquet, parse_parquet
from anonproxy.audit.tree import parse_place
from anonproxy.model.errors import StoreError
from anonproxy.model.settings import Settings, StoreSettings

ASKED_WITHIN_S: Final = 5.0
POLL_S: Final = 0.25
# How long it may take a proxy to notice that a visitor hung up.
LATEST_S: Final = 0.5
# How much longer than its flush window a proxy may take to write, on a busy machine.
GRACE_S: Final = 15.0
# The longest window that may be configured: for a store whose configuration we don't know.
MAX_FLUSH_S: Final = 60.0
# A merge takes milliseconds and happens once an hour: to meet ten in a row is no accident.
TRIES: Final = 10


@dataclass(slots=True)
class RowCounter:
    """Counts the rows of a store from a day on, by its files' own footers."""

    root: Path
    site: str | None
    since: date
    known: dict[tuple[Path, int], int] = field(default_factory=dict)

    def count(self) -> int:
        """Count the rows that are on disk now.

        Raises: StoreError when there is no store, or no right to read it
        """
        if not self.root.is_dir():
            raise StoreError(f"{self.root}: there is no such folder. Name the store with --store or --config")
        for _ in range(TRIES):
            try:
                return sum(self._read(path) for path in self._files())
            except FileNotFoundError:  # merged meanwhile
                continue
            except OSError as error:
                raise StoreError(f"{self.root} can't be read ({error.strerror}). Run as the store's owner") from None
            except BrokenParquet:
                raise StoreError(f"{self.root} holds a file that can't be read. `anonproxy audit` names it") from None
        raise StoreError(f"{self.root} changes all the time. Try again")

    def _files(self) -> list[Path]:
        """List the files that hold each row once: segments that are being merged count until the merge is in place."""
        found, merging = [], set()
        for folder, _, names in os.walk(self.root / "hot", onerror=_raise_unless_gone):
            for path in (Path(folder, name) for name in names):
                place = parse_place(path.relative_to(self.root).as_posix(), "file")
                if place is None or place.day is None or place.day < self.since or self.site not in {None, place.site}:
                    continue
                if place.is_temporary:
                    merging.add(path.with_suffix("").with_suffix(".closing"))
                elif place.role in {"sealed", "segment"}:
                    found.append(path)
        return [path for path in found if path.parent.suffix != ".closing" or path.parent in merging]

    def _read(self, path: Path) -> int:
        with path.open("rb") as file:
            identity = path, os.fstat(file.fileno()).st_ino
            if identity not in self.known:
                self.known[identity] = parse_parquet(file.read()).row_count
        return self.known[identity]


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


@dataclass(frozen=True, slots=True)
class Metrics:
    """What the proxy itself counts."""

    requests: int
    written: int
    dropped: Mapping[str, int]

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read Prometheus' text format; None when it is another program's."""
        samples = {
            name: int(float(value)) for name, value in re.findall(r"^(anonproxy_\S+) (\S+)$", text, re.MULTILINE)
        }
        try:
            return cls(
                samples["anonproxy_requests_total"],
                samples["anonproxy_hits_written_total"],
                {
                    match[1]: number
                    for name, number in samples.items()
                    if (match := re.fullmatch(r'anonproxy_dropped_total\{reason="([a-z_]+)"\}', name))
                },
            )
        except KeyError:
            return None


def find_admin(settings: Settings | None) -> tuple[str, int] | None:
    """Find where the proxy shows its metrics, as seen from its machine."""
    if settings is None:
        return None
    host, _, port = settings.proxy.admin_listen.rpartition(":")
    wild = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound to it
    return wild.get(host.strip("[]"), host.strip("[]")), int(port)


def read_metrics(address: tuple[str, int] | None) -> Metrics | None:
    """Ask the proxy for its own counts; None when it can't be asked."""
    if address is None:
        return None
    connection = http.client.HTTPConnection(*address, timeout=ASKED_WITHIN_S)
    try:
        connection.request("GET", "/metrics")
        return Metrics.parse(connection.getresponse().read().decode(errors="replace"))
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Look:
    """The rows on disk and the proxy's own counts, at one moment."""

    rows: int
    metrics: Metrics | None

    def __sub__(self, before: "Look") -> "Look":
        """Return what was added since."""
        if self.metrics is None or before.metrics is None:
            return Look(self.rows - before.rows, None)
        dropped = {reason: n - before.metrics.dropped.get(reason, 0) for reason, n in self.metrics.dropped.items()}
        return Look(
            self.rows - before.rows,
            Metrics(
                self.metrics.requests - before.metrics.requests,
                self.metrics.written - before.metrics.written,
                {reason: number for reason, number in dropped.items() if number},
            ),
        )

    @property
    def done(self) -> int:
        """Count what has come to its end: rows on disk and, where they are known, requests that were dropped."""
        return self.rows if self.metrics is None else self.metrics.written + sum(self.metrics.dropped.values())


@dataclass(frozen=True, slots=True)
class Watch:
    """Looks at the store and the proxy until nothing moves."""

    rows: RowCounter
    admin: tuple[str, int] | None

    def look(self) -> Look:
        """Look once: the proxy first, since it counts a row after it is on disk."""
        metrics = read_metrics(self.admin)
        return Look(self.rows.count(), metrics)

    def wait(self, before: Look, least: int, flush_s: float | None) -> Look:
        """Wait until nothing of what was sent is on its way any more, or the time for that is over."""
        window_s = MAX_FLUSH_S if flush_s is None else flush_s
        usual_s: float = StoreSettings.model_fields["flush_s"].default
        deadline_s = time.monotonic() + 2 * window_s + GRACE_S
        time.sleep(LATEST_S)
        last, since_s = self.look(), time.monotonic()
        # The proxy's own counts tell when all that it was asked by now is done. Rows alone don't: more may follow.
        if before.metrics and last.metrics:
            wanted, quiet_s = max(before.metrics.requests + least, last.metrics.requests), 0.0
        else:
            wanted, quiet_s = before.rows + least, min(window_s, usual_s) + 1
        while True:
            look, now_s = self.look(), time.monotonic()
            if look.rows != last.rows:
                last, since_s = look, now_s
            if now_s > deadline_s or (look.done >= wanted and now_s - since_s >= quiet_s):
                return look
            time.sleep(POLL_S)
