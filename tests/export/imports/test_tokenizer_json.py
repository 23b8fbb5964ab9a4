"""Folders with `tokenizer.json` alone: the SentencePiece model that it was made from comes back, or a refusal.

`tokenizers` has what transformers 4.57 makes of two SentencePiece models: see `support/foreign/make.py`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from dragoman_export.imports.families.tokenizer_json import sentence_piece
from dragoman_export.imports.read import read_checkpoint
from dragoman_export.imports.sentence_piece import parse
from dragoman_export.imports.tokenizers import BundleTokenizer
from dragoman_service.errors import InvalidInput
from support.foreign.checkpoints import copied, read

FOLDER = Path(__file__).parent / "tokenizers"
NAMES = ("nllb", "mbart-50")


@pytest.mark.parametrize("name", NAMES)
def test_the_ids_are_those_of_transformers(name: str) -> None:
    model = sentencepiece.SentencePieceProcessor(model_proto=sentence_piece(FOLDER / name / "tokenizer.json"))
    cases = json.loads((FOLDER / name / "expected.json").read_text())
    for text, ids in cases:
        assert [it + 1 if it else 3 for it in model.encode(text)] == ids, text  # fairseq's ids
    assert any(3 in ids for _, ids in cases)


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_split_as_by_the_model_that_it_was_made_from(name: str) -> None:
    made = sentencepiece.SentencePieceProcessor(model_proto=sentence_piece(FOLDER / name / "tokenizer.json"))
    original = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / name / "sentencepiece.bpe.model"))
    rng, letters = random.Random(0), "aeinrst  ABｗ…\tдоиß漢"
    for _ in range(2000):
        text = "".join(rng.choices(letters, k=rng.randint(0, 30)))
        assert made.encode(text, out_type=str) == original.encode(text, out_type=str), text
        assert made.decode(made.encode(text)) == original.decode(original.encode(text))


def written_by_transformers(model: bytes, tokens: dict[str, int]) -> dict[str, Any]:
    """The fields of `tokenizer.json` for a model that normalises nothing; `tokens` follow the pieces."""
    pieces = {it.piece: it.score for it in parse(model, "x").pieces[3:]}
    names = ["<s>", "<pad>", "</s>", "<unk>", *pieces]
    fields: dict[str, Any] = {"type": "Unigram", "vocab": [[it, pieces.get(it, 0.0)] for it in names], "unk_id": 3}
    if parse(model, "x").trainer_spec.model_type == 2:
        order = sorted(pieces, key=lambda it: -pieces[it])
        splits = [(it[:at], it[at:]) for it in order for at in range(1, len(it))]
        merges = [" ".join(it) for it in splits if it[0] in pieces and it[1] in pieces]
        fields = {"type": "BPE", "vocab": {it: at for at, it in enumerate(names)}, "merges": merges}
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}
    added = [*((it, at) for at, it in enumerate(names[:4])), *tokens.items()]
    return {
        "added_tokens": [{"content": it, "id": at} for it, at in added],
        "normalizer": {"type": "Sequence", "normalizers": [spaces]},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
            ],
        },
        "model": fields,
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_without_a_sentence_piece_model(name: str, tmp_path: Path) -> None:
    folder, whole = copied(name, tmp_path), BundleTokenizer(read(name)).load()
    path = folder / "sentencepiece.bpe.model"
    added = json.loads((folder / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    tokens = {it["content"]: int(at) for at, it in added.items()}
    (folder / "tokenizer.json").write_text(json.dumps(written_by_transformers(path.read_bytes(), tokens)))
    path.unlink()
    imported = read_checkpoint(folder)
    assert "There is no sentencepiece.bpe.model: it was made from tokenizer.json." in imported.notes
    assert "tokenizer.json" in imported.origin["files"]
    made = BundleTokenizer(imported).load()
    for text in ("the cat", "  we put   one red hen ", "no men kept, ☃", ""):
        assert made.encode(text) == whole.encode(text)
        assert made.decode(made.encode(text)) == whole.decode(whole.encode(text))


def model(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda it: it["model"].update(values)


def top(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda it: it.update(values)


def drop_a_merger(it: dict[str, Any]) -> None:
    del it["model"]["merges"][7]


def exchange_mergers(it: dict[str, Any]) -> None:
    merges = it["model"]["merges"]
    merges[0], merges[-1] = merges[-1], merges[0]
    merges.append(merges[0])


ONE_SPACE = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
NFKC = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, ONE_SPACE]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (top(normalizer=NFKC), "normalizer: got 'NFKC'; allowed: Precompiled.*Transformers 5 writes NFKC"),
        (top(normalizer=None), "normalizer: got .*a step that makes several spaces one"),
        (top(pre_tokenizer={"type": "ByteLevel"}), "pre_tokenizer: got .*ByteLevel.*Metaspace"),
        (top(pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}), "pre_tokenizer: got"),
        (top(model=3), "model: got 3; allowed: an object"),
        (model(type="WordPiece"), "model.type: got 'WordPiece'; allowed: Unigram or BPE"),
        (model(byte_fallback=True), "model.byte_fallback: got True; allowed: False"),
        (model(dropout=0.1), "model.dropout: got 0.1; allowed: None"),
        (model(unk_token="?"), r"model.unk_token: got '\?'; allowed: '<unk>'"),
        (model(vocab={"a": 1}), "model: got 'damaged'.*ids that are missing"),
        (model(merges=[["a"]]), "model: got 'damaged'"),
        (top(added_tokens=[]), "model.vocab: got"),
        (drop_a_merger, r"model.merges: got '\d+ mergers'"),
        (exchange_mergers, r"model.merges: got '\d+ mergers'"),
    ],
)
def test_what_no_sentence_piece_model_does_is_refused_by_name(
    change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    values = json.loads((FOLDER / "nllb" / "tokenizer.json").read_text())
    change(values)
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(InvalidInput, match=f"^tokenizer.json: {message}") as caught:
        sentence_piece(tmp_path / "tokenizer.json")
    assert "Take sentencepiece.bpe.model from the original model" in str(caught.value)


def test_a_piece_that_is_far_too_long_is_refused(tmp_path: Path) -> None:
    values = json.loads((FOLDER / "nllb" / "tokenizer.json").read_text())
    values["model"]["vocab"] = {"a" * 2_000: 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(InvalidInput, match=r"model.vocab: got 'a{20}..., 2000 characters'; allowed: pieces of at most"):
        sentence_piece(tmp_path / "tokenizer.json")


def test_a_piece_with_a_space_inside_is_refused(tmp_path: Path) -> None:
    values = json.loads((FOLDER / "mbart-50" / "tokenizer.json").read_text())
    values["model"]["vocab"][50][0] = "a▁b"
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(InvalidInput, match=r"model.vocab: got 'a▁b'"):
        sentence_piece(tmp_path / "tokenizer.json")
