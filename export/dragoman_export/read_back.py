"""Reads the PyTorch model of a bundle, for comparisons and for further training."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from dragoman_export.quantise import CACHE_SCALE, WEIGHT_SCALE, cross_matrix, dequantised, matrices, matrix_name
from dragoman_export.weights import embedding_matrices, position_tables
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
    sizes = {"source": model.config.source_words}
    for use, name in embedding_matrices(model.config).items():
        state[f"{name}.weight"] = state[f"{name}.weight"][: sizes.get(use, model.config.vocab_size)]
    for name in position_tables(model.config).values():
        if name not in model.state_dict():  # computed, not trained
            del state[name]
    model.load_state_dict(state)
    return model.eval()


def _dequantised_state(stored: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    wanted = Transformer(config).state_dict()
    tables = position_tables(config).values()
    state = {name: tensor for name, tensor in stored.items() if name in wanted or name in tables}
    for use, name in embedding_matrices(config).items():
        scale = stored[f"output{WEIGHT_SCALE}"] if use == "output" else stored[f"{name}.scale"].flatten()
        scale = scale if use == "output" else scale / config.embedding_factor
        state[f"{name}.weight"] = dequantised(stored[f"{name}.weight"], scale)
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
