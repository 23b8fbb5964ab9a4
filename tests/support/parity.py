"""Helpers of the parity tests: the shipped model, real sentences, and decoding without a server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.request import DecodingOptions, Hypothesis, Request, Sampling
from dragoman_service.engine.search.utf8 import NO_BYTE_PIECES, BytePieces
from dragoman_service.runtime.golden import translate
from dragoman_service.runtime.runner import OrtRunner
from dragoman_service.text.segmenter import segment

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy" / "models" / "en-de" / "1"
NUM_REAL = 500
MAX_LENGTH = 48
"""Number of target tokens compared. Longer translations are cut in the same way everywhere."""
GREEDY = DecodingOptions()
EVERY_KIND = (
    DecodingOptions(),
    DecodingOptions(min_length=8, no_repeat_ngram_size=2, repetition_penalty=1.3),
    DecodingOptions(beam_size=3, num_hypotheses=3),
    DecodingOptions(beam_size=4, length_penalty=1.0),
    DecodingOptions(sampling=Sampling(seed=7), num_hypotheses=2),
)
"""Options that together use all features of a step."""


def shipped_bundle() -> Path:
    """The folder of the bundled model; skips the test if there is none."""
    if not (SHIPPED / "manifest.json").exists():
        pytest.skip(f"no bundle at {SHIPPED}")
    return SHIPPED


def real_sentences(bundle: Bundle, count: int) -> list[str]:
    """Lines of real text that are one sentence within the limits of the model. Skips the test without the text."""
    return [english for english, _ in real_pairs(bundle)[:count]]


def real_pairs(bundle: Bundle) -> list[tuple[str, str]]:
    """All such lines, with their German translations."""
    dev = Path(os.environ.get("DRAGOMAN_DATA", "")) / "dev"
    if not (dev / "tatoeba-valid.en-de.en").exists():
        pytest.skip(f"no text in {dev}: set DRAGOMAN_DATA to the folder that holds dev/")
    lines = [(dev / f"tatoeba-valid.en-de.{side}").read_text(encoding="utf-8").splitlines() for side in ("en", "de")]
    limit = bundle.manifest.limits.max_source_tokens
    pairs = [
        (english, german)
        for english, german in zip(*lines, strict=True)
        if [piece.text for piece in segment(english, "en")] == [english]
        and 1 < len(bundle.tokenizer.encode(english)) + 1 <= limit
    ]
    assert len(pairs) >= NUM_REAL
    return pairs


def encode(bundle: Bundle, texts: Sequence[str]) -> list[list[int]]:
    return [[*bundle.tokenizer.encode(text), bundle.tokenizer.end_id] for text in texts]


def served(
    bundle: Bundle,
    sources: Sequence[Sequence[int]],
    max_rows: int,
    options: DecodingOptions = GREEDY,
    *,
    as_texts: bool = False,
) -> list[Hypothesis]:
    """Translate with scheduler and runner, in a batch of at most `max_rows` rows.

    `as_texts`: as a server translates texts with letters: with at least one token, with byte pieces that form whole
    characters, and without endless repetition.
    """
    byte_pieces = BytePieces(bundle.tokenizer.byte_ids) if as_texts else NO_BYTE_PIECES
    options = replace(options, never_empty=True, stop_repetition=True) if as_texts else options
    runner = OrtRunner(bundle, max_rows=max_rows, threads=1)
    length = options.max_length or MAX_LENGTH
    requests = [Request(i, tuple(ids), length, options) for i, ids in enumerate(sources)]
    try:
        return translate(
            runner,
            requests,
            max_rows,
            bundle.manifest.special_ids,
            vocab_size=bundle.manifest.vocab_size,
            byte_pieces=byte_pieces,
        )
    finally:
        runner.close()
