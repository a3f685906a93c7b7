"""The proxy's own log: closed sentences that hold numbers and configured names, and no way to say anything else."""

import contextlib
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from string import Formatter
from typing import Final

from anonproxy.clock import now


class Say(StrEnum):
    """Everything that the proxy can say while it runs."""

    STARTED = "serves {address} ({sites}, {workers}); metrics {admin_address}"
    RECORDING = "records what mitmdump serves"
    CERTIFICATE_INVALID = "{path}: browsers refuse this certificate, it is valid from {begins} to {ends}; renew it"
    CERTIFICATES_CHANGED = "certificates were read anew"
    CERTIFICATES_KEPT = "certificate files changed but can't be used, so the ones before stay; see `anonproxy check`"
    RELOADED = "reloaded: serves {address} ({sites}, {workers}); metrics {admin_address}"
    REFUSED = "keeps the configuration it has: {problem}"
    STOPPING = "stops: no new connections, running requests get {seconds} s"
    STOPPED = "stopped: {requests} requests, {written} rows written, {dropped} dropped"
    WORKER_ENDED = "worker {index} ended (status {status}); a new one starts in {seconds} s"
    WRITER_ENDED = "writer ended (status {status}); a new one starts in {seconds} s, pages are served meanwhile"
    COLLECTING = "collects from {places} ({sites}); metrics {admin_address}"
    COLLECT_RELOADED = "reloaded: collects from {places} ({sites}); metrics {admin_address}"
    COLLECT_STOPPING = "stops: what has come is written, within {seconds} s"
    RECEIVER_ENDED = "receiver ended (status {status}); a new one starts in {seconds} s, lines wait in the kernel"
    COLLECT_WRITER_ENDED = "writer ended (status {status}); a new one starts in {seconds} s, lines wait in memory"
    UNUSABLE = "can't write: {problem}"
    SUPPRESSED = "suppressed {where}"


# The rest is "info".
_LEVELS: Final = {
    Say.CERTIFICATE_INVALID: "warning",
    Say.CERTIFICATES_KEPT: "warning",
    Say.REFUSED: "warning",
    Say.WORKER_ENDED: "warning",
    Say.WRITER_ENDED: "warning",
    Say.RECEIVER_ENDED: "warning",
    Say.COLLECT_WRITER_ENDED: "warning",
    Say.UNUSABLE: "error",
    Say.SUPPRESSED: "error",
}

Word = str | float


def field_names(sentence: Say) -> tuple[str, ...]:
    """Return what a sentence holds."""
    return tuple(name for _, name, _, _ in Formatter().parse(sentence) if name)


def render_text(sentence: Say, words: dict[str, Word]) -> str:
    """Render a line for people."""
    return f"anonproxy {sentence.format(**words)}"


def render_json(sentence: Say, words: dict[str, Word]) -> str:
    """Render a line for programs: one JSON object, with the words of the sentence as its fields."""
    return json.dumps(
        {
            "time": datetime.fromtimestamp(now(), UTC).isoformat(timespec="seconds"),
            "level": _LEVELS.get(sentence, "info"),
            "event": sentence.name.lower(),
            "message": sentence.format(**words),
            **{name: words[name] for name in field_names(sentence)},
        },
        ensure_ascii=False,
    )


Render = Callable[[Say, dict[str, Word]], str]
_RENDERERS: Final[dict[str, Render]] = {"text": render_text, "json": render_json}
_render: Render = render_text


def speak(log_format: str) -> None:
    """Write lines in this form from now on, in this process."""
    global _render
    _render = _RENDERERS[log_format]


def say(sentence: Say, **words: Word) -> None:
    """Write one line to stderr, if it can be written: serving doesn't depend on a log with room, or with a reader.

    Shape: words are numbers, or strings that stand in the configuration or in our own code
    """
    with contextlib.suppress(OSError):
        print(_render(sentence, words), file=sys.stderr, flush=True)  # noqa: T201 - this is the log


def count_noun(number: int, noun: str) -> str:
    """Return "1 site", "2 sites"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
