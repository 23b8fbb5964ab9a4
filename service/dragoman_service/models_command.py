"""`dragoman models`: what a server has."""

from __future__ import annotations

import argparse

from dragoman_service.connection import add_server_argument, errors_reported


class ModelsCommand:
    """List the models of a running server: names, languages, limits, and scores."""

    help = "list the models of a running server"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        add_server_argument(parser)

    def run(self, args: argparse.Namespace) -> int:
        """List."""
        from dragoman_service.client import TranslationClient  # noqa: PLC0415 - imports gRPC

        with errors_reported(args.server), TranslationClient(args.server) as client:
            for model in client.list_models(deadline=10):
                pairs = ", ".join(f"{source} to {target}" for source, target in model.language_pairs)
                print(f"{model.name} {model.version} ({pairs}, {model.precision})")
                if model.description:
                    print(f"  {model.description}")
                print(f"  sentences up to {model.max_source_tokens} tokens, beam size up to {model.max_beam_size}")
                for score in model.scores:
                    print(f"  {score.metric} {score.value:.1f} on {score.test_set} {score.signature}".rstrip())
        return 0
