"""Puts the translations of sentences into a text, in the places of the sentences."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from dragoman_service.engine.request import DecodingOptions, Finished, FinishReason, Hypothesis, Timings
from dragoman_service.repository.models import Route, TextTokenizer
from dragoman_service.text.segmenter import EncodedPiece
from dragoman_service.text.terms import Match
from dragoman_service.translation.alignment import word_alignment
from dragoman_service.translation.in_parts import InParts
from dragoman_service.translation.numbers import missing_numbers
from dragoman_service.translation.prefix import Prefix, with_prefix
from dragoman_service.translation.prepare import PreparedText
from dragoman_service.translation.sentences import ProtectedPiece, TermPiece, is_plain
from dragoman_service.translation.terms import AppliedTerm, places_anywhere, places_in_order, with_targets
from dragoman_service.translation.text_worker import Steps
from dragoman_service.translation.warnings import TextWarning, WarningKind

_IN_PARTS = "the model did not keep its spans; it was translated in the parts around them"
_REPEATED = "its translation was stopped because it repeated itself without end"
_TERM_MISSING = "its translation is not the one of the term"
_DIGIT = re.compile("[0-9]")
_EMPTY = "the model gave no translation; it is returned as it is"


Alignment = tuple[tuple[tuple[int, int], tuple[int, int]], ...]
"""Pairs of words: characters of the source text, and characters of the translation. In the order of the latter."""


@dataclass(frozen=True, slots=True)
class SentenceHypothesis:
    """One translation of a sentence, and its place in a translation of the text."""

    source: tuple[int, int]
    """Characters of the source text, start and end."""
    target: tuple[int, int]
    """Characters of the translation."""
    hypothesis: Hypothesis
    """What the engine returned. For a sentence translated in parts, the sums over its parts."""
    alignment: Alignment = ()
    """Pairs of words."""


@dataclass(frozen=True, slots=True)
class TextHypothesis:
    """One translation of a text."""

    text: str
    score: float
    """Sum of the scores of the sentences."""
    tokens: tuple[int, ...]
    """Target token ids of all sentences, without the ends of sentences."""
    token_scores: tuple[float, ...]
    finish_reason: FinishReason
    """REPETITION if any sentence was stopped for that, else LENGTH if any was cut."""
    sentences: tuple[SentenceHypothesis, ...] = ()
    """The sentences, if they were asked for."""
    terms: tuple[AppliedTerm, ...] = ()
    """The terms of the source text, in order."""


@dataclass(frozen=True, slots=True)
class TextResult:
    """The translation of one text."""

    hypotheses: tuple[TextHypothesis, ...]
    """Best first. The i-th consists of the i-th hypothesis of each sentence, or the last of one that has fewer."""
    timings: Timings
    """The maximum over all sentences of each time."""
    source_tokens: int
    """Source tokens of all sentences, with one end for each sentence; those of second attempts too."""
    sentences: int
    warnings: tuple[TextWarning, ...] = ()
    """In the order of the text."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The translations of a sentence with kept spans, which have been checked."""

    hypotheses: tuple[Hypothesis, ...]
    texts: tuple[str, ...]
    """Of each hypothesis, with the spans in it."""
    timings: Timings
    more_source_tokens: int = 0
    """Source tokens of a second attempt."""
    in_parts: bool = False


Answer = Finished | Settled


def settled(
    piece: ProtectedPiece | TermPiece,
    finished: Finished,
    route: Route,
    options: DecodingOptions,
    prefix: Prefix | None = None,
) -> Settled | None:
    """The best translations of a sentence that keep its spans; None if there are none, or a sample does not.

    They begin with the prefix, if there is one.
    """
    found: list[tuple[Hypothesis, str]] = []
    for hypothesis in finished.hypotheses:
        text = _restored(piece, hypothesis, route, prefix)
        if text:
            found.append((hypothesis, text))
        elif options.sampling:
            return None
    return _of_pairs(found, finished.timings, options) if found else None


def _restored(
    piece: ProtectedPiece | TermPiece, hypothesis: Hypothesis, route: Route, prefix: Prefix | None
) -> str | None:
    translation = route.model.tokenizer.decode(hypothesis.tokens)
    if isinstance(piece, ProtectedPiece):
        return piece.restored(translation, prefix)
    written = piece.written(translation)
    return with_targets(piece.text, piece.spans, written, word_alignment(piece, hypothesis, written, route))


