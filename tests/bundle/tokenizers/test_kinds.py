"""What each kind of tokenizer does for itself."""

from __future__ import annotations

import io
import json

import pytest
import sentencepiece

from dragoman_service.bundle.tokenizers.loading import load_tokenizer
from dragoman_service.bundle.tokenizers.protocol import Tokenizer, TokenizerSpec
from dragoman_service.errors import InvalidInput
from support.family_tokenizers import GOLDEN, files, tokenizer
from support.tiny import tokenizer_model


def of(kind: str, contents: dict[str, bytes], **settings: object) -> Tokenizer:
    """A tokenizer whose files have the names of their roles."""
    return load_tokenizer(TokenizerSpec(kind, {role: role for role in contents}, settings), contents.__getitem__)


def listed(pieces: list[str]) -> bytes:
    return json.dumps(pieces).encode()


def pieces_of(model: bytes, text: str) -> list[str]:
    pieces: list[str] = sentencepiece.SentencePieceProcessor(model_proto=model).encode(text, out_type=str)
    return pieces


# Offsets


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("the cat", {"▁the": (0, 3), "▁cat": (3, 7)}),
        ("  the   cat ", {"▁the": (2, 5), "▁cat": (5, 11)}),
        ("the ﬁ x", {"f": (4, 5), "i": (4, 5)}),
        ("the 😀 cat", {"<0xF0>": (4, 5), "<0x9F>": (4, 5), "<0x80>": (4, 5), "▁cat": (5, 9)}),
        ("cat e\u0301 the", {"<0xC3>": (4, 6), "<0xA9>": (4, 6), "▁the": (6, 10)}),
        ("👩\u200d👧 the", {"▁the": (3, 7)}),
        ("ﬁ", {"▁": (0, 0), "f": (0, 1), "i": (0, 1)}),
        ("", {}),
    ],
)
def test_spans_count_characters_of_the_text_as_it_was(text: str, spans: dict[str, tuple[int, int]]) -> None:
    ours = tokenizer("dragoman")
    ids, found = ours.encode_with_offsets(text)
    assert spans.items() <= dict(zip(ours.pieces(ids), found, strict=True)).items()


def test_unknown_characters_have_a_span() -> None:
    ours = tokenizer("pieces")
    ids, spans = ours.encode_with_offsets("the 漢字 cat")
    assert spans[ids.index(ours.unknown_id)] == (4, 6)


# marian


def test_the_tag_comes_from_the_request_alone() -> None:
    ours = tokenizer("marian")
    (tag,) = ours.source([], "en", "de")[:-1]
    assert ours.pieces([tag]) == [">>deu<<"]
    assert ours.source(ours.encode(">>fra<< Hello"), "en", "de")[0] == tag
    (other,) = ours.source([], "en", "fr")[:-1]
    assert other not in ours.encode(">>fra<< Hello")
    assert ours.forced("de") == ()
    assert ours.begin_id == ours.pad_id == ours.vocab_size - 1


def test_languages_are_found_in_upper_and_lower_case() -> None:
    ours = tokenizer("marian")
    assert ours.source([], "en", "zh-hans") == ours.source([], "EN", "ZH-HANS") == ours.source([], "en", "zh-Hans")
    with pytest.raises(InvalidInput, match="target_language: got 'it'; allowed: de, fr, zh-Hans"):
        ours.source([], "en", "it")


def test_a_model_of_one_target_language_needs_no_tag() -> None:
    ours = tokenizer("marian_bytes")
    assert ours.source([5], "en", "de") == (5, ours.end_id)
    assert ours.source_overhead == 1


def test_a_sentencepiece_model_may_be_the_vocabulary() -> None:
    """Its ids are those of the pieces, and padding stands behind them."""
    ours, model = tokenizer("marian_bytes"), files()["bytes.spm"]
    text = "the cat 😀"
    assert ours.decode(ours.encode_target(text)) == text
    assert (ours.end_id, ours.unknown_id, ours.pad_id) == (0, 1, ours.vocab_size - 1)
    assert ours.source_vocab_size == ours.vocab_size
    other = tokenizer_model(pad_id=-1, bos_id=-1, eos_id=0, unk_id=1, model_type="bpe")
    both = of("marian", {"source_model": model, "target_model": other})
    assert both.encode(text) == ours.encode(text) != both.encode_target(text)
    assert both.source_vocab_size == ours.vocab_size - 1  # no padding at the encoder


