"""Check that a GPU gives the same translations as the CPU, which must hold before anything is timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measure.common import ROOT, print_table
from bench.peers.models import bundle_path
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.request import DecodingOptions, Hypothesis, Request
from dragoman_service.runtime.cuda import Cuda
from dragoman_service.runtime.cuda_runner import CudaRunner
from dragoman_service.runtime.device import cuda_runtime
from dragoman_service.runtime.golden import translate
from dragoman_service.runtime.runner import OrtRunner
from dragoman_service.runtime.settings import GpuOptions

EVERYDAY = ROOT / "recipes" / "everyday.en.txt"
SAME_TOKENS = 0.95
"""Share of sentences that fp16 must translate as fp32 does. Rounding may decide between two nearly equal tokens."""
BEAM = 4


def open_cuda() -> Cuda:
    """Open the first GPU."""
    return Cuda(cuda_runtime())


def make_runner(bundle: Bundle, rows: int, options: GpuOptions, cuda: Cuda | None = None) -> CudaRunner:
    """A runner with its own memory and streams."""
    return CudaRunner(bundle, cuda or open_cuda(), max_rows=rows, options=options)


@dataclass(frozen=True, slots=True)
class Parity:
    """Agreement of two sets of translations of the same sentences."""

    same: float
    """Share of sentences with the same tokens."""
    score: float
    """Largest difference of a log-probability in those sentences."""


def compare(found: Sequence[Hypothesis], wanted: Sequence[Hypothesis]) -> Parity:
    """Compare translations of the same sentences."""
    alike = [(one, other) for one, other in zip(found, wanted, strict=True) if one.tokens == other.tokens]
    pairs = [pair for one, other in alike for pair in zip(one.token_scores, other.token_scores, strict=True)]
    return Parity(len(alike) / len(wanted), max((abs(a - b) for a, b in pairs), default=0.0))


def print_parity(cache: Path, rows: int) -> bool:
    """Print the agreement of fp16 on the GPU with fp32 on the CPU and with itself. Returns whether it suffices."""
    bundle, reference = (Bundle.load(bundle_path("bundled", precision, cache)) for precision in ("fp16", "fp32"))
    lines = EVERYDAY.read_text(encoding="utf-8").splitlines()
    sources = [(*bundle.tokenizer.encode(line), bundle.tokenizer.end_id) for line in lines]
    for options in (DecodingOptions(), DecodingOptions(beam_size=BEAM)):
        requests = [Request(i, source, 60, options) for i, source in enumerate(sources)]
        results = {}
        for name, runner, at_most in (
            ("CPU", OrtRunner(reference, max_rows=32, threads=4), 32),
            ("GPU", make_runner(bundle, rows, GpuOptions()), rows),
            ("GPU, no graphs", make_runner(bundle, rows, GpuOptions(graphs=False)), rows),
            ("GPU, alone", make_runner(bundle, options.num_rows, GpuOptions()), options.num_rows),
        ):
            results[name] = translate(runner, requests, at_most, bundle.manifest.special_ids)
            runner.close()
        rows_of_table = [
            (name, f"{found.same:.1%}", f"{found.score:.1e}")
            for name in list(results)[1:]
            for found in [compare(results[name], results["CPU"])]
        ]
        alone = compare(results["GPU"], results["GPU, alone"])
        rows_of_table.append(("GPU in a crowd, against alone", f"{alone.same:.1%}", f"{alone.score:.1e}"))
        print(f"### Parity, {'greedy' if options.beam_size == 1 else f'beam {BEAM}'}, {len(lines)} sentences\n")
        print_table(("fp16 on the", "same tokens as fp32 on the CPU", "largest difference of a score"), rows_of_table)
        if compare(results["GPU"], results["CPU"]).same < SAME_TOKENS:
            return False
    return True
