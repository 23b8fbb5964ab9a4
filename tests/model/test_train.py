from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dragoman_model import train as train_module
from dragoman_model.checkpoint import load_checkpoint, load_training_state
from dragoman_model.commands import train as train_command
from dragoman_model.prepare import PreparedData, prepare
from dragoman_model.recipe import Recipe
from dragoman_model.train import Trainer, TrainingDiverged
from dragoman_model.training_state import state_tensors
from dragoman_service.errors import InvalidInput
from support.tiny_model import make_recipe, write_corpus

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def data(corpus: Path) -> PreparedData:
    return prepare(make_recipe(), corpus)


def run(recipe: Recipe, data: PreparedData, folder: Path, *, resume: bool = False) -> Trainer:
    trainer = Trainer(recipe, data, folder, CPU)
    if resume:
        trainer.resume()
    trainer.run()
    return trainer


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def metrics(folder: Path) -> list[dict[str, Any]]:
    """All but the times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def interrupt_after(trainer: Trainer, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    update = trainer._update

    def wrapped(batches: Any) -> tuple[float, int]:
        outcome = update(batches)
        if trainer.progress.step == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return outcome

    monkeypatch.setattr(trainer, "_update", wrapped)


def test_resume_continues_to_the_bit(tmp_path: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout, an epoch's end on the way, and an interruption in the midst of everything."""
    recipe = make_recipe(training={"accumulate": 2})
    whole = run(recipe, data, tmp_path / "whole")
    assert whole.progress.epoch > 0

    first = Trainer(recipe, data, tmp_path / "parts", CPU)
    interrupt_after(first, 5, monkeypatch)
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert checkpoints(tmp_path / "parts") == ["step-00000005"]
    torch.rand(7)  # whatever else happens in between
    second = run(recipe, data, tmp_path / "parts", resume=True)

    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    assert_equal(second.model.state_dict(), whole.model.state_dict())
    assert_equal(*(state_tensors(run.model, run.optimizer, CPU) for run in (second, whole)))
    averages = [load_checkpoint(tmp_path / name / "averaged") for name in ("whole", "parts")]
    assert_equal(averages[1].model.state_dict(), averages[0].model.state_dict())


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name


def test_seeds_differ(tmp_path: Path, data: PreparedData) -> None:
    losses = []
    for seed in (1, 1, 2):
        folder = tmp_path / str(len(losses))
        run(make_recipe(training={"seed": seed, "max_steps": 2}), data, folder)
        losses.append(metrics(folder)[0]["train_loss"])
    assert losses[0] == losses[1] != losses[2]


def test_a_run_leaves_its_files(tmp_path: Path, data: PreparedData) -> None:
    recipe = make_recipe(training={"max_steps": 7, "validate_every": 2})
    run(recipe, data, tmp_path)
    assert checkpoints(tmp_path) == ["step-00000006", "step-00000007"], "as many as are averaged"
    assert not (tmp_path / "checkpoints/step-00000006/training.safetensors").exists()
    assert load_training_state(tmp_path / "checkpoints/step-00000007")[2]["progress"]["step"] == 7
    assert json.loads((tmp_path / "recipe.json").read_text(encoding="utf-8"))["training"]["max_steps"] == 7
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "tensorboard").iterdir())
    assert [line["step"] for line in metrics(tmp_path)] == [2, 4, 6, 7]
    checkpoint = load_checkpoint(tmp_path / "averaged")
    assert (checkpoint.config.language_pairs, checkpoint.config.max_source_tokens) == ((("en", "de"),), 60)
    assert checkpoint.config.training["step"] == 7
    assert checkpoint.config.training["data"][0]["corpus"] == "train.tsv"


