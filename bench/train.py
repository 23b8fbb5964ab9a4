"""How fast a model learns: updates on batches of random tokens, of Dragoman and of Hugging Face transformers.

Both do all that an update is, in the precision of `training.precision`: forward, cross-entropy with label smoothing,
backward, the norm of the gradient, fused Adam. transformers' MarianMT has the same shapes, and dropout in the same
places; it does without label smoothing here, which only makes it faster.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor
from torch.nn import functional
from transformers import MarianMTModel

from bench.common import interleaved, print_header, print_table, ratio
from bench.marian import marian_config
from dragoman_model.config import ModelConfig
from dragoman_model.recipe import Training
from dragoman_model.training.loss import loss_sum
from dragoman_model.training.optim import make_optimizer, matmul_precision
from dragoman_model.transformer import Transformer

SHAPES = {"multi30k-tiny": ("tiny", 10_000), "small": ("small", 8000), "base": ("base", 32_000)}
"""Name -> preset and vocabulary."""
DEVICE = torch.device("cpu")
UPDATES = 3
"""Of a round."""


def dragoman(config: ModelConfig) -> Callable[[Tensor, Tensor], None]:
    """An update of our trainer."""
    model, training = Transformer(config).train(), Training()

    def loss(source: Tensor, target: Tensor) -> Tensor:
        return loss_sum(model, source, target, training.label_smoothing)

    return _update(model, loss, training)


def transformers(config: ModelConfig) -> Callable[[Tensor, Tensor], None]:
    """The same of the Hugging Face model."""
    marian = marian_config(config)
    marian.dropout = config.dropout
    model, training = MarianMTModel(marian).train(), Training()

    def loss(source: Tensor, target: Tensor) -> Tensor:
        logits = model(input_ids=source, attention_mask=source != 0, decoder_input_ids=target[:, :-1]).logits
        gold = target[:, 1:].flatten()
        return functional.cross_entropy(logits.flatten(0, 1).float(), gold, reduction="sum")

    return _update(model, loss, training)


def _update(
    model: Any, loss: Callable[[Tensor, Tensor], Tensor], training: Training
) -> Callable[[Tensor, Tensor], None]:
    optimizer = make_optimizer(model)

    def update(source: Tensor, target: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        with matmul_precision(training, DEVICE):
            value = loss(source, target)
        (value / target.numel()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        optimizer.step()

    return update


COMPETITORS = {"Dragoman": dragoman, "transformers": transformers}


def batch(config: ModelConfig, tokens: int, length: int) -> tuple[Tensor, Tensor]:
    """Source and target ids of random words."""
    rows = tokens // length
    return torch.randint(4, config.vocab_size, (rows, length)), torch.randint(4, config.vocab_size, (rows, length + 1))


def main() -> None:
    """Print a table for each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="multi30k-tiny,small", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--dropout", type=float, default=0.1, help="(default: 0.1)")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="(default: 2048)")
    parser.add_argument("--length", type=int, default=16, help="tokens of a sentence (default: 16)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(default: all cores)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = {name: getattr(args, name) for name in ("dropout", "batch_tokens", "length", "threads", "repeats")}
    print_header("Training", settings)
    rows: list[list[object]] = []
    for model in args.models.split(","):
        preset, vocabulary = SHAPES[model]
        fields = {"preset": preset, "norm": "pre", "dropout": args.dropout, "vocab_size": vocabulary}
        config = ModelConfig.from_settings(fields)
        source, target = batch(config, args.batch_tokens, args.length)
        rounds = {name: partial(_round, make(config), source, target) for name, make in COMPETITORS.items()}
        timings = interleaved(rounds, args.repeats)
        for name in COMPETITORS:
            rate = UPDATES * target[:, 1:].numel() / timings[name].median
            compared = ratio(timings["transformers"], timings[name])
            rows.append([model, name, f"{rate:,.0f}", compared, f"{timings[name].spread:.0%}"])
    print_table(("model", "trainer", "target tokens/s", "times transformers", "spread"), rows)


def _round(update: Callable[[Tensor, Tensor], None], source: Tensor, target: Tensor) -> float:
    started = time.perf_counter()
    for _ in range(UPDATES):
        update(source, target)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
