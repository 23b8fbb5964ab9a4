"""Models of random weights with many combinations of switches, to be written as folders of other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dragoman_export.imports.architecture import NEVER
from dragoman_model.transformer import Transformer
from support.tiny_checkpoint import random_model, random_sources, write_checkpoint

SWITCHES: Mapping[str, dict[str, Any]] = {
    "pre": {"positions": "sinusoidal"},
    "pre-learned": {"activation": "gelu", "decoder_d_ff": 96, "decoder_positions": "own"},
    "pre-embedding-norm": {"embedding_norm": True, "activation": "gelu_sigmoid", "embedding_scale": 1.0},
    "post": {"norm": "post", "positions": "sinusoidal", "activation": "swish"},
    "post-separate": {
        "norm": "post",
        "source_embedding": "own",
        "output_embedding": "own",
        "decoder_positions": "own",
        "activation": "gelu_tanh",
    },
}
"""Name -> switches that both programs can follow."""
CT2_ALONE: Mapping[str, dict[str, Any]] = {
    "pre-separate": {"source_embedding": "own", "output_embedding": "own", "embedding_scale": 3.0},
    "pre-without-final-norm": {"final_norm": False, "layer_norm_epsilon": 1e-3},
    "post-with-all-norms": {"norm": "post", "final_norm": True, "embedding_norm": True},
}
"""Name -> switches that only CTranslate2 can follow."""
CLASSES = {
    "pre": "blenderbot",
    "pre-learned": "blenderbot",
    "pre-embedding-norm": "mbart",
    "post": "marian",
    "post-separate": "marian",
}
"""Name of `SWITCHES` -> `model_type`."""
GERMAN = (("en", "de"),)
SEVERAL = (("en", "de"), ("en", "fr"))


def checkpoint(folder: Path, switches: Mapping[str, Any], pairs: tuple[tuple[str, str], ...] = GERMAN) -> Path:
    """Write the checkpoint of a random model."""
    words = {"vocab_size": 334} if len(pairs) > 1 else {}
    return write_checkpoint(folder, random_model(seed=1, **words, **switches), language_pairs=pairs)


@torch.no_grad()
def log_probabilities(model: Transformer, count: int = 4) -> torch.Tensor:
    """[tokens, V], of random sources and targets. Ids that no translation contains are impossible."""
    found = []
    for source, target in zip(random_sources(model, count), random_sources(model, count, seed=1), strict=True):
        logits = model(torch.tensor([source]), torch.tensor([[model.config.begin_id, *target[:-1]]]))[0]
        logits[:, list(model.config.banned_ids)] = NEVER
        found.append(logits.log_softmax(-1))
    return torch.cat(found)
