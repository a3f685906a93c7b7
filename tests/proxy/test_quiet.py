"""Silence, in a process of its own, as it is for good."""

import os
import subprocess
import sys

import pytest

SECRETS = ("203.0.113.7", "hunter2")
BEGIN = "from anonproxy.proxy import quiet; quiet.silence(); quiet.harden()\n"


def run(code: str) -> tuple[int, str]:
    """Run code in a silenced Python; return its status and everything it said."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code], capture_output=True, text=True, errors="replace", timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import logging; logging.warning('hunter2')", ""),
        (
            "import logging; logging.getLogger('x').error('%s', 'hunter2', extra={'client': ('203.0.113.7', 1)})",
            "suppressed x:2 message\n",
        ),
        (
            "import logging\n"
            "def f():\n raise ValueError('hunter2')\n"
            "try:\n f()\nexcept ValueError:\n logging.getLogger('x').exception('203.0.113.7', stack_info=True)",
            "suppressed x:8 ValueError@f\n",
        ),
        (
            "import logging, mitmproxy.log\n"
            "from mitmproxy.addons.termlog import TermLogHandler\n"
            "TermLogHandler().install()\n"
            "logging.getLogger('x').error('hunter2', extra={'client': ('203.0.113.7', 1)})",
            "suppressed x:5 message",
        ),
        ("def f():\n raise ValueError('hunter2')\nf()", "anonproxy suppressed main ValueError@f\n"),
        (
            "import threading\n"
            "def f():\n raise ValueError('hunter2')\n"
            "t = threading.Thread(target=f, name='203.0.113.7'); t.start(); t.join()",
            "anonproxy suppressed thread ValueError@f\n",
        ),
        (
            "class A:\n def __del__(self):\n  raise ValueError('hunter2')\nA()",
            "anonproxy suppressed finalizer ValueError@__del__\n",
        ),
        ("import warnings; warnings.warn('hunter2')", ""),
        (
            "import asyncio\n"
            "async def f():\n"
            " async def g():\n  raise ValueError('hunter2')\n"
            " t = asyncio.create_task(g(), name='203.0.113.7'); await asyncio.sleep(0.1); del t\n"
            "asyncio.run(f())",
            "suppressed asyncio:",
        ),
        (
            "import os, signal\nimport mitmproxy.utils.debug\n"
            "os.kill(os.getpid(), signal.SIGUSR1); os.kill(os.getpid(), signal.SIGUSR2); print('alive')",
            "alive\n",
        ),
        (
            "import ctypes, os\nfrom anonproxy.proxy.say import Say, say\n"
            "ctypes.CDLL(None).perror(b'hunter2'); os.write(2, b'203.0.113.7'); say(Say.RECORDING)",
            "anonproxy records what mitmdump serves\n",
        ),
        ("import ctypes; ctypes.pythonapi.Py_FatalError(b'hunter2')", ""),
    ],
    ids=[
        "warning",
        "error",
        "exception",
        "mitmproxy",
        "main",
        "thread",
        "finalizer",
        "warn",
        "task",
        "signals",
        "native",
        "fatal",
    ],
)
def test_nothing_foreign_says_a_value(code: str, said: str) -> None:
    """Other people's words are reduced to place and type of error, whichever way they take."""
    _, output = run(code)
    assert not any(secret in output for secret in SECRETS)
    assert said in output
    if not said:
        assert output == ""


@pytest.mark.parametrize("log", ["full", "nobody reads"])
def test_log_that_cannot_be_written_ends_nothing(log: str) -> None:
    """A log on a full disk, or whose reader has gone, costs its lines and nothing else, up to a good end."""
    if log == "full":
        out = os.open("/dev/full", os.O_WRONLY)
    else:
        reading, out = os.pipe()
        os.close(reading)
    code = "from anonproxy.proxy.say import Say, say\nsay(Say.RECORDING); say(Say.RECORDING); print('alive')"
    try:
        done = subprocess.run(
            [sys.executable, "-c", BEGIN + code], stdout=subprocess.PIPE, stderr=out, timeout=60, check=False
        )
    finally:
        os.close(out)
    assert (done.returncode, done.stdout) == (0, b"alive\n")


def test_no_core_and_no_look_inside() -> None:
    """Core dumps are off, and the process isn't dumpable."""
    code = (
        "import ctypes, resource\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
    )
    assert run(code) == (0, "(0, 0) 0\n")


def test_child_ends_when_its_parent_has() -> None:
    """A child that comes too late to follow its supervisor ends at once."""
    assert run("quiet.follow_parent(1 << 22); print('still here')") == (0, "")
