"""Measurements during training: loss and BLEU of greedy translations on the validation sets."""

from __future__ import annotations

import numpy as np
import sacrebleu
import torch

from dragoman_model.data.batches import plan_epoch
from dragoman_model.data.prepare import PreparedData, ValidationSet
from dragoman_model.evaluation.greedy import greedy_cached
from dragoman_model.recipe import Training
from dragoman_model.training.loss import loss_sum
from dragoman_model.training.optim import matmul_precision
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.tokenizer import ANY_LANGUAGE, Tokenizer

ROWS = 128
"""Sentences decoded together."""


@torch.no_grad()
def measure(model: Transformer, data: PreparedData, training: Training, device: torch.device) -> dict[str, float]:
    """Measure loss and BLEU on the validation sets.

    It does not use the random number generators, so that a validation does not change the run.

    Returns:
        `validation_loss`: nats per target token of all sets, without label smoothing. `bleu`: sacreBLEU 13a of greedy
        translations, the mean over the sets. `bleu/NAME`: BLEU of each set, if there are several.
    """
    model.eval()
    total, tokens = 0.0, 0
    bleu = {}
    with matmul_precision(training, device):
        for measured in data.validation:
            corpus = measured.tokenized
            for indices in plan_epoch(corpus.lengths, np.ones(len(corpus)), training.batch_tokens, seed=0):
                batch = corpus.batch(indices)
                total += float(loss_sum(model, batch.source.to(device), batch.target.to(device), label_smoothing=0.0))
                tokens += batch.num_tokens
            translations = translate_greedily(model, data.tokenizer, measured)
            references = [target for _, target in measured.pairs]
            bleu[f"bleu/{measured.name}"] = sacrebleu.corpus_bleu(translations, [references]).score
    scores = {"validation_loss": total / tokens, "bleu": sum(bleu.values()) / len(bleu)}
    return scores | (bleu if len(bleu) > 1 else {})


def translate_greedily(model: Transformer, tokenizer: Tokenizer, measured: ValidationSet) -> list[str]:
    """Greedy translations of a set, in its order. Sentences of similar length are decoded together."""
    # A source with more tokens than the model has positions is cut, here alone. Training dropped such pairs.
    limit = model.config.max_positions - tokenizer.source_overhead
    language = measured.target_language
    encoded = [tokenizer.encode(source)[:limit] for source, _ in measured.pairs]
    sources = [tokenizer.source(ids, ANY_LANGUAGE, language) for ids in encoded]
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    translations = [""] * len(sources)
    for start in range(0, len(order), ROWS):
        rows = order[start : start + ROWS]
        longest = min(limit, 2 * len(sources[rows[-1]]) + 10)
        for i, ids in zip(rows, greedy_cached(model, [sources[i] for i in rows], longest), strict=True):
            translations[i] = tokenizer.decode(ids)
    return translations
