"""The whole way on a task that can be learned entirely: train, export, and the engine gets held-out text right."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from dragoman_export.exporter import ExportOptions, export_checkpoint
from dragoman_model.data.prepare import prepare
from dragoman_model.evaluation.evaluate import evaluate, read_test_sets, write_lines
from dragoman_model.evaluation.systems import System, load_bundle_system, load_checkpoint_system
from dragoman_model.recipe import parse_recipe
from dragoman_model.training.train import Trainer
from dragoman_service.engine.request import DecodingOptions

LETTERS = "abcdefghij"
HELD_OUT = 100


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_learns_to_reverse(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**31)
    print(f"seed {seed}")  # shown when the test fails
    write_task(tmp_path, random.Random(seed))
    recipe = parse_recipe(
        {
            "model": {
                "preset": "tiny", "d_model": 64, "num_heads": 2, "encoder_layers": 2, "decoder_layers": 2,
                "dropout": 0.0, "norm": "pre", "max_positions": 32,
            },
            "tokenizer": {"vocab_size": 281, "character_coverage": 1.0},  # a subword for each letter
            "data": {
                "source_language": "en", "target_language": "de", "max_tokens": 32, "validation_limit": 20,
                "train": [{"path": "train.tsv"}], "validation": [{"path": "test.en", "target_path": "test.de"}],
                "cleaning": {"drop_copies": False},
            },
            "training": {
                "batch_tokens": 800, "max_steps": 1200, "warmup_steps": 200, "learning_rate_scale": 0.35,
                "validate_every": 100, "average_checkpoints": 5, "patience": 0, "seed": seed,
            },
        }
    )  # fmt: skip
    checkpoint = Trainer(recipe, prepare(recipe, tmp_path), tmp_path / "run", torch.device("cpu")).run()
    options = DecodingOptions(beam_size=4)
    assert exact_share(load_checkpoint_system(checkpoint, options, device="cpu"), tmp_path) >= 0.95

    bundle, _ = export_checkpoint(checkpoint, tmp_path / "reverse" / "1", ExportOptions(name="reverse", version="1"))
    assert exact_share(load_bundle_system(bundle.path, options, device="cpu", threads=1), tmp_path) >= 0.95


def write_task(folder: Path, rng: random.Random) -> None:
    """Lines of 2 to 8 letters, and the same in reverse; no held-out line is in the training text."""
    lines = list(dict.fromkeys(" ".join(rng.choices(LETTERS, k=rng.randint(2, 8))) for _ in range(12_000)))
    rng.shuffle(lines)
    pairs = [(line, line[::-1]) for line in lines]
    (folder / "train.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs[HELD_OUT:]), encoding="utf-8")
    for side, name in enumerate(("test.en", "test.de")):
        write_lines(folder / name, [pair[side] for pair in pairs[:HELD_OUT]])


def exact_share(system: System, folder: Path) -> float:
    """Share of the held-out lines that come out without a mistake."""
    (test_set,) = read_test_sets([folder / "test.en"], [folder / "test.de"])
    with system:
        translations = evaluate(system, test_set).translations
    return sum(got == wanted for got, (_, wanted) in zip(translations, test_set.pairs, strict=True)) / HELD_OUT
