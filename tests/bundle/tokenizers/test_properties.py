"""What holds for every kind of tokenizer, any text and any ids."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_service.bundle.tokenizers.protocol import Tokenizer
from dragoman_service.errors import InvalidInput
from support.family_tokenizers import NAMES, spec, tokenizer

_AWKWARD = "ab é😀👩‍👩‍👧日本語 ع\u0301\u200b\ufffd▁.ﬁ①㌀½…\t\u00a8"
MARKED = ("</s>", "<s>", "<unk>", "<pad>", "<blank>", ">>fra<<", ">>de<<", "__de__", "deu_Latn", "<2de>", " ", "a")
TEXTS = st.one_of(
    st.text(max_size=40),
    st.text(alphabet=_AWKWARD, max_size=20),
    st.lists(st.sampled_from(MARKED), max_size=6).map("".join),
)  # any characters, texts crowded with the awkward ones, and special tokens
SEEDS = st.lists(st.integers(0, 2**31 - 1), max_size=16)
CUTS = st.lists(st.integers(0, 4), max_size=16)

pytestmark = pytest.mark.parametrize("name", NAMES)


def given_any(**strategies: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`given`, however slow the machine is: the first example loads the tokenizer."""
    return lambda test: settings(deadline=None)(given(**strategies)(test))


def special_ids(ours: Tokenizer, name: str) -> set[int]:
    """All target ids that stand for no text, but the unknown one."""
    settings = spec(name).settings
    tokens = {"</s>", "<s>", "<pad>", "<blank>", "<2de>", "<2pt-BR>"}
    codes = set(settings.get("languages", {}).values())
    tokens |= codes if ours.kind == "pieces" else {f">>{code}<<" for code in codes}
    ids = range(ours.vocab_size)
    found = {i for i, piece in zip(ids, ours.pieces(ids), strict=True) if piece in tokens}
    return {ours.pad_id, ours.begin_id, ours.end_id, *found, *settings.get("language_ids", {}).values()}


