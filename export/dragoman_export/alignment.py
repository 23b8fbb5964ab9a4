"""Which head of the cross-attention tells best from which source token a target token comes.

No aligned sentences are needed. The source token to which all heads together attend most is right more often than that
of most heads, so the head is chosen that agrees with it most often (`bench/alignment.py` compares with aligned words).
The position is read in the step that emits a token: the next step, which is fed it, looks for another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor

from dragoman_model.transformer import DecoderLayer, Transformer


@torch.no_grad()
def attention_weights(model: Transformer, source: Sequence[int], target: Sequence[int]) -> Tensor:
    """The weights of the cross-attention [L, H, T + 1, S]; those of step t emit target token t, the last ones the end.

    Args:
        model: In evaluation mode.
        source: S token ids with the end of the sentence.
        target: T token ids.
    """
    weights: list[Tensor] = []
    layers = [cast(DecoderLayer, layer).cross_attention for layer in model.decoder]
    hooks = [it.dropout.register_forward_hook(lambda _, given, __: weights.append(given[0])) for it in layers]
    try:
        model(torch.tensor([list(source)]), torch.tensor([[model.config.begin_id, *target]]))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(weights)


def agreement(
    model: Transformer, pairs: Iterable[tuple[Sequence[int], Sequence[int]]], forced: int = 0
) -> dict[tuple[int, int], float]:
    """(Layer, head) -> share of the tokens for which it attends most to the same source token as all heads together.

    Args:
        model: In evaluation mode.
        pairs: Token ids of sources, with the end of the sentence, and of their translations, without it.
        forced: Number of ids at the beginning of each translation that the model is given, and that do not count.
    """
    config = model.config
    same, total = torch.zeros(config.decoder_layers, config.num_heads), 0
    for source, target in pairs:
        weights = attention_weights(model, source, target)[:, :, forced : len(target)]
        same += (weights.argmax(-1) == weights.mean((0, 1)).argmax(-1)).sum(-1)
        total += len(target) - forced
    shares = (same / max(total, 1)).tolist()
    return {(layer, head): share for layer, heads in enumerate(shares) for head, share in enumerate(heads)}


def choose_head(
    model: Transformer, pairs: Iterable[tuple[Sequence[int], Sequence[int]]], forced: int = 0
) -> tuple[int, int]:
    """The layer, from 0, and the head that align best; of equals, the first. For the arguments, see `agreement`."""
    shares = agreement(model, pairs, forced)
    return max(shares, key=lambda place: shares[place])
