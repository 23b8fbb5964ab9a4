"""One tokenizer of each kind, small, with files that `support.tokenizer_golden` made or that are made here."""

from __future__ import annotations

import functools
import json
import tarfile
from pathlib import Path
from typing import Any

from dragoman_service.bundle.tokenizers.loading import load_tokenizer
from dragoman_service.bundle.tokenizers.protocol import Tokenizer, TokenizerSpec
from support.tiny import tokenizer_model

FOLDER = Path(__file__).parents[1] / "bundle" / "tokenizers"
GOLDEN: dict[str, dict[str, Any]] = json.loads((FOLDER / "golden.json").read_text(encoding="ascii"))
"""Name of a case -> its description and the ids of transformers."""

NO_BYTES = {"byte_fallback": False, "pad_id": -1, "unk_id": 0, "bos_id": 1, "eos_id": 2}
NAMES = (*GOLDEN, "dragoman", "dragoman_tags", "marian_bytes", "small100", "pieces", "characters", "whitespace")
"""Of all tokenizers that `tokenizer` makes."""


@functools.cache
def files() -> dict[str, bytes]:
    """Name -> contents, of the files of the golden cases and of those made here."""
    with tarfile.open(FOLDER / "golden_files.tar.xz") as archive:
        found = {it.name: archive.extractfile(it) for it in archive.getmembers()}
        made = {name: file.read() for name, file in found.items() if file}
    characters = ["<blank>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz ▁é"]
    words = ["<unk>", "<s>", "</s>", "the", "cat", "sees", "a", "▁dog", ">>de<<", ">>fr<<"]
    model = tokenizer_model(byte_fallback=False)
    return made | {
        "tiny.model": tokenizer_model(),
        "tags.model": tokenizer_model(control_symbols=("<2de>", "<2pt-BR>")),
        "bytes.spm": tokenizer_model(pad_id=-1, bos_id=-1, eos_id=0, unk_id=1),
        "argos.model": model,
        "argos.json": json.dumps(["<blank>", "<s>", "</s>", *_pieces_of(model)[4:], "__de__", "__fr__"]).encode(),
        "characters.json": json.dumps(characters).encode(),
        "words.json": json.dumps(words).encode(),
    }


def spec(name: str) -> TokenizerSpec:
    """The description of a tokenizer."""
    if name in GOLDEN:
        return TokenizerSpec(**GOLDEN[name]["spec"])
    m2m = GOLDEN["m2m"]["spec"]
    tags = {"de": ">>de<<", "fr": ">>fr<<"}
    return {
        "dragoman": TokenizerSpec("dragoman", {"model": "tiny.model"}),
        "dragoman_tags": TokenizerSpec("dragoman", {"model": "tags.model"}),
        "marian_bytes": TokenizerSpec("marian", {"source_model": "bytes.spm", "target_model": "bytes.spm"}),
        "small100": TokenizerSpec("m2m", m2m["files"], m2m["settings"] | {"target_in_source": True}),
        "pieces": TokenizerSpec(
            "pieces",
            {"model": "argos.model", "vocabulary": "argos.json"},
            {
                "pad_token": "<blank>",
                "add_source_eos": True,
                "target_prefix": ["{target_language}"],
                "languages": {"de": "__de__", "fr": "__fr__"},
            },
        ),
        "characters": TokenizerSpec(
            "pieces",
            {"source_vocabulary": "characters.json", "target_vocabulary": "characters.json"},
            {"split": "characters", "pad_token": "<blank>", "add_source_bos": True, "add_source_eos": True},
        ),
        "whitespace": TokenizerSpec(
            "pieces",
            {"vocabulary": "words.json"},
            {"split": "whitespace", "source_prefix": ["{target_language}"], "languages": tags, "vocab_size": 12},
        ),
    }[name]


@functools.cache
def tokenizer(name: str) -> Tokenizer:
    """One of the tokenizers of `NAMES`."""
    return load_tokenizer(spec(name), files().__getitem__)


def _pieces_of(model: bytes) -> list[str]:
    import sentencepiece  # noqa: PLC0415

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
