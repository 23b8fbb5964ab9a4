"""Arguments and error reports shared by the commands that call a server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dragoman_service.errors import visible

DEFAULT_SERVER = "localhost:50051"
_LONGEST_MESSAGE = 4_000


class CommandFailed(SystemExit):
    """Ends a command with status 1. Its message is printed before it is raised."""


def add_server_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--server`."""
    parser.add_argument(
        "--server",
        type=server_address,
        default=DEFAULT_SERVER,
        metavar="HOST:PORT",
        help=f"address of the server (default: {DEFAULT_SERVER})",
    )


def server_address(value: str) -> str:
    """Check the value of `--server`: gRPC accepts any string, and then waits for a server that cannot exist.

    Raises argparse.ArgumentTypeError.
    """
    host, _, port = value.rpartition(":")
    bare_ipv6 = ":" in host and not host.startswith("[") and "/" not in host
    if not host or bare_ipv6 or not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        allowed = f"HOST:PORT, such as {DEFAULT_SERVER} or [::1]:50051"
        raise argparse.ArgumentTypeError(f"got {value!r}; allowed: {allowed}")
    return value


@contextmanager
def errors_reported(
    server: str, start: str = "dragoman serve MODEL, or name another with --server HOST:PORT"
) -> Iterator[None]:
    """Turn a failed call into a message on standard error and exit status 1.

    `start` is the command that starts a server; the message shows it if there is none at `server`.
    """
    from dragoman_service.client.errors import ServerUnavailable, TranslationError  # noqa: PLC0415 - imports gRPC

    try:
        yield
    except ServerUnavailable as error:
        print(f"dragoman: no server at {server} ({visible(str(error), _LONGEST_MESSAGE)})", file=sys.stderr)
        print(f"Start one with: {start}", file=sys.stderr)
        raise CommandFailed(1) from None
    except TranslationError as error:
        print(f"dragoman: {visible(str(error), _LONGEST_MESSAGE)}", file=sys.stderr)
        raise CommandFailed(1) from None
