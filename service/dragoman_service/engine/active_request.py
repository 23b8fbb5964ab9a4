"""A request in the queue, and one that owns rows of the running batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from dragoman_service.engine.plan import StepResult
from dragoman_service.engine.request import Finished, Hypothesis, Progress, Request, Timings
from dragoman_service.engine.restrictions import Restriction
from dragoman_service.engine.search import beams, repetition, sampling
from dragoman_service.engine.search.utf8 import NO_BYTE_PIECES, BytePieces

MAX_SHARED_CANDIDATES = 64
"""Candidates that a request may want from the search that all rows share. The rows of a request that wants more are
searched apart, so that the others do not pay for them. A crowd of rows that are searched apart is slower than one that
shares its search, so beams and the usual `top_k` are below this (`bench/selection.py`)."""


@dataclass(slots=True)
class Waiting:
    """A request in the queue."""

    request: Request
    submitted: float
    """Time of submission in seconds of the engine's clock."""
    streamed: int = 0
    """Number of tokens sent in `Progress` events before, if the request has run before."""
    interruptions: int = 0
    """How often the request has been interrupted for another client."""


class ActiveRequest:
    """A request that owns rows."""

    __slots__ = (
        "beam", "constrained", "constrained_steps", "draws", "encode_seconds", "encoded", "finished", "first_check",
        "given", "in_given", "interruptions", "max_steps", "next_progress", "queue_seconds", "request", "rows",
        "started", "streamed", "submitted",
    )  # fmt: skip

    def __init__(
        self,
        waiting: Waiting,
        rows: list[int],
        started: int,
        max_positions: int,
        byte_pieces: BytePieces = NO_BYTE_PIECES,
    ) -> None:
        """Start a request on `rows`, with the step of the batch numbered `started`."""
        request = waiting.request
        options = request.options
        self.request = request
        self.submitted = waiting.submitted
        self.interruptions = waiting.interruptions
        self.rows = rows
        self.started = started
        self.streamed = waiting.streamed
        """Number of tokens sent in `Progress` events."""
        self.given = request.forced + request.target_prefix
        """Ids that are fed, one a step, before any is chosen."""
        self.in_given = bool(self.given)
        """Whether the next id is given. It stays so for a beam, which keeps count itself."""
        self.max_steps = min(len(request.forced) + request.max_length + 1, max_positions)
        """Number of steps after which all hypotheses are cut."""
        first_check = len(self.given) + repetition.FIRST_CHECK if options.stop_repetition else self.max_steps
        self.first_check = min(self.max_steps, first_check)
        """Without a beam: number of steps after which its rows are checked for repetition, or cut."""
        self.beam = beams.Beam(request, self.max_steps, byte_pieces) if options.beam_size > 1 else None
        """The search, if it is a beam search."""
        self.draws: list[sampling.Draws] = []
        """The random numbers of each row; empty without sampling."""
        if options.sampling is not None:
            seed = options.sampling.seed or 0  # code that makes requests draws a seed if the caller gave none
            self.draws = [sampling.Draws(seed, request.source, number) for number in range(len(rows))]
        self.constrained_steps = _constrained_steps(request)
        """Number of steps in which tokens may be banned, penalised, biased or restricted; infinity for all."""
        self.constrained = self.constrained_steps > 0
        """Whether such a step is still to come."""
        self.finished: dict[int, Hypothesis] = {}
        """Without a beam: number of the hypothesis -> hypothesis, for those that have finished."""
        self.next_progress = -math.inf
        """Earliest time of the next `Progress` event."""
        self.queue_seconds = self.encode_seconds = 0.0
        self.encoded = 0.0
        """Time at which the encoder had finished."""

    @property
    def wide(self) -> bool:
        """Whether the candidates of its rows are searched apart. It depends on the request alone."""
        return self.num_candidates > MAX_SHARED_CANDIDATES

    @property
    def watched(self) -> bool:
        """Whether every step must be examined before the next."""
        return bool(self.in_given or self.beam or self.draws or self.request.stream or self.constrained)

    @property
    def num_candidates(self) -> int:
        """Number of candidates that the request needs for each of its rows."""
        options = self.request.options
        if options.sampling is not None:
            return options.sampling.top_k
        return 2 * options.beam_size if options.beam_size > 1 else 1

    def begin(self, result: StepResult, now: float) -> None:
        """Record the times of the first step, which ended at `now`."""
        self.encode_seconds = result.encode_seconds
        self.encoded = now - result.decode_seconds
        # The maximum is needed because the clock of the runner may differ from that of the engine.
        self.queue_seconds = max(0.0, self.encoded - result.encode_seconds - self.submitted)

    def hypotheses(self) -> tuple[Hypothesis, ...]:
        """The requested number of finished hypotheses, best first. To be called once all have ended."""
        if self.beam is not None:
            return self.beam.hypotheses()
        # Equals in the order of their numbers: rows move, so the order of ending depends on other requests.
        by_number = [self.finished[number] for number in range(len(self.rows))]
        return tuple(sorted(by_number, key=lambda hypothesis: -hypothesis.score))

    def last_progress(self) -> list[Progress]:
        """The tokens of the best hypothesis that were not sent, for a stream that has ended; at most one event."""
        tokens = self.hypotheses()[0].tokens[self.streamed :]
        return [Progress(self.request.id, tokens)] if tokens else []

    def ended(self, now: float) -> Finished:
        """The final event, at `now`."""
        timings = Timings(self.queue_seconds, self.encode_seconds, now - self.encoded)
        return Finished(self.request.id, self.hypotheses(), timings)

    def again(self) -> Waiting:
        """The request, to be run again from its first token. It streams only the tokens that were not sent before."""
        return Waiting(self.request, self.submitted, self.streamed, self.interruptions)

    def restricted(self, restriction: Restriction) -> Waiting:
        """As `again`, with a further restriction."""
        restrictions = (*self.request.restrictions, restriction)
        return replace(self.again(), request=replace(self.request, restrictions=restrictions))

    def interrupted(self) -> Waiting:
        """As `again`, for a request that is interrupted for another client."""
        return Waiting(self.request, self.submitted, self.streamed, self.interruptions + 1)


def _constrained_steps(request: Request) -> float:
    """See `ActiveRequest.constrained_steps`."""
    options = request.options
    if options.no_repeat_ngram_size > 0 or options.repetition_penalty != 1.0 or request.restrictions:
        return math.inf
    # The end of the sentence is banned until there are `min_length` tokens. The target prefix has some of them.
    tokens = max([options.min_length, *(bias.until for bias in request.biases)])
    return len(request.forced) + tokens if tokens > len(request.target_prefix) else 0
