"""`manifest.json`, the description of a bundle, as frozen dataclasses. `manifest_reader` parses and checks it."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from typing import Any

from dragoman_service.bundle.languages import Languages
from dragoman_service.bundle.tokenizers.protocol import SpecialIds, TokenizerSpec
from dragoman_service.bundle.typed_json import MAY_BE_ABSENT

FORMAT_VERSION = 3
"""Version of the bundle format that is written. It is raised when servers for the older format cannot serve the newer
one."""

PRECISIONS = ("fp32", "fp16", "int8")
"""Number formats in which weights are stored and multiplied."""

WEIGHT_BITS = 7
"""Bits of the weights of int8 bundles that are written; those of format 2 have 8. See `Manifest.weight_bits`."""

ENCODER, DECODER, WEIGHTS = "encoder.onnx", "decoder.onnx", "weights.safetensors"
TOKENIZER, GOLDEN, MODEL_CARD = "tokenizer.model", "golden.json", "MODEL_CARD.md"
FILES = (ENCODER, DECODER, WEIGHTS, GOLDEN, MODEL_CARD)
"""The files of every bundle beside its manifest. The manifest names those of the tokenizer."""

CACHE_DTYPES = ("float32", "float16", "int8")
"""Number formats in which keys and values are cached."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Allowed names of models, versions and aliases."""

NORMALISATIONS = ("gnmt", "power")
"""Divisors of the log-probability of a hypothesis of some length in tokens, with the exponent alpha: `gnmt` is
((5 + length) / 6) ** alpha (Wu et al. 2016, equation 14), `power` is length ** alpha."""

STAND_INS = ("4711", "8352", "9163", "6274", "7528", "3946")
"""Stand-ins of models whose manifest has none."""

MAX_BEAM_SIZE, MAX_LENGTH_PENALTY = 16, 5.0
"""Largest defaults of the search, which are those that a request may ask for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest inputs and outputs of the model."""

    max_source_tokens: int
    """Tokens of one sentence, its end included."""
    max_target_tokens: int
    """Tokens of one translation, without its end."""
    max_candidates: int
    """Candidates that a decoder step can return per row: at most the vocabulary less the banned ids."""


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """Shape and type of cached keys and values: [rows, num_heads, capacity, head_dim] for each decoder layer.

    Self-attention and cross-attention have the same layout.
    """

    decoder_layers: int
    num_heads: int
    head_dim: int
    dtype: str
    """Name of a NumPy type, one of `CACHE_DTYPES`."""


@dataclass(frozen=True, slots=True)
class TensorNames:
    """Names of the inputs and outputs of the two graphs, in order."""

    encoder_inputs: tuple[str, ...]
    encoder_outputs: tuple[str, ...]
    decoder_inputs: tuple[str, ...]
    decoder_outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AlignmentHead:
    """The head of the decoder's cross-attention whose attention aligns words."""

    layer: int
    """Decoder layer, from 0."""
    head: int
    """Head of this layer, from 0."""


@dataclass(frozen=True, slots=True)
class Generation:
    """The search that suits the model. A request may ask for another beam size and length penalty."""

    beam_size: int | None = None
    """Beam size of requests that do not choose one, 1 to `MAX_BEAM_SIZE`. None: that of the server."""
    length_penalty: float | None = None
    """Alpha of `normalisation` for requests that do not choose one, 0 to `MAX_LENGTH_PENALTY`. None: that of the
    server, which is one for `gnmt`."""
    normalisation: str = "gnmt"
    """How the length of a hypothesis counts in its score, one of `NORMALISATIONS`."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The checkpoint of other people from which a bundle was made."""

    family: str
    """The kind of the checkpoint, such as `marian`."""
    files: dict[str, str]
    """Name of a file of the checkpoint -> SHA-256 in hexadecimal."""
    notes: tuple[str, ...]
    """What else is known of it, and what was decided when the bundle was made; a sentence each."""


