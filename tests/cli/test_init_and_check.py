"""`init` writes what `check` accepts; `check` says what to mend and starts nothing."""

import socket
from pathlib import Path

from click.testing import CliRunner, Result

from anonproxy.cli import VERBS, group
from anonproxy.model.errors import OperatorError, SettingsError

SILENT = "http://127.0.0.1:9"  # the discard service, which nobody runs


def run(*arguments: str) -> Result:
    """Run a verb in this process."""
    return CliRunner(env={"COLUMNS": "300"}).invoke(group, list(arguments))


def write(tmp_path: Path, **replaced: str) -> Path:
    """Write a valid configuration, with some of its values replaced."""
    path = tmp_path / "anonproxy.toml"
    result = run(
        "init",
        "--output",
        str(path),
        "--store",
        str(tmp_path / "store"),
        "--listen",
        "127.0.0.1:0",
        "--upstream",
        SILENT,
    )
    assert result.exit_code == 0, result.output
    text = path.read_text()
    for old, new in replaced.items():
        text = text.replace(old, new)
    path.write_text(text)
    return path


def test_init_then_check(tmp_path: Path) -> None:
    """What init wrote is found fit, with the silent site as a warning."""
    result = run("check", "--config", str(write(tmp_path)))
    assert result.exit_code == 0, result.output
    assert "is valid" in result.output
    assert "Visitors would get a 502 page" in result.output
    assert not (tmp_path / "store").exists()


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    """A configuration that is there already stays as it is."""
    path = write(tmp_path)
    before = path.read_text()
    result = run("init", "--output", str(path))
    assert isinstance(result.exception, OperatorError)
    assert "--output" in str(result.exception)
    assert path.read_text() == before


def test_check_names_every_mistake(tmp_path: Path) -> None:
    """A wrong configuration is refused with all of its mistakes."""
    path = write(tmp_path, upstream="upstraem", listen="listne")
    result = run("check", "--config", str(path))
    assert isinstance(result.exception, SettingsError)
    assert {problem.field for problem in result.exception.problems} == {
        "proxy.listne",
        "sites[0].upstraem",
        "sites[0].upstream",
    }


def test_check_notices_a_store_that_cannot_be(tmp_path: Path) -> None:
    """A store under a file can't be written, and check exits with 1."""
    (tmp_path / "file").write_text("")
    path = write(tmp_path)
    path.write_text(path.read_text().replace(str(tmp_path / "store"), str(tmp_path / "file" / "store")))
    result = run("check", "--config", str(path))
    assert result.exit_code == 1
    assert "can't be written" in result.output


def test_check_notices_a_taken_port(tmp_path: Path) -> None:
    """A port that someone else has is said to be taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = write(tmp_path)
        path.write_text(path.read_text().replace("127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}"))
        assert "choose another port" in run("check", "--config", str(path)).output


def test_check_names_a_broken_country_database(tmp_path: Path) -> None:
    """A country database that is none is named with its setting and what to do."""
    broken = tmp_path / "country.mmdb"
    broken.write_bytes(b"no database")
    path = write(tmp_path)
    path.write_text(path.read_text() + f'[country]\ndatabase = "{broken}"\n')
    result = run("check", "--config", str(path))
    assert "country.database" in (result.output + str(result.exception))


def test_every_verb_has_help() -> None:
    """Each verb that the help lists exists and explains itself."""
    for verb in VERBS:
        result = run(verb, "--help")
        assert result.exit_code == 0, (verb, result.exception)
        assert "Usage:" in result.output
