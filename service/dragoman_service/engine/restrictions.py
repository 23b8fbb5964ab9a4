"""Restrictions: which tokens a request allows next, given those that it has produced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]


class Restriction(Protocol):
    """Restricts the tokens of a translation. The scores remain those of the model without it.

    A restriction is an immutable value that can be pickled: it crosses processes with its request. What it allows is a
    function of the tokens of one hypothesis and of nothing else. So a translation never depends on its neighbours, and
    a request that runs again gets the same one.
    """

    def allowed(self, tokens: npt.NDArray[np.int64], vocab_size: int) -> Bools | None:
        """The tokens that may come next.

        Args:
            tokens: [length], the tokens of the hypothesis: the target prefix and what was chosen after it. Forced ids
                are not among them.
            vocab_size: Number of target ids of the model.

        Returns:
            [vocab_size], which nobody changes; None if all tokens may come, which costs nothing. A hypothesis without
            an allowed token is cut.
        """
        ...


@dataclass(frozen=True, slots=True)
class OnlyTokens:
    """Allows the same tokens everywhere. Without the end of the sentence among them, translations are cut."""

    ids: tuple[int, ...]

    def allowed(self, tokens: npt.NDArray[np.int64], vocab_size: int) -> Bools | None:
        """See `Restriction`."""
        mask = np.zeros(vocab_size, np.bool_)
        mask[list(self.ids)] = True
        return mask


@dataclass(frozen=True, slots=True)
class TokensAt:
    """Allows some tokens only at one place, and all elsewhere."""

    place: int
    """Number of tokens before it."""
    ids: tuple[int, ...]

    def allowed(self, tokens: npt.NDArray[np.int64], vocab_size: int) -> Bools | None:
        """See `Restriction`."""
        return OnlyTokens(self.ids).allowed(tokens, vocab_size) if len(tokens) == self.place else None


@dataclass(frozen=True, slots=True)
class Exactly:
    """Allows one translation alone, and its end."""

    tokens: tuple[int, ...]
    end_id: int

    def allowed(self, tokens: npt.NDArray[np.int64], vocab_size: int) -> Bools | None:
        """See `Restriction`."""
        return OnlyTokens((*self.tokens, self.end_id)[len(tokens) :][:1]).allowed(tokens, vocab_size)


@dataclass(frozen=True, slots=True)
class NotFirst:
    """Allows all tokens but one at the first place, and all elsewhere."""

    token: int

    def allowed(self, tokens: npt.NDArray[np.int64], vocab_size: int) -> Bools | None:
        """See `Restriction`."""
        if len(tokens):
            return None
        mask = np.ones(vocab_size, np.bool_)
        mask[self.token] = False
        return mask


def allowed_by_all(restrictions: Sequence[Restriction], tokens: npt.NDArray[Any], vocab_size: int) -> Bools | None:
    """The tokens that every restriction allows; None if all tokens may come."""
    masks = [mask for each in restrictions if (mask := each.allowed(tokens, vocab_size)) is not None]
    if len(masks) < 2:
        return masks[0] if masks else None
    every: Bools = np.logical_and.reduce(masks)
    return every
