"""The tokenizer of another model is refused, and that of every checkpoint is not."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import sentencepiece

from dragoman_export.imports.fit import check_tokenizer
from dragoman_export.imports.imported import Imported, Languages, TokenizerParts
from dragoman_export.imports.read import read_checkpoint
from dragoman_export.sentences import CALIBRATION
from dragoman_service.errors import InvalidInput
from support.foreign.checkpoints import ENGLISH_GERMAN, OPTIONS, copied, read


@cache
def trained(texts: tuple[str, ...], kind: str = "unigram", words: int = 600) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=words, model_type=kind, character_coverage=1.0,
        hard_vocab_limit=False, num_threads=1, minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


def pieces_of(*models: bytes) -> list[str]:
    found: dict[str, None] = {}
    for model in models:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        found |= dict.fromkeys(processor.id_to_piece(it) for it in range(processor.get_piece_size()))
    return list(found)


ENGLISH, GERMAN = (trained(CALIBRATION[it]) for it in ("en", "de"))


def model(source: bytes, target: bytes, vocabulary: Sequence[str], languages: Languages | None = None) -> Imported:
    """A model of Marian with this tokenizer; its tensors do not count here."""
    ids = {piece: number for number, piece in enumerate(vocabulary)}
    files = {"source": source, "target": target, "vocabulary": json.dumps(ids).encode()}
    parts = TokenizerParts("marian", files, {"languages": {"de": "de"}, "tags": False})
    return replace(read("opus-mt-en-de"), tokenizer=parts, languages=languages or Languages(("en",), ("de",)))


def test_the_right_models_pass() -> None:
    both = pieces_of(ENGLISH, GERMAN)
    check_tokenizer(model(ENGLISH, GERMAN, both))
    check_tokenizer(model(GERMAN, ENGLISH, both, Languages(("de",), ("en",))))
    check_tokenizer(model(ENGLISH, ENGLISH, pieces_of(ENGLISH)))  # one for both sides
    check_tokenizer(model(GERMAN, ENGLISH, both, Languages(("qqq",), ("de",))))  # a language without sentences
    for name in OPTIONS:
        check_tokenizer(read(name))


def test_exchanged_sides_are_refused() -> None:
    both, message = pieces_of(ENGLISH, GERMAN), "tokenizer: got 'source, target'; allowed: models and languages in this"
    for imported in (model(GERMAN, ENGLISH, both), model(ENGLISH, GERMAN, both, Languages(("de",), ("en",)))):
        with pytest.raises(InvalidInput, match=message):
            check_tokenizer(imported)


def test_the_model_of_the_same_language_for_another_vocabulary_is_refused() -> None:
    other = trained(CALIBRATION["en"][:40], words=400)
    shared = len({*pieces_of(other)} & {*pieces_of(ENGLISH)}) / len(pieces_of(other))
    assert shared > 0.5  # so a count of pieces does not tell them apart
    with pytest.raises(InvalidInput, match=r"tokenizer: got 'source'; .* the vocabulary lacks \d+, such as '"):
        check_tokenizer(model(other, GERMAN, pieces_of(ENGLISH, GERMAN)))


def test_a_model_most_of_whose_pieces_are_there_may_be_the_wrong_one(tmp_path: Path) -> None:
    """Marian splits the words of the toy at spaces; a model that writes spaces as pieces has nearly the same pieces."""
    folder = copied("marian-toy", tmp_path)
    letters = (*"abcdefghijklmnop", *"ABCDEFGHIJKLMNOP") * 3
    for side in ("source", "target"):
        (folder / f"{side}.spm").write_bytes(trained(letters, "char", 36))
    with pytest.raises(InvalidInput, match=r"tokenizer: got 'source.spm'; .* the vocabulary lacks \d+, such as '▁'"):
        read_checkpoint(folder, ENGLISH_GERMAN)
