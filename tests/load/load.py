"""Load a server of our own with many clients, a third of whose calls are given up, and say what came of it.

    python tests/load/load.py deploy/models/en-de/1 --clients 64 --seconds 120

Ends with status 1 if a call had neither an answer nor its proper status, if a slot is not free afterwards, or if the
server's memory went on growing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.load import SENTENCES, SETTLED_BYTES, LoadReport, run_load
from support.server_process import server_process


def load(model: Path, clients: int, seconds: float, *server_options: str) -> LoadReport:
    """Start a server and load it."""
    with server_process([model], *server_options) as server:
        report = asyncio.run(run_load(server.address, server.metrics_url, SENTENCES, clients=clients, seconds=seconds))
        report.problems += server.errors
        return report


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a model bundle")
    parser.add_argument("--clients", type=int, default=64, help="clients at once (default: 64)")
    parser.add_argument("--seconds", type=float, default=120, help="how long (default: 120)")
    return parser


def main() -> int:
    """Run from the command line."""
    args = argument_parser().parse_args()
    report = load(args.model, args.clients, args.seconds)
    print(report)
    good = not report.problems and report.slots_used == report.calls_running == 0
    return 0 if good and report.memory_growth <= SETTLED_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
