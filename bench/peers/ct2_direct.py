"""CTranslate2 called from Python, from text to text, without a network."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctranslate2
import sentencepiece

from bench.measure.calls import Search

END = "</s>"


@dataclass(frozen=True, slots=True)
class Layout:
    """Numbers of CTranslate2's workers and threads."""

    workers: int
    """Batches translated in parallel (inter_threads)."""
    threads: int
    """Threads of each worker (intra_threads)."""

    def __str__(self) -> str:
        return f"{self.workers}x{self.threads}"


@dataclass(frozen=True, slots=True)
class Translated:
    """One sentence's translation."""

    text: str
    source_tokens: int
    """Source tokens with the end of the sentence, as Dragoman's server counts."""
    target_tokens: int
    """Target tokens without the end of the sentence."""


@dataclass(frozen=True, slots=True)
class Run:
    """Translations and times of a list of sentences."""

    seconds: float
    translated: list[Translated]
    """In the order of the sentences."""
    sentence_latencies: list[float]
    """Seconds that the batch of each sentence took, tokenising included."""


class Ct2Translator:
    """A CTranslate2 model with its SentencePiece model. `translate` may be called from several threads."""

    def __init__(self, model: Path, tokenizer: Path, compute_type: str, layout: Layout) -> None:
        self._translator = ctranslate2.Translator(
            str(model), compute_type=compute_type, inter_threads=layout.workers, intra_threads=layout.threads
        )
        self._tokenizer = sentencepiece.SentencePieceProcessor(str(tokenizer))
        self._workers = layout.workers

    def translate(self, texts: Sequence[str], search: Search, max_batch_size: int = 0) -> list[Translated]:
        """Translate as one batch, or with `max_batch_size`, in batches of this size, sorted by length."""
        sources = self._encode(texts)
        results = self._translator.translate_batch(sources, max_batch_size=max_batch_size, **_options(search))
        return self._decode(sources, results)

    def in_flight(self, texts: Sequence[str], search: Search, clients: int) -> Run:
        """Translate in the given order with at most `clients` sentences in flight, shared evenly among the workers.

        Each worker has one batch. The next batch is sent as soon as the oldest one is done.
        """
        size = max(1, clients // self._workers)
        rest = deque(texts[start : start + size] for start in range(0, len(texts), size))
        running: deque[tuple[float, list[list[str]], Any]] = deque()
        translated: list[Translated] = []
        latencies: list[float] = []
        started = time.perf_counter()
        while rest or running:
            while rest and len(running) < min(self._workers, clients):
                sent = time.perf_counter()
                sources = self._encode(rest.popleft())
                results = self._translator.translate_batch(sources, asynchronous=True, **_options(search))
                running.append((sent, sources, results))
            sent, sources, results = running.popleft()
            translated += self._decode(sources, [result.result() for result in results])
            latencies += [time.perf_counter() - sent] * len(sources)
        return Run(time.perf_counter() - started, translated, latencies)

    def whole_file(self, texts: Sequence[str], search: Search, batch_size: int) -> Run:
        """Translate all sentences in one call, which CTranslate2 sorts by length and divides into batches."""
        started = time.perf_counter()
        translated = self.translate(texts, search, batch_size)
        seconds = time.perf_counter() - started
        return Run(seconds, translated, [seconds] * len(texts))

    def _encode(self, texts: Sequence[str]) -> list[list[str]]:
        return [[*pieces, END] for pieces in self._tokenizer.encode(list(texts), out_type=str)]

    def _decode(self, sources: Sequence[Sequence[str]], results: Sequence[Any]) -> list[Translated]:
        targets = [result.hypotheses[0] for result in results]
        texts = self._tokenizer.decode(targets)
        return [
            Translated(text, len(source), len(target))
            for text, source, target in zip(texts, sources, targets, strict=True)
        ]


def _options(search: Search) -> dict[str, Any]:
    """The arguments of `translate_batch`."""
    return {
        "beam_size": search.beam_size,
        "max_decoding_length": search.max_length,
        "length_penalty": search.length_penalty,
        "max_input_length": 0,
    }
