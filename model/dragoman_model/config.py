"""The hyper-parameters of a model, their presets and their JSON form."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from dragoman_model.settings import build, check
from dragoman_service.errors import InvalidInput

DROPOUTS = ("dropout", "attention_dropout", "activation_dropout")
"""The fields of `ModelConfig` that have an effect in training only."""


_CHOICES = {
    "norm": ("post", "pre"),
    "positions": ("sinusoidal", "learned", "table"),
    "activation": ("relu", "swish", "gelu", "gelu_tanh", "gelu_sigmoid"),
    "source_embedding": ("shared", "own"),
    "output_embedding": ("shared", "own"),
    "decoder_positions": ("shared", "own"),
}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Hyper-parameters of the Transformer, named as in Vaswani et al. 2017, table 3.

    The defaults are the model of the paper. The fields from `activation` on are the differences of other families of
    translation models.
    """

    vocab_size: int = 8000
    """Subwords of the target, and of the source unless `source_vocab_size` differs."""
    d_model: int = 512
    """Width of the residual stream, a multiple of 8. Without `head_size`, ONNX Runtime's attention kernels require a
    multiple of 8 * `num_heads`."""
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
    """Dropout of the inner activations of the feed-forward networks, after the activation function."""
    norm: Literal["post", "pre"] = "post"
    """Layer norm after the residual addition, as in the paper, or before each sub-layer (Xiong et al. 2020)."""
    positions: Literal["sinusoidal", "learned", "table"] = "sinusoidal"
    """Kind of the absolute positions that are added to the embeddings (section 3.5). `table` is a fixed table of
    numbers, which a checkpoint brings along."""
    max_positions: int = 256
    """Largest number of positions of a sequence, the end of the sentence included."""
    activation: Literal["relu", "swish", "gelu", "gelu_tanh", "gelu_sigmoid"] = "relu"
    """Activation function of the feed-forward networks; see `activations`."""
    final_norm: bool | None = None
    """Whether each stack ends with a layer norm. None: with pre-norm only."""
    embedding_norm: bool = False
    """Whether each stack begins with a layer norm, after the addition of positions."""
    layer_norm_epsilon: float = 1e-5
    """Number that layer norms add to the variance."""
    embedding_scale: float | None = None
    """Factor of the embeddings. None: the square root of `d_model` (section 3.4)."""
    head_size: int | None = None
    """Width of one attention head, a multiple of 8. None: `d_model / num_heads`."""
    attention_scale: float | None = None
    """Factor of the scalar products of attention. None: 1 / sqrt(`head_dim`) (section 3.2.1)."""
    decoder_d_ff: int | None = None
    """Inner width of the feed-forward networks of the decoder. None: `d_ff`."""
    source_vocab_size: int | None = None
    """Subwords of the source. None: `vocab_size`."""
    source_embedding: Literal["shared", "own"] = "shared"
    """Whether source and target share one embedding matrix."""
    output_embedding: Literal["shared", "own"] = "shared"
    """Whether the output layer has the embedding matrix of the target, or one of its own."""
    decoder_positions: Literal["shared", "own"] = "shared"
    """Whether the decoder has the positions of the encoder, or a table of its own."""
    pad_id: int = 0
    """Id of padding."""
    begin_id: int = 1
    """Id that the decoder is fed first."""
    end_id: int = 2
    """Id that ends a sentence."""
    unknown_id: int = 3
    """Id of what the vocabulary lacks."""
    banned_ids: tuple[int, ...] = (0, 1, 3)
    """Ids that no translation contains, ascending."""

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "d_model", "num_heads", "d_ff", "encoder_layers", "decoder_layers", "max_positions")
        optional = ("head_size", "decoder_d_ff", "source_vocab_size")
        for name in (*sizes, *(name for name in optional if getattr(self, name) is not None)):
            check(f"model.{name}", getattr(self, name), getattr(self, name) >= 1, "1 or more")
        if self.head_size is None:
            unit = 8 * self.num_heads
            check("model.d_model", self.d_model, self.d_model % unit == 0, f"a multiple of 8 * num_heads = {unit}")
        else:
            check("model.head_size", self.head_size, self.head_size % 8 == 0, "a multiple of 8")
            check("model.d_model", self.d_model, self.d_model % 8 == 0, "a multiple of 8")
        for name in DROPOUTS:
            check(f"model.{name}", getattr(self, name), 0 <= getattr(self, name) < 1, "0 up to, not including, 1")
        for name, choices in _CHOICES.items():
            check(f"model.{name}", getattr(self, name), getattr(self, name) in choices, " or ".join(map(repr, choices)))
        for name in ("layer_norm_epsilon", "embedding_scale", "attention_scale"):
            value = getattr(self, name)
            check(f"model.{name}", value, value is None or 0 < value < float("inf"), "a number above 0")
        differ = self.source_vocab_size not in (None, self.vocab_size)
        separate = self.source_embedding == "own"
        allowed = f"{self.vocab_size}, the vocab_size, unless source_embedding is 'own'"
        check("model.source_vocab_size", self.source_vocab_size, separate or not differ, allowed)
        allowed = f"0 to {self.vocab_size - 1}, less than vocab_size"
        for name in ("begin_id", "end_id", "unknown_id", "pad_id"):
            check(f"model.{name}", getattr(self, name), 0 <= getattr(self, name) < self.vocab_size, allowed)
        for token in self.banned_ids:
            check("model.banned_ids", token, 0 <= token < self.vocab_size, allowed)
        check("model.banned_ids", self.banned_ids, self.end_id not in self.banned_ids, "ids other than end_id")
        ascending = list(self.banned_ids) == sorted(set(self.banned_ids))
        check("model.banned_ids", self.banned_ids, ascending, "each id once, ascending")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.head_size or self.d_model // self.num_heads

    @property
    def attention_width(self) -> int:
        """Width of all attention heads together."""
        return self.num_heads * self.head_dim

    @property
    def score_scale(self) -> float:
        """Factor of the scalar products of attention."""
        return self.attention_scale or 1 / math.sqrt(self.head_dim)

    @property
    def embedding_factor(self) -> float:
        """Factor of the embeddings."""
        return self.embedding_scale or math.sqrt(self.d_model)

    @property
    def ends_with_norm(self) -> bool:
        """Whether each stack ends with a layer norm."""
        return self.norm == "pre" if self.final_norm is None else self.final_norm

    @property
    def source_words(self) -> int:
        """Size of the source vocabulary."""
        return self.source_vocab_size or self.vocab_size

    def d_ff_of(self, stack: str) -> int:
        """Inner width of the feed-forward networks of a stack, `encoder` or `decoder`."""
        return (self.decoder_d_ff or self.d_ff) if stack == "decoder" else self.d_ff

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-ready values. From `activation` on, those that have their default are left out."""
        fields = dataclasses.fields(self)
        new = [field.name for field in fields].index("activation")
        values: dict[str, Any] = {}
        for index, field in enumerate(fields):
            value = getattr(self, field.name)
            if index < new or value != field.default:
                values[field.name] = list(value) if isinstance(value, tuple) else value
        return values

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
