"""What is wrong with the description or the files of a tokenizer is refused by name."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from dragoman_service.bundle.tokenizers.loading import KINDS, load_tokenizer
from dragoman_service.bundle.tokenizers.protocol import TokenizerSpec
from dragoman_service.errors import InvalidInput
from support.family_tokenizers import NAMES, files, spec, tokenizer
from support.tiny import tokenizer_model


def refused(given: TokenizerSpec, changed: dict[str, bytes] | None = None) -> str:
    """The message with which a description is refused; `changed` are files instead of the right ones."""
    contents = files() | (changed or {})
    given = dataclasses.replace(given, files=given.files | {role: role for role in changed or ()})
    with pytest.raises(InvalidInput) as error:
        load_tokenizer(given, contents.__getitem__)
    return str(error.value)


def with_settings(name: str, **settings: Any) -> TokenizerSpec:
    given = spec(name)
    return dataclasses.replace(given, settings=given.settings | settings)


def with_vocabulary(name: str, value: Any, role: str = "vocabulary") -> str:
    return refused(spec(name), {role: value if isinstance(value, bytes) else json.dumps(value).encode()})


def test_an_unknown_kind() -> None:
    assert "tokenizer.kind: got 't5'; allowed: dragoman, marian" in refused(TokenizerSpec("t5", {}))


@pytest.mark.parametrize("name", NAMES)
def test_every_required_file_is_asked_for(name: str) -> None:
    given = spec(name)
    for role in KINDS[given.kind].required:
        rest = {it: file for it, file in given.files.items() if it != role}
        assert role in refused(dataclasses.replace(given, files=rest))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_unknown_is_passed_over(name: str) -> None:
    given = spec(name)
    assert "tokenizer.files: got 'other'" in refused(dataclasses.replace(given, files={**given.files, "other": "x"}))
    assert "tokenizer.settings: got 'other'" in refused(with_settings(name, other=1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", [b"", b"garbage", b"\xff\xfe", b"[", b"{}", b"[]", b"null", b"[" * 100_000])
def test_a_damaged_file_is_named(name: str, data: bytes) -> None:
    for role in spec(name).files:
        message = refused(spec(name), {role: data})
        assert message.startswith(f"tokenizer.files.{role}" if spec(name).kind != "dragoman" else "tokenizer")


def test_a_missing_file_is_the_callers_error() -> None:
    def read(name: str) -> bytes:
        raise FileNotFoundError(name)

    with pytest.raises(FileNotFoundError):
        load_tokenizer(spec("marian"), read)


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ({"</s>": 0, "<unk>": "1"}, "id of '<unk>': got '1'; allowed: 0 to 2147483647"),
        ({"</s>": 0, "<unk>": True}, "id of '<unk>': got True"),
        ({"</s>": 0, "<unk>": -1}, "id of '<unk>': got -1"),
        ({"</s>": 0, "<unk>": 2**31}, "id of '<unk>': got 2147483648"),
        ({"</s>": 0, "<unk>": 0}, "id 0: got '<unk>'; allowed: every piece and every id once"),
        (b'{"</s>": 0, "<unk>": 1, "a": 2, "a": 3}', "id 3: got 'a'; allowed: every piece and every id once"),
        ({"<unk>": 0, "a": 1}, "tokenizer.files.vocabulary: got 'no </s>'"),
        ({"</s>": 0, "a": 1}, "tokenizer.files.vocabulary: got 'no <unk>'"),
        (["</s>", "<unk>"], "a JSON object, piece -> id"),
        (b'{"</s>": 0, "<unk>": 1, "\\ud800": 2}', "allowed: pieces without lone surrogates"),
    ],
)
def test_a_wrong_vocabulary(vocabulary: Any, message: str) -> None:
    assert message in with_vocabulary("marian", vocabulary)


def test_a_vocabulary_without_special_pieces() -> None:
    assert "got 'no <s>, <pad>'" in with_vocabulary("m2m", {"</s>": 0, "<unk>": 1})
    assert "no </s>" in with_vocabulary("marian_separate", {"<unk>": 1}, "target_vocabulary")


@pytest.mark.parametrize("pieces", [{"a": 1}, ["a", 1], ["a", None], ["a", "\ud800"]])
def test_a_wrong_list(pieces: Any) -> None:
    assert "tokenizer.files.vocabulary" in with_vocabulary("pieces", pieces)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("marian", {"languages": {"de": "ger"}}, "languages.de: got 'ger'; allowed: a code with a tag"),
        ("marian", {"languages": {"de": 1}}, "tokenizer.settings.languages"),
        ("marian", {"languages": {"de": "deu", "DE": "fra"}}, "every language once"),
        ("marian", {"languages": ["de"]}, "tokenizer.settings.languages"),
        ("marian", {"begin_token": "<x>"}, "begin_token: got '<x>'; allowed: a piece of the target vocabulary"),
        ("marian", {"vocab_size": 100}, "tokenizer.settings.vocab_size: got 100; allowed:"),
        ("marian", {"vocab_size": 2**40}, "tokenizer.settings.vocab_size"),
        ("marian", {"source_vocab_size": "9"}, "tokenizer.settings.source_vocab_size: got '9'"),
        ("m2m", {"language_ids": {}}, "tokenizer.settings.language_ids"),
        ("m2m", {"language_ids": None}, "tokenizer.settings.language_ids"),
        ("m2m", {"language_ids": {"en": 3}}, "language_ids.en: got 3; allowed: another id; '<unk>' has this one"),
        ("m2m", {"language_ids": {"en": 9_000, "de": 9_000}}, "another id for each language"),
        ("m2m", {"language_ids": {"en": -1}}, "language_ids.en: got -1"),
        ("m2m", {"languages": {"en": "xx"}}, "languages.en: got 'xx'; allowed: a code of language_ids"),
        ("m2m", {"target_in_source": 1}, "target_in_source: got 1; allowed: true or false"),
        ("nllb", {"language_ids": {"eng_Latn": 4}}, "language_ids.eng_Latn: got 4"),
        ("nllb", {"vocab_size": 300}, "tokenizer.settings.vocab_size"),
        ("nllb", {"legacy": "no"}, "legacy: got 'no'"),
        ("pieces", {"split": "words"}, "split: got 'words'; allowed: sentencepiece, characters, whitespace"),
        ("pieces", {"split": "characters"}, "tokenizer.files: got 'model'; allowed: no SentencePiece model"),
        ("pieces", {"eos_token": "</x>"}, "no '</x>'"),
        ("pieces", {"begin_token": 1}, "begin_token: got 1; allowed: a string"),
        ("pieces", {"target_prefix": "x"}, "target_prefix: got 'x'; allowed: a list of strings"),
        ("pieces", {"target_prefix": ["__xx__"]}, "no '__xx__'"),
        ("pieces", {"target_prefix": ["{source_language}"]}, "allowed: no {source_language}"),
        ("pieces", {"languages": {"de": "__xx__"}}, "tokenizer.settings.languages"),
        ("pieces", {"vocab_size": 5}, "tokenizer.settings.vocab_size"),
    ],
)
def test_a_wrong_setting(name: str, settings: dict[str, Any], message: str) -> None:
    assert message in refused(with_settings(name, **settings))


def test_a_piece_that_is_not_utf8() -> None:
    damaged = files()["marian/target.spm"].replace("ä".encode(), b"\xe9\xe9")
    assert "tokenizer.files.target_model: got" in refused(spec("marian"), {"target_model": damaged})


def test_pieces_need_one_vocabulary_for_each_side() -> None:
    neither = TokenizerSpec("pieces", {"source_vocabulary": "words.json"}, {"split": "whitespace"})
    assert "vocabulary for both sides, or target_vocabulary for one" in refused(neither)
    both = TokenizerSpec(
        "pieces", dict.fromkeys(("vocabulary", "source_vocabulary", "target_vocabulary"), "words.json")
    )
    assert "got 'vocabulary and source_vocabulary'" in refused(both)


def test_a_model_of_fairseq_has_its_special_ids() -> None:
    message = refused(spec("nllb"), {"model": tokenizer_model()})
    assert "tokenizer.files.model: got \"special ids {'unknown': 3" in message


def test_the_fingerprint_tells_files_and_settings_apart() -> None:
    prints = {tokenizer(name).fingerprint for name in NAMES}
    assert len(prints) == len(NAMES)
    changed = load_tokenizer(with_settings("nllb", vocab_size=9_999), files().__getitem__)
    assert changed.fingerprint not in prints
    given = spec("marian")
    renamed = {role: f"other/{file}" for role, file in given.files.items()}
    contents = {f"other/{file}": data for file, data in files().items()}
    assert (
        load_tokenizer(dataclasses.replace(given, files=renamed), contents.__getitem__).fingerprint
        == tokenizer("marian").fingerprint
    )
