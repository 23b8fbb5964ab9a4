"""`dragoman tokens`: makes, lists and revokes the tokens of a server that was started with `--tokens`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dragoman_service.errors import DragomanError, InvalidInput
from dragoman_service.server.access.token_file import change, load
from dragoman_service.server.access.tokens import SCOPES, TRANSLATE, Token, new_token


class UnknownToken(DragomanError):
    """There is no token of this name."""


class TokensCommand:
    """Make, list and revoke the tokens of a server that was started with --tokens FILE.

    The file has the hash of each token and what the token allows, not the token. Servers follow the file: a new token
    works, and a revoked one stops working, within about a second, without a restart.

      dragoman tokens create shop --file tokens.json > shop.token
      dragoman tokens create night --characters-per-minute 1000000 --concurrent 2 --expires 90d --file tokens.json
      dragoman tokens list --file tokens.json
      dragoman tokens revoke shop --file tokens.json
    """

    help = "make, list and revoke the tokens that a server asks for"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        actions = parser.add_subparsers(metavar="ACTION", title="actions", required=True)
        create = _action(actions, "create", "make a token, and print it: it is not shown again")
        create.add_argument("name", metavar="NAME", help="whose token it is, in metrics and in the log")
        create.add_argument(
            "--scope",
            action="append",
            choices=SCOPES,
            help=f"translations, the admin interface on TCP, changes of glossaries; repeatable (default: {TRANSLATE})",
        )
        create.add_argument("--model", action="append", metavar="NAME", help="repeatable (default: all models)")
        create.add_argument("--requests-per-minute", type=int, metavar="N", help="default: no limit")
        create.add_argument(
            "--characters-per-minute",
            type=int,
            metavar="N",
            help="characters of texts and target prefixes; a call may have as many at most (default: no limit)",
        )
        create.add_argument("--concurrent", type=int, metavar="N", help="calls at the same time (default: no limit)")
        create.add_argument(
            "--expires",
            type=moment,
            metavar="WHEN",
            help="90d for 90 days, 2030-12-31 for the end of that day in UTC, or a moment such as "
            "2030-12-31T12:00:00+01:00 (default: never)",
        )
        create.set_defaults(act=_create)
        _action(actions, "list", "show the tokens and what they allow").set_defaults(act=_list)
        revoke = _action(actions, "revoke", "remove a token; its calls that run end as they would have")
        revoke.add_argument("name", metavar="NAME")
        revoke.set_defaults(act=_revoke)

    def run(self, args: argparse.Namespace) -> int:
        """Run the action."""
        return int(args.act(args))


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, description: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=description, description=description.capitalize() + ".")
    parser.add_argument("--file", type=Path, required=True, metavar="FILE", help="the file of the server's --tokens")
    return parser


def _create(args: argparse.Namespace) -> int:
    text, token = new_token(
        args.name,
        scopes=tuple(args.scope or (TRANSLATE,)),
        models=None if args.model is None else tuple(args.model),
        requests_per_minute=args.requests_per_minute,
        characters_per_minute=args.characters_per_minute,
        concurrent=args.concurrent,
        expires=args.expires,
    )

    def edit(tokens: tuple[Token, ...]) -> Sequence[Token]:
        if any(it.name == token.name for it in tokens):
            raise InvalidInput("name", token.name, f"one that no token of {args.file} has; or revoke that one first")
        return [*tokens, token]

    change(args.file, edit)
    print(text)
    print(f"dragoman: this is the only time that token {token.name} is shown", file=sys.stderr)
    return 0


def _list(args: argparse.Namespace) -> int:
    rows = [("name", "id", "scopes", "models", "quotas", "created", "expires"), *map(_row, load(args.file))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _row(token: Token) -> tuple[str, ...]:
    quotas = (
        (token.requests_per_minute, "requests/min"),
        (token.characters_per_minute, "characters/min"),
        (token.concurrent, "at once"),
    )
    expired = token.expires is not None and token.expires <= datetime.now(UTC)
    return (
        token.name,
        token.id,
        ",".join(token.scopes),
        "all" if token.models is None else ",".join(token.models),
        ", ".join(f"{value} {unit}" for value, unit in quotas if value is not None) or "none",
        _shown(token.created),
        "never" if token.expires is None else _shown(token.expires) + (" (expired)" if expired else ""),
    )


def _revoke(args: argparse.Namespace) -> int:
    def edit(tokens: tuple[Token, ...]) -> Sequence[Token]:
        left = [token for token in tokens if token.name != args.name]
        if len(left) == len(tokens):
            there = ", ".join(token.name for token in tokens) or "none"
            raise UnknownToken(f"no token {args.name[:80]!r} in {args.file}; there are: {there}")
        return left

    change(args.file, edit)
    print(f"revoked {args.name}")
    return 0


def _shown(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M}Z"


def moment(text: str) -> datetime:
    """Parse the value of `--expires`. Raises argparse.ArgumentTypeError."""
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        if days := re.fullmatch(r"([0-9]{1,6})d?", text):
            when = now + timedelta(days=int(days[1]))
        elif re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            when = datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(days=1)
        else:
            when = datetime.fromisoformat(text)
        if when.tzinfo is not None and when > now:
            return when.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    allowed = "days such as 90d, a day such as 2030-12-31, or a moment with its time zone, in the future"
    raise argparse.ArgumentTypeError(f"got {text!r}; allowed: {allowed}")
