"""The measured model in the formats of both servers.

A separate process makes it: that needs PyTorch, which the measuring process must not load.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.errors import InvalidInput

COMPUTE_TYPES = {"fp32": "float32", "int8": "int8"}
"""Dragoman's precision -> CTranslate2's compute type."""


@dataclass(frozen=True, slots=True)
class Artifacts:
    """Files and limits of one model."""

    bundle: Path
    ct2: Path
    """Folder of the CTranslate2 model of the same weights, stored in `compute_type`."""
    compute_type: str
    """CTranslate2's compute type."""
    max_source_tokens: int
    """Most tokens of a sentence, its end included."""
    max_target_tokens: int

    @property
    def tokenizer(self) -> Path:
        """The SentencePiece model, which both servers use."""
        return self.bundle / "tokenizer.model"


def find_artifacts(model: str, precision: str, cache: Path, *, forced: bool = False) -> Artifacts:
    """Find the files of a model, and make those that are missing; see bench/peers/models.py.

    Raises:
        InvalidInput: no such model, or it cannot be made in this precision.
    """
    if precision not in COMPUTE_TYPES:
        raise InvalidInput("precision", precision, ", ".join(COMPUTE_TYPES))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        bundle, ct2 = pool.submit(_make, model, precision, cache, forced).result()
    limits = Bundle.load(bundle).manifest.limits
    return Artifacts(bundle, ct2, COMPUTE_TYPES[precision], limits.max_source_tokens, limits.max_target_tokens)


def _make(model: str, precision: str, cache: Path, forced: bool) -> tuple[Path, Path]:
    from bench.peers.models import bundle_path, ct2_path  # noqa: PLC0415 - PyTorch stays out of the caller's process

    # Quantising at every start would cost CTranslate2 time, memory and disk space that its users do not spend.
    return bundle_path(model, precision, cache, forced=forced), ct2_path(model, cache, precision, forced=forced)
