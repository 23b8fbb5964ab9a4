"""Puts the translations of blocks, which are texts of one call, into the documents with markup that have the blocks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice

from dragoman_service.engine.request import FinishReason, Timings
from dragoman_service.text.markup.document import Block, Document
from dragoman_service.text.markup.placement import Part
from dragoman_service.translation.assembly import TextHypothesis, TextResult
from dragoman_service.translation.text_worker import Steps
from dragoman_service.translation.warnings import TextWarning

_WORST_FIRST = (FinishReason.REPETITION, FinishReason.LENGTH, FinishReason.STOP)


def results_of_documents(documents: Sequence[Document], results: Sequence[TextResult]) -> Steps[list[TextResult]]:
    """One result for each document, from those of the blocks of all documents; a step for each block."""
    remaining = iter(results)
    found = []
    for document in documents:
        found.append((yield from _result(document, list(islice(remaining, len(document.blocks))))))
    return found


def _result(document: Document, results: Sequence[TextResult]) -> Steps[TextResult]:
    hypotheses = []
    for rank in range(max((len(result.hypotheses) for result in results), default=1)):
        chosen = [it.hypotheses[min(rank, len(it.hypotheses) - 1)] for it in results]
        hypotheses.append((yield from _hypothesis(document, chosen)))
    return TextResult(
        hypotheses=tuple(hypotheses),
        timings=Timings(
            queue=max((result.timings.queue for result in results), default=0.0),
            encode=max((result.timings.encode for result in results), default=0.0),
            decode=max((result.timings.decode for result in results), default=0.0),
        ),
        source_tokens=sum(result.source_tokens for result in results),
        sentences=sum(result.sentences for result in results),
        warnings=tuple(chain.from_iterable(map(_warnings, document.blocks, results))),
    )


def _hypothesis(document: Document, of_blocks: Sequence[TextHypothesis]) -> Steps[TextHypothesis]:
    translations = []
    for block, it in zip(document.blocks, of_blocks, strict=True):
        text = block.without_kept_of_others(it.text, ((sentence.source, sentence.target) for sentence in it.sentences))
        translations.append((text, _parts(it)))
        yield
    reasons = {it.finish_reason for it in of_blocks}
    return TextHypothesis(
        (yield from document.written_steps(translations)),
        sum(it.score for it in of_blocks),
        tuple(chain.from_iterable(it.tokens for it in of_blocks)),
        tuple(chain.from_iterable(it.token_scores for it in of_blocks)),
        next((reason for reason in _WORST_FIRST if reason in reasons), FinishReason.STOP),
    )


def _parts(hypothesis: TextHypothesis) -> list[Part]:
    """The sentences, and the terms between them, in order: all else is the same in both texts."""
    parts = [Part(it.source, it.target, it.alignment) for it in hypothesis.sentences]
    starts = [part.source[0] for part in parts]
    for term in hypothesis.terms:
        before = bisect_right(starts, term.source[0]) - 1
        if before < 0 or hypothesis.sentences[before].source[1] <= term.source[0]:
            parts.append(Part(term.source, term.target))
    return sorted(parts, key=lambda part: part.source)


def _warnings(block: Block, result: TextResult) -> Iterator[TextWarning]:
    """The warnings of a block, with places in the document."""
    for warning in result.warnings:
        start, end = block.source_of(warning.start), block.source_of(max(warning.start, warning.end - 1)) + 1
        yield replace(warning, start=start, end=end)
