"""How good a model is while it trains: loss and greedy BLEU on the validation pairs."""

from __future__ import annotations

import sacrebleu
import torch

from dragoman_model.batches import plan_epoch
from dragoman_model.greedy import greedy_cached
from dragoman_model.loss import loss_sum
from dragoman_model.optim import matmul_precision
from dragoman_model.prepare import PreparedData
from dragoman_model.recipe import Training
from dragoman_model.transformer import Transformer

ROWS = 128
"""Sentences decoded together."""


@torch.no_grad()
def measure(model: Transformer, data: PreparedData, training: Training, device: torch.device) -> dict[str, float]:
    """Validation loss in nats a token without label smoothing, and BLEU (sacreBLEU 13a) of greedy translations.

    Leaves the random number generators as they were, so that measuring does not change the course of a run.
    """
    model.eval()
    with matmul_precision(training, device):
        total, tokens = 0.0, 0
        everything = torch.ones(len(data.validation)).numpy()
        for indices in plan_epoch(data.validation.lengths, everything, training.batch_tokens, seed=0):
            batch = data.validation.batch(indices)
            total += float(loss_sum(model, batch.source.to(device), batch.target.to(device), label_smoothing=0.0))
            tokens += batch.num_tokens
        translations = translate_greedily(model, data, [source for source, _ in data.validation_pairs])
    references = [target for _, target in data.validation_pairs]
    return {"validation_loss": total / tokens, "bleu": sacrebleu.corpus_bleu(translations, [references]).score}


def translate_greedily(model: Transformer, data: PreparedData, texts: list[str]) -> list[str]:
    """Greedy translations in the order of `texts`; sentences of similar length are decoded together."""
    tokenizer = data.tokenizer
    # No such long sentence was learned from: here alone, its rest is ignored.
    limit = model.config.max_positions - tokenizer.source_overhead
    sources = [tokenizer.source(tokenizer.encode(text)[:limit], data.validation_language) for text in texts]
    order = sorted(range(len(texts)), key=lambda i: len(sources[i]))
    translations = [""] * len(texts)
    for start in range(0, len(order), ROWS):
        rows = order[start : start + ROWS]
        longest = min(limit, 2 * len(sources[rows[-1]]) + 10)
        for i, ids in zip(rows, greedy_cached(model, [sources[i] for i in rows], longest), strict=True):
            translations[i] = tokenizer.decode(ids)
    return translations
