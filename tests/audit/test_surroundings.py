"""What lies around a store: logs and temporary folders show nobody, and what shows somebody is named by its line."""

import gzip
from pathlib import Path

import pytest

from anonproxy.audit.check import Verdict
from anonproxy.audit.checks.surroundings import ADDRESS, BARCODE, CHECK, EMAIL, detect
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.specimen import NOW

SHOWN: dict[str, set[str]] = {
    '203.0.113.9 - - [21/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 7': {ADDRESS},
    "2026/11/21 10:00:00 [error] 7#7: *1 connect() failed, client: 2001:db8::1:9, server: www": {ADDRESS},
    "[client 203.0.113.9:51234] client connect": {ADDRESS},
    "GET /users/203.0.113.9/list": {ADDRESS},
    "http://203.0.113.9/": {ADDRESS},
    "X-Forwarded-For: 203.0.113.9, 10.1.2.3": {ADDRESS},
    "::ffff:203.0.113.9 connected": {ADDRESS},
    "openvpn: jane/203.0.113.95:51234 peer info": {ADDRESS},
    "DHCP release 203.0.113.9": {ADDRESS},
    "peer=[2001:db8:77::9]:443": {ADDRESS},
    "fe80::21b:44ff:fe11:3ab7%eth0 joined": {ADDRESS},
    "mail sent to jane@example.org": {EMAIL},
    "GET /unsubscribe?who=jane%40example.org": {EMAIL},
    "GET /unsubscribe?who=jane%2540example.org": {EMAIL},
    "POST /patron/21234000123456/holds": {BARCODE},
    "renewed 2 1234 00012 3456": {BARCODE},
    "jane@example.org from 203.0.113.9 with 21234000123456": {ADDRESS, EMAIL, BARCODE},
}
HARMLESS = (
    "Mozilla/5.0 (Windows; U; Windows NT 5.1; en-US; rv:1.9.0.19) Gecko/2010031422 Firefox/3.0.19.1",
    "Mozilla/5.0 Chrome/30.0.0.0 GSA/3.2.1.258 zlib/1.2.3.4",
    "2345Explorer 3.2.0.120",
    "UP.Browser/6.2.3.3",
    "started anonproxy@www.service, user@1000.service, run-7.scope",
    "listening on 127.0.0.1:8080 and [::1]:8080 and 0.0.0.0:80 and [::]:80",
    "2026-11-21T10:00:00.123456Z seq 20261121101530 took 12.5 ms",
    "std::vector and Net::HTTP and a::b, MAC 00:1b:44:11:3a:b7",
    "anonproxy serves http://127.0.0.1:8080 (1 site, 1 worker)",
    "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "pkg@1.2.3 installed, libfoo.so.1.2.3.4.5",
)


@pytest.mark.parametrize("line", SHOWN)
def test_finds_who_shows(line: str) -> None:
    """An address, a mailbox, a barcode in a line is found, whatever stands around it."""
    assert set(detect(line)) == SHOWN[line]


@pytest.mark.parametrize("line", HARMLESS)
def test_spares_what_only_looks_like_it(line: str) -> None:
    """Versions, times, digests, units of systemd and the machine's own loopback are no findings."""
    assert set(detect(line)) == set()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a store that is of no interest here."""
    (tmp_path / "store").mkdir(0o700)
    return tmp_path / "store"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Return a folder of logs without harm."""
    (tmp_path / "logs" / "nginx").mkdir(parents=True)
    (tmp_path / "logs" / "nginx" / "error.log").write_text("10:00 started\n10:01 stopped\n")
    return tmp_path / "logs"


def test_names_file_and_line_and_never_the_text(store: Path, logs: Path) -> None:
    """A finding says where it stands and what sort it is, once a file, with the number of further lines."""
    log = logs / "nginx" / "access.log"
    log.write_text("started\n203.0.113.9 GET /divorce\n203.0.113.10 GET /\njane@example.org\n")
    outcome = CHECK.look(Evidence(store, NOW, look_in=[logs]))
    assert [str(finding) for finding in outcome.findings] == [
        f"{log}, line 2: shows an internet address, as do 2 lines in all",
        f"{log}, line 4: shows an e-mail address",
    ]
    assert outcome.looked_at == {"files": 2, "lines": 6}


def test_reads_what_was_rotated_and_packed(store: Path, logs: Path) -> None:
    """A packed log is read like another one."""
    with gzip.open(logs / "access.log.2.gz", "wt") as log:
        log.write("203.0.113.9 GET /\n")
    assert CHECK.look(Evidence(store, NOW, look_in=[logs])).verdict == Verdict.FAIL


def test_looks_at_names_of_files_and_does_not_repeat_them(store: Path, logs: Path) -> None:
    """A name that shows somebody is a finding, and isn't repeated in it."""
    (logs / "jane@example.org.txt").write_text("nothing\n")
    (logs / "203.0.113.9" / "visits").mkdir(parents=True)
    (logs / "203.0.113.9" / "visits" / "one.log").write_text("jane@example.org\n")
    folder = f"{logs}/(a name of 11 characters)"
    assert [str(finding) for finding in CHECK.look(Evidence(store, NOW, look_in=[logs])).findings] == [
        f"{folder}: shows an internet address",
        f"{logs}/(a name of 20 characters): shows an e-mail address",
        f"{folder}/visits/one.log, line 1: shows an e-mail address",
    ]


def test_what_can_not_be_read_is_no_pass(store: Path, logs: Path) -> None:
    """A file that is no text, or torn, or not there, leaves the answer open."""
    assert CHECK.look(Evidence(store, NOW, look_in=[logs])).verdict == Verdict.PASS
    (logs / "system.journal").write_bytes(b"LPKSHHRH\0\0\0")
    assert CHECK.look(Evidence(store, NOW, look_in=[logs])).verdict == Verdict.UNKNOWN
    (logs / "system.journal").write_bytes(gzip.compress(b"many lines\n" * 99)[:-12])
    assert CHECK.look(Evidence(store, NOW, look_in=[logs])).verdict == Verdict.UNKNOWN
    assert CHECK.look(Evidence(store, NOW, look_in=[logs / "nowhere"])).verdict == Verdict.UNKNOWN
    assert CHECK.look(Evidence(store, NOW, look_in=[store])).verdict == Verdict.UNKNOWN
