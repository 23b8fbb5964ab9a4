"""Memory of one server, and of several servers of the same bundle on one machine.

    python bench/memory.py deploy/models/en-de/1 --old CHECKOUT

All servers run at once. Each answers one call before it is measured. `proportional` counts a page that n processes
share as one n-th for each (PSS of Linux), so its sum over the servers is what they take together, libraries included.
`--old` measures the code of another checkout in turns.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure.common import print_header, print_table, progress
from bench.measure.servers import dragoman_command, server_process
from dragoman_service.client.client import TranslationClient

MIB_OF_KIB = 1 / 1024
FIELDS = ("Rss", "Pss", "Pss_Anon", "Pss_File", "Pss_Shmem")
PACKAGES = ("protos", "service", "model", "export")


def memory(pid: int) -> dict[str, float]:
    """Memory of a process in MiB, by the names of /proc/PID/smaps_rollup."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(re.search(rf"^{name}: +(\d+) kB", text, re.MULTILINE)[1]) * MIB_OF_KIB for name in FIELDS}  # type: ignore[index]


@contextmanager
def code_of(checkout: Path | None) -> Iterator[None]:
    """Processes that are started meanwhile run the code of another checkout."""
    folders = [str(checkout / package) for package in PACKAGES] if checkout else []
    with patch.dict(os.environ, {"PYTHONPATH": os.pathsep.join(folders)} if folders else {}):
        yield


def measure(bundle: Path, count: int, checkout: Path | None, options: Sequence[str]) -> list[float]:
    """Median seconds until a server of several was ready, mean resident MiB, and the sums of the proportional MiB."""
    ready: list[float] = []
    with ExitStack() as servers, code_of(checkout):
        running = []
        for _ in range(count):
            running.append(servers.enter_context(server_process(dragoman_command(bundle, *options))))
            ready.append(time.monotonic() - running[-1].started)
        for server in running:
            with TranslationClient(server.address) as client:
                client.translate(["The cat sees a dog."], deadline=60)
        found = [memory(server.process.pid) for server in running]
    sums = [sum(one[name] for one in found) for name in FIELDS[1:]]
    return [statistics.median(ready), statistics.mean(one["Rss"] for one in found), *sums]


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE", help="folder of a bundle")
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 2], help="servers at once (default: 1 2)")
    parser.add_argument("--old", type=Path, help="checkout of another version, measured in turns")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--serve-options", default="--threads 1", help='of `dragoman serve` (default: "--threads 1")')
    return parser


def main() -> int:
    """Run from the command line."""
    args = argument_parser().parse_args()
    checkouts = {"this": None, **({"old": args.old.resolve()} if args.old else {})}
    print_header("Memory of servers", {"dragoman serve": args.serve_options, "rounds": args.repeats})
    table: list[list[object]] = []
    for bundle in args.bundles:
        for count in args.servers:
            rounds: dict[str, list[list[float]]] = {name: [] for name in checkouts}
            for number in range(args.repeats):
                for name, checkout in checkouts.items():
                    progress(f"{bundle}, {count} servers, {name}, round {number}")
                    rounds[name].append(measure(bundle, count, checkout, args.serve_options.split()))
            for name, found in rounds.items():
                medians = [statistics.median(values) for values in zip(*found, strict=True)]
                table.append([bundle.parent.name, count, name, *medians])
    columns = (
        "model",
        "servers",
        "code",
        "ready s",
        "MiB resident each",
        "MiB proportional, all",
        "anonymous",
        "file",
        "shmem",
    )
    print_table(columns, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
