"""Reads the PyTorch model of a bundle, for comparisons and for further training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
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
    config = ModelConfig.from_settings(architecture)
    model = Transformer(config)
    computed = set(position_tables(config).values()) - model.state_dict().keys()
    model.load_state_dict({name: tensor for name, tensor in stored_state(bundle, config) if name not in computed})
    return model.eval()


def stored_state(bundle: Path, config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """Yield name and numbers, in fp32, of every parameter and table of positions, one after the other.

    In int8, the embedding matrix is yielded with each of its scales.

    Args:
        bundle: The folder of the bundle.
        config: Its model.
    """
    with safe_open(bundle / WEIGHTS, "pt") as file:
        rounded = not file.get_tensor("embedding.weight").is_floating_point()
        yield from (_dequantised_state if rounded else _plain_state)(file, config)


def _plain_state(file: Any, config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    words = {f"{name}.weight": _words(config, use) for use, name in embedding_matrices(config).items()}
    for name in file.keys():  # noqa: SIM118 - no mapping
        yield name, file.get_tensor(name)[: words.get(name)].float()


def _dequantised_state(file: Any, config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    with torch.device("meta"):
        wanted = Transformer(config).state_dict()
    get, names = file.get_tensor, set(file.keys())
    embeddings = {
        (name, f"output{WEIGHT_SCALE}" if use == "output" else f"{name}.scale"): use
        for use, name in embedding_matrices(config).items()
    }
    for (name, scale), use in embeddings.items():
        factor = 1.0 if use == "output" else config.embedding_factor
        words = _words(config, use)
        yield f"{name}.weight", dequantised(get(f"{name}.weight")[:words], get(scale).flatten()[:words] / factor)
        names.discard(f"{name}.weight")
    for parts in matrices(config):
        matrix = matrix_name(parts)
        scale, bias = get(f"{matrix}{WEIGHT_SCALE}"), get(f"{matrix}.bias")  # [out]
        if matrix == cross_matrix(config):
            unit = torch.cat([get(f"{part}{CACHE_SCALE}").flatten() for part in parts])
            scale, bias = scale * unit, bias * unit
        weight = dequantised(get(f"{matrix}.weight").T, scale)  # [out, in]
        sizes = [wanted[f"{part}.weight"].size(0) for part in parts]
        for part, rows, offset in zip(parts, torch.split(weight, sizes), torch.split(bias, sizes), strict=True):
            yield f"{part}.weight", rows
            yield f"{part}.bias", offset
            names -= {f"{part}.weight", f"{part}.bias"}
    for name in sorted(names & (wanted.keys() | set(position_tables(config).values()))):
        yield name, get(name)


def _words(config: ModelConfig, use: str) -> int:
    return config.source_words if use == "source" else config.vocab_size
