"""The configurations of published models: every tensor of theirs is claimed once, with the right shape.

`published.json` has names and shapes as the real classes give them. The files of tensors made from it are holes of the
size of the real ones, which take no disk.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from dragoman_export.imports import read as read_module
from dragoman_export.imports.families import hugging_face, m2m, marian, mbart
from dragoman_export.imports.imported import Imported, ImportOptions
from dragoman_export.imports.lazy import LazyTensor
from dragoman_export.imports.read import read_checkpoint

PUBLISHED = json.loads((Path(__file__).parent / "published.json").read_text())
PIECES = {"m2m100_418M": 128_000, "small100": 128_000, "nllb-200-distilled-600M": 256_000, "mbart-large-50": 250_000}
OLD_FIELDS: dict[str, Any] = {
    "_num_labels": 3,
    "add_bias_logits": False,
    "classif_dropout": 0.0,
    "early_stopping": True,
    "gradient_checkpointing": False,
    "num_hidden_layers": 6,
    "output_past": True,
    "torch_dtype": "float32",
}
"""Fields of the configurations on the hub that the classes do not have any more."""
FIELDS: dict[str, dict[str, Any]] = {
    "opus-mt-en-de": OLD_FIELDS
    | {"bad_words_ids": [[58100]], "max_length": 512, "num_beams": 6, "normalize_before": False}
    | {"normalize_embedding": False, "static_position_embeddings": True, "add_final_layer_norm": False},
    "m2m100_418M": OLD_FIELDS | {"max_length": 200, "num_beams": 5},
    "small100": OLD_FIELDS | {"max_length": 256, "num_beams": 5},
    "nllb-200-distilled-600M": {"max_length": 200, "torch_dtype": "float32", "tokenizer_class": "NllbTokenizer"},
    "mbart-large-50": OLD_FIELDS
    | {
        "forced_eos_token_id": 2,
        "max_length": 200,
        "num_beams": 5,
        "normalize_before": True,
        "normalize_embedding": True,
    }
    | {"static_position_embeddings": False, "add_final_layer_norm": True},
}


def tensors_of(name: str) -> dict[str, list[int]]:
    config, found = PUBLISHED[name]["config"], {}
    for pattern, shape in PUBLISHED[name]["tensors"].items():
        layers = config["encoder_layers" if ".encoder." in pattern else "decoder_layers"] if "*" in pattern else 1
        found |= {pattern.replace("*", str(layer)): shape for layer in range(layers)}
    return found


def write_holes(path: Path, tensors: dict[str, list[int]]) -> None:
    entries, end = {}, 0
    for name, shape in tensors.items():
        start, end = end, end + 4 * math.prod(shape)
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)


@pytest.fixture
def read_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(hugging_face, "digests", lambda files: {it.name: "" for it in files})

    def read(name: str, tensors: dict[str, list[int]]) -> Imported:
        folder = tmp_path / name
        folder.mkdir()
        write_holes(folder / "model.safetensors", tensors)
        (folder / "config.json").write_text(json.dumps(PUBLISHED[name]["config"] | FIELDS[name]))
        for file in ("source.spm", "target.spm", "sentencepiece.bpe.model"):
            (folder / file).write_bytes(b"-")
        kinds = {"mbart-large-50": "MBart50Tokenizer", "small100": "SMALL100Tokenizer"}
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kinds.get(name)}))
        if name == "opus-mt-en-de":
            pieces = ["</s>", "<unk>", *(f"p{it}" for it in range(58098)), "<pad>"]
        else:
            pieces = ["<s>", "<pad>", "</s>", "<unk>", *(f"p{it}" for it in range(128_000))]
        if name in ("opus-mt-en-de", "m2m100_418M", "small100"):
            (folder / "vocab.json").write_text(json.dumps({piece: place for place, piece in enumerate(pieces)}))
        for module in (m2m, mbart):
            monkeypatch.setattr(module, "spm_pieces", lambda _: range(PIECES.get(name, 0)))
        for module in (m2m, marian):
            monkeypatch.setattr(module, "check_fit", lambda *_: None)
        monkeypatch.setattr(read_module, "check_tokenizer", lambda _: None)
        return read_checkpoint(folder, ImportOptions())

    return read


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_tensor_of_a_published_model_is_claimed(name: str, read_published: Any) -> None:
    tensors = tensors_of(name)
    imported = read_published(name, tensors)
    wanted = sum(math.prod(shape) for key, shape in tensors.items())
    own = [tensor for key, tensor in imported.tensors.items() if "positions" not in key]
    found = sum(math.prod(tensor.shape) for tensor in own)
    saved = [math.prod(shape) for key, shape in tensors.items() if "embed_positions" in key]
    without_bias = 0 if "final_logits_bias" in tensors else imported.config.vocab_size
    assert found == wanted - sum(saved) + without_bias
    assert all(isinstance(tensor, LazyTensor) for tensor in imported.tensors.values())


@pytest.mark.parametrize(
    ("name", "languages", "ids"),
    [
        ("m2m100_418M", 100, {"__af__": 128_004, "__en__": 128_022, "__zu__": 128_103}),
        ("nllb-200-distilled-600M", 202, {"ace_Arab": 256_001, "deu_Latn": 256_042, "eng_Latn": 256_047}),
        ("mbart-large-50", 52, {"ar_AR": 250_001, "en_XX": 250_004}),
    ],
)
def test_languages_have_the_published_ids(name: str, languages: int, ids: dict[str, int], read_published: Any) -> None:
    imported = read_published(name, tensors_of(name))
    assert len(imported.languages.targets) == languages
    parts = imported.tokenizer
    known = json.loads(parts.files["vocabulary"]) if parts.kind == "m2m" else parts.settings["languages"]
    assert {code: known[code] for code in ids} == ids
    assert not set(imported.config.banned_ids) & set(range(4, min(ids.values())))
    assert set(range(max(ids.values()), imported.config.vocab_size)) <= set(imported.config.banned_ids)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_tensor_too_many_or_too_few_is_named(name: str, read_published: Any) -> None:
    tensors = tensors_of(name)
    key = next(it for it in tensors if "layers.1.fc1.bias" in it)
    with pytest.raises(Exception, match=rf"model.safetensors: {key}: got None"):
        read_published(name, {it: shape for it, shape in tensors.items() if it != key})
