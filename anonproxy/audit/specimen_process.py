"""A specimen of a process that serves: a real one, which holds a store's lock and does nothing else.

It is as it should be, unless a fault was planted for it beside the store: then it does that first. What no process can
be made to do, like being swapped out, is put into what was read of it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from anonproxy.audit.processes import Machine, Swap, look_around

# It takes the lock by which it is found, and allows nobody to look into its memory: prctl(PR_SET_DUMPABLE).
_PROGRAM: Final = """
import ctypes, fcntl, mmap, os, resource, sys
store, core, dumpable = sys.argv[1], 0, 0
lock = os.open(store, os.O_RDONLY)
fcntl.flock(lock, fcntl.LOCK_EX)
exec(sys.argv[2])
resource.setrlimit(resource.RLIMIT_CORE, (core, core))
ctypes.CDLL(None).prctl(4, dumpable, 0, 0, 0)
print("ready", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """What a planted process does wrong."""

    code: str = ""  # run in the process, and may set what it goes on with: `core`, `dumpable`
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    swapped_kb: int = 0
    swap: str = ""  # where the machine swaps to, without encryption


SOUND: Final = Fault()


def plant_fault(root: Path, fault: Fault) -> None:
    """Have the process that serves a specimen of a store do something wrong."""
    _fault_file(root).write_text(json.dumps(asdict(fault)))


@contextmanager
def serve(root: Path) -> Iterator[Machine]:
    """Run a process for a specimen of a store, and give what can be seen of it.

    Raises: OSError when none can be started here
    """
    fault = Fault(**json.loads(_fault_file(root).read_text())) if _fault_file(root).exists() else SOUND
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(root), fault.code, *fault.arguments]
    environment = {"HOME": str(root.parent), **fault.environment}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            if process.stdout is None or process.stdout.readline() != b"ready\n":
                raise OSError("the specimen of a process ended")
            yield _disguise(look_around(root), fault)
        finally:
            process.kill()


def _disguise(machine: Machine, fault: Fault) -> Machine:
    """Put into what was read what can't be done for real; this machine's own swap is of no interest."""
    status = {"VmSwap": f"{fault.swapped_kb} kB"}
    processes = tuple(replace(process, status={**process.status, **status}) for process in machine.processes)
    return Machine(processes, (Swap(fault.swap, is_safe=False),) if fault.swap else ())


def _fault_file(root: Path) -> Path:
    return root.with_name(f"{root.name}.fault")
