"""Which words a model copies best into its translations: they stand in sentences for what must not change.

See `dragoman_service.translation.protection`. What a model copies depends on what it was trained with, so it is
measured.
"""

from __future__ import annotations

import math
import random
import re
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
"""Lists of stand-ins. The first is chosen unless another is better by more than chance."""
COUNTS = (1, 1, 2, 1, 3, 1, 2, 1, 4, 1)
"""Spans of the sentences in turns, about as in sentences of documentation and news that have some."""
MOST_SPANS = max(COUNTS)
MOST_SENTENCES = 144
SPAN = "\ue000"
"""Stands for a span; no sentence has it."""
_WORD = re.compile(r"(\W*)(.*?)(\W*)", re.DOTALL)

_GREEDY = DecodingOptions()

Translate = Callable[[Sequence[str]], list[str]]


def spanned(sentences: Sequence[str], count: int, seed: int = 1) -> list[str]:
    """`count` sentences with spans in the places of words, as many as `COUNTS` says.

    The sentences are taken in turns, each time with spans in other places. Those that have too few words are left out;
    empty if no sentence is left.
    """
    rng = random.Random(seed)
    usable = [it.split() for it in dict.fromkeys(sentences) if len(it.split()) > MOST_SPANS and SPAN not in it]
    found: list[str] = []
    for number in range(count if usable else 0):
        words = list(usable[number % len(usable)])
        for place in rng.sample(range(len(words)), COUNTS[number % len(COUNTS)]):
            before, _, after = _parts(words[place])
            words[place] = f"{before}{SPAN}{after}"
        found.append(" ".join(words))
    return found


def _parts(word: str) -> tuple[str, ...]:
    """A word, and the punctuation before and after it."""
    match = _WORD.fullmatch(word)
    assert match is not None
    return match.groups()


def kept(sentences: Sequence[str], stand_ins: Sequence[str], translated: Translate) -> list[bool]:
    """Whether a translation of each of `spanned` sentences keeps all spans."""
    guarded = [_guarded(sentence, stand_ins) for sentence in sentences]
    shown = [sentence.shown() for sentence in guarded]
    return [sentence.restored(text) is not None for sentence, text in zip(guarded, translated(shown), strict=True)]


def best_stand_ins(
    sources: Sequence[Source], runner: Runner, manifest: Manifest, tokenizer: Tokenizer
) -> tuple[str, ...]:
    """The list of `CANDIDATES` with which most translations of sentences keep their spans, by greedy search.

    Another list than the first is chosen only if it is better by more than two standard errors.
    """
    languages = sources[0].languages  # of a model of many languages, the first pair decides
    sentences = spanned([it.text for it in sources if it.languages == languages], MOST_SENTENCES)

    def translated(shown: Sequence[str]) -> list[str]:
        return translate_texts(shown, runner, manifest, tokenizer, *languages)

    found = {name: kept(sentences, stand_ins, translated) for name, stand_ins in CANDIDATES.items()}
    first, best = next(iter(found)), max(found, key=lambda name: sum(found[name]))
    return CANDIDATES[best if is_better(found[best], found[first]) else first]


def is_better(one: Sequence[bool], other: Sequence[bool]) -> bool:
    """Whether one list keeps the spans of more of the same sentences, by more than two standard errors."""
    only_one = sum(a and not b for a, b in zip(one, other, strict=True))
    only_other = sum(b and not a for a, b in zip(one, other, strict=True))
    return only_one - only_other > 2 * math.sqrt(only_one + only_other)


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
    places = [place for place, character in enumerate(sentence) if character == SPAN]
    found = protected(sentence, [Span(place, place + 1, Kind.MARKED) for place in places], stand_ins)
    if found is None:  # it has stand-ins of its own
        found = protected(sentence, [], stand_ins)
    assert found is not None
    return found
