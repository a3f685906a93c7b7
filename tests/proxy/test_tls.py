"""TLS for visitors: the right certificate for each name, new ones without a break, and no start with a wrong one."""

import datetime
import shutil
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from mitmproxy.certs import CertStore

from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import CertificateSettings
from anonproxy.proxy.say import Say
from anonproxy.proxy.server import warn_of_dates
from anonproxy.proxy.tls import Certificates, read_certificate
from tests.proxy.conftest import (
    HOST,
    LONG_AGO,
    PAGE,
    Serving,
    connect_tls,
    make_settings,
    read_all,
    split_response,
    write_certificate,
)

ASK = f"GET /page.html HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def served_names(port: int, name: str) -> list[str]:
    """Return the host names in the certificate that is shown to whoever asks for a name."""
    with connect_tls(port, name=name) as connection:
        shown = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
    found = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return found.get_values_for_type(x509.DNSName)


def test_name_chooses_the_certificate(tmp_path: Path, nginx: int) -> None:
    """Exact names win over wildcards, and strangers' names get the first certificate."""
    made = [
        write_certificate(tmp_path, "a.example.org", file="a"),
        write_certificate(tmp_path, "*.b.example.org", file="wildcard"),
        write_certificate(tmp_path, "x.b.example.org", file="exact"),
    ]
    with Serving(make_settings(nginx, tls_listen="127.0.0.1:443", certificates=made)) as serving:
        for asked, shown in {
            "a.example.org": "a.example.org",
            "A.EXAMPLE.ORG": "a.example.org",
            "y.b.example.org": "*.b.example.org",
            "x.b.example.org": "x.b.example.org",
            "y.x.b.example.org": "a.example.org",
            "b.example.org": "a.example.org",
            "127.0.0.1": "a.example.org",
        }.items():
            assert served_names(serving.tls_port, asked) == [shown]


def test_old_versions_are_refused(tmp_path: Path, nginx: int) -> None:
    """TLS below 1.2 gets no answer, nor does what isn't TLS; neither is a fault or a request."""
    settings = make_settings(nginx, tls_listen="127.0.0.1:443", certificates=[write_certificate(tmp_path, HOST)])
    with Serving(settings) as serving:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(("127.0.0.1", serving.tls_port)) as raw, pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(raw)
        with socket.create_connection(("127.0.0.1", serving.tls_port)) as raw:
            raw.sendall(ASK)
            assert b"HTTP" not in read_all(raw)
        with serving.connect_tls() as visitor:
            assert visitor.version() == "TLSv1.3"
        assert serving.requests == []
        assert serving.counts["faults"] == 0


def missing(folder: Path) -> dict[str, str]:
    """Name files that aren't there."""
    return {"certificate": str(folder / "none.pem"), "key": str(folder / "none.key")}


def not_pem(folder: Path) -> dict[str, str]:
    """Name a certificate that is none."""
    made = write_certificate(folder, HOST)
    Path(made["certificate"]).write_text("hello")
    return made


def key_not_pem(folder: Path) -> dict[str, str]:
    """Name a key that is none."""
    made = write_certificate(folder, HOST)
    Path(made["key"]).write_text("hello")
    return made


def foreign_key(folder: Path) -> dict[str, str]:
    """Name the key of another certificate."""
    return {
        "certificate": write_certificate(folder, HOST)["certificate"],
        "key": write_certificate(folder, HOST, file="other")["key"],
    }


def own_authority(folder: Path) -> dict[str, str]:
    """Name what mitmproxy makes for itself."""
    CertStore.create_store(folder, "mitmproxy", 2048)
    return {"certificate": str(folder / "mitmproxy-ca-cert.pem"), "key": str(folder / "mitmproxy-ca.pem")}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (missing, "there is no .*none.pem; get a certificate first, or correct the path"),
        (not_pem, "site.pem holds no certificate in PEM form; certbot calls it fullchain.pem"),
        (key_not_pem, "site.key holds no private key in PEM form; certbot calls it privkey.pem"),
        (lambda folder: write_certificate(folder, HOST, passphrase=b"x"), "site.key has a passphrase"),
        (foreign_key, "other.key is not the key of .*site.pem; name the two that were issued together"),
        (own_authority, "mitmproxy's own authority, which no browser trusts; get a real one"),
        (lambda folder: write_certificate(folder, HOST, issuer="mitmproxy"), "mitmproxy's own authority"),
        (lambda folder: write_certificate(folder), "made out for no host name"),
    ],
)
def test_certificate_that_no_visitor_should_see_is_refused(
    tmp_path: Path, make: Callable[[Path], dict[str, str]], words: str
) -> None:
    """Nothing starts with a certificate that can't be served; the error names the setting and the remedy."""
    with pytest.raises(OperatorError, match=rf"^proxy\.certificates\[0\].*{words}"):
        read_certificate(CertificateSettings(**make(tmp_path)), "proxy.certificates[0]")


