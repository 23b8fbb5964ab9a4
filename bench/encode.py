"""The encoder's time for sources of different lengths: all in one run, and in one run for each length.

    python bench/encode.py --data DATA --model small --precision int8

The lengths are those of real sentences. Both ways take the same graph, and must give the same bits. Times are those of
the thread that computes, so that waiting for a busy processor does not count.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure.common import base_parser, int_list, print_header, print_table
from bench.peers.models import bundle_path
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.plan import Join
from dragoman_service.errors import InvalidInput
from dragoman_service.runtime.runner import MAX_ENCODE_TOKENS, encoder_batches
from dragoman_service.runtime.sessions import EncoderSession, Placement, open_session

TEXT = "dev/tatoeba-valid.en-de.en"
DRAWS = 40
"""Sets of sources of each size."""


def real_lengths(bundle: Bundle, text: Path) -> list[int]:
    """The lengths of the lines of a text in tokens, with the end, as far as the model takes them."""
    lines = text.read_text(encoding="utf-8").splitlines()[:2000]
    lengths = (len(bundle.tokenizer.encode(line)) + 1 for line in lines)
    return [length for length in lengths if length <= bundle.manifest.limits.max_source_tokens]


def seconds(encoder: EncoderSession, sources: Sequence[Sequence[int]], *, mixed: bool) -> float:
    """Seconds of the thread that encode sources, in one run or in one for each length."""
    started = time.thread_time()
    for batch in encoder_batches([Join(tuple(source), ()) for source in sources], MAX_ENCODE_TOKENS, mixed=mixed):
        encoder.run([join.source for join in batch])
    return time.thread_time() - started


def measured(
    encoder: EncoderSession, draw: Callable[[], list[list[int]]], repeats: int
) -> Iterator[tuple[float, float]]:
    """Seconds of a set of sources, in one run for each length and in one run."""
    for index in range(DRAWS * repeats):
        sources = draw()
        order = (False, True) if index % 2 else (True, False)
        times = {mixed: seconds(encoder, sources, mixed=mixed) for mixed in order}
        if index >= repeats:  # the first ones warm up
            yield times[False], times[True]


def argument_parser() -> ArgumentParser:
    """The command line."""
    parser = base_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that has the development text")
    parser.add_argument("--sources", type=int_list, default=[1, 2, 4, 8, 16], help="default: 1,2,4,8,16")
    return parser


def main() -> int:
    """Run from the command line."""
    args = argument_parser().parse_args()
    try:
        bundle = Bundle.load(bundle_path(args.model, args.precision, args.cache))
    except InvalidInput as error:
        print(f"encode.py: {error}", file=sys.stderr)
        return 1
    manifest = bundle.manifest
    encoder = EncoderSession(open_session(bundle.path / "encoder.onnx", Placement(1)), manifest.cache, manifest.tensors)
    if not encoder.mixes_lengths:
        print("encode.py: the bundle's encoder takes sources of one length only: export it again", file=sys.stderr)
        return 1
    lengths = real_lengths(bundle, args.data / TEXT)
    rng = random.Random(1)
    print_header(f"The encoder, {args.model}, {args.precision}", {"median length": statistics.median(lengths)})
    lines: list[list[object]] = []
    for count in args.sources:

        def draw(count: int = count) -> list[list[int]]:
            return [rng.choices(range(4, manifest.vocab_size), k=length) for length in rng.choices(lengths, k=count)]

        apart, together = zip(*measured(encoder, draw, args.repeats), strict=True)
        ratios = [one / other for one, other in zip(apart, together, strict=True)]
        medians = [1e3 * statistics.median(times) for times in (apart, together)]
        lines.append([count, *medians, statistics.median(ratios)])
    print_table(["sources", "a run for each length, ms", "one run, ms", "ratio"], lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