def test_a_vocabulary_without_padding_gets_it_behind_its_last_id() -> None:
    vocabulary = {"</s>": 0, "<unk>": 1, "▁the": 2, "▁漢": 9}
    model = tokenizer_model(byte_fallback=False)
    contents = {"source_model": model, "target_model": model, "vocabulary": json.dumps(vocabulary).encode()}
    ours = of("marian", contents)
    assert (ours.pad_id, ours.begin_id, ours.vocab_size) == (10, 10, 11)
    assert ours.encode("the cat") == [2, 1]
    assert ours.decode([2, 9, 5, 10, 1, 2]) == "the 漢 the"  # a piece that the model lacks, and an id without a piece
    assert of("marian", contents, vocab_size=16).vocab_size == 16


def test_unknown_characters_that_look_like_a_special_token_stay_unknown() -> None:
    """SentencePiece returns a run of characters that its model lacks as one piece."""
    model = tokenizer_model(byte_fallback=False)
    vocabulary = {"</s>": 0, "<unk>": 1, "▁": 2, "<pad>": 3, ">>漢<<": 4, "漢": 5}
    ours = of("marian", {"source_model": model, "target_model": model, "vocabulary": json.dumps(vocabulary).encode()})
    assert pieces_of(model, ">>漢<<") == ["▁", ">>漢<<"]
    assert ours.encode(">>漢<<") == [2, 1]
    assert not {0, 3} & {*ours.encode("</s>"), *ours.encode("<pad>")}
    assert ours.encode("漢") == [2, 5]  # the vocabulary has what the model lacks


def test_each_side_has_its_own_special_ids() -> None:
    model = tokenizer_model(byte_fallback=False)
    source, target = {"</s>": 7, "<unk>": 5, "▁the": 2}, {"▁the": 0, "</s>": 1, "<unk>": 2}
    vocabularies = {"vocabulary": source, "target_vocabulary": target}
    contents = {role: json.dumps(ids).encode() for role, ids in vocabularies.items()}
    ours = of("marian", {"source_model": model, "target_model": model, **contents})
    assert ours.source(ours.encode("the cat"), "en", "de") == (2, 5, 7)
    assert (ours.encode_target("the cat"), ours.end_id, ours.unknown_id, ours.begin_id) == ([0, 2], 1, 2, 3)
    assert (ours.source_vocab_size, ours.vocab_size) == (8, 4)


# m2m and fairseq


@pytest.mark.parametrize("text", ["<s>", "<pad>", "</s>", "<unk>"])
def test_special_tokens_of_unknown_letters_stay_unknown(text: str) -> None:
    digits = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["1 2 12 21"] * 9), model_writer=digits, vocab_size=9, model_type="char", minloglevel=2,
        hard_vocab_limit=False, num_threads=1,
    )  # fmt: skip
    model = digits.getvalue()
    assert pieces_of(model, text) == ["▁", text]
    vocabulary = json.dumps({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "▁": 4}).encode()
    languages = {"languages": {"en": "en"}, "language_ids": {"en": 5}}
    assert of("m2m", {"model": model, "vocabulary": vocabulary}, **languages).encode(text) == [4, 3]
    for kind, contents in (
        ("marian", {"source_model": model, "target_model": model, "vocabulary": vocabulary}),
        ("pieces", {"model": model, "vocabulary": listed(["<s>", "<pad>", "</s>", "<unk>", "▁"])}),
    ):
        settings = {} if kind == "marian" else {"pad_token": "<pad>"}
        assert of(kind, contents, **settings).encode(text) == [4, 3]
    fairseq = of("fairseq", {"model": model}, languages={"en": "en"}, language_ids={"en": 50})
    assert fairseq.encode(text)[1:] == [3]


def test_the_decoder_is_forced_to_begin_with_the_target_language() -> None:
    for name in ("m2m", "nllb", "mbart50"):
        ours, ids = tokenizer(name), GOLDEN[name]["spec"]["settings"]["language_ids"]
        (german,) = ours.forced("de")
        assert german in ids.values()
        assert ours.pieces([german]) in (["__de__"], ["deu_Latn"], ["de_DE"])
        assert (ours.begin_id, ours.decode([german, *ours.encode_target("Hello")])) == (ours.end_id, "Hello")
        with pytest.raises(InvalidInput, match="target_language: got 'xx'; allowed: "):
            ours.forced("xx")
        with pytest.raises(InvalidInput, match="source_language: got 'xx'; allowed: "):
            ours.source([], "xx", "de")


def test_small100_reads_the_target_language_in_the_source() -> None:
    ours, m2m = tokenizer("small100"), tokenizer("m2m")
    assert ours.source([7], "en", "de") == (*m2m.forced("de"), 7, ours.end_id)
    assert ours.forced("de") == ()


