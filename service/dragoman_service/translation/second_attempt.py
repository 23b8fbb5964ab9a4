"""Checks the translations of sentences with kept spans, and translates anew those that have lost one.

A sentence of terms is translated with stand-ins if a term is aligned to nothing, and then in parts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import islice

from dragoman_service.engine.request import Finished
from dragoman_service.text.segmenter import EncodedPiece
from dragoman_service.translation.assembly import Answer, Settled, settled, settled_in_parts
from dragoman_service.translation.engine_port import EngineCall
from dragoman_service.translation.in_parts import InParts, in_parts
from dragoman_service.translation.prefix import Prefix
from dragoman_service.translation.prepare import PreparedText, RequestMaker
from dragoman_service.translation.sentences import ProtectedPiece, TermPiece, is_checked
from dragoman_service.translation.text_worker import Steps

Compute = Callable[[Steps[None]], Awaitable[None]]
"""Does all steps of some work."""


def has_checked(texts: Sequence[PreparedText]) -> bool:
    """Whether the translation of any sentence is checked, so that a second attempt may be needed."""
    return any(is_checked(piece) for text in texts for piece in text.pieces)


async def settle(
    texts: Sequence[PreparedText], finished: Sequence[Finished], call: EngineCall, maker: RequestMaker, compute: Compute
) -> list[Answer]:
    """The answers for the sentences of texts, from the first answers of the engine.

    Args:
        texts: The texts.
        finished: The answer of the engine for each sentence of all texts.
        call: The call, whose sentences have all been submitted.
        maker: Makes further requests of the call.
        compute: Does work that may be long, off the event loop.

    Raises the errors of `EngineCall.expect_more` and `EngineCall.finish_all`.
    """
    settling = _Settling(texts, finished, maker)
    await compute(settling.terms())
    with_stand_ins = await _translate([settling.sentences[it] for it in settling.unaligned], call, maker)
    await compute(settling.spans(with_stand_ins))
    parts = [part for attempt in settling.attempts.values() for part in attempt.wanted]
    await compute(settling.parts(await _translate(parts, call, maker)))
    return settling.answers


class _Settling:
    """The sentences of texts, and their answers. Each method is a stage, and yields after each sentence."""

    def __init__(self, texts: Sequence[PreparedText], finished: Sequence[Finished], maker: RequestMaker) -> None:
        self._maker = maker
        self._latest = list(finished)
        self.answers: list[Answer] = list(finished)
        self.sentences: list[tuple[EncodedPiece, Prefix | None]] = [
            (piece, text.prefix if number == 0 else None)
            for text in texts
            for number, piece in enumerate(text.sentences)
        ]
        self.unaligned: list[int] = []
        """Sentences in which a term is aligned to nothing: they are translated with stand-ins."""
        self.attempts: dict[int, InParts] = {}
        """Index of a sentence -> its translation in parts."""

    def terms(self) -> Steps[None]:
        """Replace the terms of sentences that the model has read as they are."""
        for index, (piece, prefix) in enumerate(self.sentences):
            if isinstance(piece, TermPiece):
                if not self._settles(piece, prefix, index):
                    self.unaligned.append(index)
                    self.sentences[index] = piece.protected, prefix
                yield

    def spans(self, with_stand_ins: Sequence[Finished]) -> Steps[None]:
        """Put the spans into the translations, of which `with_stand_ins` has those of `unaligned`."""
        for index, answer in zip(self.unaligned, with_stand_ins, strict=True):
            self._latest[index] = answer
        for index, (piece, prefix) in enumerate(self.sentences):
            if isinstance(piece, ProtectedPiece):
                if not self._settles(piece, prefix, index):
                    self.attempts[index] = in_parts(piece, prefix, self._maker.route)
                yield

    def parts(self, finished: Sequence[Finished]) -> Steps[None]:
        """Put the translations of the parts together."""
        tokenizer, options = self._maker.route.model.tokenizer, self._maker.options
        remaining = iter(finished)
        for index, attempt in self.attempts.items():
            own = list(islice(remaining, len(attempt.wanted)))
            self.answers[index] = settled_in_parts(attempt, own, tokenizer, options)
            yield
        for index in self.unaligned:
            answer = self.answers[index]
            assert isinstance(answer, Settled)
            more = answer.more_source_tokens + len(self.sentences[index][0].tokens) + 1
            self.answers[index] = replace(answer, more_source_tokens=more)

    def _settles(self, piece: ProtectedPiece | TermPiece, prefix: Prefix | None, index: int) -> bool:
        found = settled(piece, self._latest[index], self._maker.route, self._maker.options, prefix)
        if found is not None:
            self.answers[index] = found
        return found is not None


async def _translate(
    wanted: Sequence[tuple[EncodedPiece, Prefix | None]], call: EngineCall, maker: RequestMaker
) -> list[Finished]:
    """Translate pieces, as further requests of the call."""
    if not wanted:
        return []
    tokens = sum(len(piece.tokens) + maker.route.model.tokenizer.source_overhead for piece, _ in wanted)
    call.expect_more(len(wanted), tokens * maker.options.num_rows, maker.sender.deadline)
    return await call.finish_all(maker.of(piece, prefix) for piece, prefix in wanted)
