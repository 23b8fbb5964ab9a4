from __future__ import annotations

import gzip
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dragoman_model.data.corpus import read_pairs
from dragoman_model.data.mixture import natural_texts, one_epoch, read_parts, table
from dragoman_model.recipe import Corpus
from dragoman_service.cli.main import main
from support.tiny_model import make_recipe

RECIPE = """
[data]
source_language = "en"
target_language = "de"
train = [{ path = "a.tsv", weight = 2.0 }, { path = "b.tsv", weight = 0.5 }]
validation = [{ path = "valid.tsv" }]

[data.augmentation]
lower = 0.5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Corpora of 10 and 200 good pairs, an empty one, one that is measured on, and one twice."""
    bad = "\tleer\nThis must not be learned\tDas darf nicht gelernt werden\nTwice\tZweimal\nTwice\tZweimal\n"
    good = "".join(f"Sentence {number}\tSatz {number}\n" for number in range(9))
    (tmp_path / "a.tsv").write_text(bad + good, encoding="utf-8")
    (tmp_path / "b.tsv").write_text("".join(f"Word {number}\tWort {number}\n" for number in range(200)))
    (tmp_path / "valid.tsv").write_text("This must not be learned!\tDas darf nicht gelernt werden!\n")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def recipe(**changes: Any) -> Any:
    corpora = [{"path": "a.tsv", "weight": 2.0}, {"path": "b.tsv", "weight": 0.5}]
    return make_recipe(data={"train": corpora, "validation": [{"path": "valid.tsv"}], **changes})


def test_a_part_says_what_was_kept_dropped_and_added(folder: Path) -> None:
    first, second = read_parts(recipe(augmentation={"lower": 0.5}), folder)
    assert first.summary() == {
        "corpus": "a.tsv",
        "languages": "en-de",
        "weight": 2.0,
        "kept": 10,
        "dropped": {"empty side": 1, "held out": 1, "duplicate": 1},
        "added": 5,
    }
    assert len(first.pairs) == 15
    assert (second.num_added, second.pairs_per_epoch) == (100, 150.0)


def test_an_epoch_has_each_pair_as_often_as_its_weight_says(folder: Path) -> None:
    parts = list(read_parts(recipe(), folder))
    drawn = list(one_epoch(parts, seed=1))
    counts = Counter(pair for pair, corpus in drawn if corpus == "a.tsv")
    assert set(counts.values()) == {2}
    assert len(counts) == 10
    assert 70 < sum(corpus == "b.tsv" for _, corpus in drawn) < 130
    assert drawn == list(one_epoch(parts, seed=1)) != list(one_epoch(parts, seed=2))


def test_a_vocabulary_is_learned_from_weighted_text_as_it_was_found(folder: Path) -> None:
    parts = list(read_parts(recipe(augmentation={"lower": 1.0}), folder))
    counts = Counter(natural_texts(parts, seed=1))
    assert counts["Sentence 3"] == counts["Satz 3"] == 2
    assert not {"sentence 3", "word 3"} & set(counts)
    assert 70 < sum(text.startswith("Wort") for text in counts) < 130
    assert {counts[text] for text in counts if text.startswith("Wort")} == {1}


def test_the_table_has_the_share_of_each_corpus(folder: Path) -> None:
    lines = table(list(read_parts(recipe(), folder))).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    # "Sentence 0": two words a side, but for "Twice"
    assert cells[2] == [
        "a.tsv",
        "en-de",
        "13",
        "10",
        "0",
        "2",
        "20",
        "16.0%",
        "38",
        "empty side 1, held out 1, duplicate 1",
    ]
    assert cells[3][6:9] == ["100", "84.0%", "200"]
    assert cells[4][6:9] == ["120", "100.0%", "238"]


def test_the_command_writes_what_training_reads(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = folder / "mixture.tsv.gz"
    arguments = ["data", str(folder / "recipe.toml"), "--output", str(output), "--set", "data.augmentation.lower=0.0"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert re.search(r"\| a\.tsv +\| en-de +\| +13 \| +10 \| +0 \| +2 \|", printed.out)
    assert "a.tsv: kept 10, dropped 3" in printed.err
    with gzip.open(output, "rt") as file:
        assert {len(line.split("\t")) for line in file} == {3}
    pairs = list(read_pairs(Corpus(path=output.name, where_column=2, where="a.tsv"), folder))
    assert len(pairs) == 20
    assert main(arguments) == 1  # nothing is overwritten
    assert "--output" in capsys.readouterr().err


def test_a_file_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(folder / "recipe.toml"), "--output", str(folder / "nowhere" / "mixture.tsv")]) == 1
    assert "a file that can be written" in capsys.readouterr().err


def test_what_mtdata_writes_is_read(folder: Path) -> None:
    """Two files a corpus, named by its id and ISO 639-3 codes; test sets are links."""
    (folder / "train-parts").mkdir()
    (folder / "tests").mkdir()
    for language, text in (("eng", "Good morning\nThis is the test set\n"), ("deu", "Guten Morgen\nEin Satz\n")):
        (folder / "train-parts" / f"Statmt-news_commentary-16-deu-eng.{language}").write_text(text)
        (folder / "tests" / f"Statmt-newstest_deen-2017-deu-eng.{language}").write_text("This is the test set.\n")
        (folder / f"test.{language}").symlink_to(Path("tests") / f"Statmt-newstest_deen-2017-deu-eng.{language}")
    parts = "train-parts/Statmt-news_commentary-16-deu-eng"
    corpora = [{"path": f"{parts}.eng", "target_path": f"{parts}.deu"}]
    (part,) = read_parts(recipe(train=corpora, held_out=["test.eng", "test.deu"]), folder)
    assert part.pairs == [("Good morning", "Guten Morgen")]
