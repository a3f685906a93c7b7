"""mitmproxy, which serves inside, keeps nothing in its own folder, and takes no options from there."""

import os
import pwd
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Finding, Outcome
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.processes import Process
from anonproxy.audit.specimen_process import Fault, plant_fault

FOLDER: Final = ".mitmproxy"

# A stock mitmdump makes itself an authority of its own at its first start, which nobody who visits ever sees.
HARMLESS: Final = re.compile(r"mitmproxy-(ca|ca-cert|dhparam)\.(pem|p12|cer)")
OPTIONS: Final = re.compile(r"(config|keys)\.ya?ml")


def look(evidence: Evidence) -> Outcome:
    """Look into the home of each user that serves."""
    processes = evidence.machine.processes
    homes = sorted({_find_home(process) for process in processes})
    findings: list[Finding] = []
    unknown = [
        f"{process.shown}: its environment is not shown, so its home is a guess; run the audit as root"
        for process in processes
        if process.environment is None
    ]
    files = 0
    for folder in (home / FOLDER for home in homes):
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            continue
        except OSError as error:
            unknown.append(f"{folder} can't be listed ({error.strerror}); run the audit as root")
            continue
        files += len(names)
        findings += (finding for name in names for finding in find(folder, name))
    return Outcome({"homes": len(homes), "files": files}, tuple(findings), tuple(unknown))


def find(folder: Path, name: str) -> Iterator[Finding]:
    """Find what is more than mitmproxy's own authority; a name that isn't known is not repeated."""
    if OPTIONS.fullmatch(name):
        yield Finding(f"{folder}/{name}", "has mitmproxy's own options, which a stock mitmdump obeys. Delete it")
    elif not HARMLESS.fullmatch(name):
        yield Finding(f"{folder}/(a name of {len(name)} characters)", "was kept by mitmproxy. Look at it and delete it")


def _find_home(process: Process) -> Path:
    """Find where mitmproxy looks: the process's own idea of its home, else the system's."""
    home = (process.environment or {}).get("HOME", "")
    if home:
        return Path(home)
    try:
        return Path(pwd.getpwuid(process.user).pw_dir)
    except KeyError:
        return Path("/")


def sabotage(root: Path) -> None:
    """Leave flows that were saved in a home."""
    home = root.with_name(f"{root.name}.home")
    (home / FOLDER).mkdir(parents=True)
    (home / FOLDER / "flows").write_bytes(b"everything that passed through")
    plant_fault(root, Fault(environment={"HOME": str(home)}))


CHECK: Final = Check(
    code="mitmproxy-files",
    claim="mitmproxy keeps nothing in a folder of its own",
    how="In the home of each user that serves, mitmproxy's folder is listed: nothing but the authority that a stock "
    "mitmdump makes for itself may be there, no flows, no history and no options.",
    look=look,
    sabotage=sabotage,
)
