"""Biases: what is added to the logits of the next token, given the tokens that a hypothesis has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

NO_TOKENS: Ints = np.zeros(0, np.int64)


class Bias(Protocol):
    """Changes the distribution of the next token, and with it the scores; a `Restriction` changes no score.

    A bias is an immutable value that can be pickled, and a function of the tokens of one hypothesis, as a restriction
    is. It is made for few tokens: each costs as much as a penalty.
    """

    @property
    def until(self) -> float:
        """Number of tokens from which on it adds nothing; infinity if there is none."""
        ...

    def added(self, tokens: Sequence[int]) -> tuple[Ints, float]:
        """What is added after some tokens.

        Args:
            tokens: The tokens of the hypothesis: the target prefix and what was chosen after it. Forced ids are not
                among them.

        Returns:
            Tokens, and what is added to the logit of each: a finite number, or minus infinity, which bans them. No
            token occurs twice if the number is finite.
        """
        ...


@dataclass(frozen=True)
class Preferred:
    """A beginning that is preferred for as long as the hypothesis has followed it.

    The odds of the next place (that one of its tokens comes) are multiplied by `exp(bias)`.
    """

    places: tuple[tuple[int, ...], ...]
    """For each place, the tokens that follow the beginning."""
    bias: float

    @property
    def until(self) -> float:
        """See `Bias`."""
        return len(self.places)

    def added(self, tokens: Sequence[int]) -> tuple[Ints, float]:
        """See `Bias`."""
        if len(tokens) >= len(self.places):
            return NO_TOKENS, 0.0
        followed = all(token in place for token, place in zip(tokens, self.places, strict=False))
        return (np.array(self.places[len(tokens)], np.int64), self.bias) if followed else (NO_TOKENS, 0.0)


ANYWHERE, AT_BORDER = range(2)
"""States of `Suppressed`: one that it is always in, and one in which it is where a word may begin."""
INSIDE, BORDER, NO_TEXT = range(3)
"""What the text of a token ends with: a letter or the like, after which no word can begin, or something else."""


@dataclass(frozen=True)
class Suppressed:
    """Bans the tokens that complete words, in any spelling.

    It is a nondeterministic automaton that reads the tokens of a hypothesis. All states but `ANYWHERE` and `AT_BORDER`
    are words of which some bytes have been written.
    """

    endings: Mapping[int, tuple[int, ...]]
    """State -> the tokens that complete its word. Those of `ANYWHERE` never come."""
    steps: Mapping[int, tuple[tuple[int, int], ...]]
    """Token -> pairs of states: from the first one, the token leads to the second one."""
    ends: bytes
    """[vocabulary], what the text of each token ends with."""

    @property
    def until(self) -> float:
        """See `Bias`."""
        return math.inf

    def added(self, tokens: Sequence[int]) -> tuple[Ints, float]:
        """See `Bias`."""
        completing = [self._endings[state] for state in self._states(tokens) if state in self.endings]
        return np.concatenate(completing) if completing else NO_TOKENS, -math.inf

    @cached_property
    def _endings(self) -> dict[int, Ints]:
        return {state: np.array(tokens, np.int64) for state, tokens in self.endings.items()}

    def _states(self, tokens: Sequence[int]) -> set[int]:
        start = len(tokens)
        while start and (tokens[start - 1] in self.steps or self.ends[tokens[start - 1]] == NO_TEXT):
            start -= 1
        # A token without steps leads from every state to the same ones.
        states = {ANYWHERE} if start else {ANYWHERE, AT_BORDER}
        for token in tokens[max(0, start - 1) :]:
            if self.ends[token] != NO_TEXT:
                states = {ANYWHERE, *(after for before, after in self.steps.get(token, ()) if before in states)}
                if self.ends[token] == BORDER:
                    states.add(AT_BORDER)
        return states
