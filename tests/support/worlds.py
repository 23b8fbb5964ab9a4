"""Runners without a neural network whose candidates are hard cases, and requests with all options for them."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from dragoman_service.engine.biases import Bias, Preferred
from dragoman_service.engine.plan import Adjustment
from dragoman_service.engine.request import DecodingOptions, Normalisation, Priority, Request, Sampling
from dragoman_service.engine.restrictions import OnlyTokens, Restriction
from support.fake_runner import BEGIN, END, PAD, UNKNOWN, VOCAB_SIZE, Candidates, FakeRunner

_MASKED = (PAD, BEGIN, UNKNOWN)


@dataclass(frozen=True, slots=True)
class World:
    """What candidates and requests are like."""

    vocabulary: int = 20
    end: float = 1.0
    """Bias of the end of the sentence."""
    nan: float = 0.0
    """Share of states after which all log-probabilities are NaN."""
    bans: float = 0.0
    """Share of tokens with log-probability minus infinity, in a third of the states."""
    ties: bool = False
    """Whether many candidates have equal logits."""
    long: float = 0.1
    """Share of requests with up to 150 tokens."""
    plain: float = 0.2
    """Share of requests with greedy search and no other option."""

    def request(self, rng: random.Random, request_id: int) -> Request:
        """Make a random request."""
        words, plain = range(4, self.vocabulary), rng.random() < self.plain
        is_long = rng.random() < self.long
        max_length = rng.randint(40, 150) if is_long else rng.randint(1, 14)
        prefix = rng.randrange(min(max_length, rng.choice([4, 80]))) if not plain and rng.random() < 0.3 else 0
        options = DecodingOptions() if plain else _options(rng)
        if is_long and rng.random() < 0.7:
            options = dataclasses.replace(options, min_length=max_length - rng.randrange(10))
        return Request(
            id=request_id,
            source=(*rng.choices(words, k=rng.randint(1, 6)), END),
            max_length=max_length,
            options=dataclasses.replace(options, min_length=min(options.min_length, max_length)),
            target_prefix=tuple(rng.choices([*words, END], k=prefix)),
            forced=tuple(rng.choices([*words, END, PAD], k=rng.choice([0, 0, 1, 3]))),
            normalisation=rng.choice(list(Normalisation)),
            restrictions=() if plain else _restrictions(rng),
            biases=() if plain else biases(rng, self.vocabulary),
            stream=not plain and rng.random() < 0.5,
            client=rng.choice("abc"),
            priority=rng.choice(list(Priority)),
        )

    def candidates(
        self, source: tuple[int, ...], fed: tuple[int, ...], adjustments: Sequence[Adjustment]
    ) -> Candidates:
        """The likeliest tokens after `fed` and their log-probabilities, as `fake_runner.candidates` has them.

        Of equals, the end of the sentence comes last.
        """
        allowed = [token for token in range(self.vocabulary) if token not in _MASKED]
        logits = _logits(self, source, fed)
        if logits is None:
            return allowed[::-1], [math.nan] * len(allowed)
        values = list(logits)
        for adjustment in adjustments:
            value = values[adjustment.token]
            value = value / adjustment.penalty if value > 0 else value * adjustment.penalty
            values[adjustment.token] = value + adjustment.bias
        total = sum(math.exp(values[token]) for token in allowed)
        best = sorted(allowed, key=lambda token: (-values[token], -token))
        if total == 0.0:
            return best, [-math.inf] * len(best)
        return best, [values[token] - math.log(total) for token in best]


@cache
def _logits(world: World, source: tuple[int, ...], fed: tuple[int, ...]) -> tuple[float, ...] | None:
    rng = random.Random(hashlib.blake2b(repr((source, fed)).encode(), digest_size=16).digest())
    if rng.random() < world.nan:
        return None
    values = [rng.uniform(-3, 3) for _ in range(world.vocabulary)]
    if world.ties:
        values = [float(round(value)) for value in values]
    values[END] += world.end
    if rng.random() < 1 / 3:
        values = [-math.inf if rng.random() < world.bans else value for value in values]
    return tuple(values)


def _options(rng: random.Random) -> DecodingOptions:
    common = {
        "length_penalty": rng.choice([0.0, 0.6, 1.0, 2.0]),
        "min_length": rng.choice([0, 0, 0, 2, 5]),
        "repetition_penalty": rng.choice([1.0, 1.0, 1.3, 10.0]),
        "no_repeat_ngram_size": rng.choice([0, 0, 1, 2, 3, 4]),
    }
    if rng.random() < 0.3:
        common = {}
    kind = rng.choice(["greedy", "beam", "sample"])
    if kind == "greedy":
        return DecodingOptions(**common)
    if kind == "beam":
        size = rng.randint(2, 8)
        return DecodingOptions(beam_size=size, num_hypotheses=rng.randint(1, size), **common)
    sampling = Sampling(
        temperature=rng.choice([0.01, 0.3, 1.0, 2.0]),
        top_k=rng.choice([1, 2, 5, 64, 65]),
        top_p=rng.choice([0.5, 0.9, 1.0]),
        seed=rng.randrange(1000),
    )
    return DecodingOptions(num_hypotheses=rng.randint(1, 4), sampling=sampling, **common)


@dataclass(frozen=True, slots=True)
class EverySecond:
    """Allows tokens that depend on the last one and on the length; all of them after every second token."""

    seed: int

    def allowed(self, tokens: npt.NDArray[np.int64], vocab_size: int) -> npt.NDArray[np.bool_] | None:
        """See `Restriction`."""
        if len(tokens) % 2:
            return None
        rng = random.Random(repr((self.seed, tokens[-1:].tolist(), len(tokens))))
        return np.array([rng.random() < 0.4 for _ in range(vocab_size)])


def _restrictions(rng: random.Random) -> tuple[Restriction, ...]:
    """Restrictions of a request: none for most, up to two for the others."""
    some = tuple(rng.sample(range(4, VOCAB_SIZE), 8))
    both = (EverySecond(1), OnlyTokens(some))
    return rng.choice([(), (), (), (OnlyTokens((END, *some)),), (EverySecond(some[0]),), both])


@dataclass(frozen=True, slots=True)
class Whims:
    """Adds to some logits, or bans tokens, as the last token and the length decide."""

    seed: int
    vocabulary: int
    until: float = math.inf

    def added(self, tokens: Sequence[int]) -> tuple[npt.NDArray[np.int64], float]:
        """See `Bias`."""
        rng = random.Random(repr((self.seed, tokens[-1:], len(tokens))))
        if len(tokens) >= self.until:
            return np.zeros(0, np.int64), 0.0
        changed = rng.sample(range(self.vocabulary), k=rng.randrange(4))
        return np.array(changed, np.int64), rng.choice([-math.inf, -1.5, 0.25, 30.0])


def biases(rng: random.Random, vocabulary: int = VOCAB_SIZE) -> tuple[Bias, ...]:
    """Biases of a request: none for most, up to three for the others."""
    preferred = Preferred(
        tuple((rng.randrange(4, vocabulary), END) for _ in range(rng.randint(1, 4))), rng.uniform(0, 9)
    )
    whims = Whims(rng.randrange(1000), vocabulary, rng.choice([3, math.inf]))
    return rng.choice([(), (), (), (preferred,), (whims,), (whims, preferred, Whims(7, vocabulary))])


class WorldRunner(FakeRunner):
    """A fake runner with the candidates of a world."""

    def __init__(self, max_rows: int, world: World) -> None:
        super().__init__(max_rows)
        self.world = world

    def _candidates(
        self, source: tuple[int, ...], fed: tuple[int, ...], adjustments: Sequence[Adjustment]
    ) -> Candidates:
        return self.world.candidates(source, fed, adjustments)
