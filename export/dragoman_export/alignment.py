"""Which head of the cross-attention tells best from which source token a target token comes.

No aligned sentences are needed. A target token comes from the source token without which it would be least likely (the
prediction difference of Li et al. 2019, "On the Word Alignment from Neural Machine Translation"). This is right more
often than any head, but needs a run of the decoder for each source token. So it chooses the head: the one that attends
most often to the same source token. `bench/alignment.py` compares both with aligned words.

Source tokens that stand for no text, such as the end of the sentence, cannot be agreed on: in many models most heads
attend to them where they have nothing to look for. The position is read in the step that emits a token: the next step,
which is fed it, looks for another one.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple, cast

import torch
from torch import Tensor

from dragoman_export.sources import Source
from dragoman_model.config import ModelConfig
from dragoman_model.evaluation.greedy import greedy_translations
from dragoman_model.transformer import DecoderLayer, Transformer
from dragoman_service.bundle.manifest import AlignmentHead
from dragoman_service.bundle.tokenizers.protocol import Tokenizer
from dragoman_service.errors import InvalidInput

MOST_SENTENCES = 24
"""Sentences that the choice of a head translates."""
MOST_WORK = 1e12
"""Multiplications for the choice. It limits the sentences of models with more than some 100 million parameters."""
MOST_GROWTH = 2
"""Target tokens for each source token, beyond which translations are cut: models may go on without end."""


class Translated(NamedTuple):
    """Token ids of a sentence and of its translation."""

    source: Sequence[int]
    """With the end of the sentence, and the tag if there is one."""
    target: Sequence[int]
    """Without the end of the sentence."""
    forced: Sequence[int] = ()
    """Target ids that the decoder is fed before `target`."""
    others: Collection[int] = ()
    """Ids of the source that stand for no text."""


def choose_head(model: Transformer, sources: Sequence[Source], tokenizer: Tokenizer, max_length: int) -> AlignmentHead:
    """The head that aligns best by `agreement`, on greedy translations; of equals, the first.

    Args:
        model: In evaluation mode.
        sources: Typical sentences. Of many, `MOST_SENTENCES` are drawn.
        tokenizer: The tokenizer of the sentences.
        max_length: Largest number of target tokens.
    """
    several = list(dict.fromkeys(sources))
    drawn = random.Random(0).sample(several, min(MOST_SENTENCES, len(several)))
    forced, longest = [it.forced for it in drawn], max((len(it.ids) for it in drawn), default=0)
    targets = greedy_translations(model, [it.ids for it in drawn], min(max_length, MOST_GROWTH * longest), forced)
    pairs = [
        Translated(it.ids, target[: MOST_GROWTH * len(it.ids)], it.forced, tokenizer.source([], *it.languages))
        for it, target in zip(drawn, targets, strict=True)
    ]
    shares = agreement(model, _affordable(pairs, model))
    return max(shares, key=lambda place: shares[place])


def _affordable(pairs: Sequence[Translated], model: Transformer) -> list[Translated]:
    """The first pairs, at least one, for which `MOST_WORK` suffices: the decoder reads a pair once per source token."""
    per_token = sum(it.numel() for it in model.decoder.parameters()) + model.output_bias.numel() * model.config.d_model
    work = accumulate(len(pair.source) * len(pair.target) * per_token for pair in pairs)
    return [pair for pair, needed in zip(pairs, work, strict=True) if needed <= MOST_WORK] or list(pairs[:1])


def agreement(model: Transformer, pairs: Iterable[Translated]) -> dict[AlignmentHead, float]:
    """Head -> share of the target tokens for which it attends most to the source token that they come from.

    Args:
        model: In evaluation mode.
        pairs: Sentences with translations.
    """
    config = model.config
    same, total = torch.zeros(config.decoder_layers, config.num_heads), 0
    for pair in pairs:
        fed = [*pair.forced, *pair.target]
        weights = attention_weights(model, pair.source, fed)[:, :, len(pair.forced) : len(fed)]
        same += (weights.argmax(-1) == needed_most(model, pair)).sum(-1)
        total += len(pair.target)
    shares = (same / max(total, 1)).tolist()
    return {AlignmentHead(layer, head): share for layer, heads in enumerate(shares) for head, share in enumerate(heads)}


@torch.no_grad()
def needed_most(model: Transformer, pair: Translated) -> Tensor:
    """The position [T] of the source token without which each token of `pair.target` would be least likely.

    The decoder does not attend to the token that is left out; the encoder has read it.
    """
    ids, fed = torch.tensor([list(pair.source)]), [*pair.forced, *pair.target]
    places = [place for place, token in enumerate(pair.source) if token not in pair.others]
    masks = model.source_mask(ids).repeat(len(places), 1, 1, 1)  # [P, 1, 1, S]
    masks[torch.arange(len(places)), 0, 0, places] = False
    cross = [
        (key.expand(len(places), -1, -1, -1), value.expand(len(places), -1, -1, -1))
        for key, value in model.project_cross(model.encode(ids))
    ]
    given = torch.tensor([[model.config.begin_id, *fed[:-1]]]).expand(len(places), -1)
    decoded = model.decode(given, cross, masks)[:, len(pair.forced) :]  # [P, T, D]
    emitted = torch.tensor(pair.target)[:, None]
    # One after the other, because the logits of all would fill the memory of a model of many words.
    left = [model.project_output(each).log_softmax(-1).gather(-1, emitted)[:, 0] for each in decoded]
    return torch.tensor(places)[torch.stack(left).argmin(0)]


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
        ids, fed = torch.tensor([list(source)]), torch.tensor([[model.config.begin_id, *target]])
        model.decode(fed, model.project_cross(model.encode(ids)), model.source_mask(ids))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(weights)


def check_head(given: AlignmentHead, config: ModelConfig) -> None:
    """Raise InvalidInput for a head that the model does not have."""
    if not (given.layer < config.decoder_layers and given.head < config.num_heads):
        allowed = f"LAYER:HEAD, layers 0 to {config.decoder_layers - 1} and heads 0 to {config.num_heads - 1}"
        raise InvalidInput("alignment", f"{given.layer}:{given.head}", allowed)
