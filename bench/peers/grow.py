"""Larger models that compute the same function as a small trained one.

Models with random weights do not end sentences as trained ones do, so their translations do not have realistic lengths.
Therefore every feature of a trained model is repeated `n` times; for n = 2:
- x' = [x, x]. Layer norm sees the same mean and variance.
- A linear map reads [x, x] through the blocks [W, W] / n. There are n times as many heads of the same width.
- Additional layers have outputs too small to change a digit of the residual stream of a pre-norm model.
- Additional words are copies of others with a bias that makes them impossible.
Matrix kernels are dense, so they take as long for these numbers as for any others. No two matrices are equal: an engine
that stores equal matrices once, as CTranslate2 does, would have less to read.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from sentencepiece import sentencepiece_model_pb2
from torch import Tensor

from dragoman_model.config import ModelConfig
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.tokenizer import SPECIAL_IDS

OUT_OF_REACH = -100.0
"""Bias of a word that is never produced: its probability vanishes, and the other logits keep their precision."""
VANISHING = 1e-9
"""Factor of a sub-layer's output that makes it vanish in the rounding of the residual stream, which is around 1."""
OUTPUTS = ("self_attention.output", "cross_attention.output", "feed_forward.outer")
"""The last linear map of each sub-layer."""


def grow(model: Transformer, config: ModelConfig) -> Transformer:
    """A model of the shape `config` that gives the logits of `model` for the words of `model`.

    Args:
        model: A pre-norm model in evaluation mode.
        config: The shape. Its `positions` and `norm` are ignored: the grown model has "learned" positions, which store
            the table of `model`, and norm "pre".

    Raises:
        ValueError: `model` is not pre-norm, or `config` is smaller, is no whole multiple, or has another `head_dim` or
            `max_positions`.
    """
    old = model.config
    factor = _multiple("d_model", old.d_model, config.d_model)
    if old.norm != "pre" or old.head_dim != config.head_dim or old.max_positions != config.max_positions:
        raise ValueError("only pre-norm models grow, and neither their head_dim nor their max_positions")
    _multiple("d_ff", old.d_ff, config.d_ff)
    for name in ("encoder_layers", "decoder_layers", "vocab_size"):
        if getattr(config, name) < getattr(old, name):
            raise ValueError(f"{name}: {getattr(config, name)} is less than {getattr(old, name)}")
    grown = Transformer(dataclasses.replace(config, norm="pre", positions="learned"))
    state = model.state_dict()
    state["positions.table"] = model.positions.table
    grown.load_state_dict(
        {name: _parameter(name, value, state, old, factor) for name, value in grown.state_dict().items()}
    )
    return grown.eval()


def without_end(model: Transformer, end_id: int) -> Transformer:
    """A copy of a model that never ends a sentence: every translation has exactly `max_length` tokens."""
    forced = Transformer(model.config)
    forced.load_state_dict(model.state_dict())
    with torch.no_grad():
        forced.output_bias[end_id] = OUT_OF_REACH
    return forced.eval()


def grow_tokenizer(model: bytes, vocab_size: int) -> bytes:
    """A SentencePiece model extended to `vocab_size` pieces with control pieces that no text has."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    for index in range(vocab_size - len(proto.pieces)):
        piece = proto.pieces.add()
        piece.piece, piece.score = f"<unused_{index}>", 0.0
        piece.type = sentencepiece_model_pb2.ModelProto.SentencePiece.CONTROL
    proto.trainer_spec.vocab_size = vocab_size
    grown: bytes = proto.SerializeToString()
    return grown


def _parameter(name: str, wanted: Tensor, state: dict[str, Tensor], old: ModelConfig, factor: int) -> Tensor:
    """The value of the parameter `name` of the grown model, which has the shape of `wanted`."""
    stack, _, inner = name.partition(".")
    if stack in ("encoder", "decoder"):
        layer, _, module = inner.partition(".")
        layers = old.encoder_layers if stack == "encoder" else old.decoder_layers
        value = _tiled(state[f"{stack}.{int(layer) % layers}.{module}"], wanted)
        if int(layer) < layers:
            return value
        value = value.roll(int(layer), dims=0)
        return value * VANISHING if module.rpartition(".")[0] in OUTPUTS else value
    words = wanted.size(0) - old.vocab_size
    if name == "output_bias":
        return torch.cat([state[name], torch.full((words,), OUT_OF_REACH)])
    if name == "embedding.weight":
        # The model scales embeddings by the square root of the width, which is now larger by that of `factor`.
        table = state[name].repeat(1, factor) / math.sqrt(factor)
        return torch.cat([table, _cycled(table[len(SPECIAL_IDS) :], words)])
    repeated = state[name].repeat(*(1,) * (wanted.dim() - 1), factor)  # the table of positions, or a final norm
    # The logits sum `factor` copies of each feature, each times an embedding smaller by the square root of `factor`.
    return repeated / math.sqrt(factor) if stack == "decoder_norm" else repeated


def _tiled(value: Tensor, wanted: Tensor) -> Tensor:
    """Tile a bias, or a matrix [out, in] along both axes, divided so that its sums over `in` do not change."""
    times = [new // old for new, old in zip(wanted.shape, value.shape, strict=True)]
    return value.repeat(*times) / (times[1] if len(times) == 2 else 1)


def _cycled(table: Tensor, count: int) -> Tensor:
    return table[torch.arange(count) % len(table)]


def _multiple(name: str, old: int, new: int) -> int:
    if new % old:
        raise ValueError(f"{name}: {new} is no multiple of {old}")
    return new // old
