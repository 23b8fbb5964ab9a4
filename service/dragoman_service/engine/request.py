"""Requests to the engine and the events that answer them: frozen values with validation."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from dragoman_service.engine.biases import Bias
from dragoman_service.engine.restrictions import Restriction
from dragoman_service.errors import InvalidInput

MAX_BEAM_SIZE = 16
MAX_TOP_K = 256


class FinishReason(enum.Enum):
    """Why a hypothesis ended."""

    STOP = "stop"
    """The model produced the end of the sentence."""
    LENGTH = "length"
    """`max_length` was reached first: the translation is incomplete."""
    REPETITION = "repetition"
    """The same few tokens were repeated without end, and the translation was stopped: it is incomplete."""


class Priority(enum.Enum):
    """Priority class of a request."""

    INTERACTIVE = "interactive"
    """A person waits for the translation."""
    BATCH = "batch"
    """Work that may be delayed by interactive requests."""


class Normalisation(enum.Enum):
    """Length penalty: what a sum of log-probabilities is divided by, for a length l in tokens and an exponent a.

    The end of the sentence counts in l if the hypothesis ended by itself. `search.scores` has the formulas.
    """

    GNMT = "gnmt"
    """((5 + l) / 6) ** a (Wu et al. 2016, equation 14)."""
    POWER = "power"
    """l ** a, as in Hugging Face's transformers, CTranslate2 and Marian."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Options of random sampling: temperature first, then the `top_k` likeliest tokens, then the nucleus `top_p`."""

    temperature: float = 1.0
    """Divides the logits: below 1 sharpens the distribution, above 1 flattens it. Above 0, at most 100."""
    top_k: int = 50
    """Number of likeliest tokens to draw from, 1 to `MAX_TOP_K`."""
    top_p: float = 1.0
    """Draw from the fewest of these whose probabilities add up to this (Holtzman et al. 2020). Above 0, at most 1."""
    seed: int | None = None
    """The same seed, text and model give the same tokens, whatever else the server does. None: the code that makes the
    request draws a seed for each sentence."""

    def __post_init__(self) -> None:
        _check("sampling.temperature", self.temperature, 0 < self.temperature <= 100, "above 0, at most 100")
        _check("sampling.top_k", self.top_k, 1 <= self.top_k <= MAX_TOP_K, f"1 to {MAX_TOP_K}")
        _check("sampling.top_p", self.top_p, 0 < self.top_p <= 1, "above 0, at most 1")
        _check("sampling.seed", self.seed, self.seed is None or 0 <= self.seed < 2**64, "0 to 2**64 - 1")


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """Options of the search. The defaults are greedy search."""

    beam_size: int = 1
    """Hypotheses kept alive; 1 is greedy search. 1 to `MAX_BEAM_SIZE`."""
    num_hypotheses: int = 1
    """Translations returned, best first: at most `beam_size`, or so many independent samples with `sampling`."""
    length_penalty: float = 1.4
    """Exponent of the length penalty, by which the sum of log-probabilities is divided. The model decides which
    `Normalisation` it belongs to. 0 to 5."""
    patience: float = 1.0
    """A beam search ends once `patience * beam_size` hypotheses have finished (Kasai et al. 2022). 1 to 10."""
    coverage_penalty: float = 0.0
    """Subtracted from a score, times the share of `Request.content` that no token is aligned to. 0 to 10."""
    min_length: int = 0
    """Minimum number of target tokens, without the end of the sentence."""
    max_length: int | None = None
    """Maximum number of target tokens, without the end of the sentence. None: the limit of the model."""
    max_added_length: int | None = None
    """Maximum number of target tokens beyond those of the source, without the ends of the sentences. None: no limit."""
    repetition_penalty: float = 1.0
    """Logits of tokens already produced are divided if positive, else multiplied (Keskar et al. 2019). 1 to 10."""
    no_repeat_ngram_size: int = 0
    """No n-gram of this size occurs twice in a translation. 0 to 16; 0 is off."""
    stop_repetition: bool = False
    """Whether a hypothesis that repeats itself without end is stopped (`search.repetition`)."""
    never_empty: bool = False
    """Whether the end of the sentence may not come first. Unlike with `min_length`, no score changes."""
    sampling: Sampling | None = None
    """Draw at random instead of searching; needs `beam_size` 1."""

    def __post_init__(self) -> None:
        _check("beam_size", self.beam_size, 1 <= self.beam_size <= MAX_BEAM_SIZE, f"1 to {MAX_BEAM_SIZE}")
        _check(
            "num_hypotheses", self.num_hypotheses, 1 <= self.num_hypotheses <= MAX_BEAM_SIZE, f"1 to {MAX_BEAM_SIZE}"
        )
        _check("length_penalty", self.length_penalty, 0 <= self.length_penalty <= 5, "0 to 5")
        _check("patience", self.patience, 1 <= self.patience <= 10, "1 to 10")
        _check("coverage_penalty", self.coverage_penalty, 0 <= self.coverage_penalty <= 10, "0 to 10")
        _check("min_length", self.min_length, self.min_length >= 0, "0 or more")
        if self.max_added_length is not None:
            _check("max_added_length", self.max_added_length, self.max_added_length >= 0, "0 or more")
            _check("min_length", self.min_length, self.min_length == 0, "0 together with max_added_length")
        _check("repetition_penalty", self.repetition_penalty, 1 <= self.repetition_penalty <= 10, "1 to 10")
        _check("no_repeat_ngram_size", self.no_repeat_ngram_size, 0 <= self.no_repeat_ngram_size <= 16, "0 to 16")
        if self.max_length is not None:
            _check("max_length", self.max_length, self.max_length >= 1, "1 or more")
            if self.min_length > self.max_length:
                raise InvalidInput("min_length", self.min_length, f"at most max_length, which is {self.max_length}")
        if self.sampling is not None and self.beam_size != 1:
            raise InvalidInput("beam_size", self.beam_size, "1 together with sampling: choose one of the two")
        if self.sampling is None and self.num_hypotheses > self.beam_size:
            raise InvalidInput("num_hypotheses", self.num_hypotheses, f"at most beam_size, which is {self.beam_size}")

    @property
    def num_rows(self) -> int:
        """Rows of the running batch that a request with these options occupies."""
        return self.num_hypotheses if self.sampling is not None else self.beam_size


