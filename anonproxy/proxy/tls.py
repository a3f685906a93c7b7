"""TLS for visitors: the certificate of the name they ask for, read anew when its files change."""

import asyncio
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import CertificateSettings

# What we speak, best first.
PROTOCOLS: Final = ("h2", "http/1.1")
# How often the files are looked at; a certificate is renewed weeks before it ends.
LOOK_S: Final = 2.0
# How mitmproxy names the authority that it makes for itself.
_OWN_AUTHORITY: Final = "mitmproxy"

Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that fits its key, ready to serve."""

    path: str
    names: tuple[str, ...]
    begins_s: float
    ends_s: float
    context: ssl.SSLContext

    def is_valid_at(self, now_s: float) -> bool:
        """Tell whether browsers take it at that time."""
        return self.begins_s <= now_s <= self.ends_s


class Certificates:
    """All certificates of one listener.

    Raises: OperatorError when one can't be served, naming it and the remedy
    """

    def __init__(self, settings: Sequence[CertificateSettings]) -> None:
        self._settings = settings
        self._stamp = self._seen = stamp_files(settings)
        self.all = read_certificates(settings)
        self.context = _server_context()
        self.context.sni_callback = self._serve_name

    def refresh(self) -> bool | None:
        """Read files that have changed; return whether they could be taken, None when there is nothing to do yet.

        A certificate and its key don't change at once: they are read when nothing has moved since the last look. What
        can't be taken leaves the certificates that are being served. Running connections keep theirs.
        """
        stamp, before = stamp_files(self._settings), self._seen
        self._seen = stamp
        if stamp == self._stamp or stamp != before:
            return None
        self._stamp = stamp
        try:
            self.all = read_certificates(self._settings)
        except OperatorError:
            return False
        return True

    def choose(self, name: str) -> Certificate:
        """Return the certificate for a name: the exact one, then a wildcard's, then the first."""
        name = name.lower().removesuffix(".")
        for wanted in (name, f"*.{name.partition('.')[2]}"):
            for certificate in self.all:
                if wanted in certificate.names:
                    return certificate
        return self.all[0]

    def _serve_name(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self.choose(name or "").context


async def follow_files(certificates: Certificates, tell: Callable[[bool], None] = lambda _taken: None) -> None:
    """Take new certificates whenever the files change, for ever."""
    while True:
        await asyncio.sleep(LOOK_S)
        taken = certificates.refresh()
        if taken is not None:
            tell(taken)


def stamp_files(settings: Sequence[CertificateSettings]) -> Stamp:
    """Return what changes when one of the files does; a missing file is a change, too."""
    return tuple(_stamp_file(path) for one in settings for path in (one.certificate, one.key))


def _stamp_file(path: str) -> tuple[int, int, int]:
    try:
        status = Path(path).stat()  # of what certbot's links lead to
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def read_certificates(settings: Sequence[CertificateSettings]) -> tuple[Certificate, ...]:
    """Read every certificate.

    Raises: OperatorError
    """
    return tuple(read_certificate(one, f"proxy.certificates[{index}]") for index, one in enumerate(settings))


def read_certificate(settings: CertificateSettings, where: str) -> Certificate:
    """Read a certificate and its key, and make sure that visitors can be shown it.

    Raises: OperatorError when it can't be read, is no certificate, doesn't fit its key, or is no real one
    """
    chain = _parse_chain(_read(settings.certificate, f"{where}.certificate"), settings.certificate, where)
    key = _parse_key(_read(settings.key, f"{where}.key"), settings.key, where)
    leaf = chain[0]
    if _public_bytes(key) != leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise OperatorError(
            f"{where}: {settings.key} is not the key of {settings.certificate}; name the two that were issued together"
        )
    if any(_is_own_authority(name) for one in chain for name in (one.subject, one.issuer)):
        raise OperatorError(
            f"{where}: {settings.certificate} is of mitmproxy's own authority, which no browser trusts; "
            "get a real one, for example with certbot"
        )
    names = _read_names(leaf)
    if not names:
        raise OperatorError(
            f"{where}: {settings.certificate} was made out for no host name (subjectAltName); get one that names yours"
        )
    context = _server_context()
    try:
        context.load_cert_chain(settings.certificate, settings.key, password=lambda: b"")
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise OperatorError(
            f"{where}: TLS refuses {settings.certificate}; its key may be too weak or its chain in disorder. "
            "Put the site's own certificate first, then those of its issuers"
        ) from None
    begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    return Certificate(settings.certificate, names, begins.timestamp(), ends.timestamp(), context)


def render_day(time_s: float) -> str:
    """Return a time's date."""
    return datetime.fromtimestamp(time_s, UTC).date().isoformat()


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(PROTOCOLS)
    return context


def _read(path: str, where: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise OperatorError(f"{where}: there is no {path}; get a certificate first, or correct the path") from None
    except PermissionError:
        raise OperatorError(
            f"{where}: {path} can't be read by the user that anonproxy runs as; let its group read it, or copy it in "
            "certbot's deploy hook"
        ) from None
    except OSError as error:
        raise OperatorError(f"{where}: {path} can't be read ({os.strerror(error.errno or 0)})") from None


def _parse_chain(pem: bytes, path: str, where: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise OperatorError(
            f"{where}: {path} holds no certificate in PEM form; certbot calls it fullchain.pem"
        ) from None


def _parse_key(pem: bytes, path: str, where: str) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:
        raise OperatorError(
            f"{where}: {path} has a passphrase; nobody is there to type it, so store it without"
        ) from None
    except ValueError:
        raise OperatorError(f"{where}: {path} holds no private key in PEM form; certbot calls it privkey.pem") from None


def _public_bytes(key: PrivateKeyTypes) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _is_own_authority(name: x509.Name) -> bool:
    fields = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    return any(item.value == _OWN_AUTHORITY for field in fields for item in name.get_attributes_for_oid(field))


def _read_names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    hosts = found.get_values_for_type(x509.DNSName)
    addresses = found.get_values_for_type(x509.IPAddress)
    return (*(host.lower() for host in hosts), *map(str, addresses))
