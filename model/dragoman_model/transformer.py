"""The Transformer of Vaswani et al. 2017, "Attention Is All You Need". Sections and tables are those of this paper.

Other families of translation models differ from it in a few places: see the fields of `ModelConfig`. The defaults are
the model of the paper.

Letters of tensor shapes: B batch, S source length, T target length, P past target positions, D `d_model`, H heads, K
`head_dim`, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dragoman_model.activations import ACTIVATIONS
from dragoman_model.config import ModelConfig
from dragoman_model.dropout import Dropout
from dragoman_model.positions import POSITIONS

PAD_ID = 0
"""Token id of padding in the models of Dragoman."""

KeyValue = tuple[Tensor, Tensor]
"""Keys and values of one attention, each [B, H, length, K]."""


class Ragged(NamedTuple):
    """Positions of a decoder step whose rows are at different positions."""

    positions: Tensor
    """[B, 1], the position of each row."""
    past_mask: Tensor
    """[B, 1, 1, P + 1], True for the past positions of the row and for its new position."""


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
    dropout: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Scaled dot-product attention (section 3.2.1, equation 1).

    Args:
        query: [B, H, T, K].
        key: [B, H, S, K].
        value: [B, H, S, K].
        mask: Boolean, broadcastable to [B, H, T, S]; True where attending is allowed.
        scale: Factor of the scalar products, 1 / sqrt(K) in the paper.
        dropout: Applied to the weights, [B, H, T, S].

    Returns:
        [B, H, T, K].
    """
    scores = query @ key.transpose(-2, -1) * scale  # [B, H, T, S]
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    return (dropout(weights) if dropout else weights) @ value


