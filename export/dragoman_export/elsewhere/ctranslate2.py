"""A folder of CTranslate2: `model.bin`, its vocabulary, and the SentencePiece model for those who split texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dragoman_export.elsewhere.ct2_file import Array, shared, stored, write_ct2
from dragoman_export.elsewhere.own import OwnModel
from dragoman_export.imports.families.ctranslate2 import ACTIVATIONS, PARTS
from dragoman_model.config import ModelConfig
from dragoman_service.errors import InvalidInput

PRECISIONS = ("fp32", "fp16", "int8")
TOKENIZER = "sentencepiece.model"
_CODES = {name: code for code, name in ACTIVATIONS.items()}
_NORMS = {"norm": "layer_norm", "embedding_norm": "layernorm_embedding"}
"""Our name of a layer norm of a stack -> theirs."""


def check(config: ModelConfig) -> None:
    """Raises InvalidInput for a switch that CTranslate2 cannot follow."""
    if config.head_size is not None and config.head_size * config.num_heads != config.d_model:
        raise InvalidInput("model.head_size", config.head_size, f"d_model / num_heads, for {_NAME}")
    if config.score_scale != config.head_dim**-0.5:
        raise InvalidInput("model.attention_scale", config.attention_scale, f"1 / sqrt(head_size), for {_NAME}")


_NAME = "CTranslate2"


def write_folder(own: OwnModel, folder: Path, precision: str) -> list[str]:
    """Write the files into an empty folder. Returns notes for the user."""
    check(own.config)
    tensors, aliases = _tensors(own, precision)
    write_ct2(folder / "model.bin", tensors, aliases)
    write_json(folder / "config.json", _config(own))
    write_json(folder / "shared_vocabulary.json", list(own.pieces))
    (folder / TOKENIZER).write_bytes(own.tokenizer_model)
    usage = f"CTranslate2 reads pieces: split a text with {TOKENIZER}; {own.pieces[own.config.end_id]} is added."
    tags = ", ".join(own.pieces[it] for it in own.target_tags.values())
    return [usage, *([f"The tag of the target language is the first piece: {tags}."] if tags else [])]


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for readers and programs."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _config(own: OwnModel) -> dict[str, Any]:
    config, pieces = own.config, own.pieces
    return {
        "add_source_bos": False,
        "add_source_eos": True,
        "bos_token": pieces[config.begin_id],
        "decoder_start_token": pieces[config.begin_id],
        "eos_token": pieces[config.end_id],
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "multi_query_attention": False,
        "unk_token": pieces[config.unknown_id],
    }


def _tensors(own: OwnModel, precision: str) -> tuple[dict[str, Array], dict[str, str]]:
    matrices, matrix_aliases = shared(_embeddings(own))
    vectors, aliases = shared(_positions(own))
    found = vectors | dict(_switches(own.config))
    layers = dict(_layers(own)) | matrices
    half = precision == "fp16"
    for name, array in layers.items():
        if name.endswith("/weight"):
            found |= stored(name, array, precision)
        else:
            found[name] = array
    if half:
        found = {it: array.astype(np.float16) if array.ndim else array for it, array in found.items()}
    for alias, name in matrix_aliases.items():
        aliases[alias] = name
        if precision == "int8":
            aliases[f"{alias}_scale"] = f"{name}_scale"
    return found, aliases


def _switches(config: ModelConfig) -> Iterator[tuple[str, Array]]:
    scale = config.embedding_scale
    for stack in ("encoder", "decoder"):
        yield f"{stack}/num_heads", np.array(config.num_heads, np.int16)
        yield f"{stack}/pre_norm", np.array(config.norm == "pre", np.int8)
        yield f"{stack}/activation", np.array(_CODES[config.activation], np.int8)
        # A number of 8 bits is a flag: whether the factor is sqrt(d_model).
        yield f"{stack}/scale_embeddings", np.array(1, np.int8) if scale is None else np.array(scale, np.float32)
    for name in ("encoder/embeddings_merge", "decoder/start_from_zero_embedding"):
        yield name, np.array(0, np.int8)
    yield "decoder/alignment_layer", np.array(-1, np.int16)
    yield "decoder/alignment_heads", np.array(1, np.int16)


def _embeddings(own: OwnModel) -> Iterator[tuple[str, Any]]:
    for name, use in (
        ("decoder/embeddings/weight", "target"),
        ("decoder/projection/weight", "output"),
        ("encoder/embeddings_0/weight", "source"),
    ):
        yield name, own.model.embedding_matrix(use).detach().float().numpy()


def _positions(own: OwnModel) -> Iterator[tuple[str, Any]]:
    for stack in ("decoder", "encoder"):
        yield f"{stack}/position_encodings/encodings", own.positions(stack)


def _layers(own: OwnModel) -> Iterator[tuple[str, Any]]:
    """The tensors of all layers. Several of our matrices of one input are the rows of one of theirs."""
    config = own.config
    for stack, count in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        for layer in range(count):
            groups: dict[str, list[str]] = {}
            for ours, (theirs, _, _) in PARTS.items():
                if stack == "decoder" or not ours.startswith("cross_attention"):
                    groups.setdefault(theirs, []).append(f"{stack}.{layer}.{ours}")
            for theirs, names in groups.items():
                kinds = ("gamma", "beta") if theirs.endswith("layer_norm") else ("weight", "bias")
                for kind, ours in zip(kinds, ("weight", "bias"), strict=True):
                    rows = [own.tensor(f"{name}.{ours}") for name in names]
                    yield f"{stack}/layer_{layer}/{theirs}/{kind}", np.concatenate(rows)
        for ours, theirs in _NORMS.items():
            if config.ends_with_norm if ours == "norm" else config.embedding_norm:
                for kind, leaf in (("gamma", "weight"), ("beta", "bias")):
                    yield f"{stack}/{theirs}/{kind}", own.tensor(f"{stack}_{ours}.{leaf}")
    yield "decoder/projection/bias", own.output_bias()
