"""Runaway repetition: a model that repeats the same few tokens until it is stopped."""

from __future__ import annotations

from collections.abc import Sequence

FIRST_CHECK = 24
"""Tokens that a hypothesis has when it is checked first."""
INTERVAL = 8
"""Tokens after which it is checked again."""
_LONGEST_PERIOD = 16
_LEAST_TIMES = 4
_ALLOWANCE = 16
"""Repeated tokens that are allowed beside those that the source accounts for."""


def is_runaway(tokens: Sequence[int], source: Sequence[int]) -> bool:
    """Whether a hypothesis ends with a repetition that its source does not account for.

    That is a sequence of at most 16 tokens, four times or more in a row and over at least `FIRST_CHECK` tokens. A
    source that repeats itself ("no no no no") may be translated by twice as many repeated tokens as it has.
    """
    for period in range(1, _LONGEST_PERIOD + 1):
        least = max(FIRST_CHECK, _LEAST_TIMES * period)
        if len(tokens) >= least and tokens[period - least :] == tokens[-least:-period]:
            return _run_at_end(tokens, period) > _ALLOWANCE + 2 * _longest_run(source)
    return False


def _run_at_end(tokens: Sequence[int], period: int) -> int:
    length = period
    while length < len(tokens) and tokens[-1 - length] == tokens[-1 - length + period]:
        length += 1
    return length


def _longest_run(source: Sequence[int]) -> int:
    """Tokens of the longest part of a source that repeats a sequence; 0 if no part does."""
    longest = 0
    for period in range(1, _LONGEST_PERIOD + 1):
        equal = 0
        for earlier, later in zip(source, source[period:], strict=False):
            equal = equal + 1 if earlier == later else 0
            if equal >= period:  # the sequence has come twice
                longest = max(longest, equal + period)
    return longest
