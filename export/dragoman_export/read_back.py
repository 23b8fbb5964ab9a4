"""Reads the PyTorch model of a bundle, for comparisons and for further training."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from dragoman_export.quantise import CACHE_SCALE, WEIGHT_SCALE, cross_matrix, dequantised, matrices, matrix_name
from dragoman_export.weights import POSITIONS
from dragoman_model.config import ModelConfig
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.manifest import WEIGHTS


def read_model(bundle: Path, architecture: dict[str, object]) -> Transformer:
    """The PyTorch model that a bundle was exported from, in evaluation mode.

    For an int8 bundle, the weights are rounded to 8 bits, and the channels are equalised.

    Args:
        bundle: The folder of the bundle.
        architecture: `Manifest.architecture`, which is `ModelConfig.to_json()`.
    """
    model = Transformer(ModelConfig.from_settings(architecture))
    stored: dict[str, Tensor] = load_file(bundle / WEIGHTS)
    state = stored if stored["embedding.weight"].is_floating_point() else _dequantised_state(stored, model.config)
    state["embedding.weight"] = state["embedding.weight"][: model.config.vocab_size]
    if POSITIONS not in model.state_dict():  # computed, not trained
        del state[POSITIONS]
    model.load_state_dict(state)
    return model.eval()


def _dequantised_state(stored: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    wanted = Transformer(config).state_dict()
    state = {name: tensor for name, tensor in stored.items() if name in wanted or name == POSITIONS}
    state["embedding.weight"] = dequantised(stored["embedding.weight"], stored[f"output{WEIGHT_SCALE}"])
    for names in matrices(config):
        name = matrix_name(names)
        scale, bias = stored[f"{name}{WEIGHT_SCALE}"], stored[f"{name}.bias"]  # [out]
        if name == cross_matrix(config):
            unit = torch.cat([stored[f"{part}{CACHE_SCALE}"].flatten() for part in names])
            scale, bias = scale * unit, bias * unit
        weight = dequantised(stored[f"{name}.weight"].T, scale)  # [out, in]
        sizes = [wanted[f"{part}.weight"].size(0) for part in names]
        for part, rows, offset in zip(names, torch.split(weight, sizes), torch.split(bias, sizes), strict=True):
            state |= {f"{part}.weight": rows, f"{part}.bias": offset}
    return {name: tensor.to(torch.float32) for name, tensor in state.items()}
