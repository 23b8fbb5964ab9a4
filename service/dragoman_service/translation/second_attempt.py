"""Checks the translations of sentences with kept spans, and translates in parts those that have lost one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dragoman_service.engine.request import Finished
from dragoman_service.text.segmenter import EncodedPiece
from dragoman_service.translation.assembly import Answer, settled, settled_in_parts
from dragoman_service.translation.engine_port import EngineCall
from dragoman_service.translation.prefix import Prefix, make_prefix
from dragoman_service.translation.prepare import PreparedText, RequestMaker
from dragoman_service.translation.sentences import ProtectedPiece, encoded_part


@dataclass(slots=True)
class _Attempt:
    """A sentence that is translated in parts."""

    piece: ProtectedPiece
    prefix: Prefix | None
    parts: list[EncodedPiece] = field(default_factory=list)

    @property
    def translated(self) -> list[EncodedPiece]:
        return [part for part in self.parts if part.tokens]


def has_protected(texts: Sequence[PreparedText]) -> bool:
    """Whether any sentence keeps spans, so that a second attempt may be needed."""
    return any(isinstance(piece, ProtectedPiece) for text in texts for piece in text.pieces)


async def settle(
    texts: Sequence[PreparedText], finished: Sequence[Finished], call: EngineCall, maker: RequestMaker
) -> list[Answer]:
    """The answers for the sentences of texts, from the first answers of the engine.

    Raises the errors of `EngineCall.expect_more` and `EngineCall.finish_all`.
    """
    tokenizer, options = maker.route.model.tokenizer, maker.options
    answers: list[Answer] = list(finished)
    attempts: dict[int, _Attempt] = {}  # index of the sentence -> its second attempt
    index = 0
    for text in texts:
        for number, piece in enumerate(text.sentences):
            if isinstance(piece, ProtectedPiece):
                found = settled(piece, finished[index], tokenizer, options)
                if found is None:
                    attempts[index] = _attempt(piece, text.prefix if number == 0 else None, maker)
                else:
                    answers[index] = found
            index += 1
    if attempts:
        answers_of_parts = iter(await _translate(list(attempts.values()), call, maker))
        for index, attempt in attempts.items():
            own = [next(answers_of_parts) for _ in attempt.translated]
            answers[index] = settled_in_parts(attempt.piece, attempt.parts, own, tokenizer, options)
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


async def _translate(attempts: Sequence[_Attempt], call: EngineCall, maker: RequestMaker) -> list[Finished]:
    """Translate the parts of sentences, as further requests of the call."""
    wanted = [
        (part, attempt.prefix if number == 0 else None)
        for attempt in attempts
        for number, part in enumerate(attempt.translated)
    ]
    tokens = sum(len(part.tokens) + maker.route.model.tokenizer.source_overhead for part, _ in wanted)
    call.expect_more(len(wanted), tokens * maker.options.num_rows, maker.sender.deadline)
    return await call.finish_all(maker.of(part, prefix) for part, prefix in wanted)
