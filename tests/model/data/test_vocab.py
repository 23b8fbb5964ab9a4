from __future__ import annotations

import pytest

from dragoman_model.data.vocab import train_tokenizer
from dragoman_model.recipe import TokenizerConfig
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.errors import InvalidInput
from support.tiny import sentences

TEXTS = sentences(300)
CONFIG = TokenizerConfig(vocab_size=330, character_coverage=1.0)


@pytest.mark.parametrize(
    "text", ["the old house sees", "a 🦊 reads", "Привет, мир", "こんにちは", "شكرا", "ᚠᛇᚻ", "Łódź", "\U0010ffff"]
)
def test_nothing_is_out_of_vocabulary(text: str) -> None:
    tokenizer = Tokenizer(train_tokenizer(TEXTS, CONFIG, seed=1))
    ids = tokenizer.encode(text)
    assert all(3 < i < tokenizer.vocab_size for i in ids)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_the_vocabulary_has_the_size_asked_for(algorithm: str) -> None:
    config = TokenizerConfig(vocab_size=330, algorithm=algorithm, character_coverage=1.0)  # type: ignore[arg-type]
    assert Tokenizer(train_tokenizer(TEXTS, config, seed=1)).vocab_size == 330


def test_training_is_deterministic() -> None:
    config = TokenizerConfig(vocab_size=330, character_coverage=1.0, sample_sentences=200)
    assert train_tokenizer(TEXTS, config, seed=1) == train_tokenizer(TEXTS, config, seed=1)
    assert train_tokenizer(TEXTS, config, seed=1) != train_tokenizer(TEXTS, config, seed=2)


def test_too_little_text_for_the_size() -> None:
    with pytest.raises(InvalidInput, match=r"tokenizer\.vocab_size: got 8000"):
        train_tokenizer(TEXTS[:20], TokenizerConfig(vocab_size=8000), seed=1)


def test_tags_are_special_pieces_that_no_text_has() -> None:
    tokenizer = Tokenizer(train_tokenizer(TEXTS, CONFIG, seed=1, target_tags=("de", "en")))
    assert list(tokenizer.target_tags) == ["de", "en"]
    assert tokenizer.vocab_size == CONFIG.vocab_size
    assert not set(tokenizer.encode("<2de>")) & set(tokenizer.target_tags.values())


def test_numbers_are_spelt_digit_by_digit() -> None:
    texts = [f"{text} 1984 1984 1984" for text in TEXTS]
    tokenizer = Tokenizer(train_tokenizer(texts, CONFIG, seed=1))
    assert [piece.strip("▁") for piece in tokenizer.pieces(tokenizer.encode("1984"))][-4:] == ["1", "9", "8", "4"]
