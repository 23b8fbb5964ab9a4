"""The endless sequence of batches of a training run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dragoman_model.data.batches import TokenizedCorpus, plan_epoch
from dragoman_model.data.prepare import PreparedData
from dragoman_model.recipe import Training
from dragoman_model.training.training_state import Progress


def planned(data: PreparedData, training: Training, progress: Progress) -> Iterator[tuple[TokenizedCorpus, np.ndarray]]:
    """Yield batches without end, from the epoch and batch of `progress` on, and update both fields.

    A batch is the text of its epoch and the indices of its pairs.

    Raises:
        InvalidInput: the cache has no room for the text of an epoch, which BPE-dropout writes to it.
    """
    while True:
        text = data.epoch(progress.epoch)
        seed = training.seed * 1_000_003 + progress.epoch
        plan = plan_epoch(text.lengths, data.weights, training.batch_tokens, seed)
        while progress.batch < len(plan):
            progress.batch += 1
            yield text, plan[progress.batch - 1]
        progress.epoch, progress.batch = progress.epoch + 1, 0
