"""What the Debian package is made of is there, and its scripts can be read by the shell."""

import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final[dict[str, Any]] = YAML(typ="safe").load(ROOT / "packaging" / "nfpm.yaml")
STAGED: Final = ("${STAGE}", "/opt/anonproxy/")  # made by packaging/build-deb


@pytest.mark.parametrize(
    "name",
    [one["src"] for one in PACKAGE["contents"] if not one["src"].startswith(STAGED)] + [*PACKAGE["scripts"].values()],
)
def test_files_of_the_package_exist(name: str) -> None:
    """Each file that the package takes from the project is there."""
    assert (ROOT / name).is_file()


@pytest.mark.parametrize(
    ("name", "shell"), [("build-deb", "bash"), ("postinst", "sh"), ("prerm", "sh"), ("postrm", "sh")]
)
def test_scripts_can_be_read(name: str, shell: str) -> None:
    """The shell finds no mistake in a script."""
    path = ROOT / "packaging" / name
    ended = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, check=False, timeout=10)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("name", ["anonproxy.service", "anonproxy-collect.service", "anonproxy-web.service"])
def test_unit_starts_what_the_package_installs(name: str) -> None:
    """Each unit starts the program, with the configuration, under the names that the package gives them."""
    installed = {one["dst"] for one in PACKAGE["contents"]}
    unit = (ROOT / "config" / "systemd" / name).read_text()
    [started] = [line.removeprefix("ExecStart=") for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert {word for word in started.split() if word.startswith("/")} <= installed
