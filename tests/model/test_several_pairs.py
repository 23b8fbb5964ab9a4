"""One model for several language pairs, from the recipe to a translation in each direction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman_model.checkpoint import load_checkpoint
from dragoman_model.data.mixture import read_parts
from dragoman_model.data.prepare import prepare
from dragoman_model.recipe import Recipe
from dragoman_model.training.train import Trainer
from dragoman_service.errors import InvalidInput
from support.tiny_model import make_recipe, write_corpus

THERE = {"path": "train.tsv"}
BACK = {"path": "train.tsv", "source_column": 1, "target_column": 0, "source_language": "de", "target_language": "en"}


def both_ways(**changes: Any) -> Recipe:
    return make_recipe(data={"train": [THERE, BACK], **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_corpus(tmp_path)
    return tmp_path


def test_a_recipe_lists_what_is_learned() -> None:
    assert both_ways().data.language_pairs == (("en", "de"), ("de", "en"))
    assert both_ways().data.target_tags == ("de", "en")
    assert make_recipe().data.target_tags == ()


def test_several_sources_of_one_target_need_no_tag() -> None:
    french = {"path": "train.tsv", "source_language": "fr"}
    data = make_recipe(data={"train": [french, THERE]}).data
    assert data.language_pairs == (("en", "de"), ("fr", "de"))  # that of the data first
    assert data.target_tags == ()


def test_what_is_measured_must_be_learned() -> None:
    with pytest.raises(InvalidInput, match=r"data\.validation: got 'en-fr'; allowed: .* en-de, de-en"):
        both_ways(validation=[{"path": "valid.en", "target_path": "valid.de", "target_language": "fr"}])


def test_every_pair_has_the_tag_of_its_target(folder: Path) -> None:
    data = prepare(both_ways(), folder)
    tags = data.tokenizer.target_tags
    sizes = [len(part.pairs) for part in read_parts(both_ways(), folder)]
    assert len(data.train) == sum(sizes)
    first = data.train.batch(range(len(data.train))).source[:, 0].tolist()
    assert first == [tags["de"]] * sizes[0] + [tags["en"]] * sizes[1]
    (measured,) = data.validation
    assert set(measured.tokenized.batch(range(len(measured.tokenized))).source[:, 0].tolist()) == {tags["de"]}
    assert [line["languages"] for line in data.summary] == ["en-de", "de-en"]


def test_a_pair_that_only_fits_without_its_tag_is_left_out(folder: Path) -> None:
    lengths = prepare(both_ways(), folder).train.lengths.max(axis=1)
    shorter = prepare(both_ways(max_tokens=int(lengths.max()) - 1), folder)
    assert len(shorter.train) == sum(lengths < lengths.max())


def test_a_checkpoint_says_what_it_translates(folder: Path) -> None:
    trainer = Trainer(both_ways(), prepare(both_ways(), folder), folder / "run", torch.device("cpu"))
    averaged = trainer.run()
    assert load_checkpoint(averaged).config.language_pairs == (("en", "de"), ("de", "en"))


def test_checkpoints_from_before_there_were_several_pairs_are_read(folder: Path) -> None:
    trainer = Trainer(make_recipe(), prepare(make_recipe(), folder), folder / "run", torch.device("cpu"))
    config = trainer.run() / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    assert settings.pop("language_pairs") == [["en", "de"]]
    config.write_text(json.dumps(settings | {"source_language": "en", "target_language": "de"}), encoding="utf-8")
    assert load_checkpoint(config.parent).config.language_pairs == (("en", "de"),)


@pytest.mark.usefixtures("curves")
def test_progress_is_measured_on_every_validation_set(folder: Path) -> None:
    valid = {"path": "valid.en", "target_path": "valid.de"}
    reversed_valid = {
        "path": "valid.de", "target_path": "valid.en", "source_language": "de", "target_language": "en"
    }  # fmt: skip
    recipe = both_ways(validation=[valid, reversed_valid])
    data = prepare(recipe, folder)
    assert [measured.name for measured in data.validation] == ["en-de valid.en", "de-en valid.de"]
    tags = data.tokenizer.target_tags
    for measured in data.validation:
        sources = measured.tokenized.batch(range(len(measured.tokenized))).source
        assert set(sources[:, 0].tolist()) == {tags[measured.target_language]}
    trainer = Trainer(recipe, data, folder / "run", torch.device("cpu"))
    trainer.run()
    for line in (folder / "run/metrics.jsonl").read_text().splitlines():
        scores = json.loads(line)
        assert scores["bleu"] == pytest.approx((scores["bleu/en-de valid.en"] + scores["bleu/de-en valid.de"]) / 2)
    assert (folder / "run/curves.png").exists()
