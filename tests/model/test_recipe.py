from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from dragoman_model.config import PRESETS, ModelConfig
from dragoman_model.recipe import load_recipe, parse_recipe
from dragoman_service.errors import InvalidInput
from support.tiny_model import SETTINGS, make_recipe

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(FOLDER.glob("*.toml"))
MANUAL = FOLDER / "README.md"


@pytest.mark.parametrize(
    ("table", "changes", "field"),
    [
        ("model", {"colour": "red"}, "model.colour"),
        ("model", {"d_model": "wide"}, "model.d_model"),
        ("model", {"d_model": 20}, "model.d_model"),
        ("model", {"num_heads": 0}, "model.num_heads"),
        ("model", {"dropout": 1.0}, "model.dropout"),
        ("model", {"norm": "sandwich"}, "model.norm"),
        ("model", {"preset": "huge"}, "model.preset"),
        ("model", {"preset": ["tiny"]}, "model.preset"),
        ("model", {"vocab_size": 900}, "model.vocab_size"),
        ("tokenizer", {"vocab_size": 200}, "tokenizer.vocab_size"),
        ("tokenizer", {"algorithm": "words"}, "tokenizer.algorithm"),
        ("tokenizer", {"character_coverage": 1.5}, "tokenizer.character_coverage"),
        ("data", {"train": []}, "data.train"),
        ("data", {"train": [{"path": "a"}, {"path": 5}]}, "data.train[1].path"),
        ("data", {"train": [{"path": "a", "wieght": 2}]}, "data.train[0].wieght"),
        ("data", {"train": [{"path": "a", "weight": 0}]}, "corpus.weight"),
        ("data", {"validation": "valid.tsv"}, "data.validation"),
        ("data", {"max_tokens": 100_000}, "data.max_tokens"),
        ("data", {"cleaning": {"max_ratio": 0.5}}, "data.cleaning.max_ratio"),
        ("data", {"augmentation": {"lower": 1.5}}, "data.augmentation.lower"),
        ("data", {"held_out": "test.en"}, "data.held_out"),
        ("training", {"max_steps": True}, "training.max_steps"),
        ("training", {"max_steps": 1.5}, "training.max_steps"),
        ("training", {"warmup_steps": 0}, "training.warmup_steps"),
        ("training", {"label_smoothing": 1}, "training.label_smoothing"),
        ("training", {"learning_rate_scale": float("nan")}, "training.learning_rate_scale"),
        ("training", {"precision": "fp8"}, "training.precision"),
    ],
)
def test_bad_fields_are_named(table: str, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_recipe(**{table: changes})
    assert caught.value.field == field


def test_missing_fields_and_unknown_tables_are_named() -> None:
    settings = copy.deepcopy(SETTINGS)
    del settings["data"]["source_language"]
    with pytest.raises(InvalidInput, match=r"data\.source_language.*required"):
        parse_recipe(settings)
    with pytest.raises(InvalidInput, match="optimizer"):
        parse_recipe({**SETTINGS, "optimizer": {}})
    with pytest.raises(InvalidInput, match="a table"):
        parse_recipe({**SETTINGS, "training": 3})


def test_whole_numbers_may_stand_for_fractions() -> None:
    assert make_recipe(training={"clip_norm": 2}).training.clip_norm == 2.0


def test_presets_fill_what_is_not_given() -> None:
    config = ModelConfig.from_settings({"preset": "tiny", "dropout": 0.0})
    assert (config.d_model, config.decoder_layers, config.dropout) == (128, 4, 0.0)
    assert all(ModelConfig.from_settings({"preset": name}).head_dim % 8 == 0 for name in PRESETS)


@pytest.mark.parametrize(
    ("preset", "d_model", "num_heads", "d_ff", "encoder_layers", "decoder_layers"),
    [("tiny", 128, 4, 256, 4, 4), ("small", 256, 4, 1024, 6, 2), ("base", 512, 8, 2048, 6, 6)],
)
def test_presets_are_those_of_the_manual(
    preset: str, d_model: int, num_heads: int, d_ff: int, encoder_layers: int, decoder_layers: int
) -> None:
    config = ModelConfig.from_settings({"preset": preset})
    assert (config.d_model, config.num_heads, config.d_ff) == (d_model, num_heads, d_ff)
    assert (config.encoder_layers, config.decoder_layers) == (encoder_layers, decoder_layers)
    row = f"| `{preset}` | {d_model} | {num_heads} | {d_ff} | {encoder_layers} + {decoder_layers} |"
    assert row in MANUAL.read_text(encoding="utf-8").splitlines()


def test_overrides(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    several = ["training.max_steps=7", "model.norm=pre", "model.dropout=0.25", "data.source_language='fr'"]
    recipe = load_recipe(path, [*several, "data.cleaning.max_ratio=3"])
    assert (recipe.training.max_steps, recipe.model.norm, recipe.model.dropout) == (7, "pre", 0.25)
    assert recipe.data.source_language == "fr"
    assert recipe.data.cleaning.max_ratio == 3.0


@pytest.mark.parametrize("override", ["max_steps=7", "training.max_steps", "training.=7", "data..max_ratio=3", "="])
def test_bad_overrides_are_named(tmp_path: Path, override: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(repr(override))):
        load_recipe(write_recipe(tmp_path), [override])


def test_unreadable_recipes(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[model\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match="valid TOML"):
        load_recipe(tmp_path / "bad.toml")
    (tmp_path / "latin1.toml").write_bytes(b"# \xe4\n")
    with pytest.raises(InvalidInput, match="valid TOML"):
        load_recipe(tmp_path / "latin1.toml")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_the_recipes_we_bring_are_valid(path: Path) -> None:
    assert load_recipe(path).data.train


def test_the_manual_names_every_field() -> None:
    text = MANUAL.read_text(encoding="utf-8")
    recipe = make_recipe()
    for part in (
        recipe.model,
        recipe.tokenizer,
        recipe.data,
        recipe.data.train[0],
        recipe.data.cleaning,
        recipe.data.augmentation,
        recipe.training,
    ):
        for name in type(part).__dataclass_fields__:
            assert f"`{name}`" in text, f"{name} of {type(part).__name__}"


def write_recipe(folder: Path) -> Path:
    path = folder / "recipe.toml"
    path.write_text(
        '[data]\nsource_language = "en"\ntarget_language = "de"\ntrain = [{ path = "a.tsv" }]\n'
        'validation = [{ path = "b.tsv" }]\n',
        encoding="utf-8",
    )
    return path


def test_one_corpus_may_name_many_parts_of_a_file() -> None:
    parts = ["tldr", {"name": "tatoeba", "weight": 2}, {"name": "ms-docs", "limit": 9}]
    corpus = {"path": "all.tsv", "where_column": 2, "where": parts, "weight": 0.5}
    train = make_recipe(data={"train": [corpus, {"path": "more.tsv"}]}).data.train
    assert [(part.path, part.where, part.weight, part.limit) for part in train] == [
        ("all.tsv", "tldr", 0.5, None),
        ("all.tsv", "tatoeba", 2.0, None),
        ("all.tsv", "ms-docs", 0.5, 9),
        ("more.tsv", "", 1.0, None),
    ]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ([], r"data.train\[0\].where: "),
        ([3], r"data.train\[0\].where: .*names, or tables"),
        ([{"weight": 2}], r"data.train\[0\].where: .*names, or tables"),
        (["a", "a"], r"data.train\[0\].where: .*each name once"),
        ([{"name": "a", "path": "b"}], r"data.train\[0\].where.path: .*name, weight, limit"),
        ([{"name": "a", "weight": 0}], "corpus.weight"),
    ],
)
def test_a_list_of_parts_is_checked(where: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make_recipe(data={"train": [{"path": "all.tsv", "where_column": 2, "where": where}]})
