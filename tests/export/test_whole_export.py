"""Exports in whole, with the whole proof: of models of the shape that we ship, from the command line to the bundle, and
of many of random weights.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dragoman_export.exporter import ExportOptions, export_checkpoint
from dragoman_export.read_back import read_model
from dragoman_export.report import BOUNDS, MAX_DIVERGENCE_FROM_MODEL
from dragoman_export.sentences import BUILT_IN
from dragoman_model.checkpoint import CheckpointConfig, save_checkpoint
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.cli import main as cli
from support.parity import shipped_bundle
from support.tiny_checkpoint import random_model, write_checkpoint
from support.tiny_model import write_corpus

RECIPE = """
[model]
preset = "small"
max_positions = 128
[tokenizer]
vocab_size = 320
[data]
source_language = "en"
target_language = "de"
max_tokens = 60
train = [{ path = "train.tsv" }]
validation = [{ path = "valid.en", target_path = "valid.de" }]
cleaning = { drop_copies = false }
[training]
batch_tokens = 250
max_steps = 20
warmup_steps = 10
validate_every = 20
patience = 0
precision = "fp32"
"""


def trained(folder: Path) -> Path:
    """A checkpoint of the preset `small` after a short training: in fp32, and never rounded."""
    write_corpus(folder)
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    assert cli.main(["train", str(recipe), "--output", str(folder / "run"), "--device", "cpu"]) == 0
    return folder / "run" / "averaged"


def shipped(folder: Path) -> Path:
    """A checkpoint of the weights that the bundled model has, which have learned to translate."""
    bundle = Bundle.load(shipped_bundle())
    manifest = bundle.manifest
    model = read_model(bundle.path, manifest.architecture)
    limits = (manifest.limits.max_source_tokens, manifest.limits.max_target_tokens + 1)
    config = CheckpointConfig(model.config, manifest.languages.pairs, *limits, {})
    checkpoint = folder / "checkpoint"
    save_checkpoint(checkpoint, model.state_dict(), config, (bundle.path / "tokenizer.model").read_bytes())
    return checkpoint


@pytest.fixture(scope="module", params=[trained, shipped], ids=["trained", "shipped"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = request.param(tmp_path_factory.mktemp("checkpoints"))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_model_of_the_shape_that_we_ship(
    checkpoint: Path, tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    calibration = tmp_path / "calibration.txt"
    calibration.write_text("\n".join(BUILT_IN["en"]), encoding="utf-8")
    options = ["--calibration", calibration] if precision == "int8" else []
    output = tmp_path / "small" / "1"
    command = ["export", checkpoint, "--output", output, "--precision", precision, *options]
    assert cli.main([*map(str, command)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"\d+ parts of the graphs within \d", said)
    bundle = Bundle.load(output)
    shape = bundle.manifest.architecture
    assert (shape["d_model"], shape["encoder_layers"], shape["decoder_layers"]) == (256, 6, 2)
    assert bundle.manifest.precision == precision
    assert {sentence.source for sentence in bundle.golden} <= set(BUILT_IN["en"])
    assert len(json.loads((output / "golden.json").read_text(encoding="utf-8"))) > 0
    if precision == "int8":
        lost = re.search(r"int8 against the trained checkpoint: divergence (\S+) nats", said)
        assert lost
        assert 0 < float(lost[1]) < MAX_DIVERGENCE_FROM_MODEL


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_int8_of_random_weights_stays_well_within_bounds(tmp_path: Path, norm: str, positions: str) -> None:
    calibration = tmp_path / "calibration.txt"
    calibration.write_text("\n".join(BUILT_IN["en"]), encoding="utf-8")
    options = ExportOptions("random", "1", precision="int8", calibration=calibration)
    reports = []
    for seed in range(10):
        model = random_model(seed=seed, norm=norm, positions=positions)
        checkpoint = write_checkpoint(tmp_path / f"checkpoint-{seed}", model)
        reports.append(export_checkpoint(checkpoint, tmp_path / f"random-{seed}" / "1", options)[1])
    distances = [distance for report in reports for distance in (report.distance, report.busy)]
    from_model = max(report.from_model.divergence for report in reports)
    log_prob_error, worst = (
        max(values) for values in zip(*((it.log_prob_error, it.worst) for it in distances), strict=True)
    )
    print(
        f"{norm} {positions}: log-probability {log_prob_error:.2g}, divergence at one position {worst:.2g}, "
        f"mean from the model {from_model:.2g}"
    )
    assert log_prob_error < BOUNDS["int8"].log_prob_error / 3
    assert worst < BOUNDS["int8"].worst / 20
    assert from_model < MAX_DIVERGENCE_FROM_MODEL / 1.5
