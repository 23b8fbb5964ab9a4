"""Conversion of Dragoman's Transformer to a CTranslate2 model with the same weights."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt
from torch import nn

from bench.peers.grow import OUT_OF_REACH
from dragoman_model.transformer import MultiHeadAttention, Transformer

Array = npt.NDArray[np.float32]


def convert(model: Transformer, pieces: Sequence[str], output: Path) -> None:
    """Write a CTranslate2 model folder.

    Args:
        model: The trained model. Ids that Dragoman never produces get a bias that makes them impossible.
        pieces: The string of every token id, all different.
        output: A folder that does not exist yet.
    """
    config = model.config
    layers = (config.encoder_layers, config.decoder_layers)
    spec = ctranslate2.specs.TransformerSpec.from_config(layers, config.num_heads, pre_norm=config.norm == "pre")
    embedding, positions = _array(model.embedding.weight), _array(model.positions.table)
    for stack in (spec.encoder, spec.decoder):
        embeddings = stack.embeddings[0] if isinstance(stack.embeddings, list) else stack.embeddings
        embeddings.weight = embedding
        stack.scale_embeddings = True
        stack.position_encodings.encodings = positions
    modules: Any = model
    for target, layer in zip(spec.encoder.layer, modules.encoder, strict=True):
        _self_attention(target.self_attention, layer)
        _feed_forward(target.ffn, layer)
    for target, layer in zip(spec.decoder.layer, modules.decoder, strict=True):
        _self_attention(target.self_attention, layer)
        _cross_attention(target.attention, layer)
        _feed_forward(target.ffn, layer)
    if config.norm == "pre":
        _norm(spec.encoder.layer_norm, modules.encoder_norm)
        _norm(spec.decoder.layer_norm, modules.decoder_norm)
    bias = _array(model.output_bias).copy()
    bias[list(config.banned_ids)] = OUT_OF_REACH
    spec.decoder.projection.weight, spec.decoder.projection.bias = embedding, bias
    spec.register_source_vocabulary(list(pieces))
    spec.register_target_vocabulary(list(pieces))
    spec.config.layer_norm_epsilon = nn.LayerNorm(1).eps
    spec.validate()
    spec.optimize()
    partial = output.with_name(f".{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    spec.save(str(partial))
    partial.rename(output)


def _self_attention(target: Any, layer: Any) -> None:
    attention: MultiHeadAttention = layer.self_attention
    _norm(target.layer_norm, layer.self_attention_residual.norm)
    _linear(target.linear[0], attention.query, attention.key, attention.value)
    _linear(target.linear[1], attention.output)


def _cross_attention(target: Any, layer: Any) -> None:
    attention: MultiHeadAttention = layer.cross_attention
    _norm(target.layer_norm, layer.cross_attention_residual.norm)
    _linear(target.linear[0], attention.query)
    _linear(target.linear[1], attention.key, attention.value)
    _linear(target.linear[2], attention.output)


def _feed_forward(target: Any, layer: Any) -> None:
    _norm(target.layer_norm, layer.feed_forward_residual.norm)
    _linear(target.linear_0, layer.feed_forward.inner)
    _linear(target.linear_1, layer.feed_forward.outer)


def _linear(target: Any, *modules: nn.Linear) -> None:
    """Store linear maps of the same input as one concatenated matrix."""
    target.weight = np.concatenate([_array(module.weight) for module in modules])
    target.bias = np.concatenate([_array(module.bias) for module in modules])


def _norm(target: Any, module: nn.LayerNorm) -> None:
    target.gamma, target.beta = _array(module.weight), _array(module.bias)


def _array(tensor: Any) -> Array:
    array: Array = tensor.detach().float().numpy()
    return array
