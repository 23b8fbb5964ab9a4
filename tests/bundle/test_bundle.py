from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dragoman_service.bundle.bundle import Bundle, GoldenSentence, golden_to_json, write_bundle
from dragoman_service.bundle.manifest import Score, tensor_names
from dragoman_service.bundle.manifest_reader import read_manifest
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.bundle.typed_json import MAY_BE_ABSENT, from_json
from dragoman_service.errors import BundleError, InvalidInput
from support.manifests import manifest_of
from support.tiny import tokenizer_model

GOLDEN = (GoldenSentence("a cat.", (261, 2), 1, 0.6, 8, (270, 271), (-0.5, -1.0), -1.25),)
MANIFEST = manifest_of(
    name="en-de",
    architecture={"d_model": 32, "max_positions": 64},
    vocab_size=Tokenizer(tokenizer_model()).vocab_size,
    training={"steps": 10},
    scores=(Score("tatoeba", "BLEU", 30.5, "nrefs:1"),),
)


def contents() -> dict[str, bytes | Path]:
    return {
        "encoder.onnx": b"encoder",
        "decoder.onnx": b"decoder",
        "weights.safetensors": b"weights",
        "tokenizer.model": tokenizer_model(),
        "golden.json": golden_to_json(GOLDEN),
        "MODEL_CARD.md": b"# Card\n",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "en-de" / "1", MANIFEST, contents()).path


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads((folder / "manifest.json").read_text())
    change(value)
    (folder / "manifest.json").write_text(json.dumps(value))


def problems_of(folder: Path) -> list[str]:
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


def test_what_was_written_is_read(folder: Path) -> None:
    bundle = Bundle.load(folder)
    assert dataclasses.replace(bundle.manifest, files={}) == MANIFEST
    assert set(bundle.manifest.files) == set(contents())
    assert bundle.golden == GOLDEN
    assert bundle.tokenizer.vocab_size == MANIFEST.vocab_size
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_a_bundle_is_not_replaced_by_accident(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="output"):
        write_bundle(folder, MANIFEST, contents())
    write_bundle(folder, dataclasses.replace(MANIFEST, description="new"), contents(), force=True)
    assert Bundle.load(folder).manifest.description == "new"
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_an_invalid_bundle_is_never_left_behind(folder: Path) -> None:
    with pytest.raises(BundleError, match="precision"):
        write_bundle(folder, dataclasses.replace(MANIFEST, precision="int3"), contents(), force=True)
    assert Bundle.load(folder).manifest.precision == "fp32"
    with pytest.raises(BundleError, match=r"decoder\.onnx missing"):
        write_bundle(folder.parent / "2", MANIFEST, {k: v for k, v in contents().items() if k != "decoder.onnx"})
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_every_problem_is_reported_at_once(folder: Path) -> None:
    (folder / "encoder.onnx").write_bytes(b"tampered")
    (folder / "decoder.onnx").unlink()
    (folder / "golden.json").write_text('{"sentences": [{"source": 3}]}')
    (folder / "tokenizer.model").write_bytes(b"garbage")
    text = "\n".join(problems_of(folder))
    for expected in (
        "encoder.onnx: SHA-256",
        "decoder.onnx: missing",
        "golden.json: SHA-256",
        "golden.json: sentences[0].source: got 3",
        "golden.json: sentences[0].score: missing",
        "tokenizer.model: SHA-256",
        "a SentencePiece model",
    ):
        assert expected in text


