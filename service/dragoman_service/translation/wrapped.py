"""Results of texts whose lines were joined before translation, with places in the text that the caller sent."""

from __future__ import annotations

from dataclasses import replace

from dragoman_service.text.lines import JoinedText
from dragoman_service.translation.assembly import SentenceHypothesis, TextHypothesis, TextResult


def in_source(result: TextResult, joined: JoinedText) -> TextResult:
    """A result for `joined.text` as one for the text from which it was made."""

    def ranged(start: int, end: int) -> tuple[int, int]:
        first = joined.source_of(start)
        return first, joined.source_of(end - 1) + 1 if end > start else first

    def sentence_in_source(sentence: SentenceHypothesis) -> SentenceHypothesis:
        alignment = tuple((ranged(*source), target) for source, target in sentence.alignment)
        return replace(sentence, source=ranged(*sentence.source), alignment=alignment)

    def hypothesis_in_source(hypothesis: TextHypothesis) -> TextHypothesis:
        return replace(
            hypothesis,
            sentences=tuple(map(sentence_in_source, hypothesis.sentences)),
            terms=tuple(replace(term, source=ranged(*term.source)) for term in hypothesis.terms),
        )

    warnings = []
    for warning in result.warnings:
        start, end = ranged(warning.start, warning.end)
        warnings.append(replace(warning, start=start, end=end))
    return replace(result, hypotheses=tuple(map(hypothesis_in_source, result.hypotheses)), warnings=tuple(warnings))
