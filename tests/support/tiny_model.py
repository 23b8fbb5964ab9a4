"""Transformers of random weights, corpora of a few dozen pairs, and recipes that train within a second."""

from __future__ import annotations

import copy
import functools
import random
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from dragoman_model.config import ModelConfig
from dragoman_model.recipe import Recipe, parse_recipe
from dragoman_model.training.loss import loss_sum
from dragoman_model.transformer import Transformer
from support.tiny import sentences

MODEL = {"d_model": 16, "num_heads": 2, "d_ff": 32, "encoder_layers": 2, "decoder_layers": 2, "max_positions": 64}


def make_config(**changes: Any) -> ModelConfig:
    """The configuration of a tiny model."""
    return ModelConfig(**{**MODEL, "vocab_size": 40, "dropout": 0.0, **changes})


def make_model(seed: int = 0, **changes: Any) -> Transformer:
    """A model of random weights, in evaluation mode."""
    torch.manual_seed(seed)
    model = Transformer(make_config(**changes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:  # biases of 0 and gains of 1 would hide mistakes in their use
                parameter.add_(torch.randn_like(parameter) * (0.3 if "output_bias" not in name else 0.5))
    return model


@functools.cache
def half_trained_model() -> Transformer:
    """A model after a few training steps. With random weights only, all sentences would end alike, or never.

    It learns to copy sentences of 1 to 8 tokens. Many of its choices are close.
    """
    model = make_model(seed=1, norm="pre", positions="learned").train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    rng = random.Random(0)
    for _ in range(60):
        texts = [rng.choices(range(4, 40), k=rng.randint(1, 8)) for _ in range(16)]
        source = pad_sequence([torch.tensor([*text, 2]) for text in texts], batch_first=True)
        target = pad_sequence([torch.tensor([1, *text, 2]) for text in texts], batch_first=True)
        optimizer.zero_grad()
        loss_sum(model, source, target, label_smoothing=0.0).div(len(texts) * 5).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


def write_corpus(folder: Path, count: int = 60) -> None:
    """Write `train.tsv`, `valid.en` and `valid.de`: sentences, and the same words in reverse order."""
    pairs = [(text, " ".join(reversed(text.split()))) for text in dict.fromkeys(sentences(count, seed=3))]
    (folder / "train.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")
    for side, name in enumerate(("valid.en", "valid.de")):
        (folder / name).write_text("".join(pair[side] + "\n" for pair in pairs[:6]), encoding="utf-8")


SETTINGS: dict[str, dict[str, Any]] = {
    "model": {**MODEL, "dropout": 0.1},
    "tokenizer": {"vocab_size": 320},
    "data": {
        "source_language": "en",
        "target_language": "de",
        "max_tokens": 60,
        "train": [{"path": "train.tsv"}],
        "validation": [{"path": "valid.en", "target_path": "valid.de"}],
        "cleaning": {"drop_copies": False},
    },
    "training": {
        "batch_tokens": 120, "max_steps": 12, "warmup_steps": 4, "validate_every": 6, "average_checkpoints": 2,
        "patience": 0, "precision": "fp32",
    },
}  # fmt: skip


def make_recipe(**tables: dict[str, Any]) -> Recipe:
    """Make a recipe for the corpus of `write_corpus`. `tables` change single fields."""
    settings = copy.deepcopy(SETTINGS)
    for table, changes in tables.items():
        settings[table].update(changes)
    return parse_recipe(settings)
