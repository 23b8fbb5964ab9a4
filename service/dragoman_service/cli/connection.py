"""Arguments and error reports shared by the commands that call a server."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from dragoman_service.client.connection import Tls, Token

from dragoman_service.errors import visible

DEFAULT_SERVER = "localhost:50051"
_LONGEST_MESSAGE = 4_000


class CommandFailed(SystemExit):
    """Ends a command with status 1. Its message is printed before it is raised."""


def add_server_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--server`, and the options of the connection."""
    parser.add_argument(
        "--server",
        type=server_address,
        default=os.environ.get("DRAGOMAN_SERVER") or DEFAULT_SERVER,
        metavar="HOST:PORT",
        help=f"address of the server (or DRAGOMAN_SERVER; default: {DEFAULT_SERVER})",
    )
    add_connection_arguments(parser)


def add_connection_arguments(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Declare the options for TLS and tokens. `again`: they may also stand after an action of the command."""
    group = parser.add_argument_group(
        "connection", "an option beats its environment variable; an empty value turns the variable off"
    )
    default = argparse.SUPPRESS if again else None
    group.add_argument(
        "--tls",
        action=argparse.BooleanOptionalAction,
        default=default,
        help="use TLS (or DRAGOMAN_TLS=1; default: with an option below that begins with --tls, or its variable)",
    )
    for option, variable, text in (
        (
            "--tls-ca",
            "DRAGOMAN_TLS_CA",
            "authorities in PEM that may issue the server's certificate, else the system's",
        ),
        ("--tls-cert", "DRAGOMAN_TLS_CERT", "certificate in PEM, for a server that wants one of its clients"),
        ("--tls-key", "DRAGOMAN_TLS_KEY", "the key of --tls-cert in PEM"),
        ("--token-file", "DRAGOMAN_TOKEN_FILE", "file of a token to send; DRAGOMAN_TOKEN may have the token itself"),
    ):
        group.add_argument(option, default=default, metavar="FILE", help=f"{text} (or {variable})")
    group.add_argument(
        "--tls-server-name",
        default=default,
        metavar="NAME",
        help="name in the server's certificate, if not that of HOST",
    )
    group.add_argument(
        "--allow-insecure-token",
        action="store_true",
        default=argparse.SUPPRESS if again else False,
        help="send the token to another machine without TLS too, where others can read it",
    )


class ConnectionSettings(TypedDict):
    """Keyword arguments of a client."""

    tls: Tls | Literal[False]
    token: Token


def connection_of(args: argparse.Namespace, address: str) -> ConnectionSettings:
    """The settings of a connection, from the arguments and the environment. Raises CommandFailed.

    Variables for TLS do not count for a unix: address, which has none.
    """
    return {"tls": _tls_of(args, address), "token": _token_of(args)}


def _tls_of(args: argparse.Namespace, address: str) -> Tls | Literal[False]:
    from dragoman_service.client.connection import Tls  # noqa: PLC0415 - imports gRPC

    options = {name: getattr(args, f"tls_{name}") for name in ("ca", "cert", "key", "server_name")}
    wanted = args.tls if args.tls is not None else any(options.values()) or None
    if wanted is False and any(options.values()):
        raise _usage("--no-tls: allowed: without the other options of TLS")
    if wanted is False or (wanted is None and address.startswith("unix:")):
        return False
    for name in ("ca", "cert", "key"):
        if options[name] is None:
            options[name] = os.environ.get(f"DRAGOMAN_TLS_{name.upper()}", "")
    switch = os.environ.get("DRAGOMAN_TLS", "")
    if switch not in ("", "0", "1"):
        raise _usage(f"DRAGOMAN_TLS: got {switch!r}; allowed: 0 or 1")
    if wanted is None and (switch == "0" or not (switch or any(options.values()))):
        return False
    return Tls(**{name: value or "" for name, value in options.items()})


def _token_of(args: argparse.Namespace) -> Token:
    from dragoman_service.client.connection import Token  # noqa: PLC0415 - imports gRPC

    value, file = "", args.token_file
    if file is None:
        value, file = os.environ.get("DRAGOMAN_TOKEN", ""), os.environ.get("DRAGOMAN_TOKEN_FILE", "")
        if value and file:
            raise _usage("DRAGOMAN_TOKEN and DRAGOMAN_TOKEN_FILE: got both; allowed: one of them")
    return Token(value=value, file=file, allow_insecure=args.allow_insecure_token)


def _usage(message: str) -> CommandFailed:
    print(f"dragoman: {message}", file=sys.stderr)
    return CommandFailed(2)


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
    server: str,
    start: str = "dragoman serve MODEL, or name another with --server HOST:PORT",
    *,
    connection: ConnectionSettings | None = None,
) -> Iterator[None]:
    """Turn a failed call into a message on standard error and exit status 1; settings that are not allowed, into 2.

    `start` is the command that starts a server; the message shows it if there is none at `server`. `connection` are
    the settings of the connection.
    """
    from dragoman_service.cli.diagnosis import tls_problem  # noqa: PLC0415 - imports gRPC
    from dragoman_service.client.connection import ConnectionSettingsError  # noqa: PLC0415
    from dragoman_service.client.errors import ServerUnavailable, TranslationError  # noqa: PLC0415

    try:
        yield
    except ConnectionSettingsError as error:
        raise _usage(str(error)) from None
    except ServerUnavailable as error:
        if problem := tls_problem(server, (connection and connection["tls"]) or None):
            print(f"dragoman: {server}: {problem} ({visible(str(error), _LONGEST_MESSAGE)})", file=sys.stderr)
        else:
            print(f"dragoman: no server at {server} ({visible(str(error), _LONGEST_MESSAGE)})", file=sys.stderr)
            print(f"Start one with: {start}", file=sys.stderr)
        raise CommandFailed(1) from None
    except TranslationError as error:
        print(f"dragoman: {visible(str(error), _LONGEST_MESSAGE)}", file=sys.stderr)
        raise CommandFailed(1) from None
