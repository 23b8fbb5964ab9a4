"""Greedy decoding of whole batches with cached keys and values. It is fast enough to measure BLEU during training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dragoman_model.evaluation.reference_decode import mask_logits
from dragoman_model.transformer import Transformer

BATCH = 64
"""Sentences of a batch of `greedy_translations`."""


def greedy_translations(
    model: Transformer,
    sources: Sequence[Sequence[int]],
    max_length: int,
    forced: Sequence[Sequence[int]] | None = None,
) -> list[list[int]]:
    """`greedy_cached` of any number of sources, in batches."""
    groups = [slice(start, start + BATCH) for start in range(0, len(sources), BATCH)]
    return [
        target
        for group in groups
        for target in greedy_cached(model, sources[group], max_length, forced and forced[group])
    ]


@torch.no_grad()
def greedy_cached(
    model: Transformer,
    sources: Sequence[Sequence[int]],
    max_length: int,
    forced: Sequence[Sequence[int]] | None = None,
) -> list[list[int]]:
    """Greedy decoding of a padded batch.

    Args:
        model: In evaluation mode, on any device.
        sources: Token ids of each source; the last is the end of the sentence.
        max_length: Largest number of target tokens, without the end of the sentence.
        forced: Of each source, token ids that are fed before any is chosen, the same number for all; None: none.

    Returns:
        Token ids of each target, without forced ids and the end of the sentence.
    """
    device, config = model.output_bias.device, model.config
    ids = [torch.tensor(list(each)) for each in sources]
    source = pad_sequence(ids, batch_first=True, padding_value=config.pad_id).to(device)  # [B, S]
    mask, cross = model.source_mask(source), model.project_cross(model.encode(source))
    tokens = torch.full((len(sources),), config.begin_id, device=device)  # [B]
    ended = torch.zeros_like(tokens, dtype=torch.bool)
    past = None
    if forced is not None:
        for column in torch.tensor([list(each) for each in forced], dtype=torch.int64, device=device).T:
            _, past = model.decode_step(tokens, past, cross, mask)
            tokens = column
    columns: list[Tensor] = []
    for _ in range(max_length):
        logits, past = model.decode_step(tokens, past, cross, mask)
        tokens = mask_logits(logits, config).argmax(-1).masked_fill(ended, config.end_id)
        ended |= tokens == config.end_id
        if bool(ended.all()):
            break
        columns.append(tokens)
    rows = torch.stack(columns, dim=1).tolist() if columns else [[] for _ in sources]
    return [row[: row.index(config.end_id)] if config.end_id in row else row for row in rows]
