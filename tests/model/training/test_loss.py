from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dragoman_model.training import loss
from dragoman_model.training.loss import loss_sum
from dragoman_model.transformer import PAD_ID, Transformer
from support.tiny_model import make_model

SOURCE = torch.tensor([[5, 9, 2], [7, 2, 0]])
TARGET = torch.tensor([[1, 20, 21, 2], [1, 30, 2, 0]])


def the_usual_way(model: Transformer, source: Tensor, target: Tensor, epsilon: float) -> Tensor:
    logits, gold = model(source, target[:, :-1]).flatten(0, 1).float(), target[:, 1:].flatten()
    return functional.cross_entropy(logits, gold, ignore_index=PAD_ID, reduction="sum", label_smoothing=epsilon)


def gradients(model: Transformer, value: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    value.backward()  # type: ignore[no-untyped-call]
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_label_smoothing_is_a_mixture_with_the_uniform_distribution() -> None:
    model, epsilon = make_model(), 0.2
    log_probs = model(SOURCE, TARGET[:, :-1]).log_softmax(-1)
    wanted = torch.full_like(log_probs, epsilon / 40).scatter_add(
        -1, TARGET[:, 1:, None], torch.full((2, 3, 1), 1 - epsilon)
    )
    losses = -(wanted * log_probs).sum(-1)
    expected = losses[TARGET[:, 1:] != 0].sum()
    torch.testing.assert_close(loss_sum(model, SOURCE, TARGET, epsilon), expected)


def test_padding_adds_nothing_to_the_loss() -> None:
    model = make_model()
    separately = loss_sum(model, SOURCE[:1], TARGET[:1], 0.1) + loss_sum(model, SOURCE[1:, :2], TARGET[1:, :3], 0.1)
    torch.testing.assert_close(loss_sum(model, SOURCE, TARGET, 0.1), separately)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 100])
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_loss_and_gradient_are_those_of_all_logits_at_once(
    rows: int, epsilon: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "ROWS", rows)
    model = make_model()
    value, expected = loss_sum(model, SOURCE, TARGET, epsilon), the_usual_way(model, SOURCE, TARGET, epsilon)
    torch.testing.assert_close(value, expected)
    wanted = gradients(model, expected / 3)
    found = gradients(model, value / 3)
    assert found.keys() == wanted.keys() == dict(model.named_parameters()).keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-6)


def test_bf16_products_change_loss_and_gradient_little() -> None:
    model = make_model()
    exact = loss_sum(model, SOURCE, TARGET, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss_sum(model, SOURCE, TARGET, 0.1)
    assert rounded.dtype is torch.float32
    torch.testing.assert_close(rounded, exact, rtol=1e-2, atol=0)
    wanted, found = gradients(model, exact), gradients(model, rounded)
    for name in ("embedding.weight", "output_bias"):
        assert functional.cosine_similarity(found[name].flatten(), wanted[name].flatten(), dim=0) > 0.999


def test_measuring_alone_keeps_no_gradient() -> None:
    model = make_model()
    with torch.no_grad():
        value = loss_sum(model, SOURCE, TARGET, 0.0)
    assert not value.requires_grad
    torch.testing.assert_close(value, the_usual_way(model, SOURCE, TARGET, 0.0))


def test_only_a_few_rows_of_logits_exist_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "ROWS", 2)
    shapes = []
    genuine = loss._losses

    def noting(logits: Tensor, *arguments: Any) -> Tensor:
        shapes.append(tuple(logits.shape))
        return genuine(logits, *arguments)

    monkeypatch.setattr(loss, "_losses", noting)
    loss_sum(make_model(), SOURCE, TARGET, 0.1).backward()  # type: ignore[no-untyped-call]
    assert shapes == [(2, 40), (2, 40), (1, 40)]  # five tokens that are no padding


def test_the_loss_without_smoothing_comes_along() -> None:
    model, unsmoothed = make_model(), torch.zeros(())
    smoothed = loss_sum(model, SOURCE, TARGET, 0.1, unsmoothed)
    torch.testing.assert_close(unsmoothed, loss_sum(model, SOURCE, TARGET, 0.0).detach())
    assert not torch.allclose(unsmoothed, smoothed)
    assert not unsmoothed.requires_grad
