"""The unit files are what systemd understands, and leave the service as little as it needs."""

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from anonproxy.proxy.listeners import parse_listen

FOLDER: Final = Path(__file__).parents[2] / "config" / "systemd"
UNITS: Final = sorted(path.name for path in FOLDER.glob("*.service"))
# systemd's own scale: 0 is a service that can do nothing, 10 one that can do everything.
MOST_EXPOSURE: Final = 2.0


def analyze(*arguments: str) -> str:
    """Run systemd-analyze; return what it says."""
    command = ["systemd-analyze", "--no-pager", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def read_directives(name: str) -> dict[str, str]:
    """Return a unit's directives; the last of a name counts."""
    return dict(re.findall(r"^(\w+)=(.*)$", (FOLDER / name).read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", UNITS)
def test_units_are_understood(name: str, tmp_path: Path) -> None:
    """systemd finds no fault with a unit, apart from a program that isn't installed here."""
    unit = tmp_path / name
    unit.write_text((FOLDER / name).read_text().replace("/usr/bin/anonproxy", "/bin/true"))
    assert analyze("verify", "--man=no", str(unit)) == ""


def test_socket_opens_ports_as_the_settings_name_them(tmp_path: Path) -> None:
    """systemd understands the socket unit, and its addresses are what proxy.listen and proxy.tls_listen would be."""
    for name in ("anonproxy.socket", "anonproxy.service"):
        text = (FOLDER / name).read_text().replace("/usr/bin/anonproxy", "/bin/true")
        (tmp_path / name).write_text(text)
    assert analyze("verify", "--man=no", str(tmp_path / "anonproxy.socket")) == ""
    addresses = re.findall(r"^ListenStream=(.+)$", (FOLDER / "anonproxy.socket").read_text(), re.MULTILINE)
    assert [parse_listen(address)[1] for address in addresses] == [("::", 80), ("::", 443)]


@pytest.mark.parametrize("name", UNITS)
def test_units_leave_little_exposed(name: str) -> None:
    """The exposure that systemd computes stays low."""
    said = analyze("security", "--offline=true", str(FOLDER / name))
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert exposure, said
    assert float(exposure[1]) <= MOST_EXPOSURE


@pytest.mark.parametrize("name", UNITS)
def test_memory_reaches_no_disk(name: str) -> None:
    """Neither swap nor a core dump may hold what the service has in memory, and its user owns nothing else."""
    directives = read_directives(name)
    assert (directives["MemorySwapMax"], directives["LimitCORE"]) == ("0", "0")
    assert (directives["ProtectSystem"], directives["UMask"], directives["NoNewPrivileges"]) == (
        "strict",
        "0077",
        "yes",
    )
    assert directives["User"] == "anonproxy"


def test_tls_listener_may_make_its_callbacks() -> None:
    """The proxy's unit doesn't forbid writable, executable memory: its TLS listener would end."""
    assert "MemoryDenyWriteExecute" not in read_directives("anonproxy.service")


def test_collector_is_found_by_other_users_servers() -> None:
    """The collector's socket stands in a folder that others may enter; one store is never written by two services."""
    directives = read_directives("anonproxy-collect.service")
    assert (directives["RuntimeDirectory"], directives["RuntimeDirectoryMode"]) == ("anonproxy", "0755")
    assert "AF_UNIX" in directives["RestrictAddressFamilies"].split()
    assert directives["MemoryDenyWriteExecute"] == "yes", "no TLS listener here"
    assert directives["Conflicts"] == "anonproxy.service"


def test_user_and_folders_are_understood(tmp_path: Path) -> None:
    """systemd-sysusers makes the user, and systemd-tmpfiles the folders, in an empty root."""
    (tmp_path / "etc").mkdir()
    for program, file in (
        ("systemd-sysusers", "anonproxy.sysusers.conf"),
        ("systemd-tmpfiles", "anonproxy.tmpfiles.conf"),
    ):
        options = ["--create"] if program == "systemd-tmpfiles" else []
        command = [program, *options, f"--root={tmp_path}", str(FOLDER / file)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert ended.returncode == 0, ended.stderr
    assert re.search(
        r"^anonproxy:.*:/var/lib/anonproxy:/usr/sbin/nologin$", (tmp_path / "etc/passwd").read_text(), re.M
    )
    assert (tmp_path / "var/lib/anonproxy").stat().st_mode & 0o777 == 0o700
