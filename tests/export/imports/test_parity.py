"""The Transformer computes what the program that a checkpoint comes from computes: see `support/foreign/make.py`."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch

from dragoman_export.imports.imported import ImportOptions
from dragoman_export.imports.read import READERS, read_checkpoint
from dragoman_model.transformer import Transformer
from support.foreign.checkpoints import (
    FOLDER,
    OPTIONS,
    change_json,
    change_tensors,
    copied,
    expected,
    read,
    scores,
    wanted,
)

NAMES = sorted(OPTIONS)


def test_every_checkpoint_is_tested_and_every_family_has_one() -> None:
    assert {it.name for it in FOLDER.iterdir()} == set(NAMES)
    families = {str(read(name).origin["family"]) for name in NAMES}
    assert families == {"marian", "m2m-100", "small-100", "nllb", "mbart-50", "ctranslate2", "marian-npz"}
    assert len(READERS) == 7  # NLLB and SMaLL-100 are of the class of M2M-100; Argos and Blenderbot have own tests


@pytest.mark.parametrize("name", NAMES)
def test_log_probabilities_are_those_of_the_other_program(name: str) -> None:
    cases = expected(name)
    assert scores(read(name), cases) == pytest.approx(wanted(cases), abs=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_in_memory_is_filled_in_place_as_well(name: str) -> None:
    imported, model = read(name), Transformer(read(name).config).eval()
    addresses = [parameter.data_ptr() for parameter in model.parameters()]
    imported.load_into(model)
    assert [parameter.data_ptr() for parameter in model.parameters()] == addresses
    for key, tensor in imported.model().state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor), key


@pytest.mark.parametrize("name", ["opus-mt-en-de", "marian-toy", "m2m", "mbart-50", "ct2-opennmt-float32"])
@pytest.mark.parametrize("kind", ["positions", "norm", "attention", "bias"])
def test_the_comparison_sees_a_tensor_that_is_off(name: str, kind: str) -> None:
    imported = read(name)
    key = next(key for key in imported.tensors if kind in key)
    right = imported.tensors[key]
    wrong = right.then(lambda it: it + 0.01 * np.cos(np.arange(it.size)).reshape(it.shape), right.shape)
    changed = dataclasses.replace(imported, tensors={**imported.tensors, key: wrong})
    cases = expected(name)
    assert scores(changed, cases) != pytest.approx(wanted(cases), abs=1e-4)


def test_marians_positions_are_not_those_of_hugging_face() -> None:
    own = read("opus-mt-en-de")
    marian = read_checkpoint(FOLDER / "opus-mt-en-de", ImportOptions(positions="marian"))
    toy = read("marian-toy").tensors["positions.table"].read()
    width = own.config.d_model
    assert toy.shape == (512, 64)
    position, place = 7, 3
    table = marian.tensors["positions.table"].read()
    assert table[position, place] == pytest.approx(np.sin(position * 10000 ** (-place / (width // 2 - 1))))
    assert toy[position, 32 + place] == pytest.approx(np.cos(position * 10000 ** (-place / 31)))
    assert not np.allclose(own.tensors["positions.table"].read(), table, atol=1e-2)
    assert any("Marian's own formula" in it for it in marian.notes)


def test_a_computed_table_begins_at_the_first_position_of_its_family() -> None:
    for name, first in (("m2m", 2), ("ct2-opennmt-float32", 1), ("marian-toy", 0)):
        row = read(name).tensors["positions.table"].read()[0]
        half = len(row) // 2
        assert row[0] == pytest.approx(np.sin(first))
        assert row[half] == pytest.approx(np.cos(first))


def test_a_matrix_of_the_file_counts_whatever_the_configuration_ties(tmp_path: Path) -> None:
    folder = copied("opus-mt-en-de", tmp_path)
    shared = read("opus-mt-en-de").tensors["embedding.weight"].read()
    change_tensors(folder, lm_head__weight=shared)
    same = read_checkpoint(folder)
    assert same.config.output_embedding == "shared"
    assert "output_embedding.weight" not in same.tensors
    change_tensors(folder, lm_head__weight=shared + 0.5)
    other = read_checkpoint(folder)
    assert other.config.output_embedding == "own"
    np.testing.assert_array_equal(other.tensors["output_embedding.weight"].read(), shared + 0.5)
    assert any("lm_head.weight differs" in it for it in other.notes)


def test_equal_matrices_of_two_sides_become_one(tmp_path: Path) -> None:
    folder = copied("marian-separate", tmp_path)
    table = read("marian-separate").tensors["embedding.weight"].read()
    names = ("model__encoder__embed_tokens__weight", "model__decoder__embed_tokens__weight", "lm_head__weight")
    change_tensors(folder, **dict.fromkeys(names, table))
    config = read_checkpoint(folder).config
    assert (config.source_embedding, config.output_embedding) == ("shared", "shared")


def test_older_tensors_without_effect_are_left_out(tmp_path: Path) -> None:
    folder = copied("m2m", tmp_path)
    table = np.zeros((42, 16), np.float32)
    version = np.zeros(1, np.float32)
    change_tensors(folder, model__encoder__embed_positions__weights=table, model__encoder__version=version)
    cases = expected("m2m")
    assert scores(read_checkpoint(folder), cases) == pytest.approx(wanted(cases), abs=2e-5)


def test_stored_positions_count_as_in_transformers(tmp_path: Path) -> None:
    folder = copied("opus-mt-en-de", tmp_path)
    rng = np.random.default_rng(0)
    tables = {stack: rng.normal(size=(40, 16)).astype(np.float32) for stack in ("encoder", "decoder")}
    change_tensors(folder, **{f"model__{stack}__embed_positions__weight": it for stack, it in tables.items()})
    imported = read_checkpoint(folder)
    assert imported.config.decoder_positions == "own"
    np.testing.assert_array_equal(imported.tensors["positions.table"].read(), tables["encoder"])
    np.testing.assert_array_equal(imported.tensors["decoder_positions.table"].read(), tables["decoder"])
    assert read_checkpoint(folder, ImportOptions(positions="marian")).config.decoder_positions == "shared"


def test_half_precision_is_read(tmp_path: Path) -> None:
    folder = copied("opus-mt-en-de", tmp_path)
    whole = read("opus-mt-en-de").tensors["embedding.weight"].read()
    change_tensors(folder, model__shared__weight=whole.astype(np.float16))
    half = read_checkpoint(folder).tensors["embedding.weight"].read()
    assert half.dtype == np.float32
    np.testing.assert_array_equal(half, whole.astype(np.float16))


def test_heads_of_an_odd_width_are_padded_without_a_change() -> None:
    config = read("ct2-opennmt-float32").config
    assert (config.d_model, config.num_heads, config.head_dim, config.score_scale) == (24, 6, 8, 0.5)


def test_banned_and_special_ids() -> None:
    for name, special, banned in (
        ("opus-mt-en-de", (46, 46, 0, 1), {1, 46}),
        ("opus-mt-en-mul", (49, 49, 0, 1), {1, 2, 3, 4, 49}),
        ("m2m", (1, 2, 2, 3), {0, 1, 3, 49, 50, 51, 52, 53}),
        ("nllb", (1, 2, 2, 3), {0, 1, 3, 49, 50, 51, 52, 53}),
        ("mbart-50", (1, 2, 2, 3), {0, 1, 3, 48, 49, 50, 51}),
        ("ct2-opennmt-float32", (0, 1, 2, 3), {0, 1, 3}),
        ("ct2-marian-int8", (46, 46, 0, 1), {1, 46}),
        ("marian-toy", (35, 35, 0, 1), {1, 35}),
    ):
        config = read(name).config
        assert (config.pad_id, config.begin_id, config.end_id, config.unknown_id) == special, name
        assert set(config.banned_ids) == banned, name


def test_marian_begins_with_zeros_where_it_has_no_padding() -> None:
    for name in ("ct2-marian-int8", "marian-toy"):
        imported = read(name)
        assert not imported.tensors["embedding.weight"].read()[imported.config.begin_id].any()
        assert imported.tensors["output_bias"].read()[imported.config.begin_id] < -1000


def test_languages_and_tokenizers() -> None:
    imported = {name: read(name) for name in NAMES}
    assert imported["opus-mt-en-de"].languages.pairs is None
    assert imported["opus-mt-en-de"].languages.targets == ("de",)
    assert imported["opus-mt-en-mul"].languages.targets == ("deu", "fra", "cmn_Hans")
    assert imported["opus-mt-en-mul"].tokenizer.settings["tags"] is True
    assert imported["m2m"].languages.sources == ("de", "en", "fr")
    assert imported["m2m"].tokenizer.settings["source_tag"] == "source"
    assert imported["small-100"].tokenizer.settings["source_tag"] == "target"
    assert imported["nllb"].tokenizer.settings["languages"] == {"eng_Latn": 49, "deu_Latn": 50, "fra_Latn": 51}
    assert imported["nllb"].tokenizer.kind == imported["mbart-50"].tokenizer.kind == "fairseq"
    assert imported["ct2-nllb-float16"].tokenizer.settings == imported["nllb"].tokenizer.settings
    assert imported["ct2-opennmt-int16"].tokenizer.kind == "pieces"
    assert set(imported["ct2-opennmt-int16"].tokenizer.files) == {
        "vocabulary", "target_vocabulary", "model", "target_model",
    }  # fmt: skip


def test_generation_is_what_the_checkpoint_recommends() -> None:
    found = {
        name: read(name).generation for name in ("opus-mt-en-de", "marian-old", "nllb", "marian-toy", "marian-pre-norm")
    }
    assert [(it.beam_size, it.length_penalty) for it in found.values()] == [(4, 1), (6, 1), (1, 1), (4, 1), (12, 0)]
    assert found["opus-mt-en-de"].max_target_tokens == 40
    assert {it.length_form for it in found.values()} == {"power"}


def test_the_origin_has_a_digest_of_every_file_that_counts() -> None:
    for name in NAMES:
        files = read(name).origin["files"]
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in files.values())
        there = {it.name for it in (FOLDER / name).iterdir()} - {"expected.json"}
        assert set(files) == there, name


def test_a_licence_is_read_from_the_front_matter(tmp_path: Path) -> None:
    folder = copied("opus-mt-en-de", tmp_path)
    assert read_checkpoint(folder).licence is None
    for text, licence, warned in (
        ("---\nlanguage: en\nlicense: cc-by-4.0\n---\n# Card\n", "cc-by-4.0", False),
        ("---\nlicense: cc-by-nc-4.0\n---\n", "cc-by-nc-4.0", True),
        ("---\nlicense: other\nlicense_name: mine\n---\n", "mine", False),
        ("# No front matter\nlicense: mit\n", None, False),
        ("---\nlicense: [\n---\n", None, False),
        ("---\n!!python/object/apply:os.system [false]\n---\n", None, False),
    ):
        (folder / "README.md").write_text(text)
        imported = read_checkpoint(folder)
        assert imported.licence == licence
        assert any("forbids commercial use" in it for it in imported.notes) == warned
        assert any("No licence is stated" in it for it in imported.notes) == (licence is None)
    assert read_checkpoint(folder, ImportOptions(licence="mit")).licence == "mit"


def test_the_user_chooses_among_languages(tmp_path: Path) -> None:
    chosen = read_checkpoint(FOLDER / "nllb", ImportOptions(sources=("eng_Latn",), targets=("deu_Latn", "fra_Latn")))
    assert chosen.languages.sources == ("eng_Latn",)
    folder = copied("opus-mt-en-mul", tmp_path)
    assert read_checkpoint(folder, ImportOptions(targets=("fra",))).tokenizer.settings["languages"] == {"fra": "fra"}
    change_json(folder / "tokenizer_config.json", source_lang=..., target_lang=...)
    assert read_checkpoint(folder).languages.sources == ("en",)  # the name of the folder
    for options in (ImportOptions(sources=("en",)), ImportOptions(targets=("deu",))):
        assert len(list(itertools.chain(read_checkpoint(folder, options).languages.sources))) == 1


@pytest.mark.parametrize(
    ("suffix", "sources", "targets"), [("one-to-many-mmt", 1, 3), ("many-to-one-mmt", 3, 1), ("mmt", 3, 3)]
)
def test_a_direction_is_told_by_the_name(tmp_path: Path, suffix: str, sources: int, targets: int) -> None:
    folder = copied("mbart-50", tmp_path).rename(tmp_path / f"mbart-large-50-{suffix}")
    languages = read_checkpoint(folder).languages
    assert (len(languages.sources), len(languages.targets)) == (sources, targets)
    assert sources == 3 or languages.sources == ("en_XX",)


def test_a_trained_model_of_ctranslate2(tmp_path: Path) -> None:
    """Arabic letters to Latin ones: six layers of each stack, heads of 4, positions that the program computes."""
    place = Path(os.environ.get("DRAGOMAN_COMPAT", "nowhere"), "aren-transliteration")
    if not place.is_dir():
        pytest.skip("DRAGOMAN_COMPAT does not name a folder with aren-transliteration, test data of CTranslate2")
    pieces = (place / "source_vocabulary.txt").read_text().split("\n")
    tokenizer = tmp_path / "characters.model"
    with tokenizer.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["".join(pieces[3:])] * 5),
            model_writer=file,
            model_type="char",
            vocab_size=60,
            hard_vocab_limit=False,
            add_dummy_prefix=False,
            character_coverage=1.0,
            normalization_rule_name="identity",
            minloglevel=2,
        )
    imported = read_checkpoint(place, ImportOptions(("ar",), ("en",), tokenizer=tokenizer))
    names = [31, 10, 19, 13, 5, 7], [3, 11, 23, 13, 8, 7, 2]  # atzmon
    noise = [42, 38, 22, 15, 27, 22, 39, 17], [3, 22, 36, 12, 15, 36, 10, 25, 2]
    cases = [{"source": source, "target": target} for source, target in (names, noise)]
    assert scores(imported, cases) == pytest.approx(
        [
            *(-0.106023, -0.065411, -0.056003, -0.447953, -0.230714, -0.092183, -0.063463),
            *(-3.954334, -7.895377, -12.543508, -2.231392, -7.223123, -11.274252, -11.85944, -9.979688, -4.455413),
        ],
        abs=1e-4,
    )
