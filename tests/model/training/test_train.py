from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dragoman_model.checkpoint import load_checkpoint, load_training_state
from dragoman_model.commands.train import TrainCommand
from dragoman_model.data.prepare import PreparedData, prepare
from dragoman_model.recipe import Recipe
from dragoman_model.training import train as train_module
from dragoman_model.training.epochs import planned
from dragoman_model.training.train import Trainer, TrainingDiverged
from dragoman_model.training.training_state import Progress, state_tensors
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
    """All but times and rates."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        {name: value for name, value in line.items() if name not in ("seconds", "tokens_per_second")} for line in lines
    ]


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


@pytest.mark.usefixtures("curves")
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
        trainer._update([(data.train, np.array(indices)) for indices in batches])
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
    TrainCommand().add_arguments(parser)
    return TrainCommand().run(parser.parse_args(arguments))


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


def test_the_best_checkpoint_outlives_early_stopping(
    tmp_path: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bleu = iter([1.0, 9.0, *[0.1] * 40])
    monkeypatch.setattr(train_module, "measure", lambda *_: {"validation_loss": 1.0, "bleu": next(bleu)})
    recipe = make_recipe(training={"validate_every": 1, "patience": 10, "average_checkpoints": 3, "max_steps": 50})
    with caplog.at_level("INFO"):
        trainer = run(recipe, data, tmp_path)
    assert (trainer.progress.step, trainer.progress.best_step) == (12, 2)
    assert set(checkpoints(tmp_path)) == {f"step-{step:08d}" for step in (1, 2, 3, 10, 11, 12)}
    best, result = (load_checkpoint(tmp_path / name) for name in ("checkpoints/step-00000002", "averaged"))
    assert_equal(result.model.state_dict(), best.model.state_dict())
    assert result.config.training["averaged_steps"] == [2]
    assert "result: the checkpoint of step 2 (the best; its average with its neighbours has BLEU 0.10" in caplog.text


def test_the_result_is_the_average_around_the_best_checkpoint_if_that_is_better(
    tmp_path: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bleu = iter([1.0, 2.0, 9.0, 2.0, 1.0, 1.0, 9.5])
    monkeypatch.setattr(train_module, "measure", lambda *_: {"validation_loss": 1.0, "bleu": next(bleu)})
    recipe = make_recipe(training={"validate_every": 1, "average_checkpoints": 3, "max_steps": 6})
    with caplog.at_level("INFO"):
        run(recipe, data, tmp_path)
    around = [load_checkpoint(tmp_path / f"checkpoints/step-0000000{step}") for step in (2, 3, 4)]
    result = load_checkpoint(tmp_path / "averaged")
    for name, tensor in result.model.state_dict().items():
        mean = sum(checkpoint.model.state_dict()[name] for checkpoint in around) / 3
        torch.testing.assert_close(tensor, mean)
    assert result.config.training["averaged_steps"] == [2, 3, 4]
    assert "result: the average of the checkpoints of steps 2, 3, 4 (which has BLEU 9.50" in caplog.text


def test_of_equal_bleu_the_lower_loss_is_better(
    tmp_path: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = iter([5.0, 3.0, 4.0, 3.0, 3.0])
    monkeypatch.setattr(train_module, "measure", lambda *_: {"validation_loss": next(loss), "bleu": 0.0})
    assert run(make_recipe(training={"validate_every": 3}), data, tmp_path).progress.best_step == 6


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ({"training": {"batch_tokens": 60}}, "training.batch_tokens: 120 -> 60"),
        ({"training": {"seed": 7}}, "training.seed: 1 -> 7"),
        ({"training": {"label_smoothing": 0.0}}, "training.label_smoothing: 0.1 -> 0.0"),
        ({"training": {"learning_rate_scale": 0.5}}, "training.learning_rate_scale: 1.0 -> 0.5"),
        ({"model": {"dropout": 0.3}}, "model.dropout: 0.1 -> 0.3"),
        ({"data": {"max_tokens": 50}}, "data.max_tokens: 60 -> 50"),
        ({"tokenizer": {"bpe_dropout": 0.1}}, "tokenizer.bpe_dropout: 0.0 -> 0.1"),
        ({"data": {"train": [{"path": "train.tsv", "weight": 2.0}]}}, r"data.train\[0\].weight: 1.0 -> 2.0"),
    ],
)
def test_a_resume_with_another_course_is_refused_unless_allowed_and_then_noted(
    tmp_path: Path, data: PreparedData, corpus: Path, tables: dict[str, Any], named: str
) -> None:
    run(make_recipe(training={"max_steps": 2}), data, tmp_path)
    beginning = (tmp_path / "recipe.json").read_bytes()
    changed = make_recipe(**{**tables, "training": {"max_steps": 4, **tables.get("training", {})}})
    other = prepare(changed, corpus, data.tokenizer_model)
    with pytest.raises(InvalidInput, match=rf"--resume: .*--allow-changes to go on .*: {named}$"):
        run(changed, other, tmp_path, resume=True)
    trainer = Trainer(changed, other, tmp_path, CPU)
    trainer.resume(allow_changes=True)
    trainer.run()
    assert trainer.progress.step == 4
    assert (tmp_path / "recipe.json").read_bytes() == beginning
    notes = [json.loads(line) for line in (tmp_path / "provenance.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [note["step"] for note in notes] == [0, 2]
    assert notes[0]["changes"] == {}
    noted = {f"{field}: {old} -> {new}" for field, (old, new) in notes[1]["changes"].items()}
    assert noted == {named.replace("\\", ""), "training.max_steps: 2 -> 4"}
    run(changed, other, tmp_path, resume=True)  # allowed once, it is the course of the run
    with pytest.raises(InvalidInput, match="--allow-changes"):
        run(make_recipe(), data, tmp_path, resume=True)


def test_a_resume_with_other_text_is_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    data = prepare(make_recipe(), tmp_path)
    run(make_recipe(training={"max_steps": 1}), data, tmp_path / "run")
    with (tmp_path / "train.tsv").open("a", encoding="utf-8") as file:
        file.write("the old cat sees\tsees cat old the\n")
    changed = prepare(make_recipe(), tmp_path, data.tokenizer_model)
    with pytest.raises(InvalidInput, match=r"--resume: .*: contents of train\.tsv: "):
        run(make_recipe(), changed, tmp_path / "run", resume=True)


def test_a_resume_with_other_held_out_text_is_refused(tmp_path: Path) -> None:
    """It decides what is learned."""
    write_corpus(tmp_path)
    (tmp_path / "test.en").write_text("what stands here is not learned\n", encoding="utf-8")
    recipe = make_recipe(data={"held_out": ["test.en"]}, training={"max_steps": 1})
    data = prepare(recipe, tmp_path)
    run(recipe, data, tmp_path / "run")
    (tmp_path / "test.en").write_text("the old cat sees\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"--resume: .*: contents of test\.en: "):
        run(recipe, prepare(recipe, tmp_path, data.tokenizer_model), tmp_path / "run", resume=True)


def test_the_length_of_a_run_may_change(tmp_path: Path, data: PreparedData) -> None:
    run(make_recipe(training={"max_steps": 2}), data, tmp_path)
    longer = make_recipe(training={"max_steps": 3, "patience": 4, "validate_every": 1, "average_checkpoints": 1})
    assert run(longer, data, tmp_path, resume=True).progress.step == 3


def test_a_run_of_an_older_version_is_resumed(tmp_path: Path, data: PreparedData) -> None:
    """Its recipe lacks the fields that came later."""
    run(make_recipe(training={"max_steps": 1}), data, tmp_path)
    recipe = json.loads((tmp_path / "recipe.json").read_text(encoding="utf-8"))
    del recipe["model"]["attention_dropout"], recipe["training"]["schedule"]
    (tmp_path / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    state = tmp_path / "checkpoints/step-00000001/training.json"
    old = json.loads(state.read_text(encoding="utf-8"))
    for name in ("validation", "best_loss", "unreported_norm", "unreported_updates", "unreported_seconds"):
        del old["progress"][name]
    state.write_text(json.dumps(old), encoding="utf-8")
    assert run(make_recipe(training={"max_steps": 2}), data, tmp_path, resume=True).progress.step == 2


def test_the_best_is_sought_anew_on_other_validation_sets(
    tmp_path: Path, corpus: Path, data: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    bleu = iter([50.0, 50.0, 50.0, 8.0, 9.0, 9.0])
    monkeypatch.setattr(train_module, "measure", lambda *_: {"validation_loss": 1.0, "bleu": next(bleu)})
    run(make_recipe(training={"max_steps": 2, "validate_every": 1}), data, tmp_path)
    fewer = make_recipe(data={"validation_limit": 3}, training={"max_steps": 4, "validate_every": 1})
    other = prepare(fewer, corpus, data.tokenizer_model)
    trainer = run(fewer, other, tmp_path, resume=True)
    assert (trainer.progress.best_step, trainer.progress.best_bleu) == (4, 9.0)
    sets = [line["validation"] for line in metrics(tmp_path)]
    assert sets[0] == sets[1] != sets[2] == sets[3]


def test_measurements_tell_loss_norm_rate_and_speed(tmp_path: Path, data: PreparedData) -> None:
    """The training loss is that of validation: of the same text and parameters, without dropout, it is the same."""
    recipe = make_recipe(model={"dropout": 0.0}, training={"max_steps": 1, "validate_every": 1})
    trainer = Trainer(recipe, data, tmp_path, CPU)
    text, indices = next(planned(data, recipe.training, Progress()))
    batch = text.batch(indices)
    with torch.no_grad():
        plain = train_module.loss_sum(trainer.model, batch.source, batch.target, 0.0) / batch.num_tokens
    trainer.run()
    (line,) = (json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    assert line["train_loss"] == pytest.approx(float(plain), rel=1e-4)
    assert line["gradient_norm"] > 0
    assert line["tokens_per_second"] > 0
    assert line["learning_rate"] > 0
