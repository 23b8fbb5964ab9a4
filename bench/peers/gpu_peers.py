"""The installed engines that Dragoman is compared with on a GPU. All compute in fp16."""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

PEERS = ("transformers", "transformers+compile", "CTranslate2")


def names(args: argparse.Namespace) -> list[str]:
    """The requested peers that are installed."""
    return [name for name in args.peers if _available(name)]


def competitors(
    model: str, args: argparse.Namespace, sources: Sequence[Sequence[int]], beam_size: int, length: int
) -> dict[str, Callable[[], float]]:
    """Peer -> a function that translates `sources`, all of one length, and returns tokens a second.

    Every translation has `length` tokens.
    """
    made: dict[str, Callable[[], float]] = {}
    for name in names(args):
        if name == "CTranslate2":
            made[name] = partial(_ctranslate2, model, args.cache, sources, beam_size, length)
        else:
            loaded = _transformers(model, args.cache, "compile" in name)
            made[name] = partial(_generate, loaded, sources, beam_size, length)
    return made


@cache
def _available(name: str) -> bool:
    if name != "CTranslate2":
        return importlib.util.find_spec("transformers") is not None
    if importlib.util.find_spec("ctranslate2") is None:
        return False
    import ctranslate2  # noqa: PLC0415

    return bool(ctranslate2.get_cuda_device_count())


@cache
def _transformers(model: str, folder: Path, compiled: bool) -> Any:
    """MarianMT of the same sizes (marian.py) in fp16; with `compiled`, torch.compile compiles its forward pass."""
    import torch  # noqa: PLC0415

    from bench.peers.marian import load_marian  # noqa: PLC0415
    from bench.peers.models import marian_path  # noqa: PLC0415

    loaded = load_marian(marian_path(model, folder)).half().cuda()
    if compiled:
        loaded.forward = torch.compile(loaded.forward, dynamic=True)
    return loaded


def _generate(loaded: Any, sources: Sequence[Sequence[int]], beam_size: int, length: int) -> float:
    import torch  # noqa: PLC0415

    ids = torch.tensor(sources, device="cuda")
    torch.cuda.synchronize()
    started = time.perf_counter()
    with torch.inference_mode():
        loaded.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            num_beams=beam_size,
            do_sample=False,
            min_new_tokens=length,
            max_new_tokens=length,
        )
    torch.cuda.synchronize()
    return len(sources) * length / (time.perf_counter() - started)


@cache
def _translator(model: str, folder: Path) -> tuple[Any, list[str]]:
    import json  # noqa: PLC0415

    import ctranslate2  # noqa: PLC0415

    from bench.peers.models import ct2_path  # noqa: PLC0415

    path = ct2_path(model, folder, forced=True)
    pieces: list[str] = json.loads((path / "shared_vocabulary.json").read_text(encoding="utf-8"))
    return ctranslate2.Translator(str(path), device="cuda", compute_type="float16"), pieces


def _ctranslate2(model: str, folder: Path, sources: Sequence[Sequence[int]], beam_size: int, length: int) -> float:
    translator, pieces = _translator(model, folder)
    texts = [[pieces[i] for i in source] for source in sources]
    started = time.perf_counter()
    translator.translate_batch(texts, beam_size=beam_size, max_decoding_length=length, max_batch_size=len(texts))
    return len(sources) * length / (time.perf_counter() - started)
