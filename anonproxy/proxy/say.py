"""The proxy's own log: closed sentences that hold numbers and configured names, and no way to say anything else."""

import sys
from enum import StrEnum


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


def say(sentence: Say, **words: str | float) -> None:
    """Write one line to stderr.

    Shape: words are numbers, or strings that stand in the configuration
    """
    print(f"anonproxy {sentence.format(**words)}", file=sys.stderr, flush=True)  # noqa: T201 - this is the log


def count_noun(number: int, noun: str) -> str:
    """Return "1 site", "2 sites"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
