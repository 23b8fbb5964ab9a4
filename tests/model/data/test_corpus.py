from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path
from typing import Any

import pytest

from dragoman_model.data.corpus import clean_pairs, held_out_texts, read_pairs
from dragoman_model.recipe import Cleaning, Corpus, Data
from dragoman_service.errors import InvalidInput

LINES = b"one\teins\ta\ntwo\tzwei\tb\nthree \t drei\ta\n"
LANGUAGES = ("en", "de")


@pytest.mark.parametrize(
    ("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_plain_and_compressed(tmp_path: Path, suffix: str, pack: Any) -> None:
    (tmp_path / f"text.tsv{suffix}").write_bytes(pack(LINES))
    pairs = list(read_pairs(Corpus(path=f"text.tsv{suffix}"), tmp_path))
    assert pairs == [("one", "eins"), ("two", "zwei"), ("three", "drei")]


def test_columns_may_be_chosen_and_lines_selected(tmp_path: Path) -> None:
    (tmp_path / "text.tsv").write_bytes(LINES)
    corpus = Corpus(path="text.tsv", source_column=1, target_column=0, where_column=2, where="a")
    assert list(read_pairs(corpus, tmp_path)) == [("eins", "one"), ("drei", "three")]


def test_pairs_of_files(tmp_path: Path) -> None:
    write(tmp_path / "a.en", "one \r\ntwo\n")
    write(tmp_path / "a.de", "eins\nzwei")
    assert list(read_pairs(Corpus(path="a.en", target_path="a.de"), tmp_path)) == [("one", "eins"), ("two", "zwei")]


@pytest.mark.parametrize(
    ("english", "german", "shorter"), [("one\ntwo\n", "eins\n", "a.de"), ("one\n", "eins\nzwei\n", "a.en")]
)
def test_files_that_do_not_correspond(tmp_path: Path, english: str, german: str, shorter: str) -> None:
    write(tmp_path / "a.en", english)
    write(tmp_path / "a.de", german)
    with pytest.raises(InvalidInput, match=rf"{shorter}: got '1 lines'"):
        list(read_pairs(Corpus(path="a.en", target_path="a.de"), tmp_path))


def test_a_line_without_the_column(tmp_path: Path) -> None:
    write(tmp_path / "text.tsv", "one\teins\nalone\n")
    with pytest.raises(InvalidInput, match=r"text\.tsv line 2: got '1 columns'; allowed: at least 2"):
        list(read_pairs(Corpus(path="text.tsv"), tmp_path))


def test_the_line_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "text.tsv").write_bytes(b"one\teins\ntwo\tzwei\nfive\tf\xfcnf\n")
    with pytest.raises(InvalidInput, match=r"text\.tsv line 3: got b'\\xfcnf"):
        list(read_pairs(Corpus(path="text.tsv"), tmp_path))


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        list(read_pairs(Corpus(path="none.tsv"), tmp_path))
    for suffix, pack in ((".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)):
        (tmp_path / f"cut{suffix}").write_bytes(pack(LINES * 100)[:-20])
        with pytest.raises(InvalidInput, match="readable file"):
            list(read_pairs(Corpus(path=f"cut{suffix}"), tmp_path))
    (tmp_path / "plain.gz").write_bytes(LINES)
    with pytest.raises(InvalidInput, match="readable file"):
        list(read_pairs(Corpus(path="plain.gz"), tmp_path))


def test_cleaning_counts_every_reason(tmp_path: Path) -> None:
    write(
        tmp_path / "text.tsv",
        "good morning\tguten Morgen\n"
        "good morning\tguten Morgen\n"  # again
        "\tleer\n"
        f"{'long ' * 20}\t{'lang ' * 20}\n"
        "a much longer text than the other side\tkurz\n"
        "not translated\tnot translated\n"
        "Hamburg\tHamburg\n"  # one word may stay as it is
        "good evening\tдобрый вечер\n"
        "1 + 1 = 2\t1 + 1 = 2.\n",  # no letters, hence no wrong ones
    )
    pairs, report = clean_pairs(
        Corpus(path="text.tsv"), tmp_path, Cleaning(max_characters=60, max_ratio=2.0), LANGUAGES, seed=1
    )
    assert [source for source, _ in pairs] == ["good morning", "Hamburg", "1 + 1 = 2"]
    reasons = {"duplicate", "empty side", "too long", "length ratio", "untranslated", "wrong script"}
    assert report.dropped == dict.fromkeys(reasons, 1)
    assert report.kept == 3
    assert "kept 3, dropped 6" in str(report)
    assert all(reason in str(report) for reason in reasons)


def test_rules_can_be_off(tmp_path: Path) -> None:
    write(tmp_path / "text.tsv", "same text\tsame text\nsame text\tsame text\n")
    rules = Cleaning(drop_duplicates=False, drop_copies=False)
    pairs, report = clean_pairs(Corpus(path="text.tsv"), tmp_path, rules, LANGUAGES, seed=1)
    assert len(pairs) == 2
    assert not report.dropped


def test_a_limit_draws_and_counts(tmp_path: Path) -> None:
    write(tmp_path / "text.tsv", "".join(f"number {n}\tZahl {n}\n" for n in range(50)))
    corpus = Corpus(path="text.tsv", limit=10)
    draws = [clean_pairs(corpus, tmp_path, Cleaning(), LANGUAGES, seed)[0] for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) == 10
    assert clean_pairs(corpus, tmp_path, Cleaning(), LANGUAGES, 1)[1].dropped == {"over the limit": 40}


def test_no_pair_is_dropped_for_the_script_of_a_language_that_is_not_known(tmp_path: Path) -> None:
    write(tmp_path / "text.tsv", "good morning\tᏏᏲ ᎣᏍᏓ ᏑᎾᎴᎢ\n")  # Cherokee, which is not in the table
    pairs, report = clean_pairs(Corpus(path="text.tsv"), tmp_path, Cleaning(), ("en", "chr"), seed=1)
    assert len(pairs) == 1
    assert not report.dropped


def write(path: Path, text: str) -> None:
    path.write_bytes(text.encode())


def test_what_is_measured_on_is_not_learned(tmp_path: Path) -> None:
    """Case and punctuation make no difference; what is short is nobody's secret."""
    lines = ["Where is the station?\two", "where\tWo ist der Bahnhof", "WHERE IS THE STATION\two", "Yes.\tJa.", "a\tb"]
    write(tmp_path / "text.tsv", "\n".join(lines))
    write(tmp_path / "valid.tsv", "Yes.\tJa.\nx\two ist der Bahnhof?\n")
    write(tmp_path / "test.en", "Where is the station?\n")
    data = Data("en", "de", train=(Corpus("text.tsv"),), validation=(Corpus("valid.tsv"),), held_out=("test.en",))
    held_out = held_out_texts(data, tmp_path)
    assert held_out == {"whereisthestation", "woistderbahnhof"}
    kept, report = clean_pairs(data.train[0], tmp_path, Cleaning(max_ratio=9), LANGUAGES, 1, held_out)
    assert kept == [("Yes.", "Ja."), ("a", "b")]
    assert report.dropped == {"held out": 3}