def test_the_training_loss_is_that_since_the_last_measurement(
    tmp_path: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(make_recipe(training={"max_steps": 4, "validate_every": 2}), data, tmp_path, CPU)
    update, outcomes = trainer._update, list[tuple[float, int]]()

    def recorded(batches: Any) -> tuple[float, int]:
        outcomes.append(update(batches))
        return outcomes[-1]

    monkeypatch.setattr(trainer, "_update", recorded)
    trainer.run()
    for line, two in zip(metrics(tmp_path), (outcomes[:2], outcomes[2:]), strict=True):
        assert line["train_loss"] == pytest.approx(sum(loss for loss, _ in two) / sum(tokens for _, tokens in two))
    assert trainer.progress.tokens == sum(tokens for _, tokens in outcomes)


def test_accumulated_batches_make_the_gradient_of_one(data: PreparedData, tmp_path: Path) -> None:
    def gradients(batches: list[list[int]]) -> dict[str, Tensor]:
        trainer = Trainer(make_recipe(model={"dropout": 0.0}), data, tmp_path, CPU)
        trainer._update(batches)
        return {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}

    split, whole = gradients([[0, 1, 2], [3]]), gradients([[0, 1, 2, 3]])
    for name, gradient in whole.items():
        torch.testing.assert_close(split[name], gradient, rtol=1e-4, atol=1e-6)


def test_training_stops_when_nothing_improves(
    tmp_path: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    bleu = iter([1.0, 3.0, 2.0, 3.0, 2.5, 9.0])
    monkeypatch.setattr(train_module, "measure", lambda *_: {"validation_loss": 1.0, "bleu": next(bleu)})
    trainer = run(make_recipe(training={"validate_every": 1, "patience": 3, "max_steps": 50}), data, tmp_path)
    assert (trainer.progress.step, trainer.progress.best_step, trainer.progress.best_bleu) == (5, 2, 3.0)
    assert (tmp_path / "averaged").exists()


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_divergence_leaves_the_last_checkpoint(
    tmp_path: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    genuine = train_module.loss_sum
    trainer = Trainer(make_recipe(training={"validate_every": 2, "clip_norm": 0}), data, tmp_path, CPU)

    def diverging(model: Any, *arguments: Any) -> Tensor:
        loss = genuine(model, *arguments)
        if trainer.progress.step < 3:
            return loss
        if where == "loss":
            return loss * float("nan")
        # The square root of 0 is 0, its derivative infinite: the loss looks fine, the gradient is not a number.
        return loss + (model.output_bias * 0).abs().sum().sqrt()

    monkeypatch.setattr(train_module, "loss_sum", diverging)
    with pytest.raises(TrainingDiverged, match="at step 4"):
        trainer.run()
    assert checkpoints(tmp_path) == ["step-00000002"]
    for tensor in load_checkpoint(tmp_path / "checkpoints/step-00000002").model.state_dict().values():
        assert torch.isfinite(tensor).all()
    monkeypatch.undo()
    again = run(make_recipe(training={"validate_every": 2}), data, tmp_path, resume=True)
    assert again.progress.step == 12


def test_resume_refuses_what_does_not_fit(tmp_path: Path, data: PreparedData, corpus: Path) -> None:
    with pytest.raises(InvalidInput, match="--resume"):
        run(make_recipe(), data, tmp_path / "none", resume=True)
    run(make_recipe(training={"max_steps": 1}), data, tmp_path)
    with pytest.raises(InvalidInput, match="this recipe's model"):
        run(make_recipe(model={"d_ff": 64}), data, tmp_path, resume=True)
    other = prepare(make_recipe(tokenizer={"vocab_size": 319}), corpus)
    with pytest.raises(InvalidInput, match="the vocabulary of this run"):
        run(make_recipe(tokenizer={"vocab_size": 319}), other, tmp_path, resume=True)


def test_the_command(tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(corpus)
    output = tmp_path / "run"
    arguments = [str(recipe), "--output", str(output), "--device", "cpu"]
    assert train(arguments) == 0
    assert str(output / "averaged") in capsys.readouterr().out
    with pytest.raises(InvalidInput, match="--output"):
        train(arguments)
    assert train([*arguments, "--resume", "--set", "training.max_steps=3"]) == 0
    assert [line["step"] for line in metrics(output)] == [1, 2, 3]
    with pytest.raises(InvalidInput, match="--resume"):
        train([str(recipe), "--output", str(tmp_path / "none"), "--resume"])


def write_recipe(corpus: Path) -> Path:
    """A recipe in TOML for the corpus of `write_corpus`."""
    recipe = corpus / "recipe.toml"
    recipe.write_text(
        '[model]\nd_model = 16\nnum_heads = 2\nd_ff = 32\nencoder_layers = 1\ndecoder_layers = 1\n'
        "[tokenizer]\nvocab_size = 320\n"
        '[data]\nsource_language = "en"\ntarget_language = "de"\ntrain = [{ path = "train.tsv" }]\n'
        'validation = [{ path = "valid.en", target_path = "valid.de" }]\ncleaning = { drop_copies = false }\n'
        "[training]\nmax_steps = 2\nwarmup_steps = 2\nvalidate_every = 1\n",
        encoding="utf-8",
    )  # fmt: skip
    return recipe


def train(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    train_command.add_arguments(parser)
    return train_command.run(parser.parse_args(arguments))


def test_training_can_begin_with_what_another_model_has_learned(tmp_path: Path, corpus: Path) -> None:
    recipe = write_recipe(corpus)
    first, second = tmp_path / "first", tmp_path / "second"
    assert train([str(recipe), "--output", str(first)]) == 0
    small_steps = ["--set", "training.max_steps=1", "--set", "training.learning_rate_scale=1e-9"]
    begin = [str(recipe), "--init", str(first / "averaged"), *small_steps, "--output"]
    assert train([*begin, str(second), "--set", "model.dropout=0.5"]) == 0
    learned, kept = (load_checkpoint(folder / "averaged") for folder in (first, second))
    assert kept.tokenizer_model == learned.tokenizer_model
    for name, tensor in learned.model.state_dict().items():
        torch.testing.assert_close(kept.model.state_dict()[name], tensor, rtol=0, atol=1e-6)
    third = str(tmp_path / "third")
    with pytest.raises(InvalidInput, match=r"--init: got 'd_ff 32'; allowed: .* d_ff 64"):
        train([*begin, third, "--set", "model.d_ff=64"])
    with pytest.raises(InvalidInput, match="none with --resume"):
        train([*begin, str(second), "--resume"])
    with pytest.raises(InvalidInput, match="a checkpoint folder"):
        train([str(recipe), "--init", str(corpus), "--output", third])


def test_a_vocabulary_without_the_tags_that_are_needed_is_refused(corpus: Path, data: PreparedData) -> None:
    back = {"source_column": 1, "target_column": 0, "source_language": "de", "target_language": "en"}
    both = make_recipe(data={"train": [{"path": "train.tsv"}, {"path": "train.tsv", **back}]})
    with pytest.raises(InvalidInput, match="tags for"):
        prepare(both, corpus, data.tokenizer_model)