def _of_pairs(
    found: Sequence[tuple[Hypothesis, str]], timings: Timings, options: DecodingOptions, **fields: Any
) -> Settled:
    """An answer with the first of some hypotheses and their texts. Those of a search differ in text."""
    if options.sampling is None:
        best: dict[str, Hypothesis] = {}
        for hypothesis, text in found:
            best.setdefault(text, hypothesis)
        found = [(hypothesis, text) for text, hypothesis in best.items()]
    hypotheses, texts = zip(*found[: options.num_hypotheses], strict=True)
    return Settled(hypotheses, texts, timings, **fields)


def settled_in_parts(
    attempt: InParts, finished: Sequence[Finished], tokenizer: TextTokenizer, options: DecodingOptions
) -> Settled:
    """The translations of a sentence from those of its parts. The i-th has the i-th of each part, or its last one.

    There are none of parts that have no tokens: a tokenizer may leave out letters.
    """
    found = []
    for rank in range(max((len(answer.hypotheses) for answer in finished), default=1)):
        chosen = [answer.hypotheses[min(rank, len(answer.hypotheses) - 1)] for answer in finished]
        found.append((_joined(chosen), attempt.text([tokenizer.decode(it.tokens) for it in chosen])))
    tokens = sum(len(part.tokens) + 1 for part in attempt.parts if part.tokens)
    return _of_pairs(found, longest(finished), options, more_source_tokens=tokens, in_parts=True)


def assemble_steps(
    prepared: PreparedText,
    answers: Sequence[Answer],
    route: Route,
    options: DecodingOptions,
    *,
    sentences: bool = False,
    alignments: bool = False,
) -> Steps[TextResult]:
    """Put the translations of the sentences into the text; a step for each sentence.

    `sentences` and `alignments` say whether `TextHypothesis.sentences` is wanted, and whether with alignments.
    """
    count = options.num_hypotheses
    if count > 1 and options.sampling is None:  # samples are independent: equal ones are as many as were drawn
        answers = yield from _distinct(prepared, answers, route.model.tokenizer, count)
        count = max((len(answer.hypotheses) for answer in answers), default=1)
    warnings: list[TextWarning] = []
    hypotheses = []
    for rank in range(count):
        warned = warnings if rank == 0 else []
        hypothesis = _hypothesis(prepared, answers, route, rank, warned, sentences=sentences, alignments=alignments)
        hypotheses.append((yield from hypothesis))
    more = sum(answer.more_source_tokens for answer in answers if isinstance(answer, Settled))
    return TextResult(
        hypotheses=tuple(hypotheses),
        timings=longest(answers),
        source_tokens=sum(len(sentence.tokens) + 1 for sentence in prepared.sentences) + more,
        sentences=len(answers),
        warnings=tuple(sorted((*prepared.warnings, *warnings), key=lambda warning: warning.start)),
    )


def longest(answers: Iterable[Answer]) -> Timings:
    """The maximum of each time."""
    timings = [answer.timings for answer in answers] or [Timings()]
    if len(timings) == 1:
        return timings[0]
    return Timings(
        queue=max(timing.queue for timing in timings),
        encode=max(timing.encode for timing in timings),
        decode=max(timing.decode for timing in timings),
    )


def _distinct(
    prepared: PreparedText, answers: Sequence[Answer], tokenizer: TextTokenizer, count: int
) -> Steps[list[Answer]]:
    """The answers with their best `count` hypotheses that differ in text: tokens can spell one text in several ways."""
    found: list[Answer] = []
    for sentence, answer in zip(prepared.sentences, answers, strict=True):
        if isinstance(answer, Settled):
            found.append(answer)
            continue
        best: dict[str, Hypothesis] = {}
        for hypothesis in answer.hypotheses:
            best.setdefault(sentence.written(tokenizer.decode(hypothesis.tokens)), hypothesis)
            yield
        found.append(replace(answer, hypotheses=tuple(best.values())[:count]))
    return found