def test_expired_certificate_is_told_and_served(tmp_path: Path, nginx: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A certificate whose time is over is worth a warning, and better than no website."""
    made = write_certificate(tmp_path, HOST, ends=LONG_AGO + datetime.timedelta(days=90))
    settings = make_settings(nginx, tls_listen="127.0.0.1:443", certificates=[made])
    warn_of_dates(Certificates(settings.proxy.certificates))
    told = Say.CERTIFICATE_INVALID.format(path=made["certificate"], begins="2020-01-01", ends="2020-03-31")
    assert capsys.readouterr().err == f"anonproxy {told}\n"
    with Serving(settings) as serving:
        assert served_names(serving.tls_port, HOST) == [HOST]


def test_changed_files_are_taken_when_they_fit(tmp_path: Path) -> None:
    """New files are read once they hold still; a certificate without its key leaves the old pair in place."""
    made = CertificateSettings(**write_certificate(tmp_path, "old.example.org"))
    certificates = Certificates([made])
    assert [certificates.refresh() for _ in range(3)] == [None, None, None]
    key = shutil.copy(made.key, tmp_path / "kept")
    write_certificate(tmp_path, "new.example.org")
    new_key = shutil.copy(made.key, tmp_path / "new")
    shutil.copy(key, made.key)
    assert [certificates.refresh() for _ in range(3)] == [None, False, None]
    assert certificates.all[0].names == ("old.example.org",)
    shutil.copy(new_key, made.key)
    assert [certificates.refresh() for _ in range(3)] == [None, True, None]
    assert certificates.all[0].names == ("new.example.org",)
    Path(made.certificate).unlink()
    assert [certificates.refresh() for _ in range(3)] == [None, False, None]
    assert certificates.all[0].names == ("new.example.org",)


def test_plain_visitors_are_sent_to_https(tmp_path: Path, nginx: int) -> None:
    """With redirect_to_https nothing is served without TLS; what is redirected is recorded only where it arrives."""
    settings = make_settings(
        nginx, tls_listen="127.0.0.1:443", redirect_to_https=True, certificates=[write_certificate(tmp_path, HOST)]
    )
    with Serving(settings) as serving:
        for method, asked, status, location in (
            ("GET", HOST, 301, f"https://{HOST}/page.html?q=1"),
            ("HEAD", f"{HOST}:8080", 301, f"https://{HOST}/page.html?q=1"),
            ("POST", HOST, 308, f"https://{HOST}/page.html?q=1"),
        ):
            got, head, _ = serving.get("/page.html?q=1", "Content-Length: 0", method=method, host=asked)
            assert got == status
            assert f"\r\nLocation: {location}\r\n".encode() in head
        assert serving.counts["redirected"] == 3
        assert serving.requests == []
        status, head, _ = serving.get("/page.html", host="unknown.example.org")
        assert (status, b"Location" in head) == (421, False)
        assert serving.get("/page.html", host='"<script>')[0] == 400
        nameless, head, _ = split_response(serving.send(b"GET /page.html HTTP/1.0\r\n\r\n"))
        assert (nameless, b"Location" in head) == (400, False), "nobody could be told where to go"
        with serving.connect_tls() as visitor:
            visitor.sendall(ASK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert split_response(read_all(visitor))[2] == PAGE
        serving.recorded(4)


def test_another_port_is_said_in_the_redirect(tmp_path: Path, nginx: int) -> None:
    """Where HTTPS isn't on its usual port, the redirect names the port."""
    made = [write_certificate(tmp_path, HOST)]
    settings = make_settings(nginx, tls_listen="[::1]:8443", redirect_to_https=True, certificates=made)
    with Serving(settings) as serving:
        assert f"Location: https://{HOST}:8443/x\r\n".encode() in serving.get("/x")[1]
