"""Fake workers of an engine: a function computes the answers, on a separate thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dragoman_service.bundle.languages import Languages
from dragoman_service.engine.engine import Engine
from dragoman_service.engine.request import (
    Event,
    Failed,
    Finished,
    FinishReason,
    Hypothesis,
    Progress,
    Request,
    Timings,
)
from dragoman_service.engine.stats import EngineStats
from dragoman_service.errors import Cancelled, DeadlineUnreachable, Overloaded
from dragoman_service.repository.models import ModelDescription, ServedModel

END = 2
FIRST = 10
"""Token FIRST + n is the character with code point n. Smaller ids are special tokens."""


class CharacterTokenizer:
    """A tokenizer with one token per character, so that tests can read tokens as text."""

    end_id = END
    unknown_id = 3
    source_overhead = 1
    fallback_ids: frozenset[int] = frozenset()
    vocab_size = 5_000

    def source(self, ids: Sequence[int], source_language: str, target_language: str) -> tuple[int, ...]:
        return (*ids, END)

    def forced(self, target_language: str) -> tuple[int, ...]:
        return ()

    def encode(self, text: str) -> list[int]:
        return [FIRST + ord(character) for character in text]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        return self.encode(text), [(place, place + 1) for place in range(len(text))]

    def decode_with_offsets(self, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
        return self.decode(ids), [(place, place + 1) for place in range(len(ids))]

    def encode_target(self, text: str) -> list[int]:
        return self.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.pieces(ids))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [chr(i - FIRST) if i >= FIRST else "" for i in ids]

    def texts(self) -> list[bytes]:
        return [piece.encode() for piece in self.pieces(range(self.vocab_size))]

    def stream_decoder(self) -> CharacterTokenizer:
        return self

    def push(self, ids: Sequence[int]) -> str:
        return self.decode(ids)

    def flush(self) -> str:
        return ""


def shout(request: Request) -> list[Event]:
    """Translate into upper case; hypothesis n has n exclamation marks. Cut at `max_length`."""
    source = "".join(chr(token - FIRST) for token in request.source[:-1]).upper()
    hypotheses = tuple(hypothesis_of(request, source + "!" * n, n) for n in range(request.options.num_hypotheses))
    events: list[Event] = []
    if request.stream:
        events = [Progress(request.id, (token,)) for token in hypotheses[0].tokens]
    return [*events, Finished(request.id, hypotheses, Timings(queue=0.25, encode=0.5, decode=len(source) / 8))]


def hypothesis_of(request: Request, text: str, rank: int) -> Hypothesis:
    """A hypothesis with `text` after the forced prefix, cut at `max_length`."""
    tokens = (*request.target_prefix, *(FIRST + ord(character) for character in text))
    cut = len(tokens) > request.max_length
    return Hypothesis(
        tokens=tokens[: request.max_length],
        token_scores=tuple(-0.5 for _ in tokens[: request.max_length]),
        score=-1.0 - rank,
        finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP,
    )


class FakeWorkers:
    """Answers each request with the events of `script`. If `held`, final events wait for `release`."""

    def __init__(self, script: Callable[[Request], list[Event]] = shout, *, held: bool = False) -> None:
        self.healthy = True
        self.backlog_seconds = 0.0
        self.seconds_per_token = 0.0
        self.submitted: list[Request] = []
        self.cancelled: list[int] = []
        self.most_running = 0
        self.refuse_after: int | None = None
        self.retry_after = 2.5
        self.deaf = False
        """If True, cancellations are recorded and ignored, as by an engine within a step."""
        self._script = script
        self._running: dict[int, Callable[[Sequence[Event]], None]] = {}
        self._lock = threading.Lock()
        self._open = threading.Event()
        if not held:
            self._open.set()
        self._inbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        return len(self._running)

    def check_time(self, work: int, seconds: float) -> None:
        if work * self.seconds_per_token > seconds:
            raise DeadlineUnreachable(f"{seconds} s are left for {work} tokens")

    def submit(self, request: Request, on_events: Callable[[Sequence[Event]], None]) -> None:
        if self.refuse_after is not None and len(self.submitted) >= self.refuse_after:
            raise Overloaded("the queue of the fake is full", retry_after=self.retry_after)
        with self._lock:
            self.submitted.append(request)
            self._running[request.id] = on_events
            self.most_running = max(self.most_running, len(self._running))
        self._inbox.put(request)

    def cancel(self, request_id: int) -> None:
        with self._lock:
            if self.deaf:
                self.cancelled.append(request_id)
                return
            on_events = self._running.pop(request_id, None)
            if on_events is None:
                return
            self.cancelled.append(request_id)
        on_events([Failed(request_id, Cancelled("cancelled"))])

    def stats(self) -> EngineStats:
        return EngineStats()

    def release(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._open.set()
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (request := self._inbox.get()) is not None:
            events = self._script(request)
            # Progress events pass: a held stream begins and then stalls.
            for event in events:
                if isinstance(event, (Finished, Failed)):
                    self._open.wait()
                self._deliver(request.id, event)

    def _deliver(self, request_id: int, event: Event) -> None:
        with self._lock:
            on_events = self._running.get(request_id)
            if isinstance(event, (Finished, Failed)):
                self._running.pop(request_id, None)
        if on_events is not None:
            on_events([event])


def served(workers: FakeWorkers, permits: int = 1000, **changes: Any) -> ServedModel:
    """Make a model in service whose engine has these workers. `changes` are fields of its description."""
    description = ModelDescription(
        name="loud",
        version="1",
        description="Shouts.",
        languages=Languages((("en", "de"),)),
        precision="fp32",
        device="cpu",
        max_source_tokens=101,
        max_target_tokens=200,
        max_candidates=1000,
        max_rows=16,
    )
    engine = Engine(workers, max_queue=permits, max_queue_tokens=10**9)
    return ServedModel(replace(description, **changes), CharacterTokenizer(), engine)
