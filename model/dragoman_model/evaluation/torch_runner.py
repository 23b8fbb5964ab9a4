"""A PyTorch runner for the engine of the server. It decodes with a checkpoint as the server will, without an export."""

from __future__ import annotations

import time
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dragoman_model.evaluation.reference_decode import mask_logits
from dragoman_model.transformer import DecoderLayer, KeyValue, Ragged, Transformer
from dragoman_service.bundle.manifest import AlignmentHead, aligning_head
from dragoman_service.engine.plan import Adjustments, Integers, Join, RowCopy, StepPlan, StepResult


class TorchRunner:
    """Executes the step plans of `dragoman_service.engine.scheduler` (a `dragoman_service.engine.plan.Runner`)."""

    def __init__(self, model: Transformer, *, max_rows: int, alignment: AlignmentHead | None = None) -> None:
        """Allocate the caches of self- and cross-attention, each [max_rows, H, positions, K], for every decoder layer.

        Args:
            model: In evaluation mode, on any device.
            max_rows: Largest number of rows of the running batch.
            alignment: The head of the cross-attention that gives the aligned source positions, as a manifest has it.
        """
        config, self._device = model.config, model.output_bias.device
        self._aligning = aligning_head(alignment, config.decoder_layers)
        shape = (max_rows, config.num_heads, config.max_positions, config.head_dim)
        self._model = model
        self._past = [self._zeros(shape) for _ in range(config.decoder_layers)]
        self._cross = [self._zeros(shape) for _ in range(config.decoder_layers)]

        self.max_positions = config.max_positions

    def prepare(self) -> None:
        """Nothing to do: the first step takes no longer than the others."""

    @torch.no_grad()
    def run(self, plan: StepPlan) -> StepResult:
        """Execute one step."""
        started = time.perf_counter()
        for copy in plan.copies:
            self._copy(copy)
        for join in plan.joins:
            self._join(join)
        encoded = time.perf_counter()
        weights: list[Tensor] = []
        attention = cast(DecoderLayer, self._model.decoder[self._aligning.layer]).cross_attention
        hook = attention.dropout.register_forward_hook(lambda _, given, __: weights.append(given[0]))
        try:
            logits = mask_logits(self._step(plan), self._model.config)  # [rows, V]
        finally:
            hook.remove()
        aligned = weights[0][:, self._aligning.head, -1].argmax(-1).numpy(force=True)  # of [rows, H, 1, S]
        _adjust(logits, plan.adjustments)
        log_probs = logits.log_softmax(dim=-1)
        if len(plan.masks):
            allowed = torch.as_tensor(plan.masks.allowed, device=self._device)
            rows = self._tensor(plan.masks.rows)
            log_probs[rows] = log_probs[rows].masked_fill(~allowed, float("-inf"))
        best = _likeliest(log_probs, plan.num_candidates)
        wide: tuple[Any, Any] = (None, None)
        if len(plan.wide_rows):
            wide = _likeliest(log_probs[self._tensor(plan.wide_rows)], plan.num_wide_candidates)
        seconds = time.perf_counter() - encoded
        return StepResult(
            *best, encoded - started, seconds, wide_ids=wide[0], wide_log_probs=wide[1], aligned=(aligned,)
        )

    def probe(self) -> None:
        """Nothing to do: this runner is for evaluation, which ends with the first error."""

    def close(self) -> None:
        """Free the caches."""
        self._past, self._cross = [], []

    def _copy(self, copy: RowCopy) -> None:
        for key_value in self._past:
            for cache in key_value:
                cache[copy.target, :, : copy.length] = cache[copy.source, :, : copy.length]
        for key_value in self._cross if copy.cross else ():
            for cache in key_value:
                cache[copy.target, :, : copy.cross] = cache[copy.source, :, : copy.cross]

    def _join(self, join: Join) -> None:
        """Encode a source and write its keys and values to the cross-attention cache.

        The source is encoded alone. It has no padding, and its result does not depend on other sources.
        """
        source = torch.tensor([join.source], device=self._device)  # [1, S]
        projected = self._model.project_cross(self._model.encode(source))  # per layer [1, H, S, K], twice
        for caches, values in zip(self._cross, projected, strict=True):
            for cache, value in zip(caches, values, strict=True):
                cache[list(join.rows), :, : len(join.source)] = value

    def _step(self, plan: StepPlan) -> Tensor:
        """Run a decoder step over all rows, each at its own position. Returns the logits [rows, V]."""
        rows = len(plan.tokens)
        positions = self._tensor(plan.positions)  # [rows]
        past_length, sources = int(np.max(plan.positions)), int(np.max(plan.source_lengths))
        past = [(key[:rows, :, :past_length], value[:rows, :, :past_length]) for key, value in self._past]
        cross = [(key[:rows, :, :sources], value[:rows, :, :sources]) for key, value in self._cross]
        logits, present = self._model.decode_step(
            self._tensor(plan.tokens),
            past,
            cross,
            self._length_mask(plan.source_lengths, sources),
            Ragged(
                positions.unsqueeze(1),
                functional.pad(self._length_mask(plan.positions, past_length), (0, 1), value=True),
            ),
        )
        every = torch.arange(rows, device=self._device)
        for caches, values in zip(self._past, present, strict=True):
            for cache, value in zip(caches, values, strict=True):
                cache[every, :, positions] = value[:, :, -1]  # [rows, H, K] of the new position
        return logits

    def _length_mask(self, lengths: Integers, width: int) -> Tensor:
        """A mask [rows, 1, 1, width], True at the positions below the length of each row."""
        return (torch.arange(width, device=self._device) < self._tensor(lengths).unsqueeze(1))[:, None, None, :]

    def _tensor(self, values: Integers) -> Tensor:
        return torch.as_tensor(values, device=self._device)

    def _zeros(self, shape: tuple[int, ...]) -> KeyValue:
        return torch.zeros(shape, device=self._device), torch.zeros(shape, device=self._device)


def _likeliest(log_probs: Tensor, count: int) -> tuple[Any, Any]:
    """Ids and log-probabilities, [rows, count], of the likeliest tokens of each row of [rows, V]."""
    best = log_probs.topk(min(count, log_probs.size(1)), dim=-1)
    return best.indices.numpy(force=True), best.values.numpy(force=True)


def _adjust(logits: Tensor, adjustments: Adjustments) -> None:
    """Apply repetition penalties and biases to single logits of [rows, V], in place."""
    for adjustment in adjustments:
        value = float(logits[adjustment.row, adjustment.token])
        value = value / adjustment.penalty if value > 0 else value * adjustment.penalty
        logits[adjustment.row, adjustment.token] = value + adjustment.bias
