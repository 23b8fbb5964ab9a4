"""Why TLS with a server fails, in words. gRPC often says only that a socket was closed."""

from __future__ import annotations

import socket
import ssl

from dragoman_service.client.connection import Tls, hosts_and_ports

_SECONDS = 5.0
"""Most time for each step: the connection, the handshake, and the first bytes."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""The first bytes of a client of HTTP/2: the preface, and empty settings."""


def tls_problem(address: str, tls: Tls | None) -> str:
    """Connect once more, and say what is wrong with TLS; empty if that is not what is wrong.

    `tls` are the settings of the connection that failed; None if it was without TLS.
    """
    for host, port in hosts_and_ports(address):
        try:
            with socket.create_connection((host, port), timeout=_SECONDS) as connection:
                return _with_tls(connection, host, tls) if tls else _without_tls(connection)
        except OSError:
            continue
    return ""


def _without_tls(connection: socket.socket) -> str:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with context.wrap_socket(connection):
            return "the server speaks TLS: add --tls, or --tls-ca FILE if its authority is not one of this system"
    except OSError:
        return ""


def _with_tls(connection: socket.socket, host: str, tls: Tls) -> str:
    roots = (tls.roots() or b"").decode("ascii", errors="ignore")
    context = ssl.create_default_context(cadata=roots or None)
    # Python has stricter rules for the form of certificates than gRPC.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["h2"])
    if tls.cert:
        context.load_cert_chain(tls.cert, tls.key or None)
    try:
        with context.wrap_socket(connection, server_hostname=tls.server_name or host) as wrapped:
            wrapped.sendall(_PREFACE)
            return "" if wrapped.recv(1) else _refused(tls)
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of the server is not accepted: {error.verify_message} (see --tls-ca)"
    except ssl.SSLError as error:
        if error.reason == "WRONG_VERSION_NUMBER":
            return "the server speaks no TLS: leave out the options of TLS, or add --no-tls"
        return _refused(tls) if "ALERT" in (error.reason or "") else f"TLS fails: {error.reason or error}"
    except ConnectionError:
        return _refused(tls)


def _refused(tls: Tls) -> str:
    if tls.cert:
        return "the server does not accept --tls-cert: it has expired, or its authority is unknown there"
    return "the server closed the connection: it may want a certificate (--tls-cert and --tls-key)"
