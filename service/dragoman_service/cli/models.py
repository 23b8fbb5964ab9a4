"""`dragoman models`: list the models of a server, and for operators, change which versions serve."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dragoman_service.bundle.languages import MAX_SHOWN, Languages
from dragoman_service.cli.connection import (
    add_connection_arguments,
    add_server_argument,
    connection_of,
    errors_reported,
)
from dragoman_service.errors import visible

if TYPE_CHECKING:
    from dragoman_service.client.admin import AdminClient, Version

_LONGEST_LINE = 4_000


class ModelsCommand:
    """List the models of a running server with their languages, limits and scores, or change which versions serve.

    Changes go to the admin interface of a server that was started with --repository and --admin. They interrupt no
    call: a version is loaded and checked before it serves, and calls that run end on the version that they began with.

      dragoman models
      dragoman models status --admin unix:/run/dragoman.sock
      dragoman models load en-de --admin ADDRESS               the newest version
      dragoman models alias en-de@4 canary --share 0.05 --admin ADDRESS
      dragoman models alias en-de@4 stable --admin ADDRESS     the name "en-de" alone now means version 4
      dragoman models unload en-de@4 --admin ADDRESS
      dragoman models publish runs/models/en-de/4 s3://bucket/models
    """

    help = "list the models of a running server, and change which versions serve"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        add_server_argument(parser)
        actions = parser.add_subparsers(metavar="ACTION", title="actions")
        self._action(actions, "status", "show all versions, their aliases, and what is wrong with them", _status)
        self._action(actions, "refresh", "read the repository now", lambda client, args: client.refresh())
        load = self._action(actions, "load", "put a version into service", _load)
        load.add_argument("model", type=_selector, metavar="NAME[@VERSION]", help="default version: the newest")
        unload = self._action(actions, "unload", "take a version, or a model, out of service", _unload)
        unload.add_argument("model", type=_selector, metavar="NAME[@VERSION]", help="default version: all of them")
        alias = self._action(actions, "alias", "set the version that an alias means", _alias)
        alias.add_argument("model", type=_version, metavar="NAME@VERSION")
        alias.add_argument("alias", metavar="ALIAS", help='"stable" is what the name alone means')
        alias.add_argument(
            "--share",
            type=float,
            default=0.0,
            help="share, 0 to 1, of the calls without a version that goes to the alias (default: 0)",
        )
        unalias = self._action(actions, "unalias", "delete an alias", _unalias)
        unalias.add_argument("model", type=_version, metavar="NAME@ALIAS")
        publish = actions.add_parser("publish", help="copy a bundle into a repository in one atomic step")
        publish.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of a bundle")
        publish.add_argument("repository", metavar="PATH|URL", help="the repository")
        publish.set_defaults(act=_publish)

    def run(self, args: argparse.Namespace) -> int:
        """Run the action, or list the models if there is none."""
        act: Callable[[argparse.Namespace], int] = getattr(args, "act", _list)
        return act(args)

    @staticmethod
    def _action(
        actions: argparse._SubParsersAction[argparse.ArgumentParser],
        name: str,
        description: str,
        change: Callable[[AdminClient, argparse.Namespace], Sequence[Version]],
    ) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=description, description=description.capitalize() + ".")
        parser.add_argument(
            "--admin",
            required=True,
            metavar="ADDRESS",
            help="the value of the server's --admin: HOST:PORT or unix:PATH",
        )
        add_connection_arguments(parser, again=True)
        parser.set_defaults(act=lambda args: _administer(args, change))
        return parser


def _list(args: argparse.Namespace) -> int:
    from dragoman_service.client.client import TranslationClient  # noqa: PLC0415 - imports gRPC

    connection = connection_of(args, args.server)
    reported = errors_reported(args.server, connection=connection)
    with reported, TranslationClient(args.server, **connection) as client:
        for model in client.list_models(deadline=10):
            languages = Languages(model.language_pairs, model.source_languages, model.target_languages)
            names = ", ".join(["default"] * model.is_default + list(model.aliases))
            head = f"{languages.summary}, {model.precision}; {names or 'by version only'}"
            print(f"{model.name} {model.version} ({head})")
            if model.description:
                print(f"  {_on_a_line(model.description)}")
            if len(languages) > MAX_SHOWN:
                print(_on_a_line(f"  from {' '.join(languages.all_sources)}"))
                print(_on_a_line(f"  into {' '.join(languages.all_targets)}"))
            default = f", {model.default_beam_size} by default" if model.default_beam_size else ""
            print(f"  sentences up to {model.max_source_tokens} tokens, beam size up to {model.max_beam_size}{default}")
            if model.licence:
                print(_on_a_line(f"  licence {model.licence}"))
            for score in model.scores:
                print(_on_a_line(f"  {score.metric} {score.value:.1f} on {score.test_set} {score.signature}".rstrip()))
    return 0


def _administer(
    args: argparse.Namespace, change: Callable[[AdminClient, argparse.Namespace], Sequence[Version]]
) -> int:
    from dragoman_service.client.admin import AdminClient  # noqa: PLC0415 - imports gRPC

    start = f"dragoman serve --repository PATH --admin {args.admin}"
    connection = connection_of(args, args.admin)
    reported = errors_reported(args.admin, start, connection=connection)
    with reported, AdminClient(args.admin, **connection) as client:
        for version in change(client, args):
            aliases = [f"{alias} {share:.3g}" if share else alias for alias, share in version.aliases]
            names = ", ".join(["default"] * version.is_default + aliases)
            print(f"{version.model} {version.version} {version.state}{f' ({names})' if names else ''}")
            if version.reason:
                print(f"  {_on_a_line(version.reason)}")
    return 0


def _on_a_line(text: str) -> str:
    """Free text of a bundle, which must not forge lines or control the terminal."""
    return visible(text, _LONGEST_LINE)


def _status(client: AdminClient, args: argparse.Namespace) -> Sequence[Version]:
    return client.versions()


def _load(client: AdminClient, args: argparse.Namespace) -> Sequence[Version]:
    return client.load(*args.model)


def _unload(client: AdminClient, args: argparse.Namespace) -> Sequence[Version]:
    return client.unload(*args.model)


def _alias(client: AdminClient, args: argparse.Namespace) -> Sequence[Version]:
    name, version = args.model
    return client.set_alias(name, args.alias, version, args.share)


def _unalias(client: AdminClient, args: argparse.Namespace) -> Sequence[Version]:
    return client.delete_alias(*args.model)


def _publish(args: argparse.Namespace) -> int:
    from dragoman_service.bundle.bundle import Bundle  # noqa: PLC0415
    from dragoman_service.repository.repository import Repository  # noqa: PLC0415

    manifest = Bundle.load(args.bundle).manifest
    print(Repository(args.repository, Path()).publish(args.bundle, manifest.name, manifest.version))
    return 0


def _selector(text: str) -> tuple[str, str]:
    """Parse NAME or NAME@VERSION; the version is empty if there is none."""
    name, at, version = text.partition("@")
    if not name or (at and not version):
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: NAME or NAME@VERSION")
    return name, version


def _version(text: str) -> tuple[str, str]:
    """Parse NAME@VERSION."""
    name, version = _selector(text)
    if not version:
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: NAME@VERSION")
    return name, version
