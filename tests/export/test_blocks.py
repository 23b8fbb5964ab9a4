"""Large tensors are computed and compared in parts, which changes no number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dragoman_export import weights
from dragoman_export.exact import Exact
from dragoman_export.exporter import write_graphs
from dragoman_export.precision import prepare
from dragoman_export.stored import stored_problems
from support.tiny_checkpoint import random_model, random_sources


def test_parts_of_tensors_give_the_numbers_of_the_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = random_model()
    sources, state = random_sources(model, 6), torch.randn(3, 1, model.config.d_model)
    prepared = prepare(model, "int8", sources, 8)
    log_probs = Exact(prepared).log_probs(state, ())
    monkeypatch.setattr(weights, "_ROWS", 50)
    again = prepare(model, "int8", sources, 8)
    assert again.weights.tensors.keys() == prepared.weights.tensors.keys()
    for name, tensor in prepared.weights.tensors.items():
        assert np.array_equal(again.weights.tensors[name], tensor), name
    torch.testing.assert_close(Exact(again).log_probs(state, ()), log_probs)
    write_graphs(model.config, again, tmp_path)
    assert list(stored_problems(tmp_path, again)) == []
    with torch.no_grad():
        again.reference.embedding.weight[-1, 0] += 1
    wrong = [it.partition(" by ")[0] for it in stored_problems(tmp_path, again)]
    of_file = "weights.safetensors: embedding.weight is off"
    assert wrong == [of_file, of_file, "embedding.weight is rounded"], "with both scales of the file, and by rounding"