@dataclass(frozen=True, slots=True)
class Request:
    """One sentence to translate, tokenised and checked against the model's limits."""

    id: int
    """Unique among the requests of an engine."""
    source: tuple[int, ...]
    """Source token ids, the end of the sentence last."""
    max_length: int
    """Maximum number of target tokens, without the end of the sentence: by `options`, and the model's limit."""
    options: DecodingOptions = field(default_factory=DecodingOptions)
    target_prefix: tuple[int, ...] = ()
    """Target token ids that the translation must begin with; shorter than `max_length`."""
    deadline: float | None = None
    """Deadline in seconds of the engine's clock; None: no deadline."""
    stream: bool = False
    """Whether `Progress` events are wanted."""
    client: str = ""
    """Client of the request. Waiting clients share the work fairly."""
    priority: Priority = Priority.INTERACTIVE
    forced: tuple[int, ...] = ()
    """Target token ids that every row is fed after the first one and before `target_prefix`, such as the language.

    They take positions of the model, and are no part of the translation: they are not scored, shown or counted, and
    penalties and bans do not see them."""
    normalisation: Normalisation = Normalisation.GNMT
    """Length penalty of the model."""
    restrictions: tuple[Restriction, ...] = ()
    """The tokens that may come next are those that all of them allow. The target prefix is not checked."""
    alignments: bool = False
    """Whether `Hypothesis.alignment` is wanted. A coverage penalty needs it."""
    content: tuple[int, ...] = ()
    """Positions in `source` that a translation is to cover; for `options.coverage_penalty`."""
    biases: tuple[Bias, ...] = ()
    """All of them are added to the logits. The target prefix is not changed."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One finished translation."""

    tokens: tuple[int, ...]
    """Target token ids, the target prefix included, forced ids and the end of the sentence not."""
    token_scores: tuple[float, ...]
    """Natural log-probability of each of `tokens`; 0 for those of the target prefix, which had no alternative."""
    score: float
    """Sum of log-probabilities, with the end of the sentence, over the length penalty; less the coverage penalty."""
    finish_reason: FinishReason
    end_score: float = 0.0
    """Natural log-probability of the end of the sentence; 0 for a hypothesis that did not end by itself."""
    alignment: tuple[int, ...] = ()
    """For each of `tokens`, and for the end of the sentence if there is one: the position in `Request.source` that the
    model attended to most while it chose the token; -1 for given tokens. Empty if it was not wanted, or if the model
    does not return it."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Where a request's time went, in seconds."""

    queue: float = 0.0
    """From submission until it joined the running batch."""
    encode: float = 0.0
    """In the encoder."""
    decode: float = 0.0
    """From the end of encoding until the last token."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Tokens that have become final; only for requests with `stream`."""

    request_id: int
    tokens: tuple[int, ...]
    """The new final token ids. With a beam, those that all hypotheses that can still win have in common."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The final event of a request that succeeded."""

    request_id: int
    hypotheses: tuple[Hypothesis, ...]
    """Best first, at least `options.num_hypotheses` of them. If several are wanted, a beam search returns all that it
    has finished: some of them may be other spellings of the same text."""
    timings: Timings = Timings()


@dataclass(frozen=True, slots=True)
class Failed:
    """The final event of a request that failed: cancelled, past its deadline, refused, or failed by the engine."""

    request_id: int
    error: Exception
    """One of `dragoman_service.errors`."""


Event = Progress | Finished | Failed


def check_request(request: Request, max_rows: int, max_positions: int | None = None) -> None:
    """Raise InvalidInput for a request that can never run in a batch of `max_rows`, each of `max_positions` positions.

    None means that there is no limit of positions.
    """
    if request.options.num_rows > max_rows:
        field = "beam_size" if request.options.sampling is None else "num_hypotheses"
        raise InvalidInput(field, request.options.num_rows, f"at most {max_rows}, the rows of this server")
    _check("source", request.source, bool(request.source), "at least one token")
    _check("max_length", request.max_length, request.max_length >= 1, "1 or more")
    if len(request.target_prefix) >= request.max_length:
        allowed = f"fewer tokens than max_length, which is {request.max_length}"
        raise InvalidInput("target_prefix", f"{len(request.target_prefix)} tokens", allowed)
    given = len(request.forced) + len(request.target_prefix)
    if max_positions is not None and given >= max_positions:
        field = "target_prefix" if request.target_prefix else "forced"
        got = f"{len(request.forced)} forced tokens and {len(request.target_prefix)} of the prefix"
        raise InvalidInput(field, got, f"together fewer than the {max_positions} positions of the model")


def _check(name: str, value: object, good: bool, allowed: str) -> None:
    if not good:  # NaN is rejected too, because it compares false with everything
        raise InvalidInput(name, value, allowed)
