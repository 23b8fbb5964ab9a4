"""Serve at a part of what the machine can do for as long as you like, with reloads, cancelled calls and bad input.

    python tests/load/soak.py deploy/models/en-de/1 --minutes 30 --picture soak.png

First it measures what the server can do, with the same calls. Then it asks for 80 % of that, whether or not calls are
answered: some of them streams, some with a deadline, cancelled, or of bad input, while versions of the model come and
go. Every answer is compared with the translation that the text must have. Ends with status 1 if a call was lost, an
answer was wrong, a slot is stuck, or memory grows by more than --growth MiB an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dragoman_service.client.admin import AdminClient
from dragoman_service.client.client import TranslationClient
from support.load import SENTENCES
from support.repositories import add_version
from support.server_process import ServerProcess, server_process
from support.soak import OPTIONS, Soak, SoakReport

TEXTS = tuple(line for text in SENTENCES for line in text.split("\n"))
"""One line each, so that those of a stream can be told apart."""


class Reloads:
    """Puts the next version of a model into service, which is the same under another number, and removes the last."""

    def __init__(self, repository: Path, bundle: Path, admin: AdminClient) -> None:
        self._repository, self._bundle, self._admin = repository, bundle, admin
        self._version = 1

    async def __call__(self) -> None:
        """Reload."""
        await asyncio.to_thread(self._reload)

    def _reload(self) -> None:
        self._version += 1
        place = add_version(self._repository, self._bundle, "soaked", str(self._version))
        states = {version.version: version.state for version in self._admin.refresh()}
        if states[str(self._version)] != "serving":
            raise RuntimeError(f"{place} does not serve: {states}")
        shutil.rmtree(self._repository / "soaked" / str(self._version - 1))


@contextmanager
def soaked_server(bundle: Path) -> Iterator[tuple[ServerProcess, Reloads]]:
    """A server with a repository of its own."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder, "models")
        add_version(repository, bundle, "soaked", "1")
        address = f"unix:{folder}/admin.sock"
        options = ("--repository", str(repository), "--watch", "0", "--admin", address)
        with server_process([], *options) as server, AdminClient(address) as admin:
            yield server, Reloads(repository, bundle, admin)


def soak(bundle: Path, *, seconds: float, load: float, reload_every: float, warm_up: float = 20.0) -> SoakReport:
    """Soak a server of its own."""
    with soaked_server(bundle) as (server, reloads):
        with TranslationClient(server.address) as client:
            expected = {text: client.translate([text], OPTIONS)[0].text for text in TEXTS}
        made = Soak(server.address, server.metrics_url, expected, random.Random(0))

        async def run() -> None:
            await made.measure_capacity(warm_up)
            await made.run(seconds, load, reloads, reload_every)

        asyncio.run(run())
        made.report.problems += [line for line in server.errors if "WARNING" not in line]
        return made.report


def told(report: SoakReport, load: float) -> str:
    """What came of it, for people."""
    latencies = sorted(latency for sample in report.samples for latency in sample.latencies)
    ended = ", ".join(f"{count} {name}" for name, count in sorted(report.outcomes.items()))
    memory = [sample.memory / 2**20 for sample in report.samples]
    quantiles = ", ".join(f"p{q} {latencies[len(latencies) * q // 100] * 1000:.0f} ms" for q in (50, 95, 99))
    return "\n".join(
        [
            f"capacity  {report.capacity:.1f} texts a second; asked for {load:.0%} of it",
            f"calls     {report.outcomes.total()} in {report.seconds:.0f} s: {ended}",
            f"texts     {report.texts} translated, {report.texts / report.seconds:.1f} a second",
            f"latency   {quantiles}",
            f"reloads   {len(report.reloads)}",
            f"memory    {min(memory):.0f} to {max(memory):.0f} MiB, median {statistics.median(memory):.0f}; "
            f"trend {report.growth / 2**20:+.1f} MiB an hour after the first quarter",
            f"slots     {report.slots_used:.0f} used afterwards, {report.calls_running:.0f} calls running",
            f"problems  {len(report.problems)}",
            *report.problems[:10],
        ]
    )


def draw(report: SoakReport, path: Path) -> None:
    """Memory, throughput and latency over time, and when reloads were."""
    import matplotlib  # noqa: PLC0415 - only for pictures

    matplotlib.use("agg")
    from matplotlib import pyplot  # noqa: PLC0415

    bins = max(1, len(report.samples) // 120)
    groups = [report.samples[i : i + bins] for i in range(0, len(report.samples), bins)]
    minutes = [group[-1].at / 60 for group in groups]
    pooled = [sorted(latency for sample in group for latency in sample.latencies) or [0.0] for group in groups]
    figure, axes = pyplot.subplots(3, 1, figsize=(9, 8), sharex=True, layout="constrained")
    axes[0].plot(minutes, [max(sample.memory for sample in group) / 2**20 for group in groups])
    axes[0].set(ylabel="resident memory, MiB", ylim=(0, None))
    axes[1].plot(minutes, [sum(sample.texts for sample in group) / bins for group in groups])
    axes[1].set(ylabel="texts a second", ylim=(0, None))
    for q in (50, 95, 99):
        axes[2].plot(minutes, [1000 * values[len(values) * q // 100] for values in pooled], label=f"p{q}")
    axes[2].set(ylabel="latency of a call, ms", xlabel="minutes", ylim=(0, None))
    axes[2].legend(loc="upper right")
    for axis in axes:
        for number, at in enumerate(report.reloads):
            axis.axvline(at / 60, color="grey", linewidth=0.4, label=None if number else "reload")
    figure.savefig(path, dpi=100)


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a model bundle")
    parser.add_argument("--minutes", type=float, default=30, help="how long (default: 30)")
    parser.add_argument("--load", type=float, default=0.8, help="part of the capacity to ask for (default: 0.8)")
    parser.add_argument("--reload-every", type=float, default=20, help="seconds between reloads (default: 20)")
    parser.add_argument("--growth", type=float, default=16, help="MiB an hour that are noise (default: 16)")
    parser.add_argument("--picture", type=Path, help="PNG to draw")
    return parser


def main() -> int:
    """Run from the command line."""
    args = argument_parser().parse_args()
    report = soak(args.model, seconds=60 * args.minutes, load=args.load, reload_every=args.reload_every)
    print(told(report, args.load))
    if args.picture:
        draw(report, args.picture)
    good = not report.problems and report.slots_used == report.calls_running == 0
    return 0 if good and report.growth <= args.growth * 2**20 else 1


if __name__ == "__main__":
    sys.exit(main())