def _hypothesis(
    prepared: PreparedText,
    answers: Sequence[Answer],
    route: Route,
    rank: int,
    warnings: list[TextWarning],
    *,
    sentences: bool,
    alignments: bool,
) -> Steps[TextHypothesis]:
    tokenizer = route.model.tokenizer
    chosen = [answer.hypotheses[min(rank, len(answer.hypotheses) - 1)] for answer in answers]
    remaining = zip(answers, chosen, strict=True)
    parts: list[str] = []
    found: list[SentenceHypothesis] = []
    prefix, source, target = prepared.prefix, 0, 0
    terms = _Terms(prepared.terms)
    for piece in prepared.pieces:
        if piece.tokens:
            answer, hypothesis = next(remaining)
            if isinstance(answer, Settled):
                text = answer.texts[min(rank, len(answer.texts) - 1)]
            else:
                text = with_prefix(prefix, tokenizer.decode(hypothesis.tokens), piece.written)
            prefix = None
            if not text or hypothesis.finish_reason is not FinishReason.STOP or isinstance(answer, Settled):
                for kind, message in _problems(answer, hypothesis, text):
                    warnings.append(TextWarning(kind, source, source + len(piece.text), message))
                text = text or piece.text
            if rank == 0 and _DIGIT.search(piece.text):
                missing = missing_numbers(piece.text, text, route.target_language)
                if missing:
                    message = f"its translation lacks {', '.join(missing)}"
                    end = source + len(piece.text)
                    warnings.append(TextWarning(WarningKind.NUMBER_MISSING, source, end, message))
            if sentences:
                ends = source + len(piece.text), target + len(text)
                pairs = word_alignment(piece, hypothesis, text, route) if alignments and is_plain(piece) else []
                aligned = tuple((_shifted(own, source), _shifted(its, target)) for own, its in pairs)
                found.append(SentenceHypothesis((source, ends[0]), (target, ends[1]), hypothesis, aligned))
        else:
            text = piece.output
        warnings += terms.placed(piece, text, source, target)
        parts.append(text)
        source, target = source + len(piece.text), target + len(text)
        yield
    joined = _joined(chosen)
    return TextHypothesis(
        "".join(parts),
        joined.score,
        joined.tokens,
        joined.token_scores,
        joined.finish_reason,
        tuple(found),
        tuple(terms.applied),
    )


class _Terms:
    """The terms of a text, whose places in its translation are found piece by piece."""

    def __init__(self, matches: Iterable[Match]) -> None:
        self.applied: list[AppliedTerm] = []
        self._remaining = deque(match for match in matches if match.term.target is not None)

    def placed(self, piece: EncodedPiece, text: str, source: int, target: int) -> list[TextWarning]:
        """Find those of the next piece in its translation. Returns a warning for each that it lacks.

        Args:
            piece: The piece.
            text: Its translation.
            source: Where the piece begins in the source text.
            target: Where its translation begins.
        """
        own = []
        while self._remaining and self._remaining[0].start < source + len(piece.text):
            own.append(self._remaining.popleft())
        places_of = places_anywhere if piece.tokens else places_in_order
        missing = []
        for match, place in zip(own, places_of([it.term.target or "" for it in own], text), strict=True):
            if place is None:
                missing.append(TextWarning(WarningKind.TERM_MISSING, match.start, match.end, _TERM_MISSING))
            else:
                self.applied.append(AppliedTerm(match.term, (match.start, match.end), _shifted(place, target)))
        return missing


def _shifted(characters: tuple[int, int], by: int) -> tuple[int, int]:
    return characters[0] + by, characters[1] + by


def _problems(answer: Answer, hypothesis: Hypothesis, text: str) -> list[tuple[WarningKind, str]]:
    problems = []
    if isinstance(answer, Settled) and answer.in_parts:
        problems.append((WarningKind.SPANS_IN_PARTS, _IN_PARTS))
    if hypothesis.finish_reason is FinishReason.REPETITION:
        problems.append((WarningKind.REPETITION, _REPEATED))
    if not text:
        problems.append((WarningKind.EMPTY, _EMPTY))
    return problems


def _joined(chosen: Sequence[Hypothesis]) -> Hypothesis:
    """One hypothesis for several sentences, without alignments, whose positions are those of one sentence."""
    if len(chosen) == 1:
        return chosen[0]
    reasons = {hypothesis.finish_reason for hypothesis in chosen}
    worst = (FinishReason.REPETITION, FinishReason.LENGTH)
    return Hypothesis(
        tokens=tuple(chain.from_iterable(hypothesis.tokens for hypothesis in chosen)),
        token_scores=tuple(chain.from_iterable(hypothesis.token_scores for hypothesis in chosen)),
        score=sum(hypothesis.score for hypothesis in chosen),
        finish_reason=next((reason for reason in worst if reason in reasons), FinishReason.STOP),
        end_score=sum(hypothesis.end_score for hypothesis in chosen),
    )