def test_the_legacy_source_ends_with_its_language() -> None:
    ours, (english,) = tokenizer("nllb_legacy"), tokenizer("nllb").source([], "en", "de")[:1]
    assert ours.source([7], "en", "de") == (7, ours.end_id, english)
    assert ours.source_overhead == 2


# pieces


def test_pieces_are_those_of_a_list() -> None:
    ours = tokenizer("pieces")
    ids = ours.encode("the cat")
    assert ours.pieces(ids) == ["▁the", "▁cat"]
    assert ours.source(ids, "en", "de") == (*ids, ours.end_id)
    assert ours.pieces(ours.forced("fr")) == ["__fr__"]
    assert (ours.pieces([ours.pad_id]), ours.pieces([ours.begin_id])) == (["<blank>"], ["<s>"])
    assert ours.unknown_id == ours.vocab_size - 1  # the list has none
    assert ours.decode(ids) == "the cat"


def test_characters_are_pieces() -> None:
    ours = tokenizer("characters")
    ids = ours.encode("né 漢")
    assert ours.pieces(ids) == ["n", "é", " ", "<unk>"]
    assert ours.decode(ids) == "né "
    assert ours.decode(ours.encode_target(" a  ▁b ")) == " a  ▁b "
    assert ours.encode_with_offsets("né") == (ours.encode("né"), [(0, 1), (1, 2)])
    assert ours.source(ids, "ar", "en") == (ours.begin_id, *ids, ours.end_id)


def test_words_are_pieces() -> None:
    ours = tokenizer("whitespace")
    ids, spans = ours.encode_with_offsets(" the  cat\nran ▁dog")
    assert ours.pieces(ids) == ["the", "cat", "<unk>", "▁dog"]
    assert spans == [(1, 4), (6, 9), (10, 13), (14, 18)]
    assert ours.decode(ids) == "the cat ▁dog"
    assert ours.pieces(ours.source(ids, "en", "fr")[:1]) == [">>fr<<"]


def test_two_sides_have_two_vocabularies() -> None:
    source, target = ["<unk>", "a", "<s>", "</s>", "<en>"], ["</s>", "<s>", "b", "<de>", "a"]
    contents = {"source_vocabulary": listed(source), "target_vocabulary": listed(target)}
    tags = {"en": "<en>", "de": "<de>"}
    prefixes = {"source_prefix": ["{source_language}"], "target_prefix": ["{target_language}", "b"]}
    ours = of("pieces", contents, split="characters", add_source_eos=True, languages=tags, **prefixes)
    assert (ours.source_vocab_size, ours.vocab_size) == (5, 6)
    assert ours.source(ours.encode("ab"), "en", "de") == (4, 1, 0, 3)
    assert ours.forced("de") == (3, 2)
    assert (ours.encode_target("a"), ours.unknown_id, ours.end_id) == ([4], 5, 0)
    with pytest.raises(InvalidInput, match="target_language: got 'en'; allowed: de"):
        ours.forced("en")


def test_a_model_of_letters_without_an_unknown_token() -> None:
    """As CTranslate2 has those of OpenNMT-tf: the tables have a row more than the lists, for unknown tokens."""
    lists = {
        "source_vocabulary": listed(["<blank>", "<s>", "</s>", *"ياورنلستبزمآ"]),
        "target_vocabulary": listed(["<blank>", "<s>", "</s>", *"aeinostzm'"]),
    }
    ours = of("pieces", lists, split="characters", pad_token="<blank>")
    assert (ours.source_vocab_size, ours.vocab_size, ours.unknown_id) == (16, 14, 13)
    assert ours.encode("آتزمون؟")[-1] == 15
    assert 15 not in ours.encode("آتزمون")
    assert ours.decode([*ours.encode_target("atzmon"), ours.end_id]) == "atzmon"


def test_control_pieces_of_the_model_are_special() -> None:
    model = tokenizer_model(byte_fallback=False, control_symbols=("<2de>",))
    ours = of("pieces", {"model": model, "vocabulary": listed(["<unk>", "<s>", "</s>", "<2de>", "▁the"])})
    assert ours.decode([4, 3, 4]) == "the the"


def test_tokens_that_stand_around_a_text_may_stand_in_it_unless_they_are_named_as_special() -> None:
    contents = {"vocabulary": listed(["<unk>", "<s>", "</s>", "into", ">>de<<"])}
    around = {"split": "whitespace", "source_prefix": ["into", ">>de<<"]}
    assert of("pieces", contents, **around).encode("into >>de<<") == [3, 4]
    ours = of("pieces", contents, **around, special_tokens=[">>de<<"])
    assert ours.encode("into >>de<<") == [3, 0]
    assert ours.decode([3, 4, 3]) == "into into"
    assert ours.source([0], "en", "de") == (3, 4, 0)
