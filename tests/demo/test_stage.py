from pathlib import Path

import pytest

from anonproxy.config import read_settings
from anonproxy.demo.library import CONTENT
from anonproxy.demo.plan import HOST
from anonproxy.demo.stage import (
    LOCAL_HOSTS,
    Stage,
    choose_port,
    find_address,
    find_free_port,
    host_of,
    read_metric,
    render_config,
    run_child,
    wait_for,
)
from anonproxy.model.errors import OperatorError


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A stage on which nothing runs."""
    return Stage(tmp_path / 'quo"ted', "http://127.0.0.1:8000", 8080, 9901)


def test_config_is_a_real_one(stage: Stage) -> None:
    """The configuration that the demonstration writes is accepted, whatever the folder is called."""
    stage.folder.mkdir()
    extra = (CONTENT / "millbrook.toml").read_text(encoding="utf-8")
    stage.config.write_text(render_config(stage, (HOST, *LOCAL_HOSTS)) + extra, encoding="utf-8")
    settings = read_settings(stage.config, {})
    assert settings.store.path == str(stage.store)
    assert settings.sites[0].upstream == stage.site_url
    assert settings.sites[0].hosts == (HOST, "127.0.0.1", "localhost")
    assert {route.kind for route in settings.sites[0].routes} >= {
        "search",
        "item",
        "account",
        "download",
        "api",
        "asset",
    }
    assert set(settings.network_classes) == {"in-library", "town"}


def test_config_for_a_site_of_ones_own(stage: Stage) -> None:
    """In front of another site any host name is answered."""
    stage.folder.mkdir()
    stage.config.write_text(render_config(stage, ()), encoding="utf-8")
    assert read_settings(stage.config, {}).sites[0].hosts == ()


def test_metric() -> None:
    """A metric is read as one number: its value, or the sum over its labels, and 0 when it is absent."""
    text = '# HELP hits Rows.\nhits 12\nhits_more 99\ndropped{reason="a"} 2\ndropped{reason="b"} 3\n'
    assert [read_metric(text, name) for name in ("hits", "dropped", "absent")] == [12, 5, 0]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("https://library.example.org/", "library.example.org"),
        ("http://user:pass@library.example.org:81", "library.example.org:81"),
    ],
)
def test_host(url: str, host: str) -> None:
    """The Host header names host and port, and nobody's password."""
    assert host_of(url) == host


def test_ports() -> None:
    """A port that was named is taken as it is; a free one is free."""
    assert choose_port(1234) == 1234
    assert find_free_port() > 1023


def test_address_is_found_once_it_is_printed_whole(tmp_path: Path) -> None:
    """Half a line isn't an address yet."""
    log = tmp_path / "log"
    for text, address in (
        ("", ""),
        ("Library on http://127.0.0.1:41", ""),
        ("on http://127.0.0.1:4123\nmore", "http://127.0.0.1:4123"),
    ):
        log.write_text(text)
        assert find_address(log) == address


def test_child_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a child ends before it is ready, the operator reads its last words and its status."""
    (tmp_path / "broken.py").write_text("import sys; print('no such port'); sys.exit(3)")
    log = tmp_path / "log"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        run_child("the site", ["broken"], log) as child,
        pytest.raises(OperatorError, match=r"the site ended with status 3. Its last words:\s+no such port"),
    ):
        wait_for("the site", child, log, lambda: "")


def test_child_ends_with_its_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process stays behind."""
    (tmp_path / "patient.py").write_text("import time; print('ready', flush=True); time.sleep(600)")
    log = tmp_path / "log"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with run_child("the site", ["patient"], log) as child:
        assert wait_for("the site", child, log, log.read_text) == "ready\n"
    assert child.returncode is not None
