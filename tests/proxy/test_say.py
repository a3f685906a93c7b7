"""The proxy's own log: what it can say, and in which forms."""

import json
from datetime import datetime

import pytest

from anonproxy.proxy import say as log
from anonproxy.proxy.say import Say, field_names, say, speak

# Every field that a line can have: numbers, and names from the configuration or from our own code.
NUMBERS = {"seconds", "requests", "written", "dropped", "index", "status"}
NAMES = {"address", "admin_address", "places", "sites", "workers", "path", "begins", "ends", "problem", "where"}
FRAME = {"time", "level", "event", "message"}


@pytest.mark.parametrize("sentence", Say)
def test_lines_have_closed_fields(sentence: Say, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is said, text and JSON hold the same, in fields of a closed list."""
    words: dict[str, log.Word] = {name: 7 if name in NUMBERS else f'a "{name}"\n' for name in field_names(sentence)}
    assert words.keys() <= NUMBERS | NAMES
    say(sentence, **words)
    text = capsys.readouterr().err
    assert text == f"anonproxy {sentence.format(**words)}\n"
    speak("json")
    try:
        say(sentence, **words, extra="203.0.113.7")
    finally:
        speak("text")
    [line] = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert told.keys() == FRAME | words.keys()
    assert told["message"] == sentence.format(**words)
    assert told["event"] == sentence.name.lower()
    assert told["level"] in {"info", "warning", "error"}
    assert datetime.fromisoformat(told["time"]).microsecond == 0
    assert {name: told[name] for name in words} == words


def test_missing_word_is_a_mistake() -> None:
    """A sentence with a hole isn't said."""
    with pytest.raises(KeyError):
        say(Say.WORKER_ENDED, index=1)
