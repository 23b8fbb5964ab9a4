"""Compares the translations of a model in all its formats, to prove that all competitors run the same network.

    python bench/agreement.py --models bundled,small,base --precisions fp32,int8

creates the models that are missing, and compares the translations of all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import ctranslate2

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure.common import DEFAULT_CACHE, name_list, print_header, print_table
from bench.peers.models import MODELS, bundle_path, ct2_path, load_model, source_pieces
from dragoman_export.sentences import BUILT_IN
from dragoman_model.evaluation.greedy import greedy_cached
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.engine.request import Request
from dragoman_service.errors import InvalidInput
from dragoman_service.runtime.golden import translate
from dragoman_service.runtime.runner import OrtRunner

MAX_LENGTH = 64
MAX_ROWS = 16

Ids = list[list[int]]


def compare(
    models: Sequence[str], precisions: Sequence[str], sentences: Path | None, limit: int, cache: Path
) -> tuple[list[str], list[list[object]]]:
    """Compare greedy translations with those of the bundled model in PyTorch. Returns columns and rows of a table."""
    texts = BUILT_IN["en"] if sentences is None else sentences.read_text(encoding="utf-8").splitlines()
    reference = load_model("bundled", cache)
    longest = reference.config.max_source_tokens - 1
    sources = encode(reference.tokenizer, texts, longest)[:limit]
    expected = greedy_cached(reference.model, sources, MAX_LENGTH)
    columns = ["model", "engine", "precision", "sentences", "same", "tokens", "same up to the first difference"]
    rows: list[list[object]] = []
    for name in models:
        for engine, precision, found in _translations(name, precisions, sources, cache):
            if isinstance(found, str):
                rows.append([name, engine, precision, None, found, None, None])
                continue
            same = sum(a == b for a, b in zip(expected, found, strict=True))
            common = sum(_common_prefix(a, b) for a, b in zip(expected, found, strict=True))
            tokens = sum(map(len, expected))
            rows.append([name, engine, precision, len(sources), same, tokens, f"{common / tokens:.1%}"])
    return columns, rows


def encode(tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> Ids:
    """Source ids, the end of the sentence last, of those texts that have 1 to `longest` tokens."""
    encoded = [tokenizer.encode(text) for text in texts]
    return [[*ids, tokenizer.end_id] for ids in encoded if 0 < len(ids) <= longest]


def _translations(
    name: str, precisions: Sequence[str], sources: Ids, cache: Path
) -> Iterator[tuple[str, str, Ids | str]]:
    """Yield engine, precision, and the translations of the sources, or the reason why there are none."""
    checkpoint = load_model(name, cache)
    yield "PyTorch", "fp32", greedy_cached(checkpoint.model, sources, MAX_LENGTH)
    ids = {piece: i for i, piece in enumerate(checkpoint.tokenizer.pieces(range(checkpoint.tokenizer.vocab_size)))}
    for precision in precisions:
        try:
            bundle = Bundle.load(bundle_path(name, precision, cache))
        except InvalidInput as error:
            yield "Dragoman", precision, str(error)
        else:
            runner = OrtRunner(bundle, max_rows=MAX_ROWS, threads=1)
            requests = [Request(id=i, source=tuple(source), max_length=MAX_LENGTH) for i, source in enumerate(sources)]
            found = translate(runner, requests, MAX_ROWS, bundle.manifest.special_ids)
            yield "Dragoman", precision, [list(hypothesis.tokens) for hypothesis in found]
        compute_type = {"fp32": "float32"}.get(precision, precision)
        translator = ctranslate2.Translator(str(ct2_path(name, cache)), compute_type=compute_type, intra_threads=1)
        pieces = source_pieces(checkpoint, sources)
        results = translator.translate_batch(pieces, beam_size=1, max_decoding_length=MAX_LENGTH)
        yield "CTranslate2", compute_type, [[ids[piece] for piece in result.hypotheses[0]] for result in results]


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=name_list, default=list(MODELS), help="models (default: all)")
    parser.add_argument("--precisions", type=name_list, default=["fp32", "int8"], help="default: fp32,int8")
    parser.add_argument("--sentences", type=Path, help="source sentences to compare with, one a line")
    parser.add_argument("--limit", type=int, default=50, help="number of sentences (default: 50)")
    parser.add_argument(
        "--cache", type=Path, default=DEFAULT_CACHE, help=f"folder of the models (default: {DEFAULT_CACHE})"
    )
    return parser


def main() -> int:
    """Run from the command line."""
    args = argument_parser().parse_args()
    print_header(
        "Whether the models compute the same", {"sentences": args.sentences or "built-in", "limit": args.limit}
    )
    print_table(*compare(args.models, args.precisions, args.sentences, args.limit, args.cache))
    return 0


if __name__ == "__main__":
    sys.exit(main())
