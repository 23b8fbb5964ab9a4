"""From prepared text to the endless row of batches that a run learns from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dragoman_model.data.batches import TokenizedCorpus, plan_epoch
from dragoman_model.data.prepare import PreparedData
from dragoman_model.recipe import Training
from dragoman_model.training.training_state import Progress


def planned(data: PreparedData, training: Training, progress: Progress) -> Iterator[tuple[TokenizedCorpus, np.ndarray]]:
    """Batches from where the run stands, for ever, which `progress` follows: the text of the epoch, indices of pairs.

    Raises:
        InvalidInput: with BPE-dropout, the cache has no room for the text of an epoch.
    """
    while True:
        text = data.epoch(progress.epoch)
        seed = training.seed * 1_000_003 + progress.epoch
        plan = plan_epoch(text.lengths, data.weights, training.batch_tokens, seed)
        while progress.batch < len(plan):
            progress.batch += 1
            yield text, plan[progress.batch - 1]
        progress.epoch, progress.batch = progress.epoch + 1, 0
