from __future__ import annotations

import pytest
import torch

from dragoman_model.optim import learning_rate, loss_sum, make_optimizer, matmul_precision
from dragoman_model.recipe import Training
from support.tiny_model import make_model

SOURCE = torch.tensor([[5, 9, 2], [7, 2, 0]])
TARGET = torch.tensor([[1, 20, 21, 2], [1, 30, 2, 0]])


def test_schedule_is_equation_3() -> None:
    training = Training(warmup_steps=4000)
    assert learning_rate(1, 512, training) == pytest.approx(512**-0.5 * 4000**-1.5)
    assert learning_rate(4000, 512, training) == pytest.approx(512**-0.5 * 4000**-0.5)
    assert learning_rate(100_000, 512, training) == pytest.approx(512**-0.5 * 100_000**-0.5)
    rates = [learning_rate(step, 512, training) for step in range(1, 9000)]
    assert max(range(len(rates)), key=rates.__getitem__) + 1 == 4000
    assert learning_rate(7, 512, Training(learning_rate_scale=2.0)) == 2 * learning_rate(7, 512, Training())


def test_cooldown_ends_the_schedule_at_almost_nothing() -> None:
    paper, cooled = Training(max_steps=9000), Training(max_steps=9000, cooldown_steps=1000)
    shares = [learning_rate(step, 512, cooled) / learning_rate(step, 512, paper) for step in range(1, 9001)]
    assert shares[:8001] == [1.0] * 8001
    assert shares[8500] == pytest.approx(0.5)
    assert shares[-1] == pytest.approx(0.001)


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


def test_optimizer_is_the_papers_adam() -> None:
    (group,) = make_optimizer(make_model()).param_groups
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.98), 1e-9, 0)


def test_precision_decides_the_type_of_matrix_products() -> None:
    x = torch.ones(2, 2)
    with matmul_precision(Training(precision="bf16"), torch.device("cpu")):
        assert (x @ x).dtype is torch.bfloat16
    with matmul_precision(Training(precision="fp32"), torch.device("cpu")):
        assert (x @ x).dtype is torch.float32
