"""Which words a model copies best into its translations: they stand in sentences for what must not change.

See `dragoman_service.translation.protection`. What a model copies depends on what it was trained with, so it is
measured.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from dragoman_export.sources import Source
from dragoman_service.bundle.manifest import STAND_INS, Manifest
from dragoman_service.bundle.tokenizers.protocol import Tokenizer
from dragoman_service.engine.plan import Runner
from dragoman_service.engine.request import DecodingOptions, Request
from dragoman_service.runtime.golden import normalisation_of, translate
from dragoman_service.text.spans import Kind, Span
from dragoman_service.translation.protection import Protected, protected

CANDIDATES: dict[str, tuple[str, ...]] = {
    "numbers": STAND_INS,
    "marked numbers": ("_1_", "_2_", "_3_", "_4_", "_5_", "_6_"),
    "letters": ("XXA", "XXB", "XXC", "XXD", "XXE", "XXF"),
    "pairs of letters": ("XA", "XB", "XC", "XD", "XE", "XF"),
    "codes": ("ABC1", "DEF2", "GHI3", "JKL4", "MNO5", "PQR6"),
    "letter and number": ("X1", "X2", "X3", "X4", "X5", "X6"),
}
"""Lists of stand-ins. Of equals, the first is chosen."""
MOST_SENTENCES = 40
MOST_SPANS = 4
_KEPT = "\ue000"
"""Stands for a span; no sentence has it."""

_GREEDY = DecodingOptions()

Translate = Callable[[Sequence[str]], list[str]]


def spanned(sentences: Sequence[str], seed: int = 1) -> list[str]:
    """Sentences with one to `MOST_SPANS` spans between their words. Those of fewer than four words are left out."""
    rng = random.Random(seed)
    found: list[str] = []
    for sentence in sentences:
        words = sentence.split()
        if len(words) < MOST_SPANS or _KEPT in sentence:
            continue
        count = 1 + len(found) % MOST_SPANS
        for number, place in enumerate(sorted(rng.sample(range(1, len(words) + 1), count))):
            words.insert(place + number, _KEPT)
        found.append(" ".join(words))
    return found


def kept(sentences: Sequence[str], stand_ins: Sequence[str], translated: Translate) -> list[bool]:
    """Whether a translation of each of `spanned` sentences keeps all spans."""
    guarded = [_guarded(sentence, stand_ins) for sentence in sentences]
    shown = [sentence.shown() for sentence in guarded]
    return [sentence.restored(text) is not None for sentence, text in zip(guarded, translated(shown), strict=True)]


def best_stand_ins(
    sources: Sequence[Source], runner: Runner, manifest: Manifest, tokenizer: Tokenizer
) -> tuple[str, ...]:
    """The list of `CANDIDATES` with which most translations of sentences keep their spans, by greedy search."""
    languages = sources[0].languages  # of a model of many languages, the first pair decides
    sentences = spanned([it.text for it in sources if it.languages == languages][:MOST_SENTENCES])

    def translated(shown: Sequence[str]) -> list[str]:
        return translate_texts(shown, runner, manifest, tokenizer, *languages)

    rates = {name: sum(kept(sentences, stand_ins, translated)) for name, stand_ins in CANDIDATES.items()}
    return CANDIDATES[max(rates, key=lambda name: rates[name])]


def translate_texts(
    texts: Sequence[str],
    runner: Runner,
    manifest: Manifest,
    tokenizer: Tokenizer,
    source_language: str,
    target_language: str,
    *,
    options: DecodingOptions = _GREEDY,
    max_rows: int = 16,
) -> list[str]:
    """The translations of sentences. Those that are too long for the model have an empty one."""
    limits = manifest.limits
    ids = [tokenizer.source(tokenizer.encode(text), source_language, target_language) for text in texts]
    fitting = [number for number, source in enumerate(ids) if len(source) <= limits.max_source_tokens]
    requests = [
        Request(
            id=number,
            source=ids[number],
            # A model that never ends would take long, and copies nothing.
            max_length=min(limits.max_target_tokens, 2 * len(ids[number]) + 8),
            options=options,
            forced=tokenizer.forced(target_language),
            normalisation=normalisation_of(manifest),
        )
        for number in fitting
    ]
    translations = [""] * len(texts)
    for number, hypothesis in zip(fitting, translate(runner, requests, max_rows, manifest.special_ids), strict=True):
        translations[number] = tokenizer.decode(hypothesis.tokens)
    return translations


def _guarded(sentence: str, stand_ins: Sequence[str]) -> Protected:
    places = [place for place, character in enumerate(sentence) if character == _KEPT]
    found = protected(sentence, [Span(place, place + 1, Kind.MARKED) for place in places], stand_ins)
    if found is None:  # it has stand-ins of its own
        found = protected(sentence, [], stand_ins)
    assert found is not None
    return found
