"""Manifests that are whole, though no bundle is theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dragoman_service.bundle.languages import Languages
from dragoman_service.bundle.manifest import (
    FORMAT_VERSION,
    TOKENIZER,
    CacheLayout,
    Generation,
    Limits,
    Manifest,
    tensor_names,
)
from dragoman_service.bundle.tokenizers.protocol import SpecialIds, TokenizerSpec

_MANIFEST = Manifest(
    format_version=FORMAT_VERSION,
    name="m",
    version="1",
    description="",
    architecture={},
    vocab_size=100,
    source_vocab_size=100,
    special_ids=SpecialIds(0, 1, 2, 3),
    banned_ids=(0, 1, 3),
    tokenizer=TokenizerSpec("dragoman", {"model": TOKENIZER}, {}),
    languages=Languages((("en", "de"),)),
    limits=Limits(max_source_tokens=64, max_target_tokens=64, max_candidates=90),
    generation=Generation(),
    alignments=True,
    precision="fp32",
    weight_bits=32,
    cache=CacheLayout(decoder_layers=2, num_heads=2, head_dim=16, dtype="float32"),
    tensors=tensor_names(2),
    files={},
    licence="",
    origin=None,
    training={},
    scores=(),
    created="2026-01-01T00:00:00Z",
    producer="dragoman 0",
)


def manifest_of(**changes: Any) -> Manifest:
    """A manifest of format 3 with these fields; `vocab_size` is that of the source too."""
    if "vocab_size" in changes:
        changes = {"source_vocab_size": changes["vocab_size"], **changes}
    return replace(_MANIFEST, **changes)


def as_format_2(value: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a manifest of one of our own models, as format 2 has it."""
    added = (
        "source_vocab_size",
        "weight_bits",
        "banned_ids",
        "tokenizer",
        "generation",
        "alignments",
        "licence",
        "origin",
        "stand_ins",
    )
    kept = {name: it for name, it in value.items() if name not in (*added, "languages")}
    return {**kept, "format_version": 2, "language_pairs": value["languages"]["pairs"]}
