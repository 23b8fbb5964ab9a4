"""The manifest of a new bundle, from plain values."""

from __future__ import annotations

import datetime
import importlib.metadata
from dataclasses import dataclass, field
from typing import Any

from dragoman_model.config import ModelConfig
from dragoman_service.bundle.languages import Languages
from dragoman_service.bundle.manifest import (
    FORMAT_VERSION,
    TOKENIZER,
    WEIGHT_BITS,
    CacheLayout,
    Generation,
    Limits,
    Manifest,
    Origin,
    Score,
    tensor_names,
)
from dragoman_service.bundle.tokenizers.protocol import SpecialIds, TokenizerSpec

CACHE_DTYPE = {"fp32": "float32", "fp16": "float16", "int8": "int8"}
"""Precision -> type of the cached keys and values."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a manifest says of a model beside its hyper-parameters."""

    name: str
    version: str
    languages: Languages
    max_source_tokens: int
    """Tokens of one sentence, its end included. The positions of the model may allow fewer."""
    max_target_tokens: int
    """Tokens of one translation, without its end. The positions of the model may allow fewer."""
    description: str = ""
    tokenizer: TokenizerSpec = field(default_factory=lambda: TokenizerSpec("dragoman", {"model": TOKENIZER}, {}))
    generation: Generation = field(default_factory=Generation)
    licence: str = ""
    origin: Origin | None = None
    training: dict[str, Any] = field(default_factory=dict)
    scores: tuple[Score, ...] = ()


def make_manifest(model: ModelConfig, precision: str, facts: Facts) -> Manifest:
    """The manifest of a bundle of a model in a precision. Its `files` are empty: `write_bundle` fills them in."""
    return Manifest(
        format_version=FORMAT_VERSION,
        name=facts.name,
        version=facts.version,
        description=facts.description,
        architecture=model.to_json(),
        vocab_size=model.vocab_size,
        source_vocab_size=model.source_words,
        special_ids=SpecialIds(model.pad_id, model.begin_id, model.end_id, model.unknown_id),
        banned_ids=model.banned_ids,
        tokenizer=facts.tokenizer,
        languages=facts.languages,
        limits=Limits(
            max_source_tokens=min(facts.max_source_tokens, model.max_positions),
            # One position is that of the end of the sentence, which a limit of the target does not include.
            max_target_tokens=max(1, min(facts.max_target_tokens, model.max_positions - 1)),
            max_candidates=model.vocab_size - len(model.banned_ids),
        ),
        generation=facts.generation,
        alignments=True,
        precision=precision,
        weight_bits={"fp32": 32, "fp16": 16, "int8": WEIGHT_BITS}[precision],
        cache=CacheLayout(model.decoder_layers, model.num_heads, model.head_dim, CACHE_DTYPE[precision]),
        tensors=tensor_names(model.decoder_layers),
        files={},
        licence=facts.licence,
        origin=facts.origin,
        training=facts.training,
        scores=facts.scores,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        producer=f"dragoman {importlib.metadata.version('dragoman')}",
    )
