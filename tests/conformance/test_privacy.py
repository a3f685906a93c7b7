"""Whatever goes wrong on the wire, nothing of it is written: every path of this room's own, marked and searched for."""

from collections.abc import Callable
from typing import Final

import pytest

from anonproxy.audit.search import search
from tests.conformance.conftest import Script, Stage, answer_always, answer_once
from tests.conformance.test_scripted import CHUNKED, OK, answer, chunks, get, post, reset_after
from tests.conformance.wire import Garbage, Wire, connect
from tests.proxy.conftest import wait_until
from tests.support.marked_requests import Marks

Word = Callable[[str], str]


ENDINGS: Final[dict[str, Callable[[bytes], Script]]] = {
    "kept": answer_always,
    "closed": answer_once,
    "reset": reset_after,
}


# What the visitor sends and what the site answers, each with marks in it; and how many rows it leaves.
CASES: Final[dict[str, tuple[Callable[[Word], bytes], Callable[[Word], bytes], int]]] = {
    "control byte": (lambda word: get(f"X-A: {word('header')}\x01", target=f"/{word('path')}"), lambda _: OK, 0),
    "bare LF": (lambda word: get(f"X-A: b\nX-B: {word('line')}"), lambda _: OK, 0),
    "method": (lambda word: get(method=f"get{word('method')}"), lambda _: OK, 1),
    "fragment": (lambda word: get(target=f"/#{word('fragment')}"), lambda _: OK, 1),
    "coding": (lambda word: get(f"Transfer-Encoding: {word('coding')}"), lambda _: OK, 1),
    "hop by hop": (lambda word: get(f"Connection: {word('option')}, close"), lambda _: OK, 1),
    "chunk size": (lambda word: post(f"x{word('size')}\r\n".encode(), CHUNKED), lambda _: OK, 1),
    "chunk extension": (lambda word: post(f"5;{word('extension')}\x01\r\n".encode(), CHUNKED), lambda _: OK, 1),
    "trailer": (
        lambda word: post(chunks(b"a", trailers=f"X-A: {word('trailer')}\r\n".encode()), CHUNKED),
        lambda word: answer(chunks(b"a", trailers=f"X-A: {word('their trailer')}\r\n".encode()), CHUNKED.encode()),
        1,
    ),
    "no trailer": (lambda word: post(f"0\r\n{word('no trailer')}\r\n\r\n".encode(), CHUNKED), lambda _: OK, 1),
    "early hints": (
        lambda _: get(),
        lambda word: answer(b"", f"Link: {word('hint')}".encode(), status=b"103 Early Hints") + OK,
        1,
    ),
    "their header": (lambda _: get(), lambda word: answer(b"ok", f"X-A: {word('header')}\r".encode(), b"X: y"), 1),
    "their coding": (lambda _: get(), lambda word: answer(b"ok", f"Transfer-Encoding: {word('coding')}".encode()), 1),
    "their chunk": (lambda _: get(), lambda word: answer(f"x{word('chunk')}\r\n".encode(), CHUNKED.encode()), 1),
    "their excess": (lambda _: get(), lambda word: OK + word("excess").encode(), 1),
    "their nonsense": (lambda _: get(), lambda word: word("nonsense").encode() + b"\r\n\r\n", 1),
}  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_is_written_of_what_goes_wrong(stage: Stage, ending: str) -> None:
    """After every odd exchange its request is counted and written, and no mark is anywhere that the proxy writes to."""
    marks = Marks()
    before = stage.proxy.metrics()["anonproxy_requests_total"]
    for name, (ask, reply, _) in CASES.items():
        raw = reply(marks.word)
        stage.raw.play(ENDINGS[ending](raw))
        with connect(stage.proxy.port) as visitor:
            visitor.settimeout(1)
            visitor.sendall(ask(marks.word))
            try:
                Wire(visitor).read_answer()
            except (Garbage, OSError):
                assert name.startswith("their"), name
    expected = before + sum(rows for _, _, rows in CASES.values())
    wait_until(lambda: stage.proxy.metrics()["anonproxy_requests_total"] >= expected)  # an earlier test's may follow
    wait_until(lambda: not stage.proxy.metrics().get("anonproxy_pending_rows", 0))
    result = search(stage.proxy.written_places, marks.made)
    assert not result.hits
    assert result.files > 0
