from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)  # these models are so small that handing work to a second thread costs more than it saves


@pytest.fixture(autouse=True)
def _no_curves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """To draw the curves of a run takes several times as long as these runs: who looks at them asks for `curves`."""
    if "curves" not in request.fixturenames:
        monkeypatch.setattr("dragoman_model.training.run_folder.draw_curves", lambda *_: None)


@pytest.fixture
def curves() -> None:
    """Has runs draw their curves."""
