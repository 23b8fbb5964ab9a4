from __future__ import annotations

import pytest
import torch

from dragoman_model.dropout import Dropout, dropout


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.3, 0.5, 0.9])
def test_so_many_are_dropped_and_the_mean_stays(probability: float) -> None:
    torch.manual_seed(1)
    x = torch.ones(1003, 999)
    y = dropout(x, probability)
    assert float((y == 0).float().mean()) == pytest.approx(probability, abs=1 / 256)
    assert float(y.mean()) == pytest.approx(1.0, abs=0.03)
    assert len(y.unique()) == 2


def test_gradient_passes_where_the_value_did() -> None:
    x = torch.ones(64, 3, dtype=torch.bfloat16, requires_grad=True)
    y = dropout(x, 0.5)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.detach())


def test_elements_fall_independently() -> None:
    torch.manual_seed(1)
    dropped = (dropout(torch.ones(100_000, 8), 0.5) == 0).float()
    correlation = torch.corrcoef(dropped.T) - torch.eye(8)
    assert float(correlation.abs().max()) < 0.02


def test_a_seed_decides() -> None:
    x = torch.ones(1000)
    torch.manual_seed(3)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5), first)
    assert not torch.equal(first, second)


def test_nothing_is_dropped_when_it_is_not_training_or_not_wanted() -> None:
    x = torch.ones(1000)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(dropout(x, 0.0), x)
    assert dropout(torch.ones(0, 4), 0.5).shape == (0, 4)
