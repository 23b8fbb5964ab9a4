"""Decoding in PyTorch: the slow oracle that the served engine is proved against, and a faster greedy for validation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dragoman_model.transformer import PAD_ID, Transformer, source_mask

BEGIN_ID = 1
END_ID = 2
UNKNOWN_ID = 3
NEVER_PRODUCED = (PAD_ID, BEGIN_ID, UNKNOWN_ID)
"""Ids that no translation contains."""


def mask_logits(logits: Tensor) -> Tensor:
    """[..., V] logits with the ids that are never produced at minus infinity."""
    logits = logits.clone()
    logits[..., NEVER_PRODUCED] = float("-inf")
    return logits


@torch.no_grad()
def greedy_uncached(model: Transformer, source: Sequence[int], max_length: int) -> tuple[list[int], list[float]]:
    """The whole decoder anew for every token: the definition that all faster decoding must agree with.

    Args:
        model: In evaluation mode.
        source: Token ids, the end of the sentence last.
        max_length: Target tokens at most, without the end of the sentence.

    Returns:
        Token ids and their log-probabilities, in both cases with the end of the sentence if it was reached.
    """
    source_ids = torch.tensor([list(source)])  # [1, S]
    target, scores = [BEGIN_ID], []
    for _ in range(max_length):
        logits = mask_logits(model(source_ids, torch.tensor([target]))[0, -1])  # [V]
        token = int(logits.argmax())
        target.append(token)
        scores.append(float(logits.log_softmax(-1)[token]))
        if token == END_ID:
            break
    return target[1:], scores


@torch.no_grad()
def greedy_cached(model: Transformer, sources: Sequence[Sequence[int]], max_length: int) -> list[list[int]]:
    """Greedy decoding of a padded batch with cached keys and values.

    Args:
        model: In evaluation mode, on any device.
        sources: Token ids, the end of the sentence last.
        max_length: Target tokens at most, without the end of the sentence.

    Returns:
        Token ids without the end of the sentence.
    """
    device = model.output_bias.device
    source = torch.nn.utils.rnn.pad_sequence([torch.tensor(list(s)) for s in sources], batch_first=True).to(device)  # [B, S]
    mask, cross = source_mask(source), model.project_cross(model.encode(source))
    tokens = torch.full((len(sources),), BEGIN_ID, device=device)  # [B]
    ended = torch.zeros_like(tokens, dtype=torch.bool)
    past, columns = None, []
    for _ in range(max_length):
        logits, past = model.decode_step(tokens, past, cross, mask)
        tokens = mask_logits(logits).argmax(-1).masked_fill(ended, END_ID)
        ended |= tokens == END_ID
        if bool(ended.all()):
            break
        columns.append(tokens)
    rows = torch.stack(columns, dim=1).tolist() if columns else [[] for _ in sources]
    return [row[: row.index(END_ID)] if END_ID in row else row for row in rows]
