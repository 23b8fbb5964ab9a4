"""A model with some of its languages computes the same logits, and splits texts of kept pieces as before."""

from __future__ import annotations

import io
import json
import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch

from dragoman_export.imports.fewer_languages import keep_languages
from dragoman_export.imports.imported import Imported, ImportOptions, Languages, TokenizerParts
from dragoman_export.imports.lazy import constant
from dragoman_export.imports.read import read_checkpoint
from dragoman_export.imports.sentence_piece import reduced
from dragoman_export.imports.tokenizers import BundleTokenizer
from dragoman_export.sentences import CALIBRATION
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.tokenizers.protocol import Tokenizer
from dragoman_service.cli import main as cli
from dragoman_service.errors import InvalidInput
from support.foreign.checkpoints import FOLDER, OPTIONS, read

CHECKPOINTS = ("m2m", "small-100", "nllb", "mbart-50", "ct2-m2m-bfloat16", "ct2-nllb-float16")
TEXTS = [text for language in ("en", "de", "ru", "ja", "hi", "ar") for text in CALIBRATION[language]]


@cache
def trained(kind: str, words: int = 1500) -> bytes:
    """A SentencePiece model of texts in several scripts, with fairseq's special ids."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, vocab_size=words, model_type=kind, character_coverage=1.0,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, user_defined_symbols=["<sep>"], hard_vocab_limit=False, num_threads=1,
        minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


def split(model: bytes, texts: list[str]) -> list[list[str]]:
    pieces: list[list[str]] = sentencepiece.SentencePieceProcessor(model_proto=model).encode(texts, out_type=str)
    return pieces


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("share", [0.3, 0.8, 0.97])
def test_a_text_whose_pieces_are_kept_is_split_as_before(kind: str, share: float) -> None:
    rng = random.Random(share)
    words = sorted({word for text in TEXTS for word in text.split()})
    texts = [*TEXTS, *(" ".join(rng.choices(words, k=rng.randint(1, 3))) for _ in range(1000)), "a<sep>b 漢 ☃", "  x  "]
    full = trained(kind)
    smaller, kept = reduced(full, "x", lambda _: rng.random() < share)
    same = 0
    for text, before, after in zip(texts, split(full, texts), split(smaller, texts), strict=True):
        assert "".join(after) == "".join(before), text
        if kept.issuperset(before):
            assert after == before, text
            same += 1
    assert same > 20  # some texts have nothing but kept pieces, and some do not
    assert same < len(texts)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_no_character_becomes_unknown(kind: str) -> None:
    full = trained(kind)
    smaller, _ = reduced(full, "x", lambda _: False)
    for model in (full, smaller):
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        unknown = [text for text in TEXTS if processor.unk_id() in processor.encode(text)]
        assert unknown == []


def test_a_model_of_words_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"x: model_type: got 3; allowed: 1 \(unigram\) or 2 \(BPE\)"):
        reduced(trained("word"), "x", lambda _: True)
    with pytest.raises(InvalidInput, match="x: got '3 bytes'; allowed: a SentencePiece model"):
        reduced(b"\xff?!", "x", lambda _: True)


def few_words(folder: Path) -> Path:
    path = folder / "words.txt"
    path.write_text("the cat\nwe put one red hen\n")
    return path


def read_two(name: str, folder: Path, languages: tuple[str, ...] = ("en", "de")) -> Imported:
    options = replace(OPTIONS[name], languages=languages, pieces_of=(few_words(folder),))
    return read_checkpoint(FOLDER / name, options)


def tokenizer(imported: Imported) -> Tokenizer:
    return BundleTokenizer(imported).load()


def shown(it: Tokenizer, ids: list[int]) -> list[str]:
    return it.pieces(ids)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_logits_of_what_is_kept_are_those_of_the_whole_model(name: str, tmp_path: Path) -> None:
    languages = ("en", "ar") if name == "mbart-50" else ("en", "de")
    whole, some = read(name), read_two(name, tmp_path, languages)
    old = tokenizer(whole).pieces(range(whole.config.vocab_size))
    new = tokenizer(some).pieces(range(some.config.vocab_size))
    assert len(new) < len(old)
    places = [old.index(it) for it in new]  # every row that is left has a name
    assert sorted(places) == places
    rng, end = random.Random(1), whole.config.end_id
    models = whole.model(), some.model()
    for _ in range(3):
        source, target = ([*rng.choices(range(4, len(new)), k=9), end] for _ in range(2))
        with torch.no_grad():
            small = models[1](torch.tensor([source]), torch.tensor([[some.config.begin_id, *target[:-1]]]))[0]
            large = models[0](
                torch.tensor([[places[it] for it in source]]),
                torch.tensor([[whole.config.begin_id, *(places[it] for it in target[:-1])]]),
            )[0]
        torch.testing.assert_close(small, large[:, places], rtol=0, atol=1e-5)
        difference = large.log_softmax(-1)[:, places] - small.log_softmax(-1)
        assert (difference.amax(-1) - difference.amin(-1)).max() < 1e-5  # the normaliser of the softmax alone
    banned = {old[it] for it in whole.config.banned_ids}
    assert {new[it] for it in some.config.banned_ids} == banned & set(new)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_texts_of_kept_pieces_have_the_same_pieces(name: str, tmp_path: Path) -> None:
    languages = ("en", "ar") if name == "mbart-50" else ("en", "de")
    whole, some = tokenizer(read(name)), tokenizer(read_two(name, tmp_path, languages))
    for text in ("the cat", "we put one red hen", "cat  the", ""):
        assert some.pieces(some.encode(text)) == whole.pieces(whole.encode(text))
        assert some.decode(some.encode(text)) == whole.decode(whole.encode(text))
    ids = some.encode("the cat")
    for one, other in (languages, languages[::-1]):
        sources = [it.pieces(it.source(it.encode("the cat"), one, other)) for it in (some, whole)]
        assert sources[0] == sources[1]
        assert some.pieces(some.forced(other)) == whole.pieces(whole.forced(other))
    assert some.unknown_id not in some.encode("fat men did eat in jail")  # smaller pieces
    assert some.decode(some.encode("fat men did eat in jail")) == "fat men did eat in jail"
    with pytest.raises(InvalidInput, match="fr"):
        some.source(ids, "fr", "fr")


def of_scripts(kind: str, languages: tuple[str, ...]) -> Imported:
    """NLLB or mBART with the tokenizer of `trained`, with random tables of the size that it needs."""
    imported, model = read("nllb"), trained(kind)
    count = sentencepiece.SentencePieceProcessor(model_proto=model).get_piece_size() + 1
    words, width = count + len(languages) + 1, imported.config.d_model
    ids = {code: count + place for place, code in enumerate(languages)}
    rng = np.random.default_rng(0)
    tables = {
        "embedding.weight": constant(rng.normal(size=(words, width)).astype(np.float32)),
        "output_bias": constant(np.arange(words, dtype=np.float32)),
    }
    return replace(
        imported,
        config=replace(imported.config, vocab_size=words, banned_ids=(0, 1, 3, *range(count, words))),
        tensors={**imported.tensors, **tables},
        tokenizer=TokenizerParts("fairseq", {"model": model}, {"languages": ids, "legacy": False}),
        languages=Languages(languages, languages),
    )


CODES = ("eng_Latn", "deu_Latn", "rus_Cyrl", "jpn_Jpan", "hin_Deva", "arb_Arab")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_without_texts_all_pieces_of_the_scripts_are_kept(kind: str) -> None:
    whole = of_scripts(kind, CODES)
    some = keep_languages(whole, ("ru", "jpn_Jpan"))
    assert some.languages == Languages(("rus_Cyrl", "jpn_Jpan"), ("rus_Cyrl", "jpn_Jpan"))
    old, new = tokenizer(whole), tokenizer(some)
    for language in ("ru", "ja"):
        for text in CALIBRATION[language]:
            if not any(it.isascii() and it.isalpha() for it in text):
                assert new.pieces(new.encode(text)) == old.pieces(old.encode(text))
    pieces = new.pieces(range(some.config.vocab_size))
    latin = [it for it in pieces[4:-2] if len(it) > 1 and any("a" <= letter <= "z" for letter in it)]
    assert [it for it in latin if it not in "<sep>"] == []
    places = [old.pieces(range(whole.config.vocab_size)).index(it) for it in pieces]
    for name in ("embedding.weight", "output_bias"):
        np.testing.assert_array_equal(some.tensors[name].read(), whole.tensors[name].read()[places])
    assert some.notes[-1].startswith(
        f"Languages kept: ru, ja; 2 of 6. Rows of the vocabulary kept: {len(pieces):,} of {whole.config.vocab_size:,}, "
        "without letters of other scripts than CJK, CYRILLIC, HIRAGANA, KATAKANA. Their tables have"
    )


def test_the_directions_that_the_user_asked_for_are_kept() -> None:
    whole = replace(of_scripts("bpe", CODES), languages=Languages(("eng_Latn", "rus_Cyrl"), CODES))
    assert keep_languages(whole, ("en", "hi")).languages == Languages(("eng_Latn",), ("eng_Latn", "hin_Deva"))
    with pytest.raises(
        InvalidInput, match="languages: got 'hi, ja'; allowed: one of the sources of the model, eng_Latn"
    ):
        keep_languages(whole, ("hi", "ja"))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "nllb",
            ImportOptions(languages=("en", "xx")),
            "languages: got 'xx'; allowed: languages of the model: eng_Latn, deu_Latn, fra_Latn",
        ),
        ("nllb", ImportOptions(languages=("en", "eng")), "languages: got 'en, eng'; allowed: two languages or more"),
        ("opus-mt-en-mul", ImportOptions(languages=("en",)), "languages: got 'en'; allowed: no choice"),
        ("nllb", ImportOptions(pieces_of=(Path("x"),)), "pieces_of: got 'x'; allowed: none without --languages"),
        ("nllb", ImportOptions(languages=("en", "de"), pieces_of=(Path("/nowhere/x"),)), "pieces_of: got '/nowhere/x'"),
    ],
)
def test_bad_choices(name: str, options: ImportOptions, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_checkpoint(FOLDER / name, options)


def test_an_empty_file_and_a_language_of_no_known_script(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n\n")
    with pytest.raises(InvalidInput, match=r"pieces_of: got '.*empty.txt'; allowed: a file with text"):
        read_checkpoint(FOLDER / "nllb", ImportOptions(languages=("en", "de"), pieces_of=(empty,)))
    whole = read("m2m")
    parts = replace(whole.tokenizer, settings={**whole.tokenizer.settings, "languages": {"en": "en", "qqq": "qqq"}})
    vocabulary = json.loads(parts.files["vocabulary"])
    vocabulary["__qqq__"] = vocabulary.pop("__de__")
    parts = replace(parts, files={**parts.files, "vocabulary": json.dumps(vocabulary).encode()})
    with pytest.raises(InvalidInput, match="languages: got 'qqq'; allowed: text in it, with --pieces-of FILE"):
        keep_languages(replace(whole, tokenizer=parts), ("en", "qqq"))


@pytest.mark.parametrize("name", ["nllb", "small-100"])
def test_from_the_command_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "some" / "1"
    words = str(few_words(tmp_path))
    options = ["--languages", "en, de", "--pieces-of", words, "--sentences", words]
    assert cli.main(["import", str(FOLDER / name), "--output", str(output), *options]) == 0
    printed = capsys.readouterr().out
    manifest = Bundle.load(output).manifest
    assert sorted(manifest.languages.all_targets) == ["de", "en"]
    (note,) = [it for it in manifest.origin.notes if it.startswith("Languages kept: en, de; 2 of 3.")]  # type: ignore[union-attr]
    assert f"note: {note}" in printed
    assert f"Rows of the vocabulary kept: {manifest.vocab_size} of {read(name).config.vocab_size}" in note
    assert note in (output / "MODEL_CARD.md").read_text()
