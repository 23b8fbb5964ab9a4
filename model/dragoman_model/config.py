"""The hyper-parameters of a model, their presets and their JSON form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from dragoman_model.settings import build, check
from dragoman_service.errors import InvalidInput

DROPOUTS = ("dropout", "attention_dropout", "activation_dropout")
"""The fields of `ModelConfig` that have an effect in training only."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Hyper-parameters of the Transformer, named as in Vaswani et al. 2017, table 3."""

    vocab_size: int = 8000
    """Subwords, shared by source, target and output."""
    d_model: int = 512
    """Width of the residual stream. ONNX Runtime's attention kernels require a multiple of 8 * `num_heads`."""
    num_heads: int = 8
    """Attention heads."""
    d_ff: int = 2048
    """Inner width of the position-wise feed-forward network."""
    encoder_layers: int = 6
    """Depth of the encoder."""
    decoder_layers: int = 6
    """Depth of the decoder. Every layer costs time for every target token."""
    dropout: float = 0.1
    """Dropout of embeddings, and of the output of each sub-layer before its residual addition (section 5.4)."""
    attention_dropout: float = 0.0
    """Dropout of attention weights, after the softmax."""
    activation_dropout: float = 0.0
    """Dropout of the inner activations of the feed-forward networks, after the ReLU."""
    norm: Literal["post", "pre"] = "post"
    """Layer norm after the residual addition, as in the paper, or before each sub-layer (Xiong et al. 2020)."""
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    """Kind of the absolute positions that are added to the embeddings (section 3.5)."""
    max_positions: int = 256
    """Largest number of positions of a sequence, the end of the sentence included."""

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "d_model", "num_heads", "d_ff", "encoder_layers", "decoder_layers", "max_positions")
        for name in sizes:
            check(f"model.{name}", getattr(self, name), getattr(self, name) >= 1, "1 or more")
        unit = 8 * self.num_heads
        check("model.d_model", self.d_model, self.d_model % unit == 0, f"a multiple of 8 * num_heads = {unit}")
        for name in DROPOUTS:
            check(f"model.{name}", getattr(self, name), 0 <= getattr(self, name) < 1, "0 up to, not including, 1")
        check("model.norm", self.norm, self.norm in ("post", "pre"), "'post' or 'pre'")
        positions = ("sinusoidal", "learned")
        check("model.positions", self.positions, self.positions in positions, "'sinusoidal' or 'learned'")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.num_heads

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> ModelConfig:
        """Build from an optional `preset` and fields, which override it.

        Raises:
            InvalidInput: an unknown preset or field, or a value that is not allowed.
        """
        fields = dict(settings)
        preset = fields.pop("preset", None)
        if preset is not None and preset not in list(PRESETS):
            raise InvalidInput("model.preset", preset, ", ".join(PRESETS))
        return build(cls, {**PRESETS[preset], **fields} if preset else fields, "model")


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"d_model": 128, "num_heads": 4, "d_ff": 256, "encoder_layers": 4, "decoder_layers": 4, "dropout": 0.3},
    "small": {"d_model": 256, "num_heads": 4, "d_ff": 1024, "encoder_layers": 6, "decoder_layers": 2},
    "base": {"d_model": 512, "num_heads": 8, "d_ff": 2048, "encoder_layers": 6, "decoder_layers": 6},
}
"""Preset -> fields. `tiny` is for small corpora, `small` for fast serving on a CPU (deep encoder, shallow decoder),
`base` is the base model of the paper."""
