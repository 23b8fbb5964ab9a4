"""The switches of other families: every graph computes what the model with the same switches computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman_export.exporter import ExportOptions, export_checkpoint, write_graphs
from dragoman_export.parts import deviations
from dragoman_export.precision import prepare
from dragoman_export.report import BOUNDS
from dragoman_export.scales import scale_problems
from dragoman_export.sentences import BUILT_IN
from dragoman_export.stored import stored_problems
from dragoman_model.config import ModelConfig
from support.tiny_checkpoint import random_model, random_sources, write_checkpoint

FAMILIES: dict[str, dict[str, Any]] = {
    "MarianMT": {"norm": "post", "activation": "swish", "positions": "table", "layer_norm_epsilon": 1e-6},
    "Marian, two vocabularies": {"norm": "post", "activation": "relu", "source_embedding": "own",
                                 "source_vocab_size": 300, "positions": "table"},
    "M2M100": {"norm": "pre", "encoder_layers": 3, "decoder_layers": 1, "positions": "table"},
    "mBART": {"norm": "pre", "activation": "gelu", "embedding_norm": True, "decoder_positions": "own",
              "positions": "learned", "output_embedding": "own"},
    "OpenNMT": {"norm": "pre", "final_norm": False, "activation": "gelu_tanh", "decoder_d_ff": 48,
                "source_embedding": "own", "output_embedding": "own"},
    "narrow heads": {"norm": "pre", "head_size": 24, "attention_scale": 0.25, "embedding_scale": 1.0,
                     "activation": "gelu_sigmoid"},
    "all norms": {"norm": "post", "final_norm": True, "embedding_norm": True, "activation": "swish"},
}  # fmt: skip

GOLDEN = 6
"""Sentences that a whole export translates: most of its time is theirs, and the graphs are proved part by part."""


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_part_of_the_graphs_is_right(tmp_path: Path, family: str, precision: str) -> None:
    model = random_model(**FAMILIES[family])
    prepared = prepare(model, precision, random_sources(model, 20), 40)
    write_graphs(model.config, prepared, tmp_path)
    bounds = BOUNDS[precision]
    found = list(deviations(tmp_path, prepared, longest=(20, 24)))
    assert [it for it in found if not it.error <= (bounds.step if it.in_steps else bounds.part)] == []
    assert len(found) > 50
    assert list(stored_problems(tmp_path, prepared)) == []
    assert list(scale_problems(prepared)) == []


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_whole_export(tmp_path: Path, family: str, precision: str) -> None:
    changes = {**FAMILIES[family]}
    changes.pop("source_vocab_size", None)  # the tokenizer of the test has one vocabulary
    model = random_model(**changes)
    if model.config.output_embedding == "own":
        with torch.no_grad():  # without a final norm, logits would be large, and so would their rounding errors
            model.output_embedding.weight.mul_(0.05)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", model)
    calibration, golden = tmp_path / "calibration.txt", tmp_path / "golden.txt"
    calibration.write_text("\n".join(BUILT_IN["en"]), encoding="utf-8")
    golden.write_text("\n".join(BUILT_IN["en"][:GOLDEN]), encoding="utf-8")
    options = ExportOptions(
        "random", "1", precision=precision, calibration=calibration if precision == "int8" else None, golden=golden
    )
    bundle, report = export_checkpoint(checkpoint, tmp_path / "random" / "1", options)
    assert report.distance.log_prob_error <= BOUNDS[precision].log_prob_error
    assert ModelConfig.from_settings(bundle.manifest.architecture) == model.config
