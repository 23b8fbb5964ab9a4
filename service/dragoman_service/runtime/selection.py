"""Rows of a step whose candidates are searched apart from the others: those that want many, and those with masks.

Both runners use it. Graphs of format 2 search the candidates of all rows alike. They do the same more slowly.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_service.bundle.manifest import TensorNames
from dragoman_service.engine.plan import NO_MASKS, Adjustments, StepPlan, StepResult


@dataclass(frozen=True, slots=True)
class Selection:
    """The inputs of the decoder for selected rows."""

    rows: npt.NDArray[np.int64]
    """[selected]"""
    masks: npt.NDArray[np.float32]
    """[selected or 1, V]: 0, or minus infinity for the words that a row may not have. One row is for all."""
    count: int
    """Candidates of each selected row."""


def flat_index(adjustments: Adjustments, words: int) -> npt.NDArray[np.int64]:
    """[adjustments], the index of each in the flattened logits [rows, `words`]."""
    return adjustments.index[:, 0] * words + adjustments.index[:, 1]


def selects_rows(names: TensorNames) -> bool:
    """Whether a decoder can search the candidates of some rows apart. Those of format 2 cannot."""
    return "selected_rows" in names.decoder_inputs


def select(plan: StepPlan, no_mask: npt.NDArray[np.float32]) -> Selection:
    """The rows of a plan to select: its wide rows in their order, then the other masked rows.

    `no_mask` is [1, V] zeros, V that of the graph. Words beyond those of the plan's masks have no probability anyway.
    """
    wide = np.asarray(plan.wide_rows, np.int64)
    masks = plan.masks
    rows = np.concatenate((wide, masks.rows[~np.isin(masks.rows, wide)])) if len(masks) else wide
    # A masked row has the results of its selection in place of those among all rows, so it needs as many.
    count = max(plan.num_wide_candidates if len(wide) else 0, plan.num_candidates if len(masks) else 0)
    if not len(masks):
        return Selection(rows, no_mask, count)
    bias = np.zeros((len(rows), no_mask.shape[1]), np.float32)
    place = {int(row): index for index, row in enumerate(rows)}
    for row, allowed in zip(masks.rows.tolist(), masks.allowed, strict=True):
        bias[place[row], : len(allowed)][~allowed] = -np.inf
    return Selection(rows, bias, count)


def merge(
    plan: StepPlan, selection: Selection, result: StepResult, ids: npt.NDArray[Any], log_probs: npt.NDArray[Any]
) -> StepResult:
    """The result of a step, with the candidates [selected, count] of the selected rows.

    Those of masked rows take their places among those of all rows.
    """
    if len(plan.masks):
        masked = np.isin(selection.rows, plan.masks.rows)
        wanted = slice(plan.num_candidates)
        result.token_ids[selection.rows[masked]] = ids[masked, wanted]
        result.log_probs[selection.rows[masked]] = log_probs[masked, wanted]
    wide = len(plan.wide_rows)
    if not wide:
        return result
    count = plan.num_wide_candidates
    return dataclasses.replace(result, wide_ids=ids[:wide, :count], wide_log_probs=log_probs[:wide, :count])


def for_all_rows(plan: StepPlan, max_candidates: int) -> StepPlan:
    """A plan without selected rows. All rows have as many candidates as the wide ones; for masks, every candidate."""
    wide = plan.num_wide_candidates if len(plan.wide_rows) else 0
    count = max_candidates if len(plan.masks) else max(plan.num_candidates, wide)
    return dataclasses.replace(plan, num_candidates=count, masks=NO_MASKS, wide_rows=())


def from_all_rows(plan: StepPlan, result: StepResult) -> StepResult:
    """The result of `plan` from the result of `for_all_rows`."""
    ids, log_probs = result.token_ids, result.log_probs
    for row, allowed in zip(plan.masks.rows.tolist(), plan.masks.allowed, strict=True):
        kept = allowed[ids[row]]
        # The allowed ones first, in their order; the others have no probability.
        order = np.argsort(~kept, kind="stable")
        ids[row], log_probs[row] = ids[row, order], np.where(kept[order], log_probs[row, order], -np.inf)
    wanted = slice(plan.num_candidates)
    wide = np.asarray(plan.wide_rows, np.int64)
    result = dataclasses.replace(result, token_ids=ids[:, wanted], log_probs=log_probs[:, wanted])
    if not len(wide):
        return result
    count = slice(plan.num_wide_candidates)
    return dataclasses.replace(result, wide_ids=ids[wide, count], wide_log_probs=log_probs[wide, count])
