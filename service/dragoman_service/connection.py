"""Arguments that the commands talking to a server share, and how they report its errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

DEFAULT_SERVER = "localhost:50051"


class CommandFailed(SystemExit):
    """Ends a command with status 1 after its message is printed."""


def add_server_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--server`."""
    parser.add_argument(
        "--server", default=DEFAULT_SERVER, metavar="HOST:PORT", help=f"the server to ask (default: {DEFAULT_SERVER})"
    )


@contextmanager
def errors_reported(server: str) -> Iterator[None]:
    """Turn a failed call into one message on standard error and exit status 1."""
    from dragoman_service.client_errors import ServerUnavailable, TranslationError  # noqa: PLC0415 - imports gRPC

    try:
        yield
    except ServerUnavailable as error:
        print(f"dragoman: no server at {server} ({error})", file=sys.stderr)
        print("Start one with: dragoman serve MODEL, or name another with --server HOST:PORT", file=sys.stderr)
        raise CommandFailed(1) from None
    except TranslationError as error:
        print(f"dragoman: {error}", file=sys.stderr)
        raise CommandFailed(1) from None
