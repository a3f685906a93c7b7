"""No secret stands in the arguments or the environment of a process, where others can read it.

The session key is in memory only. What would show it, or what visitors send, are switches that have libraries write
secrets or traffic down.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Finding, Outcome
from anonproxy.audit.checks.keys import KEY_FORMS
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.processes import Process
from anonproxy.audit.specimen_process import Fault, plant_fault

# 256 bits or more in hexadecimal, or just so many in base64; digests of commits have fewer, and a path is no key.
_RAW_KEY: Final = re.compile(r"(?<![\w/.~+-])(?:[0-9A-Fa-f]{64,128}|(?!/)[A-Za-z0-9+/_-]{43}=?)(?![\w/.+=-])", re.ASCII)
_SECRET_NAME: Final = re.compile(r"SECRET|PASSW|TOKEN|PRIVATE|CREDENTIAL|(?:^|_)(?:API_?|SESSION_?|EPOCH_?)KEY$", re.I)
_PATH: Final = re.compile(r"(?:file:)?[/.~]\S*|")

# Who publishes to an object store has its credentials here, as its tools do; they open that and nobody's visit.
_EXPECTED: Final = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"})

# Switches that have Python, OpenSSL or mitmproxy write down secrets of TLS, or what passes through.
_TALKATIVE: Final = frozenset({"SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG"})
_TALKATIVE_OPTIONS: Final = re.compile(r"--(save-stream-file|hardump)\b|-w|(--set=?)?(save_stream_file|hardump)=\S+")


def look(evidence: Evidence) -> Outcome:
    """Read the arguments and the environment of each process."""
    processes = evidence.machine.processes
    return Outcome(
        {
            "processes": len(processes),
            "arguments": sum(len(process.arguments) for process in processes),
            "variables": sum(len(process.environment or ()) for process in processes),
        },
        tuple(
            finding for process in processes for finding in (*find_in_arguments(process), *find_in_variables(process))
        ),
        tuple(
            f"{process.shown}: its environment is not shown; run the audit as root"
            for process in processes
            if process.environment is None
        ),
    )


def find_in_arguments(process: Process) -> Iterator[Finding]:
    """Find keys, and options that keep traffic."""
    for number, word in enumerate(process.arguments):
        if _is_key(word):
            yield Finding(process.shown, f"argument {number} looks like a key")
        if _TALKATIVE_OPTIONS.fullmatch(word):
            yield Finding(process.shown, f"argument {number} has what passes through written down")


def find_in_variables(process: Process) -> Iterator[Finding]:
    """Find keys, secrets by their names, and switches that have others write secrets down."""
    for number, (name, value) in enumerate(sorted((process.environment or {}).items()), 1):
        if name in _EXPECTED:
            continue
        if name in _TALKATIVE and value:
            yield Finding(process.shown, f"its environment has secrets or traffic written down ({name})")
        elif _is_key(value) or (_SECRET_NAME.search(name) and not _PATH.fullmatch(value)):
            yield Finding(process.shown, f"variable {number} of its environment looks like a secret")


def _is_key(text: str) -> bool:
    return bool(_RAW_KEY.search(text)) or any(form.search(text.encode()) for form in KEY_FORMS)


def sabotage(root: Path) -> None:
    """Hand a key over in the environment."""
    plant_fault(root, Fault(environment={"ANONPROXY_KEY": bytes(range(32)).hex()}))


CHECK: Final = Check(
    code="process-words",
    claim="No secret stands in arguments or environment",
    how="Each argument and each variable of each process is compared with the forms of keys, the names of secrets, and "
    "the switches that have libraries write down TLS secrets or traffic.",
    look=look,
    sabotage=sabotage,
)