def any_ids(ours: Tokenizer, seeds: list[int]) -> list[int]:
    """Ids of all kinds, with many bytes if there are any."""
    ids = range(ours.vocab_size)
    few = [i for i, piece in zip(ids, ours.pieces(ids), strict=True) if piece.startswith(("<0x", "<", "▁"))]
    return [few[seed // 3 % len(few)] if seed % 3 and few else seed % ours.vocab_size for seed in seeds]


def streamed(ours: Tokenizer, ids: list[int], cuts: list[int]) -> str:
    decoder, text, start = ours.stream_decoder(), "", 0
    for count in cuts:
        text += decoder.push(ids[start : start + count])
        start += count
    return text + decoder.push(ids[start:]) + decoder.flush()


@given_any(seeds=SEEDS, cuts=CUTS)
def test_streamed_text_is_the_decoded_text_for_any_ids(name: str, seeds: list[int], cuts: list[int]) -> None:
    ours = tokenizer(name)
    ids = any_ids(ours, seeds)
    assert streamed(ours, ids, cuts) == ours.decode(ids)


@given_any(text=TEXTS, cuts=CUTS)
def test_streamed_text_is_the_decoded_text_for_any_text(name: str, text: str, cuts: list[int]) -> None:
    ours = tokenizer(name)
    ids = ours.encode_target(text)
    assert streamed(ours, ids, cuts) == ours.decode(ids)


@given_any(text=TEXTS)
def test_no_text_gives_special_ids(name: str, text: str) -> None:
    ours = tokenizer(name)
    special = special_ids(ours, name)
    assert not special & set(ours.encode_target(text))
    if name != "marian_separate":  # its two sides have the same special pieces under other ids
        assert not special & set(ours.encode(text))


@given_any(seeds=SEEDS)
def test_special_ids_have_no_text(name: str, seeds: list[int]) -> None:
    ours = tokenizer(name)
    special = sorted(special_ids(ours, name))
    assert ours.decode([special[seed % len(special)] for seed in seeds]) == ""


@given_any(text=TEXTS)
def test_the_spans_of_encoded_ids_ascend_within_the_text(name: str, text: str) -> None:
    ours = tokenizer(name)
    ids, spans = ours.encode_with_offsets(text)
    assert ids == ours.encode(text) == ours.encode_batch([text])[0]
    assert len(spans) == len(ids)
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert spans == sorted(spans)
    assert [end for _, end in spans] == sorted(end for _, end in spans)


@given_any(text=st.text(alphabet="abc é日😀.", max_size=20))
def test_every_letter_belongs_to_an_id(name: str, text: str) -> None:
    """With characters that normalisation does not change."""
    ours = tokenizer(name)
    _, spans = ours.encode_with_offsets(text)
    covered = {place for start, end in spans for place in range(start, end)}
    assert {place for place, character in enumerate(text) if character != " "} <= covered


@given_any(seeds=SEEDS)
def test_the_spans_of_decoded_ids_ascend_and_cover_the_text(name: str, seeds: list[int]) -> None:
    ours = tokenizer(name)
    ids = any_ids(ours, seeds)
    text, spans = ours.decode_with_offsets(ids)
    assert text == ours.decode(ids)
    assert len(spans) == len(ids)
    assert spans == sorted(spans)
    assert [end for _, end in spans] == sorted(end for _, end in spans)
    assert {place for start, end in spans for place in range(start, end)} == set(range(len(text)))


@given_any(seeds=SEEDS)
def test_the_texts_of_ids_are_the_text(name: str, seeds: list[int]) -> None:
    """But for spaces at the beginning. How many characters stand for invalid bytes does not matter."""
    ours = tokenizer(name)
    texts = ours.texts()
    ids = [i for i in any_ids(ours, seeds) if texts[i]]  # one without text stands between the bytes of a character
    whole = b"".join(texts[i] for i in ids).decode(errors="replace").replace("\ufffd", "")
    decoded = ours.decode(ids).replace("\ufffd", "")
    assert whole.lstrip(" ") == decoded.lstrip(" ")
    assert len(decoded) <= len(whole)
    assert len(texts) == ours.vocab_size


@given_any(text=TEXTS)
def test_the_source_adds_its_overhead(name: str, text: str) -> None:
    ours, ids = tokenizer(name), tokenizer(name).encode(text)
    languages = [*(spec(name).settings.get("languages") or {"de": ""})]
    for language in languages:
        source = ours.source(ids, languages[0], language)
        assert len(source) == len(ids) + ours.source_overhead
        assert all(0 <= i < ours.source_vocab_size for i in source)
        assert all(0 <= i < ours.vocab_size for i in ours.forced(language))


def test_it_is_pickled_as_its_files(name: str) -> None:
    ours = tokenizer(name)
    other = pickle.loads(pickle.dumps(ours))
    text = "The cat sees a dog 😀 </s>"
    assert other is not ours
    assert (other.kind, other.fingerprint, other.vocab_size) == (ours.kind, ours.fingerprint, ours.vocab_size)
    assert other.encode(text) == ours.encode(text)
    assert other.decode(other.encode_target(text)) == ours.decode(ours.encode_target(text))
    assert other.forced("de") == ours.forced("de")


def test_threads_may_share_it(name: str) -> None:
    ours = tokenizer(name)
    texts = [f"the cat {number} sees é {'a ' * number}" for number in range(40)]

    def work(text: str) -> tuple[list[int], str]:
        return ours.encode(text), ours.decode(ours.encode_target(text))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, texts)) == [work(text) for text in texts]


def test_lone_surrogates_are_refused(name: str) -> None:
    ours = tokenizer(name)
    for refuse in (ours.encode, ours.encode_target, ours.encode_with_offsets, lambda text: ours.encode_batch([text])):
        with pytest.raises(InvalidInput, match="surrogate"):
            refuse("a\ud800")


def test_ids_outside_of_the_vocabulary_are_refused(name: str) -> None:
    ours = tokenizer(name)
    for refuse in (ours.decode, ours.pieces, ours.stream_decoder().push, ours.decode_with_offsets):
        for wrong in (-1, ours.vocab_size):
            with pytest.raises(InvalidInput, match="token id"):
                refuse([wrong])
