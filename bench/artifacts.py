"""The model under measurement in the formats of both servers, made by a process of its own.

Making needs PyTorch; what measures must not carry it.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dragoman_service.bundle import Bundle
from dragoman_service.errors import InvalidInput

COMPUTE_TYPES = {"fp32": "float32", "int8": "int8"}
"""Our precision -> what CTranslate2 calls it."""


@dataclass(frozen=True, slots=True)
class Artifacts:
    """One model."""

    bundle: Path
    ct2: Path
    """Folder of the CTranslate2 model of the same weights, in float32."""
    compute_type: str
    """What CTranslate2 is told to compute in."""
    max_source_tokens: int
    """Of one sentence, its end included."""
    max_target_tokens: int

    @property
    def tokenizer(self) -> Path:
        """The SentencePiece model of both."""
        return self.bundle / "tokenizer.model"


def find_artifacts(model: str, precision: str, cache: Path, *, forced: bool = False) -> Artifacts:
    """Make what is missing; see bench/models.py. Ends the program if there is no such model or precision."""
    if precision not in COMPUTE_TYPES:
        raise SystemExit(f"--precision: got {precision}; allowed: {', '.join(COMPUTE_TYPES)}")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            bundle, ct2 = pool.submit(_make, model, precision, cache, forced).result()
        except InvalidInput as error:
            raise SystemExit(f"{model}, {precision}: {error}") from None
    limits = Bundle.load(bundle).manifest.limits
    return Artifacts(bundle, ct2, COMPUTE_TYPES[precision], limits.max_source_tokens, limits.max_target_tokens)


def _make(model: str, precision: str, cache: Path, forced: bool) -> tuple[Path, Path]:
    from bench.models import bundle_path, ct2_path  # noqa: PLC0415 - PyTorch stays out of the caller's process

    return bundle_path(model, precision, cache, forced=forced), ct2_path(model, cache, forced=forced)
