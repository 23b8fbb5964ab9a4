"""The tokenizers of other families give what those of transformers give: see `support.tokenizer_golden`."""

from __future__ import annotations

import pytest

from support.family_tokenizers import GOLDEN, tokenizer

pytestmark = pytest.mark.parametrize("name", GOLDEN)


def test_the_encoder_reads_the_same_ids(name: str) -> None:
    ours, case = tokenizer(name), GOLDEN[name]
    for text, ids in zip(case["texts"], case["sources"], strict=True):
        assert list(ours.source(ours.encode(text), *case["pair"])) == ids, text


def test_a_batch_has_the_ids_of_its_texts(name: str) -> None:
    ours, case = tokenizer(name), GOLDEN[name]
    found = [list(ours.source(ids, *case["pair"])) for ids in ours.encode_batch(case["texts"])]
    assert found == case["sources"]


def test_the_decoder_reads_the_same_ids(name: str) -> None:
    ours, case = tokenizer(name), GOLDEN[name]
    language = case["pair"][1]
    for text, ids in zip(case["texts"], case["targets"], strict=True):
        encoded = ours.encode_target(text)
        if name == "nllb_legacy":  # transformers puts the language last there, but forces it first when it generates
            assert [*encoded, ours.end_id, *ours.forced(language)] == ids, text
        else:
            assert [*ours.forced(language), *encoded, ours.end_id] == ids, text


def test_ids_become_the_same_text_but_for_spaces_at_its_ends(name: str) -> None:
    ours = tokenizer(name)
    for ids, text in GOLDEN[name]["decoded"]:
        assert ours.decode(ids).strip() == text.strip(), ids


def test_languages_and_special_ids_are_the_same(name: str) -> None:
    ours, case = tokenizer(name), GOLDEN[name]
    assert list(ours.source([7], *case["pair"])) == [*case["before"], 7, *case["after"]]
    assert list(ours.forced(case["pair"][1])) == case.get("forced", [])
    special = {"pad": ours.pad_id, "begin": ours.begin_id, "end": ours.end_id, "unknown": ours.unknown_id}
    assert special == case["special"]
    assert ours.vocab_size == case["vocab_size"]


def test_the_cases_show_something(name: str) -> None:
    case = GOLDEN[name]
    assert len(case["texts"]) > 60
    assert sum(map(len, case["sources"])) > 900
    assert any(tokenizer(name).unknown_id in ids for ids in case["targets"])
    assert len({text for _, text in case["decoded"]}) > 100
