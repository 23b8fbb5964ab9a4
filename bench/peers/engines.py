"""The competitors of decode.py behind one method, which translates sentences to the same number of tokens each.

All run a model that never ends a sentence (`models.py`, forced). Sources are token ids, all of one length.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.tokenizer import SPECIAL_IDS
from dragoman_service.engine.request import DecodingOptions, Finished, Request
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.runtime.runner import OrtRunner

SOURCE_TOKENS = 25
"""Source tokens of every sentence, its end included."""


@dataclass(frozen=True, slots=True)
class Setting:
    """An engine with its options."""

    engine: str
    """A key of `ENGINES`."""
    label: str
    """Its name in tables."""
    model: Path
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the engine's constructor."""
    env: dict[str, str] = field(default_factory=dict)
    """Environment variables of its process."""


class Competitor(Protocol):
    """A translation engine with a model loaded."""

    def translate(self, sources: Sequence[Sequence[int]], beam_size: int, length: int) -> int:
        """Translate token ids, each source to `length` tokens. Returns the number of target tokens of all."""
        ...


class Dragoman:
    """Dragoman's engine without the network: a scheduler and a runner for each of `lanes` threads."""

    def __init__(self, model: str, *, lanes: int, threads: int, max_rows: int) -> None:
        bundle = Bundle.load(Path(model))
        rows = -(-max_rows // lanes)
        first = OrtRunner(bundle, max_rows=rows, threads=threads)
        self._runners = [first]
        for _ in range(lanes - 1):
            self._runners.append(OrtRunner(bundle, max_rows=rows, threads=threads, graphs=first.graphs))
        self._rows = rows
        self._pool = ThreadPoolExecutor(lanes)

    def translate(self, sources: Sequence[Sequence[int]], beam_size: int, length: int) -> int:
        options = DecodingOptions(beam_size=beam_size)
        requests = [Request(i, tuple(source), length, options) for i, source in enumerate(sources)]
        parts = [requests[lane :: len(self._runners)] for lane in range(len(self._runners))]
        return sum(self._pool.map(self._run_lane, self._runners, parts))

    def _run_lane(self, runner: OrtRunner, requests: Sequence[Request]) -> int:
        """Decode requests in the loop of the engine's thread. Returns the number of target tokens."""
        begin, end = SPECIAL_IDS["begin_id"], SPECIAL_IDS["end_id"]
        scheduler = Scheduler(max_rows=self._rows, begin_id=begin, end_id=end)
        for request in requests:
            scheduler.add(request, time.monotonic())
        tokens = 0
        while (plan := scheduler.plan()) is not None:
            result = runner.run(plan)
            for event in scheduler.commit(plan, result, time.monotonic()):
                if isinstance(event, Finished):
                    tokens += len(event.hypotheses[0].tokens)
        return tokens


class CTranslate2:
    """`Translator.translate_batch`; each of several workers gets one batch."""

    def __init__(self, model: str, *, compute_type: str, inter_threads: int, intra_threads: int) -> None:
        import ctranslate2  # noqa: PLC0415 - not in a process with the libraries of the other engines

        self._workers = inter_threads
        self._translator = ctranslate2.Translator(
            model, compute_type=compute_type, inter_threads=inter_threads, intra_threads=intra_threads
        )
        self._pieces: list[str] = json.loads((Path(model) / "shared_vocabulary.json").read_text(encoding="utf-8"))

    def translate(self, sources: Sequence[Sequence[int]], beam_size: int, length: int) -> int:
        pieces = [[self._pieces[i] for i in source] for source in sources]
        batch = -(-len(sources) // self._workers)
        results = self._translator.translate_batch(
            pieces, beam_size=beam_size, max_decoding_length=length, max_batch_size=batch
        )
        return sum(len(result.hypotheses[0]) for result in results)


class PyTorch:
    """Dragoman's own decoder in PyTorch, with cached keys and values; greedy search only."""

    def __init__(self, model: str, *, threads: int) -> None:
        import torch  # noqa: PLC0415

        from dragoman_model.checkpoint import load_checkpoint  # noqa: PLC0415

        torch.set_num_threads(threads)
        self._model = load_checkpoint(Path(model)).model

    def translate(self, sources: Sequence[Sequence[int]], beam_size: int, length: int) -> int:
        from dragoman_model.evaluation.greedy import greedy_cached  # noqa: PLC0415

        if beam_size != 1:
            raise ValueError("the PyTorch decoder has greedy search only")
        return sum(map(len, greedy_cached(self._model, sources, length)))


class Transformers:
    """`generate` of Hugging Face transformers (`onnx` False), or of optimum-onnx over ONNX Runtime (`onnx` True)."""

    def __init__(self, model: str, *, threads: int, onnx: bool) -> None:
        import torch  # noqa: PLC0415

        from bench.peers.marian import load_marian, load_marian_onnx  # noqa: PLC0415

        torch.set_num_threads(threads)
        self._torch = torch
        self._model = load_marian_onnx(Path(model), threads) if onnx else load_marian(Path(model))

    def translate(self, sources: Sequence[Sequence[int]], beam_size: int, length: int) -> int:
        ids = self._torch.tensor(sources)
        with self._torch.inference_mode():
            found = self._model.generate(
                ids,
                attention_mask=self._torch.ones_like(ids),
                num_beams=beam_size,
                do_sample=False,
                max_new_tokens=length,
            )
        return int((found.size(1) - 1) * found.size(0))  # without the token that starts the decoder


ENGINES: dict[str, type] = {
    "Dragoman": Dragoman,
    "CTranslate2": CTranslate2,
    "PyTorch": PyTorch,
    "transformers": Transformers,
    "optimum-onnx": Transformers,
}


def make_sources(sentences: int, vocab_size: int) -> list[list[int]]:
    """Sentences of `SOURCE_TOKENS` random tokens, the end of the sentence last."""
    rng = np.random.default_rng(0)
    # The first ids are the special ones and the 256 bytes.
    ids = rng.integers(4 + 256, vocab_size, size=(sentences, SOURCE_TOKENS)).tolist()
    return [[*source[:-1], SPECIAL_IDS["end_id"]] for source in ids]
