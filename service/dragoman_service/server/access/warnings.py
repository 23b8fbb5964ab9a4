"""What an operator should hear about tokens when a server starts."""

from __future__ import annotations

import ipaddress
import logging

from dragoman_service.server.settings import ServerSettings

_log = logging.getLogger(__name__)


def warn_of_plain_text(settings: ServerSettings) -> None:
    """Log a warning for each address at which tokens can be read on the way."""
    if settings.tokens is None or settings.tls_cert:
        return
    # A unix: socket has no host.
    admin_host = "" if settings.admin.startswith("unix:") else settings.admin.rpartition(":")[0].strip("[]")
    for option, host in (("--host", settings.host), ("--admin", admin_host)):
        if host and not _is_loopback(host):
            _log.warning(
                "%s %s: tokens are sent without encryption, so whoever is on the way can use them", option, host
            )


def _is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