def set_to(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda manifest: manifest.pop("limits"), "limits: missing"),
        (set_to("colour", value=1), "colour: unknown field"),
        (set_to("vocab_size", value="8000"), "vocab_size: got '8000'; allowed: int"),
        (set_to("vocab_size", value=True), "vocab_size: got True; allowed: int"),
        (set_to("vocab_size", value=7000), "the manifest says 7000"),
        (set_to("limits", "max_target_tokens", value=0), "limits.max_target_tokens: got 0; allowed: 1 to 2147483647"),
        (set_to("limits", "max_candidates", value=10**6), "limits.max_candidates"),
        (set_to("limits", value=[]), "limits: got []; allowed: an object"),
        (set_to("special_ids", "end", value=3), "special_ids: got (0, 1, 3, 3)"),
        (set_to("languages", "pairs", value=[["en"]]), "languages.pairs[0]: got ['en']; allowed: a list of 2"),
        (set_to("precision", value="int3"), "precision: got 'int3'; allowed: fp32, fp16, int8"),
        (set_to("cache", "dtype", value="float8"), "cache.dtype: got 'float8'; allowed: float32, float16, int8"),
        (set_to("cache", "num_heads", value=4), "cache.head_dim: got 4 heads of 16; allowed: together d_model, 32"),
        (set_to("cache", "head_dim", value=10**15), f"cache.head_dim: got 2 heads of {10**15}"),
        (set_to("architecture", "d_model", value="wide"), "allowed: together d_model, 'wide'"),
        (set_to("architecture", "num_heads", value=8), "cache.num_heads: got 2; allowed: 8, as in architecture"),
        (
            set_to("limits", "max_target_tokens", value=10**15),
            f"limits.max_target_tokens: got {10**15}; allowed: up to architecture.max_positions, 64",
        ),
        (set_to("architecture", "max_positions", value="many"), "architecture.max_positions: got 'many'; allowed: int"),
        (set_to("cache", "decoder_layers", value=3), "tensors: not those of format version 3 with 3 decoder layers"),
        (set_to("name", value="../up"), "name: got '../up'"),
        (set_to("scores", 0, "value", value="high"), "scores[0].value: got 'high'; allowed: float"),
        (set_to("files", "../../etc/passwd", value="0" * 64), "files: got '../../etc/passwd'; allowed: relative paths"),
        (set_to("files", "/etc/passwd", value="0" * 64), "files: got '/etc/passwd'; allowed: relative paths"),
        (set_to("files", "encoder.onnx", value="abc"), "files.encoder.onnx: got 'abc'"),
        (lambda manifest: manifest["files"].pop("golden.json"), "files: golden.json missing"),
    ],
)
def test_a_wrong_manifest_names_the_field(
    folder: Path, change: Callable[[dict[str, Any]], None], expected: str
) -> None:
    edit(folder, change)
    assert any(expected in problem for problem in problems_of(folder))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not JSON"),
        ("[]", "allowed: an object"),
        ('{"format_version": 1}', "format_version: got 1; allowed: 2 or 3"),
    ],
)
def test_a_manifest_from_elsewhere_is_refused(text: str, expected: str) -> None:
    manifest, problems = read_manifest(text)
    assert manifest is None
    assert len(problems) == 1
    assert expected in problems[0]


@pytest.mark.parametrize("text", ['{"sentences": []}', "[]", "{", '{"sentences": 3}'])
def test_golden_sentences_are_needed(folder: Path, text: str) -> None:
    (folder / "golden.json").write_text(text)
    assert any(problem.startswith("golden.json:") and "SHA" not in problem for problem in problems_of(folder))


@pytest.mark.parametrize("field", ["source_ids", "target_ids", "forced_ids"])
def test_golden_ids_must_be_in_the_vocabulary(tmp_path: Path, field: str) -> None:
    golden = golden_to_json((dataclasses.replace(GOLDEN[0], **{field: (10**6,)}),))  # type: ignore[arg-type]
    with pytest.raises(BundleError, match=f"{field}: token id 1000000"):
        write_bundle(tmp_path / "1", MANIFEST, {**contents(), "golden.json": golden})


def test_forced_ids_may_be_absent(tmp_path: Path) -> None:
    value = json.loads(golden_to_json(GOLDEN))
    del value["sentences"][0]["forced_ids"]
    bundle = write_bundle(tmp_path / "1", MANIFEST, {**contents(), "golden.json": json.dumps(value).encode()})
    assert bundle.golden == GOLDEN
    forced = (dataclasses.replace(GOLDEN[0], forced_ids=(7, 8)),)
    bundle = write_bundle(tmp_path / "2", MANIFEST, {**contents(), "golden.json": golden_to_json(forced)})
    assert bundle.golden == forced


@dataclasses.dataclass(frozen=True)
class _Grown:
    first: int = 0
    number: int = dataclasses.field(default=3, metadata=MAY_BE_ABSENT)


def test_fields_that_were_added_later_may_be_absent() -> None:
    problems: list[str] = []
    assert from_json(_Grown, {"first": 1}, "", problems) == _Grown(1)
    assert from_json(_Grown, {"first": 1, "number": 4}, "", problems) == _Grown(1, 4)
    assert problems == []
    assert from_json(_Grown, {"number": "four", "other": 1}, "here", problems) is None
    assert problems == [
        "here.first: missing",
        "here.other: unknown field",
        "here.number: got 'four'; allowed: int",
    ]


def test_a_missing_folder_or_manifest_is_reported(tmp_path: Path) -> None:
    assert problems_of(tmp_path) == ["manifest.json: missing"]
    assert problems_of(tmp_path / "nowhere") == ["manifest.json: missing"]


def test_a_link_out_of_the_bundle_is_refused(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes((folder / "encoder.onnx").read_bytes())
    (folder / "encoder.onnx").unlink()
    os.symlink(outside, folder / "encoder.onnx")
    assert problems_of(folder) == ["encoder.onnx: is a link out of the bundle"]


def test_tensor_names_are_listed_per_layer() -> None:
    names = tensor_names(2)
    assert len(names.decoder_inputs) == 9 + 4 * 2 + 3
    assert len(set(names.decoder_inputs)) == len(names.decoder_inputs)
    assert names.decoder_inputs[13:17] == ("self_key_1", "self_value_1", "cross_key_1", "cross_value_1")
