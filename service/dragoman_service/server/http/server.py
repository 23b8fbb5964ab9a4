"""Opens the HTTP server of a server."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

from dragoman_service.interfaces.names import PAGE
from dragoman_service.server.http.application import application
from dragoman_service.server.http.connections import BACKLOG, Listener
from dragoman_service.server.http.endpoint import Service
from dragoman_service.server.http.interfaces import http_interfaces
from dragoman_service.server.settings import ServerSettings


def open_http(
    settings: ServerSettings, service: Service, tls: Callable[[], ssl.SSLContext] | None, *, shares_port: bool
) -> Listener:
    """Listen on the port of HTTP, and answer requests.

    Args:
        settings: Have a port for HTTP.
        service: Answers the requests.
        tls: See `Listener`.
        shares_port: Other processes of this server listen on the same port.

    Raises:
        OSError: the address cannot be had.
    """
    host, port = settings.address_of_http, settings.http_port
    family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    listening = socket.create_server(
        (host, port or 0), family=family, backlog=BACKLOG, reuse_port=shares_port, dualstack_ipv6=both
    )
    app = application(
        service, http_interfaces(settings.interfaces), settings.http_origins, with_page=PAGE in settings.interfaces
    )
    return Listener(app, listening, settings.max_connections, tls)
