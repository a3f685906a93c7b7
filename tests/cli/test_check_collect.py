"""`check` says what is wrong with the places of `collect` before `collect` would, and changes nothing."""

import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from anonproxy.cli import check, group
from anonproxy.proxy.collect.places import bind_place
from anonproxy.proxy.control import control_name
from tests.support.ports import free_port

CONFIG: Final = """\
[store]
path = "{folder}/store"
[proxy]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
[[sites]]
name = "www"
upstream = "http://127.0.0.1:9"
sitemap = ""
[collect]
"""
FINE: Final = "✓"
WARNING: Final = "!"
WRONG: Final = "✗"


@pytest.fixture(autouse=True)
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for the kernel's setting, which other tests change; it allows as much as on Debian."""
    path = tmp_path / "max_dgram_qlen"
    path.write_text("512\n")
    monkeypatch.setattr(check, "QUEUE", path)
    return path


@pytest.fixture
def say(tmp_path: Path) -> Callable[..., tuple[int, dict[str, list[str]]]]:
    """Check a configuration with this [collect]; return the status, and what is said of each thing with its sign."""

    def say(collect: str, *options: str) -> tuple[int, dict[str, list[str]]]:
        config = tmp_path / "anonproxy.toml"
        config.write_text(CONFIG.format(folder=tmp_path) + collect.format(folder=tmp_path))
        before = sorted(tmp_path.rglob("*"))
        result = CliRunner().invoke(group, ["check", "--config", str(config), *options])
        assert sorted(tmp_path.rglob("*")) == before, "nothing is changed"
        said: dict[str, list[str]] = {}
        for line in result.output.replace("\n    ", " -> ").splitlines():
            sign, subject, message = line[0], *line[2:].split(": ", 1)
            said.setdefault(subject, []).append(f"{sign} {message}")
        return result.exit_code, said

    return say


Check = Callable[..., tuple[int, dict[str, list[str]]]]


def test_places_that_are_free_are_fine(say: Check, tmp_path: Path) -> None:
    """Each place is named, and nothing keeps collect from starting."""
    port = free_port()
    places = f"unix:{tmp_path}/s", f"udp:127.0.0.1:{port}", f"tcp:[::1]:{port}"
    status, said = say(f"listen = {list(places)}")
    assert said["collect.listen"] == [f"{FINE} {place} is free" for place in places]
    assert said["collect.format"] == [f"{FINE} is understood"]
    assert said["net.unix.max_dgram_qlen"] == [f"{FINE} 512 lines may wait at an AF_UNIX socket"]
    assert status == 0


@pytest.mark.parametrize(
    ("collect", "subject", "words"),
    [
        ('listen = ["unix:{folder}/no/s"]', "collect.listen", "there is no such folder; make it"),
        ('listen = ["unix:{folder}/max_dgram_qlen"]', "collect.listen", "something else is there, and no socket"),
        ('listen = ["udp:192.0.2.1:5514"]\nallow_remote = true', "collect.listen", "this machine has no such address"),
        ('format = "nonsense"', "collect.format", ""),
        ('listen = ["tcp:nobody.invalid:1"]\nallow_remote = true', "collect.listen", "no address has this name"),
    ],
)
def test_what_would_keep_collect_from_starting_is_wrong(say: Check, collect: str, subject: str, words: str) -> None:
    """What `collect` would refuse is found beforehand, with the remedy, and what else there is to say is said."""
    status, said = say(collect)
    assert [line for line in said[subject] if line.startswith(WRONG) and words in line]
    assert status == 1
    assert "site www" in said


