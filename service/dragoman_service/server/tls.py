"""TLS of the server: reads the certificate, checks it, and takes a new one when its files change."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from dragoman_service.errors import DragomanError
from dragoman_service.server.metrics import Metrics
from dragoman_service.server.settings import ServerSettings

_PERIOD = 1.0
"""Seconds between two looks at the files."""
_DAY = 86_400.0
_WARNING = 7 * _DAY
"""Seconds before the end of a certificate from which on the log warns, once a day. A certificate that is valid for a
few hours is renewed later: the warnings begin with the last fifth of its validity."""

_log = logging.getLogger(__name__)


class CertificateError(DragomanError):
    """A file of certificates or of a key cannot be used. The message names the option, the file and the reason."""

    reason = "certificate"

    def __init__(self, option: str, file: Path, problem: str) -> None:
        super().__init__(f"{option}: {file}: {problem}")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files. They are resolved at every read, because Kubernetes replaces files by exchanging a link."""

    cert: Path
    """The server's certificate, then those between it and its authority."""
    key: Path
    client_ca: Path | None = None
    """Certificates of the authorities that clients need a certificate of; None: clients need none."""

    @classmethod
    def of(cls, settings: ServerSettings) -> TlsFiles:
        """The files that settings with TLS name."""
        client_ca = Path(settings.tls_client_ca) if settings.tls_client_ca else None
        return cls(Path(settings.tls_cert), Path(settings.tls_key), client_ca)

    def contents(self) -> tuple[bytes, bytes, bytes]:
        """The bytes of the three files; empty for no `client_ca`. Raises CertificateError."""
        client_ca = _read("--tls-client-ca", self.client_ca) if self.client_ca else b""
        return _read("--tls-cert", self.cert), _read("--tls-key", self.key), client_ca


@dataclass(frozen=True, slots=True)
class Certificates:
    """Certificates that were found to be good, with what gRPC needs of them. Times are seconds since 1970."""

    contents: tuple[bytes, bytes, bytes]
    serial: int
    starts: float
    ends: float
    client_ca_ends: float | None
    """When no authority of clients is valid any more; None without authorities."""

    @classmethod
    def read(cls, files: TlsFiles, now: float) -> Certificates:
        """Read the files and check them. Raises CertificateError."""
        return cls.of(files, files.contents(), now)

    @classmethod
    def of(cls, files: TlsFiles, contents: tuple[bytes, bytes, bytes], now: float) -> Certificates:
        """Check the contents of the files. Raises CertificateError."""
        cert, key, client_ca = contents
        own = _certificates("--tls-cert", files.cert, cert)[0]
        _check_time("--tls-cert", files.cert, own, now)
        _check_key(files, own, key)
        ends: float | None = None
        if files.client_ca:
            authorities = _certificates("--tls-client-ca", files.client_ca, client_ca)
            last = max(authorities, key=lambda it: it.not_valid_after_utc)
            _check_time("--tls-client-ca", files.client_ca, last, now)
            ends = last.not_valid_after_utc.timestamp()
        starts, own_ends = own.not_valid_before_utc.timestamp(), own.not_valid_after_utc.timestamp()
        return cls(contents, own.serial_number, starts, own_ends, ends)

    def context(self) -> ssl.SSLContext:
        """As the ssl module of Python takes them, for HTTP/1.1."""
        cert, key, client_ca = self.contents
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=client_ca.decode())
        # It reads files alone. These are what was checked; those of the paths may have changed since.
        with os.fdopen(os.memfd_create("certificate"), "wb") as file:
            file.write(key + b"\n" + cert)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        return context

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """As gRPC takes them."""
        cert, key, client_ca = self.contents
        return grpc.ssl_server_certificate_configuration([(key, cert)], client_ca or None)


class ServerTls:
    """The certificates in use. `check` takes those that the files have now, if they are good."""

    def __init__(self, files: TlsFiles, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
        """Read the files. `clock` gives seconds since 1970. Raises CertificateError."""
        self._files = files
        self._metrics = metrics
        self._clock = clock
        self._refused = ""
        self._warned: tuple[int, int] | None = None
        self.current = Certificates.read(files, clock())
        """Replaced as a whole: threads of gRPC read it without a lock."""
        self._context: tuple[Certificates, ssl.SSLContext] | None = None
        self._report()

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials for one port, of which each new connection gets the certificate in use.

        gRPC asks for it on its own threads, before every handshake, and keeps the old one if there is no new one. So
        nothing is read there, and nothing can fail.
        """
        given = self.current

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            current = self.current
            if current is given:
                return None
            given = current
            return current.configuration()

        mutual = self._files.client_ca is not None
        # The stubs do not know that None keeps the certificate.
        return grpc.dynamic_ssl_server_credentials(given.configuration(), fetch, mutual)  # type: ignore[arg-type]

    def context(self) -> ssl.SSLContext:
        """The context of the next connection of HTTP."""
        current = self.current
        if self._context is None or self._context[0] is not current:
            self._context = current, current.context()
        return self._context[1]

    async def watch(self) -> None:
        """Look at the files every second, on a thread: a file system may hang."""
        while True:
            await asyncio.sleep(_PERIOD)
            try:
                await asyncio.to_thread(self.check)
            except Exception:
                _log.exception("looking after the certificates failed")

    def check(self) -> None:
        """Take the certificates of the files, or say once why not; then say if the one in use ends soon."""
        # The contents are compared, a few KiB: times of files may stay the same when a file changes.
        try:
            contents = self._files.contents()
            if contents != self.current.contents:
                self.current = Certificates.of(self._files, contents, self._clock())
                _log.info("new certificate %x, valid until %s", self.current.serial, _date(self.current.ends))
            self._refused = ""
        except CertificateError as error:
            if str(error) != self._refused:
                self._refused = str(error)
                _log.warning("%s: the certificates read before stay in use", error)
        self._report()

    def _report(self) -> None:
        current = self.current
        expiry = self._metrics.tls_certificate_expiry
        expiry.labels("server").set(current.ends)
        if current.client_ca_ends is not None:
            expiry.labels("client_ca").set(current.client_ca_ends)
        left = current.ends - self._clock()
        told = (current.serial, int(left // _DAY))
        if left < min(_WARNING, (current.ends - current.starts) / 5) and told != self._warned:
            self._warned = told
            tense = "expires" if left > 0 else "expired: clients refuse it. It ended"
            _log.warning("--tls-cert: %s: the certificate %s on %s", self._files.cert, tense, _date(current.ends))


def _read(option: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CertificateError(option, file, f"cannot be read: {error.strerror}") from None


def _certificates(option: str, file: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise CertificateError(option, file, "is no certificate in PEM format") from None


def _check_time(option: str, file: Path, certificate: x509.Certificate, now: float) -> None:
    starts, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if ends <= now:
        raise CertificateError(option, file, f"the certificate expired on {_date(ends)}")
    if starts > now:
        raise CertificateError(option, file, f"the certificate is not valid before {_date(starts)}")


def _check_key(files: TlsFiles, certificate: x509.Certificate, pem: bytes) -> None:
    option, file = "--tls-key", files.key
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise CertificateError(option, file, "the key is encrypted; allowed: a key without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(option, file, "is no private key in PEM format") from None
    # gRPC takes others, and then every handshake fails.
    good = isinstance(key, rsa.RSAPrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1))
    )
    if not good:
        raise CertificateError(option, file, "the kind of key; allowed: RSA, or EC with the curve P-256 or P-384")
    try:
        same = key.public_key() == certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        same = False
    if not same:
        raise CertificateError(option, file, f"the key does not belong to the certificate in --tls-cert {files.cert}")


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
