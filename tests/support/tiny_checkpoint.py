"""Checkpoints of random weights, small enough to be exported in a second."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch

from dragoman_model.checkpoint import CheckpointConfig, save_checkpoint
from dragoman_model.config import ModelConfig
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.tokenizer import Tokenizer, target_tag
from support.tiny import tokenizer_model

MAX_POSITIONS = 160
END_BIAS = 2.0
"""Added to the output bias of the end of the sentence, so that translations end, at different lengths."""
FACTORS = {"query": 2.0, "key": 2.0, "attention": 1.5, "positions": 5.0}
"""Factors on the weights after initialisation, so that positions and sources differ enough. They are not larger: with
attention sharper by half, PyTorch in fp32 differs from float64 by 3e-3, and comparisons would show rounding errors."""

torch.set_num_threads(1)  # for such small models, several threads would wait for each other on a busy machine


def random_model(seed: int = 0, **overrides: Any) -> Transformer:
    """Make a Transformer in evaluation mode, pre-norm with learned positions, with random parameters.

    Its translations depend on the source and have different lengths.
    """
    sizes = {"d_model": 32, "num_heads": 2, "d_ff": 64, "encoder_layers": 2, "decoder_layers": 2}
    sizes["vocab_size"] = Tokenizer(tokenizer_model()).vocab_size
    kinds = {"norm": "pre", "positions": "learned"}
    config = ModelConfig(max_positions=MAX_POSITIONS, **(sizes | kinds | overrides))
    torch.manual_seed(seed)
    model = Transformer(config).eval()
    last = model.decoder_norm if config.ends_with_norm else model.decoder[-1].feed_forward_residual.norm
    with torch.no_grad():
        for name, table in model.named_buffers():
            if config.positions == "table" and name.endswith("positions.table"):
                table.normal_(std=FACTORS["positions"] * config.d_model**-0.5)
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            else:
                parameter.mul_(next((factor for part, factor in FACTORS.items() if part in name), 1.0))
        # Gains of either sign: as the embeddings are tied, every token would otherwise be repeated for ever.
        last.weight.mul_(torch.randn_like(last.weight).sign() * 1.5)
        model.output_bias[2] += END_BIAS
    return model


def random_sources(model: Transformer, count: int, seed: int = 0, longest: int = 25) -> list[list[int]]:
    """Random sources of different lengths: valid token ids, with the end of the sentence last."""
    rng = random.Random(seed)
    lengths = [rng.randint(1, longest - 1) for _ in range(count)]
    return [[*rng.choices(range(4, model.config.source_words), k=length), 2] for length in lengths]


def write_checkpoint(
    folder: Path,
    model: Transformer | None = None,
    max_tokens: int = MAX_POSITIONS,
    language_pairs: tuple[tuple[str, str], ...] = (("en", "de"),),
) -> Path:
    """Write a checkpoint of `model`, or of `random_model()`, for sentences of `max_tokens`; returns its folder."""
    model = model or random_model()
    targets = sorted({target for _, target in language_pairs})
    tags = {"control_symbols": tuple(map(target_tag, targets))} if len(targets) > 1 else {}
    config = CheckpointConfig(
        model=model.config,
        language_pairs=language_pairs,
        max_source_tokens=max_tokens,
        max_target_tokens=max_tokens,
        training={"step": 0, "data": [{"corpus": "none", "weight": 1.0}]},
    )
    save_checkpoint(folder, model.state_dict(), config, tokenizer_model(**tags))
    return folder