class MultiHeadAttention(nn.Module):
    """Multi-head attention (section 3.2.2): attention in `num_heads` subspaces in parallel."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.scale = config.num_heads, config.head_dim, config.score_scale
        self.query = nn.Linear(config.d_model, config.attention_width)
        self.key = nn.Linear(config.d_model, config.attention_width)
        self.value = nn.Linear(config.d_model, config.attention_width)
        self.output = nn.Linear(config.attention_width, config.d_model)
        self.dropout = Dropout(config.attention_dropout)

    def split_heads(self, x: Tensor) -> Tensor:
        """[B, T, H K] -> [B, H, T, K]."""
        return x.view(*x.shape[:-1], self.num_heads, self.head_dim).transpose(1, 2)

    def project_key_value(self, x: Tensor) -> KeyValue:
        """[B, S, D] -> keys and values, each [B, H, S, K]."""
        return self.split_heads(self.key(x)), self.split_heads(self.value(x))

    def forward(self, x: Tensor, key_value: KeyValue, mask: Tensor | None) -> Tensor:
        """Attend from `x` [B, T, D] to `key_value`; returns [B, T, D]."""
        query = self.split_heads(self.query(x))
        attended = scaled_dot_product_attention(query, *key_value, mask, self.scale, self.dropout)
        output: Tensor = self.output(attended.transpose(1, 2).flatten(2))  # [B, H, T, K] -> [B, T, D]
        return output


class FeedForward(nn.Module):
    """The position-wise feed-forward network (section 3.3): two linear layers, an activation function between them."""

    def __init__(self, config: ModelConfig, d_ff: int) -> None:
        super().__init__()
        self.inner = nn.Linear(config.d_model, d_ff)
        self.activation = ACTIVATIONS[config.activation]
        self.outer = nn.Linear(d_ff, config.d_model)
        self.dropout = Dropout(config.activation_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        output: Tensor = self.outer(self.dropout(self.activation(self.inner(x))))
        return output


class Residual(nn.Module):
    """Residual connection and layer norm of a sub-layer: post-norm (section 3.1) or pre-norm (Xiong et al. 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.dropout = Dropout(config.dropout)
        self.pre_norm = config.norm == "pre"

    def enter(self, x: Tensor) -> Tensor:
        """The input of the sub-layer, from the residual stream `x`."""
        return self.norm(x) if self.pre_norm else x

    def leave(self, x: Tensor, y: Tensor) -> Tensor:
        """The residual stream after the sub-layer: `x` plus the output `y` of the sub-layer."""
        x = x + self.dropout(y)
        return x if self.pre_norm else self.norm(x)


class EncoderLayer(nn.Module):
    """An encoder layer: self-attention and feed-forward network."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(config)
        self.self_attention_residual = Residual(config)
        self.feed_forward = FeedForward(config, config.d_ff_of("encoder"))
        self.feed_forward_residual = Residual(config)

    def forward(self, x: Tensor, source_mask: Tensor) -> Tensor:
        """[B, S, D] -> [B, S, D]."""
        y = self.self_attention_residual.enter(x)
        x = self.self_attention_residual.leave(
            x, self.self_attention(y, self.self_attention.project_key_value(y), source_mask)
        )
        return self.feed_forward_residual.leave(x, self.feed_forward(self.feed_forward_residual.enter(x)))


class DecoderLayer(nn.Module):
    """A decoder layer: self-attention over the target so far, cross-attention over the source, feed-forward network."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(config)
        self.self_attention_residual = Residual(config)
        self.cross_attention = MultiHeadAttention(config)
        self.cross_attention_residual = Residual(config)
        self.feed_forward = FeedForward(config, config.d_ff_of("decoder"))
        self.feed_forward_residual = Residual(config)

    def forward(
        self, x: Tensor, past: KeyValue | None, cross: KeyValue, target_mask: Tensor | None, source_mask: Tensor
    ) -> tuple[Tensor, KeyValue]:
        """Run the layer on new target positions.

        Args:
            x: [B, T, D], the new positions.
            past: Keys and values of the positions before them, each [B, H, P, K]; None if there are none.
            cross: Keys and values of the source, each [B, H, S, K].
            target_mask: Broadcastable to [B, H, T, P + T]; None allows everything.
            source_mask: [B, 1, 1, S].

        Returns:
            [B, T, D], and the keys and values of the past and new positions, each [B, H, P + T, K].
        """
        y = self.self_attention_residual.enter(x)
        key, value = self.self_attention.project_key_value(y)
        if past is not None:
            key, value = torch.cat((past[0], key), dim=2), torch.cat((past[1], value), dim=2)
        x = self.self_attention_residual.leave(x, self.self_attention(y, (key, value), target_mask))
        y = self.cross_attention_residual.enter(x)
        x = self.cross_attention_residual.leave(x, self.cross_attention(y, cross, source_mask))
        x = self.feed_forward_residual.leave(x, self.feed_forward(self.feed_forward_residual.enter(x)))
        return x, (key, value)


class Transformer(nn.Module):
    """Encoder and decoder. In the paper, one embedding matrix serves source, target and output (section 3.4)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model, padding_idx=config.pad_id)
        if config.source_embedding == "own":
            self.source_embedding = nn.Embedding(config.source_words, config.d_model, padding_idx=config.pad_id)
        if config.output_embedding == "own":
            self.output_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = POSITIONS[config.positions](config)
        if config.decoder_positions == "own":
            self.decoder_positions = POSITIONS[config.positions](config)
        self.encoder_embedding_norm = _norm(config, config.embedding_norm)
        self.decoder_embedding_norm = _norm(config, config.embedding_norm)
        self.dropout = Dropout(config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.encoder_norm = _norm(config, config.ends_with_norm)
        self.decoder_norm = _norm(config, config.ends_with_norm)
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size))
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if "embedding.weight" in name:
                nn.init.normal_(parameter, std=self.config.d_model**-0.5)
            elif parameter.dim() > 1 and "positions" not in name:
                nn.init.xavier_uniform_(parameter)
        with torch.no_grad():
            self.embedding.weight[self.config.pad_id].zero_()

    def position_table(self, stack: str) -> Tensor:
        """[max_positions, D], the positions of a stack, `encoder` or `decoder`."""
        own = stack == "decoder" and self.config.decoder_positions == "own"
        table: Tensor = (self.decoder_positions if own else self.positions).table  # type: ignore[assignment]
        return table

    def embedding_matrix(self, use: str) -> Tensor:
        """[V, D], the matrix of a use, `source`, `target` or `output`."""
        if use == "source" and self.config.source_embedding == "own":
            return self.source_embedding.weight
        if use == "output" and self.config.output_embedding == "own":
            return self.output_embedding.weight
        return self.embedding.weight

    def embed(self, ids: Tensor, start: int | Tensor = 0, stack: str = "decoder") -> Tensor:
        """[B, T] ids -> [B, T, D], the input of a stack. `start` is the first position, one for all rows or [B, 1]."""
        positions = self.position_table(stack)[start + torch.arange(ids.size(1), device=ids.device)]  # [(B,) T, D]
        matrix = self.embedding_matrix("source" if stack == "encoder" else "target")
        words = functional.embedding(ids, matrix, padding_idx=self.config.pad_id)
        norm = self.encoder_embedding_norm if stack == "encoder" else self.decoder_embedding_norm
        embedded: Tensor = self.dropout(norm(words * self.config.embedding_factor + positions))
        return embedded

    def encode(self, source: Tensor) -> Tensor:
        """[B, S] source ids, padded with `pad_id` -> [B, S, D]."""
        x, mask = self.embed(source, stack="encoder"), self.source_mask(source)  # [B, S, D], [B, 1, 1, S]
        for layer in self.encoder:
            x = layer(x, mask)
        memory: Tensor = self.encoder_norm(x)
        return memory

    def project_cross(self, memory: Tensor) -> list[KeyValue]:
        """Encoder output [B, S, D] -> keys and values of the source for each decoder layer, each [B, H, S, K]."""
        layers = cast("list[DecoderLayer]", self.decoder)
        return [layer.cross_attention.project_key_value(memory) for layer in layers]

    def decode(self, target: Tensor, cross: list[KeyValue], mask: Tensor) -> Tensor:
        """Run the decoder on all target positions at once. A position attends to itself and those before it.

        Args:
            target: [B, T] target ids, shifted right: the begin token is the first.
            cross: From `project_cross`.
            mask: [B, 1, 1, S] from `source_mask`.

        Returns:
            [B, T, D], which `project_output` projects to logits.
        """
        x = self.embed(target)
        causal = torch.ones(2 * target.shape[1:], dtype=torch.bool, device=target.device).tril()  # [T, T]
        for layer, key_value in zip(self.decoder, cross, strict=True):
            x, _ = layer(x, None, key_value, causal, mask)
        decoded: Tensor = self.decoder_norm(x)
        return decoded

    def decode_step(
        self,
        tokens: Tensor,
        past: list[KeyValue] | None,
        cross: list[KeyValue],
        mask: Tensor,
        ragged: Ragged | None = None,
    ) -> tuple[Tensor, list[KeyValue]]:
        """Run the decoder on one new target position, with the cached keys and values of the past positions.

        Args:
            tokens: [B] ids at the new position.
            past: The cache that the step before has returned; None at position 0.
            cross: From `project_cross`.
            mask: [B, 1, 1, S] from `source_mask`.
            ragged: The position of each row; None if every row is at the position that follows `past`.

        Returns:
            [B, V] logits of the token that follows, and the cache for the next step.
        """
        past_length = past[0][0].size(2) if past else 0
        start, past_mask = (past_length, None) if ragged is None else ragged
        x = self.embed(tokens.unsqueeze(1), start)  # [B, 1, D]
        present = []
        for index, layer in enumerate(self.decoder):
            x, key_value = layer(x, past[index] if past else None, cross[index], past_mask, mask)
            present.append(key_value)
        return self.project_output(self.decoder_norm(x)).squeeze(1), present

    def project_output(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., V] logits, through the transposed embedding matrix (section 3.4)."""
        return functional.linear(x, self.embedding_matrix("output"), self.output_bias)

    def source_mask(self, source: Tensor) -> Tensor:
        """[B, S] ids -> [B, 1, 1, S], True where there is no padding."""
        return source_mask(source, self.config.pad_id)

    def decoder_states(self, source: Tensor, target: Tensor) -> Tensor:
        """Teacher forcing: source [B, S] and shifted target [B, T] -> [B, T, D], the input of `project_output`."""
        return self.decode(target, self.project_cross(self.encode(source)), self.source_mask(source))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Teacher forcing: source [B, S] and shifted target [B, T] -> logits [B, T, V]."""
        return self.project_output(self.decoder_states(source, target))


def source_mask(source: Tensor, pad_id: int = PAD_ID) -> Tensor:
    """[B, S] ids -> [B, 1, 1, S], True where there is no padding."""
    return (source != pad_id)[:, None, None, :]


def _norm(config: ModelConfig, there: bool) -> nn.Module:
    return nn.LayerNorm(config.d_model, eps=config.layer_norm_epsilon) if there else nn.Identity()
