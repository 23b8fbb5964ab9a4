"""transformers and optimum-onnx on real sentences, in a separate process because of their thread pools.

Their models are MarianMT of the same sizes with random weights (marian.py), so only speed is measured. Every sentence
is translated to a given number of tokens.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ENGINES = ("transformers", "optimum-onnx")
PAD = 0


class HuggingFace:
    """One of `ENGINES` with a loaded model. `hugging_face` creates it."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def translate(
        self, sources: Sequence[Sequence[int]], batch_size: int, beam_size: int, length: int
    ) -> tuple[float, list[float]]:
        """Translate token ids in the given order, in batches. Returns the seconds of all batches, and of each."""
        return self._pool.submit(_translate, sources, batch_size, beam_size, length).result()


@contextmanager
def hugging_face(engine: str, model: str, precision: str, cache: Path) -> Iterator[HuggingFace]:
    """Start a process with an engine. transformers ignores `precision` and computes in fp32."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _load, (engine, model, precision, cache)) as pool:
        yield HuggingFace(pool)


_loaded: dict[str, Any] = {}
"""The model, in the engine's process."""


def _load(engine: str, model: str, precision: str, cache: Path) -> None:
    import torch  # noqa: PLC0415 - only in the engine's process

    from bench.peers.marian import load_marian, load_marian_onnx  # noqa: PLC0415
    from bench.peers.models import marian_onnx_path, marian_path  # noqa: PLC0415

    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    if engine == "transformers":
        _loaded["model"] = load_marian(marian_path(model, cache))
    else:
        _loaded["model"] = load_marian_onnx(marian_onnx_path(model, precision, cache), threads)


def _translate(
    sources: Sequence[Sequence[int]], batch_size: int, beam_size: int, length: int
) -> tuple[float, list[float]]:
    import torch  # noqa: PLC0415

    times = []
    for start in range(0, len(sources), batch_size):
        started = time.perf_counter()
        batch = sources[start : start + batch_size]
        longest = max(map(len, batch))
        ids = torch.tensor([[*source, *[PAD] * (longest - len(source))] for source in batch])
        with torch.inference_mode():
            found = _loaded["model"].generate(
                ids,
                attention_mask=(ids != PAD).long(),
                num_beams=beam_size,
                do_sample=False,
                min_new_tokens=length,
                max_new_tokens=length,
            )
        if found.size(1) != length + 1:  # the token that starts the decoder is included
            raise ValueError(f"{found.size(1) - 1} tokens instead of {length}")
        times.append(time.perf_counter() - started)
    return sum(times), times
