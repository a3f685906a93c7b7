"""What is left of a key in the memory of its process: nothing.

A child process holds the ring; the test reads the child's memory from outside, so that what it searches for is not in
the memory that it searches. The child reads its random bytes from a file that the test has written: so the test knows
the keys, and the child never tells them.
"""

import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

CHILD = """
import hmac, sys
from anonproxy.keys import ring as ring_module
from anonproxy.keys.ring import KeyRing
from anonproxy.keys.visits import Visits
from anonproxy.model.settings import PrivacySettings

ring_module.RANDOM_SOURCE, leak = sys.argv[1:]
ring = KeyRing(PrivacySettings(time_zone="UTC"), 0.0)
visits = Visits(ring, 1800, 14400)
for number in range(2000):
    assert visits.mark("www", (b"address", number.to_bytes(4)), number / 100, True)
kept = {"none": lambda: None,
        "bytes": lambda: bytes(ring.tag_key),
        "prototype": lambda: hmac.new(ring.tag_key, digestmod="sha256")}[leak]()

def pause():
    print("ready", flush=True)
    sys.stdin.readline()

pause()
if sys.stdin.readline() == "rotate\\n":
    assert ring.rotate_when_due(100_000.0)
else:
    ring.wipe()
visits.forget()
pause()
"""


class Child:
    """A process that holds a ring."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def wait_until_ready(self) -> None:
        """Wait until the child has said so."""
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def tell(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def find(self, needles: dict[str, bytes]) -> set[str]:
        """Name the needles that stand anywhere in the child's memory."""
        return find_in_memory(self._process.pid, needles)


def find_in_memory(pid: int, needles: dict[str, bytes]) -> set[str]:
    """Name the needles that stand anywhere in the memory of a process."""
    found = set()
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            begin, end, mode, name = re.fullmatch(r"(\w+)-(\w+) (\S+) \S+ \S+ \d+ *(.*)", line).groups()  # type: ignore[union-attr]
            is_code = name.startswith("/") and "w" not in mode  # nothing can be written there
            if "r" not in mode or is_code or name in {"[vvar]", "[vsyscall]", "[vvar_vclock]"}:
                continue
            memory.seek(int(begin, 16))
            piece = memory.read(int(end, 16) - int(begin, 16))
            found |= {name for name, needle in needles.items() if needle in piece}
    return found


@contextmanager
def child(source: Path, leak: str) -> Iterator[Child]:
    """Start a child and wait until it has tagged a few thousand sessions."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(source), leak], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        started = Child(process)
        started.wait_until_ready()
        yield started
    finally:
        process.kill()
        process.communicate()


# FIPS 180-4, section 4.2.2 and 5.3.3: the fractional parts of roots of the first primes.
PRIMES = [n for n in range(2, 312) if all(n % d for d in range(2, n))]
ROUNDS = [int((p ** (1 / 3) % 1) * 2**32) for p in PRIMES]
START = [int((p**0.5 % 1) * 2**32) for p in PRIMES[:8]]


def compress(block: bytes) -> list[int]:
    """Return the state of SHA-256 after its first block, which hashlib does not show."""

    def turn(word: int, bits: int) -> int:
        return (word >> bits | word << (32 - bits)) & 0xFFFFFFFF

    words = list(struct.unpack(">16I", block))
    for i in range(16, 64):
        low = turn(words[i - 15], 7) ^ turn(words[i - 15], 18) ^ words[i - 15] >> 3
        high = turn(words[i - 2], 17) ^ turn(words[i - 2], 19) ^ words[i - 2] >> 10
        words.append((words[i - 16] + low + words[i - 7] + high) & 0xFFFFFFFF)
    a, b, c, d, e, f, g, h = START
    for i in range(64):
        one = h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + (e & f ^ ~e & g) + ROUNDS[i] + words[i]
        two = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = (one + two) & 0xFFFFFFFF, a, b, c, (d + one) & 0xFFFFFFFF, e, f, g
    return [(x + y) & 0xFFFFFFFF for x, y in zip(START, (a, b, c, d, e, f, g, h), strict=True)]


def needles(name: str, key: bytes) -> dict[str, bytes]:
    """List everything that is as good as a key: itself, both pads, both midstates in either byte order."""
    block, values = key.ljust(64, b"\0"), {"ipad": 0x36, "opad": 0x5C}
    pads = {pad: bytes(byte ^ value for byte in block) for pad, value in values.items()}
    midstates = {
        f"{name} midstate {pad} {order}": struct.pack(f"{order}8I", *compress(block))
        for pad, block in pads.items()
        for order in "<>"
    }
    return {name: key, **{f"{name}^{pad}": block[:32] for pad, block in pads.items()}, **midstates}


def derive(root: bytes) -> dict[str, bytes]:
    """List what is as good as the key of an epoch or one of its subkeys."""
    tag, visit = (HKDFExpand(SHA256(), 32, info).derive(root) for info in (b"anonproxy tag", b"anonproxy visit"))
    return needles("root", root) | needles("tag", tag) | needles("visit", visit)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Give a file of random bytes that the child takes its key from."""
    path = tmp_path / "random"
    path.write_bytes(os.urandom(32))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("end", ["wipe", "rotate"])
def test_nothing_of_a_key_is_left(source: Path, end: str) -> None:
    """After `wipe` and after rotation, neither key, pads nor midstates stand in memory; before, only the subkeys do."""
    old = derive(source.read_bytes())
    with child(source, "none") as holder:
        assert holder.find(old) == {"tag", "visit"}  # the search finds what is there; the root is gone already
        source.write_bytes(os.urandom(32))
        holder.tell("")
        holder.tell(end)
        holder.wait_until_ready()
        assert holder.find(old) == set()
        assert holder.find(derive(source.read_bytes())) == ({"tag", "visit"} if end == "rotate" else set())


@pytest.mark.slow
@pytest.mark.parametrize(("leak", "found"), [("bytes", "tag"), ("prototype", "tag midstate ipad <")])
def test_the_search_finds_a_kept_key(source: Path, leak: str, found: str) -> None:
    """A copy of the key as bytes, or a kept HMAC object, is found after the wipe: the control of the test above."""
    old = derive(source.read_bytes())
    with child(source, leak) as holder:
        holder.tell("")
        holder.tell("wipe")
        holder.wait_until_ready()
        assert found in holder.find(old)


def test_midstates_are_computed_correctly() -> None:
    """One block of padding gives the known digest of nothing."""
    block = b"\x80".ljust(64, b"\0")
    assert struct.pack(">8I", *compress(block)).hex().startswith("e3b0c44298fc1c149afbf4c8996fb924")
