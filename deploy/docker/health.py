"""Check a server with its page `/ready`. Argument: HOST:PORT of the metrics. Exit status 0 if it is ready, else 1.

The metrics port has neither TLS nor tokens, so the check needs no certificate that the server's authority has issued.
"""

from __future__ import annotations

import http.client
import sys

_TIMEOUT = 4.0
"""Seconds until the check fails."""


def main(server: str) -> int:
    """Check the server. Returns the exit status."""
    connection = http.client.HTTPConnection(server, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        text = answer.read().decode().strip()
    except (OSError, http.client.HTTPException) as error:
        print(f"{server}: {error}")
        return 1
    finally:
        connection.close()
    print(f"{server}: {text}")
    return 0 if answer.status == http.HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
