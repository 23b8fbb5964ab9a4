"""Words that a translation must not contain: the bans are those that the definition gives, whatever the vocabulary."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.errors import InvalidInput
from dragoman_service.translation.prefix import make_prefix
from dragoman_service.translation.suppression import MAX_CHARACTERS, MAX_SUPPRESSED, Unwanted, unwanted_steps
from dragoman_service.translation.text_worker import run_inline
from dragoman_service.translation.vocabulary import Vocabulary
from support.fake_workers import FakeWorkers, served
from support.frontends import call, collect, on_frontend, translate
from support.tiny import tokenizer_model

ALPHABET = ["a", "b", "c", "e\u0301", " ", ".", "漢"]
BYTES = "ł😀".encode()
"""Of characters that only byte pieces spell: a letter, and another one."""
END, UNKNOWN, SILENT = range(3)
LETTER = "(?:(?![\u4e00-\u9fff])\\w|\u0301)"


class ToyTokenizer:
    """Random pieces, and all letters and bytes. It cannot spell an x."""

    end_id, unknown_id = END, UNKNOWN

    def __init__(self, rng: random.Random) -> None:
        made = {"".join(rng.choices(ALPHABET, k=rng.randint(1, 4))).encode() for _ in range(60)}
        letters = {it.encode() for it in ALPHABET} | {bytes([byte]) for byte in BYTES}
        self._texts = [b"", b"", b"", *sorted(made | letters), b"a"]
        self.vocab_size = len(self._texts)

    def texts(self) -> list[bytes]:
        return self._texts

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [str(i) for i in ids]

    def encode_target(self, text: str) -> list[int]:
        self._text = text
        return [UNKNOWN] if "x" in text else []

    def decode(self, ids: Sequence[int]) -> str:
        return self._text  # of a word, it does not matter by which tokens it is written


def unwanted(tokenizer: Any, *words: str, pieces: Sequence[str] = ()) -> Unwanted:
    return run_inline(unwanted_steps(words, tuple(pieces), tokenizer))


def pattern_of(words: Sequence[str]) -> re.Pattern[str]:
    """Matches a text in which one of the words stands as a whole word."""
    found = []
    for word in words:
        before = f"(?<!{LETTER})" if re.match(LETTER, word) else ""
        after = f"(?!{LETTER})" if re.match(LETTER, word[-1]) else ""
        found.append(before + re.escape(word) + after)
    return re.compile("|".join(found))


@pytest.mark.parametrize("seed", range(8))
def test_what_is_banned_is_what_would_write_a_word(seed: int) -> None:
    rng = random.Random(seed)
    tokenizer = ToyTokenizer(rng)
    texts, inside = tokenizer.texts(), 0
    for _ in range(5):
        words = ["".join(rng.choices([*ALPHABET, "ł"], k=rng.randint(1, 5))).strip() or "a" for _ in range(4)]
        bias, pattern = unwanted(tokenizer, *words).bias, pattern_of(words)
        everywhere = set(bias.added([texts.index(b"b")])[0].tolist())
        for _ in range(8):
            tokens: list[int] = []
            for _ in range(12):
                text = b"".join(texts[token] for token in tokens)
                written = [(text + more).decode(errors="replace") for more in texts]
                wanted = {token for token, found in enumerate(written) if pattern.search(found)}
                banned = set(bias.added(tokens)[0].tolist())
                # Behind a letter that is spelled in bytes, a word may begin, as far as the bans know.
                spelled = re.search("[^\\W\x00-\x7f\u4e00-\u9fff]", text.decode(errors="replace"))
                assert banned == wanted or (banned > wanted and spelled)
                inside += not banned <= everywhere
                tokens.append(rng.choice(sorted(set(range(len(texts))) - banned)))
    assert inside > 40


TOKENIZER = Tokenizer(tokenizer_model())


def test_a_word_is_suppressed_however_it_is_spelled() -> None:
    bias = unwanted(TOKENIZER, "Katze").bias

    def banned_after(*pieces: str) -> list[str]:
        found = TOKENIZER.pieces(range(TOKENIZER.vocab_size))
        return TOKENIZER.pieces(bias.added([found.index(piece) for piece in pieces])[0].tolist())

    assert banned_after("▁die") == ["▁Katze"]
    assert banned_after("▁", "K", "a", "t", "z") == ["▁Katze", "<0x65>", "e"]
    assert banned_after("▁", "K", "<0x61>", "t", "z") == ["▁Katze", "<0x65>", "e"]
    assert banned_after("▁die", "K", "a", "t", "z") == ["▁Katze"]


def test_a_word_is_suppressed_as_the_tokenizer_writes_it() -> None:
    assert unwanted(TOKENIZER, "ﬁnden", "Łódź").words == (
        ("suppressed_words[0]", "finden"),
        ("suppressed_words[1]", "Łódź"),
    )


def test_a_word_that_no_tokens_spell_is_nothing() -> None:
    found = unwanted(ToyTokenizer(random.Random(1)), "x")
    assert found.words == ()
    assert found.bias.added([])[0].tolist() == []


def test_pieces_are_found_by_their_names() -> None:
    found = unwanted(TOKENIZER, pieces=("▁die", "<unk>"))
    (die,) = TOKENIZER.encode_target("die")
    assert found.bias.added([9, 9])[0].tolist() == sorted([die, TOKENIZER.unknown_id])
    assert found.bias.added([])[1] == float("-inf")


@pytest.mark.parametrize(
    ("words", "pieces", "field", "allowed"),
    [
        (["a"] * (MAX_SUPPRESSED + 1), [], "suppressed_words", "at most 100"),
        ([], ["a"] * (MAX_SUPPRESSED + 1), "suppressed_tokens", "at most 100"),
        (["a", ""], [], "suppressed_words[1]", "1 to 64 characters"),
        ([" a"], [], "suppressed_words[0]", "no spaces around them"),
        (["a\n\nb"], [], "suppressed_words[0]", "no control characters"),
        (["a" * (MAX_CHARACTERS + 1)], [], "suppressed_words[0]", "1 to 64 characters"),
        ([], ["s", "dieser"], "suppressed_tokens[1]", "a piece of the model's vocabulary"),
        ([], ["</s>"], "suppressed_tokens[0]", "not the end of the sentence"),
    ],
)
def test_what_is_wrong_is_named(words: list[str], pieces: list[str], field: str, allowed: str) -> None:
    with pytest.raises(InvalidInput, match=allowed) as caught:
        unwanted(TOKENIZER, *words, pieces=pieces)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("words", "pieces", "prefix", "field"),
    [
        (["Katze"], [], "die Katze ", "suppressed_words[0]"),
        (["x", "Katze"], [], "die Katze sieht", "suppressed_words[1]"),
        (["die Katze"], [], "Und die Katze ", "suppressed_words[0]"),
        ([], ["▁die"], "die Katze", "suppressed_tokens[0]"),
        (["Hund"], [], "der Hund", "suppressed_words[0]"),
        (["Hund"], [], "der Hun", "target_prefix"),
    ],
)
def test_a_prefix_with_what_is_suppressed_is_refused(
    words: list[str], pieces: list[str], prefix: str, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        unwanted(TOKENIZER, *words, pieces=pieces).check_prefix(make_prefix(prefix, TOKENIZER))
    assert caught.value.field == field


@pytest.mark.parametrize("prefix", ["die Kat", "die", "der Katzenhund ", "die Hund", "und katze "])
def test_a_prefix_whose_last_word_may_go_on_is_taken(prefix: str) -> None:
    unwanted(TOKENIZER, "Kat", "Kater", "hund").check_prefix(make_prefix(prefix, TOKENIZER))


def test_the_same_list_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = unwanted(TOKENIZER, "Hund", pieces=["s"])
    assert unwanted(TOKENIZER, "Hund", pieces=["s"]) is first
    for number in range(20):
        unwanted(TOKENIZER, f"Hund {number}")
    assert unwanted(TOKENIZER, "Hund", pieces=["s"]) is not first


def test_every_sentence_of_a_call_has_the_bias() -> None:
    workers = FakeWorkers()
    model = served(workers)
    fields = {"suppressed_words": ("AB", "x y"), "suppressed_tokens": ("q",)}
    translate(model, "One. Two.", "http://a.b three", **fields)
    model = replace(model, engine=served(streaming := FakeWorkers()).engine)
    on_frontend(model, lambda frontend: collect(frontend.stream(call(model, "One. Two.", **fields))))
    assert len(workers.submitted) >= 3
    assert len(streaming.submitted) == 2
    characters = model.tokenizer.encode("A")
    for request in [*workers.submitted, *streaming.submitted]:
        (bias,) = request.biases
        assert set(model.tokenizer.decode(bias.added(characters)[0].tolist())) == {"B", "q"}
    translate(served(plain := FakeWorkers()), "One.")
    assert plain.submitted[0].biases == ()


def test_a_call_names_the_word_or_the_prefix() -> None:
    for fields, field in (
        ({"suppressed_words": ("AB",), "target_prefixes": ("", "x AB ")}, "suppressed_words[0]"),
        ({"suppressed_words": ("",)}, "suppressed_words[0]"),
        ({"suppressed_tokens": ("A",), "target_prefixes": ("xA", "")}, "suppressed_tokens[0]"),
    ):
        with pytest.raises(InvalidInput) as caught:
            translate(served(FakeWorkers()), "a", "b", **fields)
        assert caught.value.field == field


@pytest.mark.parametrize("seed", range(3))
def test_a_vocabulary_finds_what_a_look_at_all_texts_finds(seed: int) -> None:
    rng = random.Random(seed)
    texts = ToyTokenizer(rng).texts()
    vocabulary = Vocabulary([str(number) for number in range(len(texts))], texts)
    for _ in range(200):
        text = "".join(rng.choices(ALPHABET, k=rng.randint(1, 3))).encode()
        ids = range(len(texts))
        assert list(vocabulary.beginning_with(text)) == sorted(
            (i for i in ids if texts[i].startswith(text)), key=lambda i: (texts[i], i)
        )
        assert vocabulary.with_text(text) == [i for i in ids if texts[i] == text]
    assert vocabulary.with_piece("7") == [7]
    assert vocabulary.with_piece("x") == []
    assert vocabulary.longest == max(map(len, texts))
