"""Places of log lines are had as they are named, or it is said what to do; to look changes nothing."""

import contextlib
import errno
import os
import socket
import tempfile
from pathlib import Path
from typing import Final

import pytest

from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import Settings
from anonproxy.proxy import notify
from anonproxy.proxy.collect.places import bind_place, count_drops, explain_place, verify_place
from anonproxy.proxy.collect.server import make_plan
from anonproxy.proxy.notify import take_listeners
from tests.support.ports import free_port
from tests.support.users import acting_as_nobody

ERRORS: Final[tuple[type[OSError | UnicodeError], ...]] = (OSError, UnicodeError)
# Places that can't be had, in a folder with a file in it, and what to do.
UNFIT: Final = (
    ("unix:{folder}/file", "something else is there, and no socket"),
    ("unix:{folder}/no/s", "there is no such folder"),
    ("unix:{folder}/file/s", "Not a directory"),
    ("udp:192.0.2.1:5514", "no such address"),
    ("tcp:192.0.2.1:5514", "no such address"),
    ("udp:nobody.invalid:5514", "no address has this name"),
    ("tcp:a..b:5514", "no address has this name"),
)


@pytest.mark.parametrize(("place", "remedy"), UNFIT)
def test_places_that_cannot_be_had_are_named(tmp_path: Path, place: str, remedy: str) -> None:
    """The message names the setting, the place, and what to do; to look says the same, and nothing is changed."""
    (tmp_path / "file").write_text("mine")
    place = place.format(folder=tmp_path)
    with pytest.raises(OperatorError) as refused:
        bind_place(place)
    assert str(refused.value).startswith(f"collect.listen: can't listen on {place}: ")
    assert remedy in str(refused.value)
    with pytest.raises(ERRORS) as unfit:
        verify_place(place)
    assert remedy in explain_place(place, unfit.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("place", ["unix:{folder}/s", "udp:127.0.0.1:{port}", "tcp:127.0.0.1:{port}"])
def test_taken_place_is_told_from_a_free_one(tmp_path: Path, place: str) -> None:
    """A place where somebody listens is taken, and neither to look nor to try disturbs whoever has it; afterwards it is
    free, even if a socket is left there."""
    place = place.format(folder=tmp_path, port=free_port())
    verify_place(place)
    assert not list(tmp_path.iterdir())
    with bind_place(place):
        with pytest.raises(OSError, match=f"Errno {errno.EADDRINUSE}") as taken:
            verify_place(place)
        assert "stop it or choose" in explain_place(place, taken.value)
        with pytest.raises(OperatorError, match=r"collect\.listen: can't listen on .*stop it or choose"):
            bind_place(place)
        left = sorted(tmp_path.iterdir())
        assert [path.stat().st_mode & 0o777 for path in left] == [0o666] * len(left)
    verify_place(place)
    assert sorted(tmp_path.iterdir()) == left, "what is left is removed by who takes the place"
    bind_place(place).close()


def test_folder_without_the_right_to_write_is_named() -> None:
    """Where this user can't make the socket, it is said who can."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        place = f"unix:{folder}/s"
        with acting_as_nobody():
            with pytest.raises(OperatorError, match="run as the user of the service"):
                bind_place(place)
            with pytest.raises(PermissionError) as unfit:
                verify_place(place)
        assert "run as the user of the service" in explain_place(place, unfit.value)


def test_kernel_counts_what_it_drops() -> None:
    """Datagrams that come while the buffer is full are counted exactly."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as narrow:
        narrow.bind(("127.0.0.1", 0))
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            for _ in range(200):
                out.sendto(b"x" * 500, narrow.getsockname())
        narrow.setblocking(False)
        taken = 0
        with contextlib.suppress(BlockingIOError):
            while narrow.recv(1000):
                taken += 1
        assert 0 < taken < 200
        assert count_drops(narrow) == 200 - taken


@pytest.mark.parametrize(
    "place", ["unix:{folder}/s", "udp:127.0.0.1:{port}", "udp:[::1]:{port}", "tcp:127.0.0.1:{port}"]
)
def test_what_systemd_has_opened_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """A socket that is handed over is the place that is configured; one that no setting names is refused."""
    place = place.format(folder=tmp_path, port=free_port())
    site = {"name": "www", "upstream": "http://127.0.0.1:1"}
    settings = Settings.model_validate(
        {
            "store": {"path": str(tmp_path / "store")},
            "proxy": {"admin_listen": f"127.0.0.1:{free_port()}"},
            "collect": {"listen": [place]},
            "sites": [site],
        }
    )
    with bind_place(place) as opened:
        monkeypatch.setattr(notify, "FIRST_FD", os.dup(opened.fileno()))
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        given = take_listeners()
        [listener] = given.values()
        other = settings.model_copy(update={"collect": settings.collect.model_copy(update={"listen": []})})
        with pytest.raises(OperatorError) as refused:
            make_plan(other, given=given)
        assert str(refused.value) == (
            f"systemd listens on {place}, but collect.listen doesn't name it. "
            f'Write listen = ["{place}"], or take it out of anonproxy-collect.socket'
        )
        plan = make_plan(settings, given=given)
        assert plan.listeners[place] is listener
        plan.close()