@dataclass(frozen=True, slots=True)
class Score:
    """A score of the model on a test set."""

    test_set: str
    metric: str
    value: float
    signature: str
    """Signature of sacreBLEU, without which scores cannot be compared."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of `manifest.json`, which a server reads before any other file of the bundle."""

    format_version: int
    """`FORMAT_VERSION`. A manifest of an older format is converted when it is read."""
    name: str
    version: str
    description: str
    architecture: dict[str, Any]
    """Hyper-parameters, for readers and for export. The server reads `cache` instead."""
    vocab_size: int
    """Ids of the target."""
    source_vocab_size: int
    """Ids of the source."""
    special_ids: SpecialIds
    banned_ids: tuple[int, ...]
    """Ids of the target that no translation contains, ascending. The end of the sentence is none of them."""
    tokenizer: TokenizerSpec
    languages: Languages
    limits: Limits
    generation: Generation
    alignments: bool
    """Whether the decoder returns which source token each target token belongs to."""
    precision: str
    weight_bits: int
    """Bits of the weights of an int8 bundle, 7 or 8; of other precisions, those of a number. Products of 8-bit weights
    overflow in the fast kernels of x86 processors without VNNI, which are then not used; those of 7 bits do not."""
    cache: CacheLayout
    tensors: TensorNames
    files: dict[str, str]
    """File name -> SHA-256 in hexadecimal, of every file but the manifest."""
    licence: str
    """Licence of the weights, as an SPDX expression if there is one; empty: unknown."""
    origin: Origin | None
    """None for a model of our own training."""
    training: dict[str, Any]
    """Summary of the training run."""
    scores: tuple[Score, ...]
    created: str
    """Time in UTC, ISO 8601."""
    producer: str
    """Name and version of the program that wrote the bundle."""
    alignment: AlignmentHead | None = field(default=None, metadata=MAY_BE_ABSENT)
    """The head that `alignments` come from; see `aligning_head`."""
    stand_ins: tuple[str, ...] = field(default=STAND_INS, metadata=MAY_BE_ABSENT)
    """Words that the model copies into its translation, as measured when the bundle was made. In a sentence they stand
    for what its translation must keep."""

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        values = dataclasses.asdict(self) | {"languages": self.languages.to_json()}
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def aligning_head(given: AlignmentHead | None, decoder_layers: int) -> AlignmentHead:
    """The head that a manifest's `alignment` names; if None, that of the graphs written before there was this field."""
    return given or AlignmentHead(decoder_layers - 1, 0)


def tensor_names(decoder_layers: int) -> TensorNames:
    """The tensor names of bundles that this release writes."""
    older = tensor_names_of_format_2(decoder_layers)
    return TensorNames(
        encoder_inputs=("source", "source_positions", "cells", "places", "source_lengths", "total_source_length"),
        encoder_outputs=older.encoder_outputs,
        decoder_inputs=(*older.decoder_inputs, "selected_rows", "masks", "num_selected_candidates"),
        decoder_outputs=(*older.decoder_outputs, "selected_ids", "selected_log_probs", "aligned"),
    )


def tensor_names_of_format_2(decoder_layers: int) -> TensorNames:
    """The tensor names of bundles of format 2, whose encoder takes sources of one length."""

    def per_layer(*prefixes: str) -> tuple[str, ...]:
        return tuple(f"{prefix}_{layer}" for layer in range(decoder_layers) for prefix in prefixes)

    step = ("tokens", "positions", "total_length", "source_lengths", "total_source_length", "num_candidates")
    adjust = ("adjust_index", "adjust_penalty", "adjust_bias")
    return TensorNames(
        encoder_inputs=("source",),
        encoder_outputs=("cross_kv",),
        decoder_inputs=(*step, *adjust, *per_layer("self_key", "self_value", "cross_key", "cross_value")),
        decoder_outputs=(
            "candidate_ids",
            "candidate_log_probs",
            *per_layer("new_self_key", "new_self_value", "new_cross_key", "new_cross_value"),
        ),
    )
