from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dragoman_model.recipe import Training
from dragoman_model.training import optim
from dragoman_model.training.optim import learning_rate, make_optimizer, matmul_precision
from support.tiny_model import make_model


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


def test_a_constant_rate_stays_where_the_warm_up_ends_until_the_cooldown() -> None:
    training = Training(schedule="constant", warmup_steps=100, max_steps=1000, cooldown_steps=400)
    rates = [learning_rate(step, 256, training) for step in range(1, 1001)]
    assert rates[:100] == [learning_rate(step, 256, Training(warmup_steps=100)) for step in range(1, 101)]
    assert set(rates[99:601]) == {max(rates)}
    assert rates[800] == pytest.approx(max(rates) / 2)
    assert rates[-1] == pytest.approx(max(rates) / 400)


def test_optimizer_is_the_papers_adam() -> None:
    (group,) = make_optimizer(make_model()).param_groups
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.98), 1e-9, 0)


def test_precision_decides_the_type_of_matrix_products() -> None:
    x = torch.ones(2, 2)
    with matmul_precision(Training(precision="bf16"), torch.device("cpu")):
        assert (x @ x).dtype is torch.bfloat16
    with matmul_precision(Training(precision="fp32"), torch.device("cpu")):
        assert (x @ x).dtype is torch.float32


@pytest.mark.parametrize(
    ("vendor", "avx512_bf16", "amx", "expected"),
    [
        ("AuthenticAMD", False, False, False),
        ("AuthenticAMD", True, False, True),
        ("GenuineIntel", True, False, False),
        ("GenuineIntel", True, True, True),
        ("GenuineIntel", False, True, True),
    ],
)
def test_auto_takes_bf16_only_where_the_processor_is_faster_with_it(
    monkeypatch: pytest.MonkeyPatch, vendor: str, avx512_bf16: bool, amx: bool, expected: bool
) -> None:
    """oneDNN calls bf16 supported with AVX512 alone, where it emulates it; Intel's AVX512_BF16 is slower than fp32."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("dragoman_model.training.optim._is_intel", lambda: vendor == "GenuineIntel")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    with matmul_precision(Training(precision="auto"), torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is (torch.bfloat16 if expected else torch.float32)


@pytest.mark.parametrize("vendor", ["AuthenticAMD", "GenuineIntel"])
def test_the_vendor_is_known_with_and_without_cpuinfo(monkeypatch: pytest.MonkeyPatch, vendor: str) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"vendor_id\t: {vendor}\n")
    assert optim._is_intel() is (vendor == "GenuineIntel")

    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr("platform.processor", lambda: f"Intel64 Family 6 Model 207 Stepping 2, {vendor}")
    assert optim._is_intel() is (vendor == "GenuineIntel")
