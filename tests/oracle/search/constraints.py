"""The options that change logits before candidates are chosen: minimum length, repetition, repeated n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from dragoman_service.engine.request import Request
from oracle.plan import Adjustment, Mask
from oracle.search.base import BANNED
from support.fake_runner import VOCAB_SIZE


@lru_cache(maxsize=1 << 16)
def _penalised(row: int, token: int, penalty: float) -> Adjustment:
    """Cached, as a long translation asks for the same hundred adjustments again at every step."""
    return Adjustment(row, token, penalty=float(np.float32(penalty)))  # as the graphs take it


class Constraints:
    """Turns the tokens produced so far into the adjustments of the next step, at most one per row and token."""

    __slots__ = ("_biases", "_end_id", "_min_length", "_ngram_size", "_penalty", "_restrictions", "active")

    def __init__(self, request: Request, end_id: int) -> None:
        options = request.options
        self._restrictions, self._biases = request.restrictions, request.biases
        self._min_length = options.min_length
        self._ngram_size = options.no_repeat_ngram_size
        self._penalty = options.repetition_penalty
        self._end_id = end_id
        is_special = self._min_length > 0 or self._ngram_size > 0 or self._penalty != 1.0
        self.active = bool(is_special or self._restrictions or self._biases)
        """Whether there can be any adjustments or masks at all; lets the common case cost nothing."""

    def mask(self, tokens: Sequence[int]) -> Mask:
        """The tokens that may come after `tokens`; empty if all may."""
        masks = [each.allowed(np.array(tokens, np.int64), VOCAB_SIZE) for each in self._restrictions]
        return tuple(
            all(allowed) for allowed in zip(*(mask.tolist() for mask in masks if mask is not None), strict=True)
        )

    def adjustments(self, row: int, tokens: Sequence[int]) -> list[Adjustment]:
        """Adjustments for a row of the batch in which `tokens` were produced, those of the forced prefix included."""
        banned = repeated_ngram_ends(tokens, self._ngram_size) if self._ngram_size else set()
        if len(tokens) < self._min_length:
            banned.add(self._end_id)
        adjustments = [Adjustment(row, token, bias=BANNED) for token in sorted(banned)]
        if self._penalty != 1.0:
            produced = sorted(set(tokens) - banned)
            adjustments += [_penalised(row, token, self._penalty) for token in produced]
        return self._biased(row, tokens, adjustments) if self._biases else adjustments

    def _biased(self, row: int, tokens: Sequence[int], adjustments: list[Adjustment]) -> list[Adjustment]:
        """The adjustments of a row, with what biases add to them."""
        found = {adjustment.token: adjustment for adjustment in adjustments}
        for changed, number in (bias.added(tokens) for bias in self._biases):
            for token in changed.tolist():
                before = found.get(token, Adjustment(row, token))
                found[token] = before._replace(bias=float(np.float32(before.bias) + np.float32(number)))
        return list(found.values())


def repeated_ngram_ends(tokens: Sequence[int], size: int) -> set[int]:
    """Tokens that would end an n-gram of `size` that stands in `tokens` already."""
    if size == 1:
        return set(tokens)
    context = tokens[len(tokens) - size + 1 :]
    return {
        tokens[end]
        for end in range(size - 1, len(tokens))
        if tokens[end - 1] == tokens[-1] and tokens[end - size + 1 : end] == context
    }
