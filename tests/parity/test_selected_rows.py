"""The graphs and PyTorch agree on plans whose rows have masks, many candidates and aligned positions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dragoman_export.forced import busy_distance, busy_plans
from dragoman_export.read_back import read_model
from dragoman_model.evaluation.torch_runner import TorchRunner
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.plan import StepPlan
from dragoman_service.runtime.runner import OrtRunner
from support.tiny_checkpoint import random_sources

ROWS = 9


@pytest.fixture(scope="module")
def model(tiny_bundle: Bundle) -> Transformer:
    return read_model(Path(tiny_bundle.path), tiny_bundle.manifest.architecture)


@pytest.fixture(scope="module")
def plans(model: Transformer) -> list[StepPlan]:
    made = busy_plans(model, random_sources(model, 20), np.random.default_rng(3), rows=ROWS, longest=40)
    assert {len(plan.masks) > 0 for plan in made} == {True, False}
    assert all(len(plan.wide_rows) for plan in made)
    return made


def test_selected_rows_have_the_candidates_of_pytorch(
    tiny_bundle: Bundle, model: Transformer, plans: list[StepPlan]
) -> None:
    distance = busy_distance(model, OrtRunner(tiny_bundle, max_rows=ROWS, threads=1), plans)
    assert distance.log_prob_error < 1e-4
    assert distance.agreement == 1


def test_aligned_positions_are_those_of_pytorch(tiny_bundle: Bundle, model: Transformer, plans: list[StepPlan]) -> None:
    torch_runner = TorchRunner(model, max_rows=ROWS, alignment=tiny_bundle.manifest.alignment)
    runner = OrtRunner(tiny_bundle, max_rows=ROWS, threads=1)
    seen = set()
    for plan in plans:
        (expected,), (found,) = torch_runner.run(plan).aligned, runner.run(plan).aligned
        assert found.tolist() == expected.tolist()
        seen |= set(found.tolist())
    assert len(seen) > 5
