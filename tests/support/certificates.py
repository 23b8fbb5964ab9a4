"""Certificate authorities and certificates, made in the test run."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from support.waiting import PATIENCE

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """The files of a certificate and its key."""

    cert: Path
    key: Path
    serial: int
    ends: float
    """Seconds since 1970."""

    @property
    def pem(self) -> tuple[bytes, bytes]:
        """Key and certificate, as gRPC takes them."""
        return self.key.read_bytes(), self.cert.read_bytes()

    @property
    def options(self) -> tuple[str, ...]:
        """Options of `dragoman serve` and of the commands that call a server."""
        return "--tls-cert", str(self.cert), "--tls-key", str(self.key)


class Authority:
    """A certificate authority, of which `file` has the certificate."""

    def __init__(self, folder: Path, name: str = "Test CA", issuer: Authority | None = None) -> None:
        """`issuer` is another authority that vouches for this one; None for a root."""
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = (
            _builder(self._name, issuer._name if issuer else self._name, self._key, starts=-DAY, ends=100 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(issuer._key if issuer else self._key, hashes.SHA256())
        )
        self._count = 0
        self.file = folder / f"{name.replace(' ', '-').lower()}.pem"
        self.file.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def issue(
        self,
        common_name: str = "localhost",
        *,
        names: tuple[str, ...] = ("DNS:localhost", "IP:127.0.0.1"),
        starts: datetime.timedelta = -DAY,
        ends: datetime.timedelta = 60 * DAY,
        key: CertificateIssuerPrivateKeyTypes | None = None,
    ) -> Pair:
        """Write a new certificate and its key. The times count from now."""
        self._count += 1
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = _builder(subject, self._name, key, starts=starts, ends=ends)
        if names:
            alternatives = x509.SubjectAlternativeName(list(map(_general_name, names)))
            builder = builder.add_extension(alternatives, critical=False)
        issued = builder.sign(self._key, hashes.SHA256())
        stem = self._folder / f"{common_name.replace(' ', '-')}-{self._count}"
        cert, private = stem.with_suffix(".crt"), stem.with_suffix(".key")
        cert.write_bytes(issued.public_bytes(Encoding.PEM))
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Pair(cert, private, issued.serial_number, issued.not_valid_after_utc.timestamp())


def serial_at(address: str, authority: Authority) -> int:
    """Serial number of the certificate that a server shows on a new connection, checked as a client would."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(authority.file))
    context.set_alpn_protocols(["h2"])
    connection = socket.create_connection((host, int(port)), timeout=PATIENCE)
    with connection, context.wrap_socket(connection, server_hostname=host) as wrapped:
        shown = wrapped.getpeercert()
    assert shown
    return int(str(shown["serialNumber"]), 16)


class Mounted:
    """A folder of `tls.crt` and `tls.key` as Kubernetes mounts a secret: links through one that is exchanged."""

    def __init__(self, folder: Path, pair: Pair) -> None:
        self._folder = folder
        self._count = 0
        folder.mkdir()
        self.replace(pair)
        for name in ("tls.crt", "tls.key"):
            (folder / name).symlink_to(Path("..data") / name)
        self.pair = Pair(folder / "tls.crt", folder / "tls.key", pair.serial, pair.ends)

    def replace(self, pair: Pair) -> None:
        """Exchange both files at once."""
        self._count += 1
        version = self._folder / f"..version_{self._count}"
        version.mkdir()
        (version / "tls.crt").write_bytes(pair.cert.read_bytes())
        (version / "tls.key").write_bytes(pair.key.read_bytes())
        link = self._folder / "..data_tmp"
        link.symlink_to(version.name)
        os.replace(link, self._folder / "..data")


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: CertificateIssuerPrivateKeyTypes,
    *,
    starts: datetime.timedelta,
    ends: datetime.timedelta,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + ends)
    )


def _general_name(text: str) -> x509.GeneralName:
    kind, _, value = text.partition(":")
    if kind == "IP":
        return x509.IPAddress(ipaddress.ip_address(value))
    return x509.DNSName(value) if kind == "DNS" else x509.UniformResourceIdentifier(value)
