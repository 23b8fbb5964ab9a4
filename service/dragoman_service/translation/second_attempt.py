"""Checks the translations of sentences with kept spans, and translates again those that have lost one.

The attempts of a sentence: as it is, if all of its spans are terms; with stand-ins; with other stand-ins; in parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import islice

from dragoman_service.engine.request import Finished
from dragoman_service.text.segmenter import EncodedPiece
from dragoman_service.translation.assembly import Answer, settled, settled_in_parts
from dragoman_service.translation.engine_port import EngineCall
from dragoman_service.translation.in_parts import InParts, in_parts
from dragoman_service.translation.prefix import Prefix, make_prefix
from dragoman_service.translation.prepare import PreparedText, RequestMaker, leaves_room
from dragoman_service.translation.sentences import ProtectedPiece, TermPiece, is_checked, with_other_stand_ins
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
    checked = [index for index, (piece, _) in enumerate(settling.sentences) if is_checked(piece)]
    latest = [finished[index] for index in checked]
    while checked:
        await compute(settling.check(checked, latest))
        checked, settling.again = settling.again, []
        latest = await _translate([settling.sentences[index] for index in checked], call, maker)
    parts = [part for attempt in settling.in_parts.values() for part in attempt.wanted]
    await compute(settling.parts(await _translate(parts, call, maker)))
    return settling.answers


class _Settling:
    """The sentences of texts, and their answers. Its methods that take answers yield after each sentence."""

    def __init__(self, texts: Sequence[PreparedText], finished: Sequence[Finished], maker: RequestMaker) -> None:
        self._maker = maker
        self.answers: list[Answer] = list(finished)
        self.sentences: list[tuple[EncodedPiece, Prefix | None]] = [
            (piece, text.prefix if number == 0 else None)
            for text in texts
            for number, piece in enumerate(text.sentences)
        ]
        """As they are in their latest attempts, with their prefixes."""
        self.again: list[int] = []
        """Sentences that are translated again."""
        self.in_parts: dict[int, InParts] = {}
        """Index of a sentence -> the sentence in parts."""
        self._with_others: set[int] = set()
        self._more_tokens: Counter[int] = Counter()

    def check(self, checked: Sequence[int], latest: Sequence[Finished]) -> Steps[None]:
        """Settle sentences whose latest answer keeps their spans, and choose another attempt for each of the others."""
        for index, answer in zip(checked, latest, strict=True):
            piece, prefix = self.sentences[index]
            assert is_checked(piece)
            found = settled(piece, answer, self._maker.route, self._maker.options, prefix)
            if found is not None:
                self.answers[index] = replace(found, more_source_tokens=self._more_tokens[index])
            else:
                self._choose_attempt(index, piece, prefix)
            yield

    def _choose_attempt(self, index: int, piece: ProtectedPiece | TermPiece, prefix: Prefix | None) -> None:
        route, options = self._maker.route, self._maker.options
        if isinstance(piece, TermPiece):
            following: ProtectedPiece | None = piece.protected
        elif index not in self._with_others:
            self._with_others.add(index)
            following = with_other_stand_ins(piece, route)
        else:
            following = None
        again = None
        if following is not None and prefix is not None:
            again = make_prefix(prefix.text, route.model.tokenizer, following.protected, required=prefix.required)
        if following is None or (again and not leaves_room(again, following, route, options)):
            assert isinstance(piece, ProtectedPiece)
            self.in_parts[index] = in_parts(piece, prefix, route, options)
            return
        self.sentences[index] = following, again
        self._more_tokens[index] += len(following.tokens) + 1
        self.again.append(index)

    def parts(self, finished: Sequence[Finished]) -> Steps[None]:
        """Put the translations of the parts together."""
        tokenizer, options = self._maker.route.model.tokenizer, self._maker.options
        remaining = iter(finished)
        for index, attempt in self.in_parts.items():
            found = settled_in_parts(attempt, list(islice(remaining, len(attempt.wanted))), tokenizer, options)
            more = found.more_source_tokens + self._more_tokens[index]
            self.answers[index] = replace(found, more_source_tokens=more)
            yield


async def _translate(
    wanted: Sequence[tuple[EncodedPiece, Prefix | None]], call: EngineCall, maker: RequestMaker
) -> list[Finished]:
    """Translate pieces, as further requests of the call."""
    if not wanted:
        return []
    tokens = sum(len(piece.tokens) + maker.route.model.tokenizer.source_overhead for piece, _ in wanted)
    call.expect_more(len(wanted), tokens * maker.options.num_rows, maker.sender.deadline)
    return await call.finish_all(maker.of(piece, prefix) for piece, prefix in wanted)
