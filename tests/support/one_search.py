"""The search of one request, step by step, on a batch without other requests."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dragoman_service.engine.active_request import Waiting
from dragoman_service.engine.batch import Batch
from dragoman_service.engine.plan import Adjustment
from dragoman_service.engine.request import Hypothesis, Request
from support.fake_runner import BEGIN, END


class OneSearch:
    """Rows are numbered from 0. `max_positions` is that of the model; by default what `max_length` tokens need."""

    def __init__(self, request: Request, *, max_positions: int | None = None) -> None:
        limit = len(request.forced) + request.max_length if max_positions is None else max_positions
        self._batch = Batch(request.options.num_rows, begin_id=BEGIN, end_id=END, max_positions=limit)
        self._batch.join(Waiting(request, 0.0))
        (self._active,) = self._batch.active.values()
        self.copies: list[tuple[int, int]] = []
        self.done = False

    @property
    def next_tokens(self) -> list[int]:
        return self._batch.tokens[: self._batch.extent].tolist()

    def advance(
        self, token_ids: Sequence[Sequence[int]], log_probs: Sequence[Sequence[float]], aligned: Sequence[int] = ()
    ) -> None:
        """Apply the candidates of one step. Rows may have different numbers of candidates."""
        width = max(map(len, token_ids))
        ids = np.zeros((len(token_ids), width), np.int64)
        scores = np.full(ids.shape, -math.inf)
        for row, (some_ids, some_scores) in enumerate(zip(token_ids, log_probs, strict=True)):
            ids[row, : len(some_ids)], scores[row, : len(some_scores)] = some_ids, some_scores
        step = self._batch.advance(ids, scores, np.array(aligned) if aligned else None)
        for _, error in step.failed:
            raise error
        self.copies = [(copy.source, copy.target) for copy in self._batch.beam_copies()]
        self.done = bool(step.ended)

    def adjustments(self, rows: Sequence[int]) -> list[Adjustment]:
        """The adjustments of the next step, with row i renamed to `rows[i]`."""
        return [adjustment._replace(row=rows[adjustment.row]) for adjustment in self._batch.adjustments()]

    def decided(self, start: int) -> tuple[int, ...]:
        self._active.streamed = start
        return tuple(self._batch._decided(self._active, self._batch.length(self._active)))

    def hypotheses(self) -> tuple[Hypothesis, ...]:
        return self._active.hypotheses()


def make_search(request: Request, *, begin_id: int = BEGIN, end_id: int = END) -> OneSearch:
    return OneSearch(request)
