"""Learning rate, precision and optimiser: section 5 of Vaswani et al. 2017."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path

import torch

from dragoman_model.recipe import Training
from dragoman_model.transformer import Transformer


def learning_rate(step: int, d_model: int, training: Training) -> float:
    """The learning rate of update `step`, counted from 1.

    `inverse_sqrt` is equation 3: a linear warm-up, then decay with the inverse square root of the step. `constant` has
    the same warm-up and keeps its last rate. Both end with the cooldown of `Training.cooldown_steps`.
    """
    decayed = min(step, training.warmup_steps) if training.schedule == "constant" else step
    rate: float = d_model**-0.5 * min(decayed**-0.5, step * training.warmup_steps**-1.5)
    left = training.max_steps - step + 1
    cooldown = min(1.0, left / training.cooldown_steps) if training.cooldown_steps else 1.0
    return training.learning_rate_scale * rate * cooldown


def matmul_precision(training: Training, device: torch.device) -> contextlib.AbstractContextManager[None]:
    """The context manager for loss and gradients: bf16 autocast, or no change (see `Training.precision`)."""
    bf16 = training.precision == "bf16" or (training.precision == "auto" and computes_bf16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


def computes_bf16(device: torch.device) -> bool:
    """Whether matrix products are faster in bf16 than in fp32 on this processor or GPU.

    The answer depends on the hardware alone. A measurement would depend on the load of the machine, and a resumed run
    might then compute in another precision than before.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.machine().lower() in ("x86_64", "amd64"):
        # On an Intel Emerald Rapids, AVX512_BF16 was measured at half the multiplications a second of fp32. Fast bf16
        # on Intel needs AMX, which virtual machines may hide. Without either extension, oneDNN emulates bf16.
        avx512_bf16 = torch.cpu._is_avx512_bf16_supported() and not _is_intel()
        return bool(avx512_bf16 or torch.cpu._is_amx_tile_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _is_intel() -> bool:
    try:
        vendor = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # Windows and macOS: no such file
        vendor = platform.processor()
    return "GenuineIntel" in vendor


def make_optimizer(model: Transformer) -> torch.optim.Adam:
    """Adam with the betas and epsilon of the paper. The training loop sets the learning rate before every update."""
    return torch.optim.Adam(model.parameters(), lr=0.0, betas=(0.9, 0.98), eps=1e-9, fused=True)
