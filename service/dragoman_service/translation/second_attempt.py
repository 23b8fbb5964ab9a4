"""Checks the translations of sentences with kept spans, and translates anew those that have lost one.

A sentence of terms is translated with stand-ins if a term is aligned to nothing, and then in parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dragoman_service.engine.request import Finished
from dragoman_service.text.segmenter import EncodedPiece
from dragoman_service.translation.assembly import Answer, Settled, settled, settled_in_parts
from dragoman_service.translation.engine_port import EngineCall
from dragoman_service.translation.prefix import Prefix, make_prefix
from dragoman_service.translation.prepare import PreparedText, RequestMaker
from dragoman_service.translation.sentences import ProtectedPiece, TermPiece, encoded_part, is_checked


@dataclass(slots=True)
class _Attempt:
    """A sentence that is translated in parts."""

    piece: ProtectedPiece
    prefix: Prefix | None
    parts: list[EncodedPiece] = field(default_factory=list)

    @property
    def wanted(self) -> list[tuple[EncodedPiece, Prefix | None]]:
        """The parts that are translated, the first one with the prefix."""
        parts = [part for part in self.parts if part.tokens]
        return [(part, self.prefix if number == 0 else None) for number, part in enumerate(parts)]


def has_checked(texts: Sequence[PreparedText]) -> bool:
    """Whether the translation of any sentence is checked, so that a second attempt may be needed."""
    return any(is_checked(piece) for text in texts for piece in text.pieces)


async def settle(
    texts: Sequence[PreparedText], finished: Sequence[Finished], call: EngineCall, maker: RequestMaker
) -> list[Answer]:
    """The answers for the sentences of texts, from the first answers of the engine.

    Raises the errors of `EngineCall.expect_more` and `EngineCall.finish_all`.
    """
    route, options = maker.route, maker.options
    answers: list[Answer] = list(finished)
    latest = list(finished)
    sentences: list[tuple[EncodedPiece, Prefix | None]] = [
        (piece, text.prefix if number == 0 else None) for text in texts for number, piece in enumerate(text.sentences)
    ]
    unaligned: list[int] = []  # sentences in which a term is aligned to nothing: they are translated with stand-ins
    for index, (piece, prefix) in enumerate(sentences):
        if isinstance(piece, TermPiece):
            found = settled(piece, finished[index], route, options)
            if found is None:
                unaligned.append(index)
                sentences[index] = piece.protected, prefix
            else:
                answers[index] = found
    for index, answer in zip(
        unaligned, await _translate([sentences[it] for it in unaligned], call, maker), strict=True
    ):
        latest[index] = answer
    attempts: dict[int, _Attempt] = {}  # index of the sentence -> its translation in parts
    for index, (piece, prefix) in enumerate(sentences):
        if isinstance(piece, ProtectedPiece):
            found = settled(piece, latest[index], route, options)
            if found is None:
                attempts[index] = _attempt(piece, prefix, maker)
            else:
                answers[index] = found
    parts = [part for attempt in attempts.values() for part in attempt.wanted]
    answers_of_parts = iter(await _translate(parts, call, maker))
    for index, attempt in attempts.items():
        own = [next(answers_of_parts) for _ in attempt.wanted]
        answers[index] = settled_in_parts(attempt.piece, attempt.parts, own, route.model.tokenizer, options)
    for index in unaligned:
        settled_later = answers[index]
        assert isinstance(settled_later, Settled)
        more = settled_later.more_source_tokens + len(sentences[index][0].tokens) + 1
        answers[index] = replace(settled_later, more_source_tokens=more)
    return answers


def _attempt(piece: ProtectedPiece, prefix: Prefix | None, maker: RequestMaker) -> _Attempt:
    # The parts have no stand-ins, so their prefix has none either.
    attempt = _Attempt(piece, prefix and make_prefix(prefix.text, maker.route.model.tokenizer))
    for part in piece.protected.parts():
        if part.kept:
            attempt.parts.append(EncodedPiece(part.text, (), replacement=part.written))
        else:
            attempt.parts += encoded_part(part.text, maker.route, capitals=piece.capitals)
    return attempt


async def _translate(
    wanted: Sequence[tuple[EncodedPiece, Prefix | None]], call: EngineCall, maker: RequestMaker
) -> list[Finished]:
    """Translate pieces, as further requests of the call."""
    if not wanted:
        return []
    tokens = sum(len(piece.tokens) + maker.route.model.tokenizer.source_overhead for piece, _ in wanted)
    call.expect_more(len(wanted), tokens * maker.options.num_rows, maker.sender.deadline)
    return await call.finish_all(maker.of(piece, prefix) for piece, prefix in wanted)
