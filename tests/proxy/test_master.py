"""TLS towards the site."""

import datetime
import socket
import ssl
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.proxy.conftest import Origin, Serving, make_settings

# mitmproxy's own addons, which TLS brings along, use what their libraries have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
FAR_OFF = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


def answer_hello(connection: socket.socket, _head: bytes) -> None:
    """Answer the first request and close."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Write a certificate for 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(LONG_AGO)
        .not_valid_after(FAR_OFF)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "site.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.mark.parametrize(
    ("is_trusted", "upstream", "status"),
    [(True, "https://127.0.0.1", 200), (False, "https://127.0.0.1", 502), (True, "https://localhost", 502)],
    ids=["trusted", "unknown", "misnamed"],
)
def test_site_behind_tls_is_verified(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, is_trusted: bool, upstream: str, status: int
) -> None:
    """A site is reached over TLS if this machine trusts its certificate and the name fits; no authority is made."""
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    home = certificate.parent / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with Origin(answer_hello, tls) as origin, Serving(make_settings(origin.port, upstream=upstream)) as serving:
        got, head, body = serving.get("/page")
        assert got == status
        assert (body == b"hello") is (status == 200)
        assert b"certificate" not in head + body
        assert serving.recorded(1)[0].status == status
    assert list(home.iterdir()) == []
