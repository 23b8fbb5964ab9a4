from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dragoman_export.precision import prepare
from dragoman_export.read_back import read_model
from support.tiny_checkpoint import random_model


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_an_int8_bundle_gives_the_weights_that_it_computes_with(tmp_path: Path, norm: str) -> None:
    model = random_model(norm=norm)
    prepared = prepare(model, "int8", [[5, 6, 7, 2], [9, 4, 2]], max_length=8)
    (tmp_path / "weights.safetensors").write_bytes(prepared.weights.to_bytes())
    state = read_model(tmp_path, model.config.to_json()).state_dict()
    for name, tensor in prepared.reference.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-5, atol=1e-7, msg=name)