@pytest.mark.parametrize("place", ["unix:{folder}/s", "udp:127.0.0.1:{port}", "tcp:127.0.0.1:{port}"])
def test_taken_place_is_told_unless_anonproxy_has_it(say: Check, tmp_path: Path, place: str) -> None:
    """Where somebody else listens collect can't, unless it is systemd, who listens for it; where it runs with this
    configuration already, all is well.
    """
    place = place.format(folder=tmp_path, port=free_port())
    with bind_place(place):
        status, said = say(f'listen = ["{place}"]')
        assert said["collect.listen"] == [
            f"{WARNING} {place} is taken -> Fine if it is one of our .socket units; else something else listens there; "
            "stop it or choose another port"
        ]
        assert status == 0
        with running(tmp_path / "anonproxy.toml"):
            status, said = say(f'listen = ["{place}"]')
        assert said["collect.listen"] == [f"{FINE} {place} is in use, and anonproxy runs"]
        assert status == 0


@contextlib.contextmanager
def running(config: Path) -> Iterator[None]:
    """Hold the name of one that runs with a configuration."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(control_name(config))
        listener.listen()
        yield


@pytest.mark.parametrize(("number", "sign"), [("10", WARNING), ("511", WARNING), ("512", FINE), ("4096", FINE)])
def test_narrow_queue_is_a_warning(say: Check, queue: Path, number: str, sign: str) -> None:
    """The kernel's own ten datagrams are too few for a busy site; it is said how to have more."""
    queue.write_text(f"{number}\n")
    status, said = say('listen = ["unix:{folder}/s"]')
    [line] = said["net.unix.max_dgram_qlen"]
    assert line.startswith(sign)
    assert number in line
    assert ("/etc/sysctl.d/" in line) == (sign == WARNING)
    assert status == 0
    assert "net.unix.max_dgram_qlen" not in say('listen = ["udp:127.0.0.1:0"]')[1], "nobody asks it"


def test_ways_that_need_a_second_thought_are_warnings(say: Check) -> None:
    """Listening beyond this machine, no place for Apache's pipe, a folder that systemd makes and a status page that is
    silent are said, and don't keep collect from starting."""
    status, said = say('listen = ["tcp:0.0.0.0:0"]\nallow_remote = true\nstatus_page = "http://127.0.0.1:9/"')
    assert said["collect.listen"][1].startswith(f"{WARNING} tcp:0.0.0.0:0 is reached from other machines, in clear")
    assert said["collect --pipe"][0].startswith(f'{WARNING} a pipe needs a place for datagrams. Add "unix:')
    assert said["collect.status_page"][0].startswith(f"{WARNING} http://127.0.0.1:9/ is silent")
    assert status == 0
    status, said = say('listen = ["unix:/run/nobody-made-this/s"]')
    assert said["collect.listen"][0].startswith(f"{WARNING} unix:/run/nobody-made-this/s can't be had")
    assert "RuntimeDirectory=anonproxy" in said["collect.listen"][0]
    assert status == 0


def test_status_page_is_asked_by_one_alone(say: Check, tmp_path: Path) -> None:
    """While collect runs, the status page isn't asked: the question would count as a request that no line told of."""
    with socket.create_server(("127.0.0.1", 0)) as page, running(tmp_path / "anonproxy.toml"):
        page.settimeout(0.0)
        said = say(f'listen = ["udp:127.0.0.1:0"]\nstatus_page = "http://127.0.0.1:{page.getsockname()[1]}/"')[1]
        assert "collect.status_page" not in said
        with pytest.raises(BlockingIOError):
            page.accept()


def test_proposed_addresses_exclude_each_other() -> None:
    """No two listeners of the file that is shipped, its examples included, ask for one port."""
    ports = re.findall(r'"(?:http://)?127\.0\.0\.1:(\d+)', Path("config/anonproxy.toml").read_text())
    assert len(ports) == len(set(ports)) >= 4


def test_collect_is_looked_at_when_it_is_configured_or_asked_for(say: Check) -> None:
    """Who only runs the proxy hears nothing of it, also with an empty [collect], as in the file that is shipped."""
    assert "collect.listen" not in say("")[1]
    assert "collect.listen" in say("", "--collect")[1]
    assert "collect.listen" in say('format = "combined"')[1]
