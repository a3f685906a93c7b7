"""What the lines of the Containerfile take, install and call is there, though no container is built here."""

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Final

import pytest

from anonproxy.cli import VERBS

PROJECT: Final = Path(__file__).parents[2]
TEXT: Final = (PROJECT / "packaging" / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
LINES: Final = [line.split(maxsplit=1) for line in TEXT.splitlines() if line and not line.startswith("#")]
COPIED: Final = [word for name, rest in LINES if name == "COPY" for word in rest.split()[:-1]]
PYPROJECT: Final = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))


def find(name: str) -> str:
    """Give what follows the only line of a name."""
    (rest,) = (rest for found, rest in LINES if found == name)
    return rest


def test_pythons_agree() -> None:
    """The image has a Python that the project says it runs on."""
    version = re.search(r"python:(3\.\d+)", find("FROM"))
    assert version
    assert f"Programming Language :: Python :: {version[1]}" in PYPROJECT["project"]["classifiers"]


def test_nothing_is_fetched_but_what_is_pinned() -> None:
    """Every install takes pinned hashes, or the project itself with a backend that is among them."""
    installs = re.findall(r"pip install ([^&\n]+)", TEXT)
    assert len(installs) == 2
    assert "--require-hashes -r requirements.txt" in installs[0]
    assert "--no-deps --no-build-isolation ." in installs[1]
    pinned = (PROJECT / "requirements.txt").read_text(encoding="utf-8")
    for requirement in PYPROJECT["build-system"]["requires"]:
        assert f"\n{re.split('[<>=]', requirement)[0]}==" in pinned


def test_it_starts_what_is_installed() -> None:
    """The entry point is the project's program, and the command one of its verbs with an option that it has."""
    assert find("ENTRYPOINT") == f'["{next(iter(PYPROJECT["project"]["scripts"]))}"]'
    verb, *arguments = (word.strip('"') for word in find("CMD").strip("[]").split(", "))
    assert verb in VERBS
    command = importlib.import_module(f"anonproxy.cli.{verb}").command
    assert arguments[0] in {option for parameter in command.params for option in parameter.opts}


@pytest.mark.slow
def test_what_is_copied_is_enough(tmp_path: Path) -> None:
    """A wheel made of nothing but what is copied holds every file of the package."""
    for name in COPIED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / "src" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (tmp_path / "src").mkdir(exist_ok=True)
            shutil.copy(source, tmp_path / "src")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=tmp_path / "src", check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    files = {path.relative_to(tmp_path / "src").as_posix() for path in (tmp_path / "src/anonproxy").rglob("*")}
    folders = {path.relative_to(tmp_path / "src").as_posix() for path in (tmp_path / "src/anonproxy").rglob("*/")}
    assert files - folders <= set(zipfile.ZipFile(wheel).namelist())
