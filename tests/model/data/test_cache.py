"""Tokenised text that is kept from one start to the next."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dragoman_model.data import corpus as corpus_module
from dragoman_model.data import prepare as prepare_module
from dragoman_model.data.corpus import PairList, folded
from dragoman_model.data.mixture import natural_texts, read_parts
from dragoman_model.data.pair_store import StoredPairs
from dragoman_model.data.prepare import PreparedData, prepare
from dragoman_model.data.token_cache import default_folder
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.errors import InvalidInput
from dragoman_service.text.scripts import SCRIPTS, script_of, script_share
from support.tiny import tokenizer_model
from support.tiny_model import make_recipe, write_corpus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_corpus(tmp_path)
    return tmp_path


def entries(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


def everything(data: PreparedData) -> Any:
    batch = data.train.batch(range(len(data.train)))
    return batch.source.tolist(), batch.target.tolist(), data.weights.tolist(), data.summary, data.tokenizer_model


def no_reading(*_: Any) -> Any:
    raise AssertionError("the text was read again")


def test_the_second_start_and_a_resumed_run_read_no_text(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = prepare(make_recipe(), folder, None, folder / "cache")
    monkeypatch.setattr(prepare_module, "read_parts", no_reading)
    assert everything(prepare(make_recipe(), folder, None, folder / "cache")) == everything(first)
    resumed = prepare(make_recipe(), folder, first.tokenizer_model, folder / "cache")
    assert everything(resumed) == everything(first)
    said = [message for message in caplog.messages if message.startswith("train.tsv: kept")]
    assert (len(said), len(set(said))) == (3, 1), "each says what was kept and dropped"
    (entry,) = entries(folder / "cache")
    assert not [path for path in entry.iterdir() if path.name.startswith("pairs-")]
    assert isinstance(first.train._source_ids.base, np.memmap)


def test_without_a_cache_nothing_is_left_and_the_result_is_the_same(folder: Path) -> None:
    kept = prepare(make_recipe(), folder, None, folder / "cache")
    assert everything(prepare(make_recipe(), folder)) == everything(kept)


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"seed": 2}},
        {"data": {"max_tokens": 50}},
        {"data": {"augmentation": {"lower": 0.5}}},
        {"data": {"train": [{"path": "train.tsv", "weight": 2.0}]}},
        {"tokenizer": {"vocab_size": 319}},
    ],
)
def test_another_recipe_is_another_entry(folder: Path, change: dict[str, Any]) -> None:
    prepare(make_recipe(), folder, None, folder / "cache")
    changed = prepare(make_recipe(**change), folder, None, folder / "cache")
    assert len(entries(folder / "cache")) == 2
    assert everything(changed) == everything(prepare(make_recipe(**change), folder))


def test_another_file_of_the_same_size_is_another_entry(folder: Path) -> None:
    prepare(make_recipe(), folder, None, folder / "cache")
    path = folder / "train.tsv"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    changed = prepare(make_recipe(), folder, None, folder / "cache")
    assert len(entries(folder / "cache")) == 2
    assert everything(changed) == everything(prepare(make_recipe(), folder))


@pytest.mark.parametrize("damage", ["truncated", "missing", "format", "description", "vocabulary"])
def test_a_damaged_entry_is_made_anew(folder: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    first = everything(prepare(make_recipe(), folder, None, folder / "cache"))
    (entry,) = entries(folder / "cache")
    described = entry / "cache.json"
    if damage == "truncated":
        path = entry / "target_ids.npy"
        path.write_bytes(path.read_bytes()[:-2])
    elif damage == "missing":
        (entry / "weights.npy").unlink()
    elif damage == "format":
        described.write_text(json.dumps(json.loads(described.read_text()) | {"format": 0}))
    elif damage == "description":
        described.write_text("[")
    else:
        path = entry / "tokenizer.model"
        path.write_bytes(path.read_bytes()[::-1])
    with caplog.at_level(logging.WARNING):
        again = prepare(make_recipe(), folder, None, folder / "cache")
    assert "made again" in caplog.text
    assert everything(again) == first
    assert entries(folder / "cache") == [entry]
    caplog.clear()
    prepare(make_recipe(), folder, None, folder / "cache")
    assert "made again" not in caplog.text


def test_text_that_changes_meanwhile_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = prepare_module.train_tokenizer

    def changing(*arguments: Any) -> bytes:
        with (folder / "train.tsv").open("a") as file:
            file.write("one more\tnoch eins\n")
        return genuine(*arguments)

    monkeypatch.setattr(prepare_module, "train_tokenizer", changing)
    with pytest.raises(InvalidInput, match=r"train\.tsv.*does not change"):
        prepare(make_recipe(), folder, None, folder / "cache")
    assert not entries(folder / "cache")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAGOMAN_CACHE", "/one")
    assert default_folder() == Path("/one")
    monkeypatch.delenv("DRAGOMAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert default_folder() == Path("/two/dragoman/text")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache/dragoman/text"


def test_a_file_of_many_parts_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"word {n}\tWort {n}\t{'abc'[n % 3]}\n" for n in range(300)]
    (folder / "parts.tsv").write_text("".join(lines))
    part = {"path": "parts.tsv", "where_column": 2}
    back = {"path": "parts.tsv", "source_column": 1, "target_column": 0}
    train = [{**part, "where": "b", "limit": 40}, back, {**part, "where": "a"}]
    recipe = make_recipe(data={"train": train})
    read, genuine = list[str](), corpus_module.read_lines

    def counted(path: Path) -> Any:
        read.append(path.name)
        return genuine(path)

    monkeypatch.setattr(corpus_module, "read_lines", counted)
    first, second, third = read_parts(recipe, folder)
    assert read.count("parts.tsv") == 1
    b = [(f"word {n}", f"Wort {n}") for n in range(1, 300, 3)]
    assert first.pairs == random.Random(recipe.training.seed).sample(b, 40)
    assert second.pairs == [(f"Wort {n}", f"word {n}") for n in range(300)]
    assert third.pairs == [(f"word {n}", f"Wort {n}") for n in range(0, 300, 3)]


def test_a_limited_vocabulary_sample_is_that_of_all_texts(folder: Path) -> None:
    parts = list(read_parts(make_recipe(data={"train": [{"path": "train.tsv", "weight": 1.5}]}), folder))
    texts = natural_texts(parts, 3)
    assert natural_texts(parts, 3, limit=20) == random.Random(3).sample(texts, 20)
    assert natural_texts(parts, 3, limit=len(texts)) == texts


def test_pairs_in_files_are_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dragoman_model.data.pair_store._BUFFER_BYTES", 50)
    monkeypatch.setattr("dragoman_model.data.pair_store._ITERATED", 7)
    pairs = [(f"a\t{n}é", f"β{n}" * (n % 3)) for n in range(40)]
    store = StoredPairs(tmp_path / "store")
    store.extend(pairs)
    assert list(store) == pairs
    store.keep_only([5, 3, 39, 0])
    store.extend([("x", "y")])
    expected = [*(pairs[n] for n in (5, 3, 39, 0)), ("x", "y")]
    assert list(store) == [store[n] for n in range(5)] == expected
    assert list(StoredPairs(tmp_path / "empty")) == []


def test_repeats_are_found_in_files_as_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dragoman_model.data.repeats._SORTED_TOGETHER", 64)
    monkeypatch.setattr("dragoman_model.data.pair_store._ITERATED", 50)
    rng = random.Random(1)
    pairs = [(f"a{rng.randrange(150)}", f"b{rng.randrange(2)}") for _ in range(500)]
    store, plain = StoredPairs(tmp_path / "store"), PairList()
    for kept in (store, plain):
        kept.extend(pairs)
        kept.keep_only(range(499, -1, -1))
    for among in (None, 0, 100, 500):
        assert store.repeats(among).tolist() == plain.repeats(among).tolist()
    assert plain.repeats().sum() == 500 - len(set(pairs))
    assert StoredPairs(tmp_path / "empty").repeats().tolist() == []
    assert {path.name for path in tmp_path.iterdir()} == {
        "store.text",
        "store.ends",
        "store.order",
        "empty.text",
        "empty.ends",
    }
    store.discard()
    assert not list(tmp_path.glob("store*"))


TEXTS = ["Don't go_there, 1 2 3!", "Straße Ⅷ ²³", "", "... 42", "Über 5 % — naïve", "добрый day", "日本 abc", "ÅéÎ"]


@pytest.mark.parametrize("text", TEXTS)
def test_the_fast_ways_say_what_the_plain_ones_do(text: str) -> None:
    assert folded(text) == "".join(filter(str.isalnum, text.casefold()))
    letters = [character for character in text if character.isalpha()]
    for language in ("de", "ru", "ja", "sr"):
        own = sum(script_of(letter) in SCRIPTS[language] for letter in letters)
        assert script_share(text, language) == (own / len(letters) if letters else 1.0)


def test_texts_are_encoded_together_as_each_by_itself() -> None:
    tokenizer = Tokenizer(tokenizer_model())
    texts = ["the cat", "", "a dog sees", "</s> 🦊"]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch([]) == []
    with pytest.raises(InvalidInput, match="surrogates"):
        tokenizer.encode_batch(["fine", "\ud800"])


def test_text_in_files_trains_as_text_in_memory(folder: Path) -> None:
    data = prepare(make_recipe(), folder, None, folder / "cache")
    batch = data.train.batch([1, 0])
    assert batch.source.dtype is torch.int64
    assert data.train.lengths[0].tolist() == [int((batch.source[1] != 0).sum()), int((batch.target[1] != 0).sum()) - 1]
