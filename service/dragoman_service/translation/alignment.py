"""Word alignments: which words of a sentence and of its translation belong together.

The model gives one source position for each target token. Tokens are parts of words, so a word of the translation
belongs to every word of the source to which one of its tokens belongs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from dragoman_service.engine.request import Hypothesis
from dragoman_service.repository.models import Route
from dragoman_service.text.segmenter import EncodedPiece
from dragoman_service.text.words import words_of
from dragoman_service.translation.sentences import read_text

Range = tuple[int, int]


def word_alignment(
    piece: EncodedPiece, hypothesis: Hypothesis, written: str, route: Route
) -> list[tuple[Range, Range]]:
    """Pairs of words, in the order of the translation: characters of `piece.text`, and characters of `written`.

    Empty if the engine returned no alignment, or if putting the translation in capitals has changed its length.

    Args:
        piece: The sentence, without kept spans.
        hypothesis: The translation.
        written: The text of the translation.
        route: The model and the languages.
    """
    tokenizer = route.model.tokenizer
    decoded, target_spans = tokenizer.decode_with_offsets(hypothesis.tokens)
    if not hypothesis.alignment or len(decoded) != len(written):
        return []
    ids, source_spans = tokenizer.encode_with_offsets(read_text(piece))
    before = _before(tokenizer.source(ids, route.source_language, route.target_language), ids)
    source_words, target_words = words_of(piece.text), words_of(written)
    pairs = set()
    for position, target_span in zip(hypothesis.alignment, target_spans, strict=False):  # it has one for the end too
        if not 0 <= position - before < len(ids):
            continue
        target, source = _word_of(target_span, target_words), _word_of(source_spans[position - before], source_words)
        if target is not None and source is not None:
            pairs.add((source, target))
    return sorted(pairs, key=lambda pair: (pair[1], pair[0]))


def content_of(piece: EncodedPiece, route: Route) -> tuple[int, ...]:
    """The positions of the tokens with letters, in what the model reads."""
    tokenizer, read = route.model.tokenizer, read_text(piece)
    ids, spans = tokenizer.encode_with_offsets(read)
    before = _before(tokenizer.source(ids, route.source_language, route.target_language), ids)
    return tuple(before + place for place, (start, end) in enumerate(spans) if any(map(str.isalpha, read[start:end])))


def _before(source: Sequence[int], ids: Sequence[int]) -> int:
    """Number of ids that the model reads before those of the text."""
    places = range(len(source) - len(ids) + 1)
    return next(place for place in places if list(source[place : place + len(ids)]) == list(ids))


def _word_of(span: Range, words: Sequence[Range]) -> Range | None:
    """The word that has the last character of a token; before it there may be a space. None if no word has it."""
    last = span[1] - 1
    index = bisect_right(words, (last, len(words) and words[-1][1])) - 1
    if span[0] >= span[1] or index < 0 or not words[index][0] <= last < words[index][1]:
        return None
    return words[index]
