"""How the Python clients connect: TLS, a token, and further metadata."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

_AUTHORIZATION = "authorization"
_KEY = re.compile(r"[0-9a-z_.-]+")

_log = logging.getLogger(__name__)


class ConnectionSettingsError(ValueError):
    """A setting of the connection is not allowed, or one of its files cannot be used. It shows no token."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Settings of TLS. The files are PEM, and are read once: by the constructor of a client."""

    ca: str | Path = ""
    """Authorities, one of which must have issued the server's certificate; empty: those of this system."""
    cert: str | Path = ""
    """The client's certificate, for servers that ask for one; empty: none."""
    key: str | Path = ""
    """The key of `cert`."""
    server_name: str = ""
    """Name that the server's certificate must have; empty: the host of the address."""

    def roots(self) -> bytes | None:
        """The authorities in PEM; None: those that come with gRPC. Raises ConnectionSettingsError."""
        if not self.ca:
            return _system_roots()
        pem = _read("CA file", self.ca)
        try:
            ssl.create_default_context(cadata=pem.decode("ascii", errors="ignore"))
        except (ssl.SSLError, ValueError):
            raise ConnectionSettingsError(f"TLS: CA file {self.ca}: got no certificate in PEM format") from None
        return pem

    def pair(self) -> tuple[bytes | None, bytes | None]:
        """Key and certificate of the client, or None twice. Raises ConnectionSettingsError."""
        if not self.cert and not self.key:
            return None, None
        if not self.cert or not self.key:
            given, missing = ("a certificate", "key") if self.cert else ("a key", "certificate")
            raise ConnectionSettingsError(f"TLS: got {given} without its {missing}; allowed: both or neither")
        key, cert = _read("key", self.key), _read("certificate", self.cert)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(self.cert, self.key, _no_password)
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            told = "they do not belong together" if reason == "KEY_VALUES_MISMATCH" else str(reason)
            raise ConnectionSettingsError(f"TLS: certificate {self.cert} and key {self.key}: {told}") from None
        return key, cert


@dataclass(frozen=True, slots=True)
class Token:
    """A token that every call carries as metadata `authorization: Bearer TOKEN`. Give `value` or `file`."""

    value: str = field(default="", repr=False)
    file: str | Path = ""
    """A file of the token, which is read for every call: a new token counts at once."""
    allow_insecure: bool = False
    """Whether it may go to another machine without TLS, where everyone on the way can read it."""


