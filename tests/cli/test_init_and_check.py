"""`init` writes what `check` accepts; `check` says what to mend and starts nothing."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from anonproxy.cli import VERBS, check, group
from anonproxy.model.errors import OperatorError, SettingsError
from anonproxy.model.settings import Settings
from tests.proxy.conftest import write_certificate
from tests.support.users import NOBODY, ROOT, acting_as_nobody

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


def test_check_notices_a_store_behind_a_closed_door() -> None:
    """Where this user can't even see whether there is a store, it is said who can, and no error ends the rest."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        closed = Path(folder, "closed")
        closed.mkdir(mode=0o000)
        store = {"path": f"{closed}/store"}
        settings = Settings.model_validate({"store": store, "sites": [{"name": "www", "upstream": SILENT}]})
        with acting_as_nobody():
            [observation] = check._look_at_store(settings)
    assert observation.level == "wrong"
    assert observation.message == f"{closed} can't be written by this user"
    assert "install -d" in observation.remedy


@pytest.mark.skipif(os.geteuid() != ROOT, reason="only root can look as somebody else")
def test_root_is_told_what_the_service_cant_read() -> None:
    """The service runs as whom the store belongs to: what only root can read would keep it from starting."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = write(folder)
        (folder / "store").mkdir()
        os.chown(folder / "store", NOBODY, NOBODY)
        chain, key = map(Path, write_certificate(folder, "library.example.org").values())
        text = path.read_text() + f'[[proxy.certificates]]\ncertificate = "{chain}"\nkey = "{key}"\n'
        (folder / "pages").mkdir()
        (folder / "pages" / "error.html").write_text("Sorry")
        path.write_text(
            text.replace("[proxy]\n", f'[proxy]\nerror_pages = "{folder}/pages"\ntls_listen = "127.0.0.1:0"\n')
        )
        closed = (path, chain, key, folder / "pages")
        wrong = []
        for file in closed:
            for each in closed:
                each.chmod(0o755)
            file.chmod(0o700)
            before = os.geteuid(), os.getegid(), os.getgroups()
            result = run("check", "--config", str(path))
            assert (os.geteuid(), os.getegid(), os.getgroups()) == before
            assert result.exit_code == 1
            wrong += [line.partition(";")[0] for line in result.output.splitlines() if line.startswith("✗")]
        path.chmod(0o640)
        os.chown(path, 0, NOBODY)
        (folder / "pages").chmod(0o755)
        mended = run("check", "--config", str(path))
        assert mended.exit_code == 0, mended.output
    assert wrong == [
        f"✗ configuration: {path} can't be read by the user that anonproxy runs as",
        f"✗ proxy.certificates[0].certificate: {chain} can't be read by the user that anonproxy runs as",
        f"✗ proxy.certificates[0].key: {key} can't be read by the user that anonproxy runs as",
        "✗ proxy.error_pages: the folder, or a file in it, can't be read. Check path, owner and mode",
    ]


@pytest.mark.skipif(os.geteuid() != ROOT, reason="only root can lose what root may")
@pytest.mark.parametrize("capabilities", ["-setgid,-setuid", "-setuid"])
def test_a_root_who_may_become_nobody_else_looks_as_root(tmp_path: Path, capabilities: str) -> None:
    """A container's root is told what it sees itself, not that it may not be somebody else."""
    path = write(tmp_path)
    (tmp_path / "store").mkdir()
    os.chown(tmp_path / "store", NOBODY, NOBODY)
    (tmp_path / "pages").mkdir(0o700)
    (tmp_path / "pages" / "error.html").write_text("Sorry")
    path.write_text(path.read_text().replace("[proxy]\n", f'[proxy]\nerror_pages = "{tmp_path}/pages"\n'))
    looking = subprocess.run(
        ["setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}", sys.executable, "-m", "anonproxy",
         "check", "--config", path],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "proxy.error_pages: error are shown" in looking.stdout, looking.stdout
    assert looking.returncode == 0, looking.stdout


def test_check_notices_a_taken_port(tmp_path: Path) -> None:
    """A port that someone else has is said to be taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = write(tmp_path)
        path.write_text(path.read_text().replace("127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}"))
        assert "choose another port" in run("check", "--config", str(path)).output


def test_check_says_all_that_would_keep_it_from_starting(tmp_path: Path) -> None:
    """One thing that is wrong hides no other, whatever letters stand in a path."""
    path = write(tmp_path)
    text = path.read_text().replace('listen = "127.0.0.1:0"', 'listen = "192.0.2.1:80"')
    text = text.replace("[proxy]\n", f'[proxy]\nerror_pages = "{tmp_path}/no"\ntls_listen = "127.0.0.1:0"\n')
    path.write_text(f'{text}[[proxy.certificates]]\ncertificate = "/no/[www]/chain.pem"\nkey = "/no/key.pem"\n')
    result = run("check", "--config", str(path))
    wrong = [line for line in result.output.splitlines() if line.startswith("✗")]
    assert wrong == [
        "✗ proxy.listen: 192.0.2.1:80 can't be had",
        "✗ proxy.certificates[0].certificate: there is no /no/[www]/chain.pem; "
        "get a certificate first, or correct the path",
        "✗ proxy.error_pages: the folder, or a file in it, can't be read. Check path, owner and mode",
    ]
    assert "this machine has no such address" in result.output
    assert "Visitors would get a 502 page" in result.output
    assert result.exit_code == 1


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
