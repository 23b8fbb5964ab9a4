"""Several processes on one run, started by torchrun as users do it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dragoman_model.checkpoint import load_checkpoint
from dragoman_model.data.prepare import prepare
from dragoman_model.training.train import Trainer
from dragoman_model.training.workers import Workers, join_workers
from dragoman_service.errors import InvalidInput
from support.tiny_model import make_recipe, write_corpus

CPU = torch.device("cpu")
RECIPE = """
[model]
d_model = 16
num_heads = 2
d_ff = 32
encoder_layers = 1
decoder_layers = 1
dropout = 0.0
[tokenizer]
vocab_size = 320
[data]
source_language = "en"
target_language = "de"
train = [{ path = "train.tsv" }]
validation = [{ path = "valid.en", target_path = "valid.de" }]
cleaning = { drop_copies = false }
[training]
batch_tokens = 100
accumulate = 2
max_steps = 6
warmup_steps = 2
validate_every = 3
precision = "fp32"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_corpus(tmp_path)
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def command(recipe: Path, output: Path, *arguments: str, processes: int = 2) -> list[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    train = ["-m", "dragoman_service.cli", "train", str(recipe), "--output", str(output), "--device", "cpu"]
    train += ["--cache", f"{output}.cache"]
    return [sys.executable, *(torchrun if processes > 1 else []), *train, *arguments]


def train(recipe: Path, output: Path, *arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    whole = command(recipe, output, *arguments, processes=processes)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(whole, env=environment, capture_output=True, text=True, check=False)


def assert_same_result(one: Path, other: Path) -> None:
    parameters = load_checkpoint(other / "averaged").model.state_dict()
    for name, tensor in load_checkpoint(one / "averaged").model.state_dict().items():
        torch.testing.assert_close(parameters[name], tensor, rtol=1e-3, atol=1e-5)
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, other)]
    for first, second in zip(*lines, strict=True):
        assert (first["step"], first["tokens"]) == (second["step"], second["tokens"])
        assert first["train_loss"] == pytest.approx(second["train_loss"], rel=1e-5)
        assert first["validation_loss"] == pytest.approx(second["validation_loss"], rel=1e-4)


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_can_be_interrupted(recipe: Path, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    done = train(recipe, alone, processes=1)
    assert done.returncode == 0, done.stderr
    half = train(recipe, together, "--set", "training.max_steps=3")
    assert half.returncode == 0, half.stderr
    assert half.stdout.count("model:") == 1
    assert half.stderr.count("55 pairs; ") == 1  # one speaks
    done = train(recipe, together, "--resume")
    assert done.returncode == 0, done.stderr
    assert_same_result(alone, together)
    starts = [json.loads(line) for line in (together / "provenance.jsonl").read_text().splitlines()]
    assert [start["processes"] for start in starts] == [2, 2]


def test_a_signal_saves_and_stops_all(recipe: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    endless = command(recipe, output, "--set", "training.max_steps=1000000", "--set", "training.validate_every=1000000")
    process = subprocess.Popen(
        endless, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "from step 0" in line:
            break
    time.sleep(1)  # into the loop
    process.send_signal(signal.SIGTERM)
    rest = process.stderr.read()
    assert process.wait(60) != 0
    assert "stopped and saved" in rest
    (checkpoint,) = (output / "checkpoints").iterdir()
    assert int(checkpoint.name.removeprefix("step-")) > 0
    load_checkpoint(checkpoint)


_THREADS = """
import os, sys, torch
from dragoman_model.training import workers
leave = workers.leave_workers
def watched(them):
    leave(them)
    names = [open(f"/proc/self/task/{thread}/comm").read() for thread in os.listdir("/proc/self/task")]
    os.write(1, f"gloo threads: {sum('gloo' in name for name in names)}\\n".encode())
workers.leave_workers = watched
from dragoman_service.cli.main import main
sys.exit(main())
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
def test_nothing_of_a_group_outlives_it(recipe: Path, tmp_path: Path) -> None:
    """Its threads may want the interpreter's lock at the very end, which aborts a process that has done its work."""
    script = tmp_path / "watched.py"
    script.write_text(_THREADS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    train = [str(script), "train", str(recipe), "--output", str(tmp_path / "run"), "--device", "cpu"]
    done = subprocess.run([*torchrun, *train], capture_output=True, text=True, check=False)
    assert done.stdout.count("gloo threads: 0") == 2, done.stdout + done.stderr


def test_the_batches_of_an_update_must_be_shared_equally(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    recipe = make_recipe(training={"accumulate": 3})
    with pytest.raises(InvalidInput, match=r"training\.accumulate: got 3; allowed: a multiple of 2"):
        Trainer(recipe, prepare(recipe, tmp_path), tmp_path / "run", CPU, Workers(rank=1, count=2))


def test_a_process_alone_needs_nobody() -> None:
    workers, device = join_workers(CPU)
    tensor = torch.ones(3)
    workers.add_up([tensor])
    assert (workers, device, tensor.tolist()) == (Workers(0, 1), CPU, [1, 1, 1])
    assert workers.follow_first([1.5], CPU) == [1.5]


def test_processes_that_prepared_something_else_do_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus(tmp_path)
    recipe = make_recipe(training={"accumulate": 2})
    trainer = Trainer(recipe, prepare(recipe, tmp_path), tmp_path / "run", CPU, Workers(rank=1, count=2))
    monkeypatch.setattr(Workers, "follow_first", lambda self, values, device: [values[0] + 1, *values[1:]])
    with pytest.raises(InvalidInput, match="other text, vocabulary or step in process 1"):
        trainer.run()