class Connection:
    """Settings of a client's connection, checked: makes its channel, and the metadata of its calls."""

    def __init__(
        self, address: str, tls: bool | Tls = False, token: str | Token = "", metadata: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Read the files. Raises ConnectionSettingsError."""
        self._address = address
        self._options: list[tuple[str, Any]] = []
        self._credentials = self._make_credentials(Tls() if tls is True else tls) if tls else None
        self._token = token if isinstance(token, Token) else Token(token)
        self._value = ""
        self._problem = ""
        self._metadata = _checked(metadata)
        self._check_token()

    def channel(self, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
        """A channel with these options and those of the connection."""
        every = [*options, *self._options]
        if self._credentials is None:
            return grpc.insecure_channel(self._address, every)
        return grpc.secure_channel(self._address, self._credentials, every)

    def aio_channel(self, options: Sequence[tuple[str, Any]] = ()) -> grpc.aio.Channel:
        """As `channel`, for asyncio."""
        every = [*options, *self._options]
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._address, every)
        return grpc.aio.secure_channel(self._address, self._credentials, every)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of the next call."""
        if self._token.file:
            self._read_token()
        if not self._value:
            return self._metadata
        return *self._metadata, (_AUTHORIZATION, f"Bearer {self._value}")

    def _make_credentials(self, tls: Tls) -> grpc.ChannelCredentials:
        if self._address.startswith("unix:"):
            raise ConnectionSettingsError(f"TLS: got the address {self._address}; allowed: HOST:PORT")
        if tls.server_name:
            self._options.append(("grpc.ssl_target_name_override", tls.server_name))
        return grpc.ssl_channel_credentials(tls.roots(), *tls.pair())

    def _check_token(self) -> None:
        token = self._token
        if token.value and token.file:
            raise ConnectionSettingsError("token: got a token and a file of one; allowed: one of them")
        if token.file:
            self._value = _token_in(_read("token file", token.file), f"token file {token.file}")
        elif token.value:
            self._value = _token_in(token.value.encode(), "token")
        has_own = any(key == _AUTHORIZATION for key, _ in self._metadata)
        if has_own and (token.value or token.file):
            raise ConnectionSettingsError(f"metadata: got {_AUTHORIZATION!r} beside a token; allowed: one of them")
        if self._credentials is not None or not (has_own or token.value or token.file):
            return
        if not is_local(self._address) and not token.allow_insecure:
            raise ConnectionSettingsError(
                f"token: got a connection without TLS to {self._address}, where everyone on the way could read the "
                "token; allowed: TLS (--tls), an address of this machine, or a permission (--allow-insecure-token)"
            )
        # Else a proxy of the environment would get the token of a connection to this machine.
        self._options.append(("grpc.enable_http_proxy", 0))

    def _read_token(self) -> None:
        """Take the token in the file. The last one stays while the file cannot be used, as when it is replaced."""
        try:
            self._value = _token_in(_read("token file", self._token.file), f"token file {self._token.file}")
            self._problem = ""
        except ConnectionSettingsError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                _log.warning("%s: the token read before stays in use", error)


def is_local(address: str) -> bool:
    """Whether an address, as gRPC takes it, is certainly one of this machine."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    hosts = hosts_and_ports(address)
    return bool(hosts) and all(_is_loopback(host) for host, _ in hosts)


def hosts_and_ports(address: str) -> list[tuple[str, int]]:
    """The hosts and ports of an address, as gRPC takes it; empty if it has another form."""
    found = re.fullmatch(r"(?:(?:dns:(?:///)?|passthrough:///|ipv4:|ipv6:)?)([^/]+)", address)
    hosts: list[tuple[str, int]] = []
    for each in found[1].split(",") if found else ():
        host, _, port = each.rpartition(":")
        if not host or not port.isdecimal():
            return []
        hosts.append((host.removeprefix("[").removesuffix("]"), int(port)))
    return hosts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked(metadata: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Raises ConnectionSettingsError: gRPC would fail each call, with all metadata in its message."""
    for key, value in metadata:
        if not _KEY.fullmatch(key) or key.startswith("grpc-") or key.endswith("-bin"):
            allowed = "lower-case letters, digits, _, - and ., without grpc- at the start and -bin at the end"
            raise ConnectionSettingsError(f"metadata: got the key {key!r}; allowed: {allowed}")
        if not (value.isascii() and value.isprintable()):
            raise ConnectionSettingsError(f"metadata: got the value of {key!r}; allowed: printable ASCII")
    return tuple((key, value) for key, value in metadata)


def _token_in(content: bytes, where: str) -> str:
    """The token, without white space around it. Raises ConnectionSettingsError."""
    token = content.decode("ascii", errors="replace").strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        got = "nothing" if not token else "other characters"
        raise ConnectionSettingsError(f"{where}: got {got}; allowed: printable ASCII without spaces")
    return token


def _read(what: str, file: str | Path) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConnectionSettingsError(f"{what} {file}: cannot be read: {error.strerror}") from None


def _no_password() -> str:
    raise ValueError("the key is encrypted; allowed: a key without a password")


def _system_roots() -> bytes | None:
    """The authorities that a variable of gRPC names, else those that OpenSSL finds on this system; None if it has none.

    gRPC by itself takes a list that comes with it, in which authorities of a company are missing.
    """
    if chosen := os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"):
        return _read("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", chosen)
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        return Path(paths.cafile).read_bytes()
    if not paths.capath:
        return None
    # OpenSSL finds certificates in a folder by names made of a hash and a number.
    files = sorted(it for it in Path(paths.capath).iterdir() if re.fullmatch(r"[0-9a-f]{8}\.\d+", it.name))
    found = {file.read_bytes() for file in files if file.is_file()}
    return b"\n".join(sorted(found)) or None
