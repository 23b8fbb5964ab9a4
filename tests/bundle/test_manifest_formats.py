"""The two formats of manifests that are served, field by field; `formats/` has one of each, as it lies on a disk."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dragoman_service.bundle import manifest as data
from dragoman_service.bundle.languages import Languages
from dragoman_service.bundle.manifest import AlignmentHead, Generation, Manifest, Origin
from dragoman_service.bundle.manifest_reader import read_manifest
from dragoman_service.bundle.tokenizers.protocol import SpecialIds, TokenizerSpec
from dragoman_service.engine.request import MAX_BEAM_SIZE
from support.manifests import as_format_2, manifest_of

FORMATS = Path(__file__).parent / "formats"
SHIPPED = Path(__file__).parents[2] / "deploy" / "models"
DIGEST = "0" * 64
FILES = dict.fromkeys((*data.FILES, "source.spm", "target.spm", "vocab.json"), DIGEST)
IMPORTED = manifest_of(
    name="opus-mul-en",
    architecture={"d_model": 512, "head_size": 32, "num_heads": 2, "vocab_size": 58_101, "end_id": 0},
    vocab_size=58_101,
    special_ids=SpecialIds(pad=58_100, begin=58_100, end=0, unknown=1),
    banned_ids=(1, 58_100),
    tokenizer=TokenizerSpec(
        "marian", {"source": "source.spm", "target": "target.spm", "vocabulary": "vocab.json"}, {"tags": ["<2en>"]}
    ),
    languages=Languages((("mul", "en"),), ("de", "zh-Hant"), ("en", "fr")),
    limits=data.Limits(512, 511, 58_099),
    generation=Generation(6, 1.0, "power"),
    cache=data.CacheLayout(2, 2, 32, "float32"),
    files=FILES,
    licence="CC-BY-4.0",
    origin=Origin("marian", {"pytorch_model.bin": "a" * 64}, ("The positions are those of Hugging Face.",)),
    alignment=AlignmentHead(0, 1),
)
MANY = [f"{a}{b}{c}" for a in "abcdef" for b in "abcdef" for c in "abcdef"][:202]


def read(value: dict[str, Any]) -> Manifest:
    manifest, problems = read_manifest(json.dumps(value))
    assert problems == []
    assert manifest is not None
    return manifest


def problems_of(value: dict[str, Any]) -> list[str]:
    manifest, problems = read_manifest(json.dumps(value))
    assert manifest is None
    return problems


def format_3() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(IMPORTED.to_json())
    return value


# --- what lies on disks


def test_a_manifest_of_format_3_is_written_as_it_was() -> None:
    """Whoever changes what is written changes the format: see CHANGELOG.md."""
    text = (FORMATS / "format_3.json").read_text(encoding="utf-8")
    assert IMPORTED.to_json() == text
    assert read_manifest(text) == (IMPORTED, [])


def test_a_manifest_of_format_2_is_read_as_it_was() -> None:
    manifest = read(json.loads((FORMATS / "format_2.json").read_text(encoding="utf-8")))
    assert manifest == manifest_of(
        name="en-de",
        architecture={"d_model": 32, "num_heads": 2, "max_positions": 64},
        languages=Languages((("en", "de"), ("de", "en"))),
        training={"step": 10},
        scores=(data.Score("tatoeba", "BLEU", 30.5, "nrefs:1"),),
        files=dict.fromkeys((*data.FILES, "tokenizer.model"), DIGEST),
        alignments=False,
        tensors=data.tensor_names_of_format_2(2),
    )


@pytest.mark.parametrize("name", ["en-de", "de-en"])
def test_the_bundled_models_are_of_format_3(name: str) -> None:
    path = SHIPPED / name / "1" / "manifest.json"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    value = json.loads(path.read_text(encoding="utf-8"))
    assert value["format_version"] == 3
    manifest = read(value)
    assert manifest.languages.pairs == (tuple(name.split("-")),)
    assert (manifest.special_ids, manifest.banned_ids) == (SpecialIds(0, 1, 2, 3), (0, 1, 3))
    assert manifest.tokenizer == TokenizerSpec("dragoman", {"model": "tokenizer.model"}, {})
    assert (manifest.generation, manifest.origin, manifest.licence) == (Generation(), None, "CC-BY-SA-4.0")
    assert (manifest.alignments, manifest.weight_bits) == (True, 7)


def test_a_manifest_of_format_2_says_the_same_when_it_was_read() -> None:
    value = json.loads((FORMATS / "format_2.json").read_text(encoding="utf-8"))
    assert as_format_2(json.loads(read(value).to_json())) == value


def test_a_manifest_of_format_2_is_written_as_one_of_format_3() -> None:
    older = read(json.loads((FORMATS / "format_2.json").read_text(encoding="utf-8")))
    assert json.loads(older.to_json())["format_version"] == 3
    assert read_manifest(older.to_json()) == (older, [])


# --- what is wrong with one


def put(*where: Any) -> Callable[[dict[str, Any]], None]:
    """Set a value, the last, at a place, the others."""

    def change(value: Any) -> None:
        *path, key, new = where
        for step in path:
            value = value[step]
        value[key] = new

    return change


WRONG_FORMAT_3: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda value: value.pop("licence"), "licence: missing"),
    (put("language_pairs", [["en", "de"]]), "language_pairs: unknown field"),
    (put("special_ids", "pad", 58_101), "special_ids.pad: got 58101; allowed: 0 to 58100, less than vocab_size"),
    (put("special_ids", "unknown", -1), "special_ids.unknown: got -1; allowed: 0 to 58100"),
    (put("banned_ids", [1, 58_101]), "banned_ids[1]: got 58101; allowed: 0 to 58100"),
    (put("banned_ids", [58_100, 1]), "banned_ids[1]: got 1 after 58100; allowed: each id once, ascending"),
    (put("banned_ids", [1, 1]), "banned_ids[1]: got 1 after 1; allowed: each id once, ascending"),
    (put("banned_ids", [0, 1]), "banned_ids: got 0, the end of the sentence; allowed: ids other than special_ids.end"),
    (put("banned_ids", [1, 5, 6]), "limits.max_candidates: got 58099; allowed: up to 58098"),
    (put("banned_ids", "1"), "banned_ids: got '1'; allowed: a list"),
    (put("source_vocab_size", 0), "source_vocab_size: got 0; allowed: 1 to 2147483647"),
    (put("source_vocab_size", 10), "source_vocab_size: got 10; allowed: 58101, as vocab_size of architecture"),
    (put("architecture", "source_vocab_size", 9), "got 58101; allowed: 9, as source_vocab_size of architecture"),
    (put("architecture", "vocab_size", 9), "vocab_size: got 58101; allowed: 9, as vocab_size of architecture"),
    (put("architecture", "end_id", 2), "special_ids.end: got 0; allowed: 2, as end_id of architecture"),
    (put("architecture", "banned_ids", [1]), "banned_ids: got [1, 58100]; allowed: [1], as banned_ids of architecture"),
    (put("architecture", "head_size", 64), "cache.head_dim: got 32; allowed: 64, the head_size of architecture"),
    (put("architecture", "head_size", None), "cache.head_dim: got 2 heads of 32; allowed: together d_model, 512"),
    (put("tokenizer", "kind", "bert"), "tokenizer.kind: got 'bert'; allowed: dragoman, marian, m2m, fairseq, pieces"),
    (put("tokenizer", "kind", "dragoman"), "special_ids: got (58100, 58100, 0, 1); allowed: (0, 1, 2, 3)"),
    (put("tokenizer", "files", {}), "tokenizer.files: got none; allowed: one or more"),
    (put("tokenizer", "files", {"source": "other"}), "files: 'other' missing, which the tokenizer has as 'source'"),
    (put("tokenizer", "settings", []), "tokenizer.settings: got []; allowed: an object"),
    (
        put("languages", "pairs", [["en", "German!"]]),
        "languages.pairs[0]: got ['en', 'German!']; allowed: two language",
    ),
    (put("languages", "pairs", [["ja", "en"], ["JA", "en"]]), "languages.pairs[1]: ['JA', 'en'] is listed twice"),
    (
        put("languages", "pairs", [["de", "en"]]),
        "languages.pairs[0]: got ['de', 'en']; allowed: pairs that sources and",
    ),
    (put("languages", "sources", ["German!"]), "languages.sources[0]: got 'German!'; allowed: a language tag such as"),
    (put("languages", "targets", ["en", "fr", "EN"]), "languages.targets[2]: 'EN' is listed twice"),
    (put("languages", "targets", []), "languages.targets: got none; allowed: one or more"),
    (put("languages", {"pairs": [], "sources": [], "targets": []}), "languages: got none; allowed: pairs, or sources"),
    (put("languages", {"pairs": [], "sources": ["en"], "targets": ["en"]}), "languages: got none"),
    (put("generation", "beam_size", 17), "generation.beam_size: got 17; allowed: 1 to 16, or null"),
    (put("generation", "beam_size", 1.0), "generation.beam_size: got 1.0; allowed: int"),
    (put("generation", "length_penalty", 5.5), "generation.length_penalty: got 5.5; allowed: 0 to 5, or null"),
    (put("generation", "length_penalty", float("nan")), "generation.length_penalty: got nan; allowed: 0 to 5"),
    (put("generation", "length_penalty", None), "generation.length_penalty: got null; allowed: a number"),
    (put("generation", "normalisation", "none"), "generation.normalisation: got 'none'; allowed: gnmt, power"),
    (put("alignments", 0), "alignments: got 0; allowed: bool"),
    (put("alignments", False), "alignments: got False; allowed: True, as the outputs"),
    (put("alignment", "layer", 2), "alignment.layer: got 2; allowed: 0 to 1, less than cache.decoder_layers"),
    (put("alignment", "layer", -1), "alignment.layer: got -1; allowed: 0 to 1, less than cache.decoder_layers"),
    (put("alignment", "head", 2), "alignment.head: got 2; allowed: 0 to 1, less than cache.num_heads"),
    (put("alignment", "head", True), "alignment.head: got True; allowed: int"),
    (put("alignment", {"layer": 0}), "alignment.head: missing"),
    (put("alignment", [0, 1]), "alignment: got [0, 1]; allowed: an object"),
    (put("licence", None), "licence: got None; allowed: str"),
    (put("origin", "files", "a", "b"), "origin.files.a: got 'b'; allowed: a SHA-256"),
    (put("origin", []), "origin: got []; allowed: an object"),
    (put("origin", "notes", [1]), "origin.notes[0]: got 1; allowed: str"),
]
WRONG_FORMAT_2: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda value: value.pop("language_pairs"), "language_pairs: missing"),
    (put("licence", ""), "licence: unknown field"),
    (put("languages", {}), "languages: unknown field"),
    (put("special_ids", "end", 3), "special_ids: got (0, 1, 3, 3); allowed: (0, 1, 2, 3)"),
    (put("language_pairs", []), "language_pairs: got none; allowed: one or more"),
    (put("language_pairs", [["en"]]), "language_pairs[0]: got ['en']; allowed: a list of 2"),
    (put("language_pairs", [["en", "German!"]]), "language_pairs[0]: got ['en', 'German!']"),
    (put("language_pairs", [["en", "de"]] * 2), "language_pairs[1]: ['en', 'de'] is listed twice"),
    (lambda value: value["files"].pop("tokenizer.model"), "files: 'tokenizer.model' missing"),
    (put("cache", "decoder_layers", 3), "tensors: not those of format version 2 with 3 decoder layers"),
]


@pytest.mark.parametrize(("change", "expected"), WRONG_FORMAT_3, ids=[expected for _, expected in WRONG_FORMAT_3])
def test_a_wrong_manifest_of_format_3_names_the_field(change: Callable[[dict[str, Any]], Any], expected: str) -> None:
    value = format_3()
    change(value)
    problems = problems_of(value)
    assert any(expected in problem for problem in problems), problems


@pytest.mark.parametrize(("change", "expected"), WRONG_FORMAT_2, ids=[expected for _, expected in WRONG_FORMAT_2])
def test_a_wrong_manifest_of_format_2_names_the_field(change: Callable[[dict[str, Any]], Any], expected: str) -> None:
    value = json.loads((FORMATS / "format_2.json").read_text(encoding="utf-8"))
    change(value)
    problems = problems_of(value)
    assert any(problem.startswith(expected) for problem in problems), problems


@pytest.mark.parametrize("version", [None, 1, 4, "3", 3.0, True, []])
def test_another_format_is_refused(version: Any) -> None:
    (problem,) = problems_of({**format_3(), "format_version": version})
    assert re.match(r"format_version: got .*; allowed: 2 or 3, which is what this release reads", problem)


# --- what is allowed


def test_a_manifest_may_name_no_head() -> None:
    """Those that were written before do not, and their graphs align by the first head of the last layer."""
    value = format_3()
    del value["alignment"]
    assert read(value) == replace(IMPORTED, alignment=None)
    assert read({**value, "alignment": None}).alignment is None
    assert data.aligning_head(None, 6) == AlignmentHead(5, 0)
    assert data.aligning_head(AlignmentHead(2, 3), 6) == AlignmentHead(2, 3)


def test_graphs_without_alignments_have_no_head() -> None:
    value = read(json.loads((FORMATS / "format_2.json").read_text(encoding="utf-8")))
    problems = problems_of(json.loads(replace(value, alignment=AlignmentHead(0, 1)).to_json()))
    assert problems == ["alignment: got {'layer': 0, 'head': 1}; allowed: null, as the decoder returns no alignments"]


def test_special_ids_may_be_the_same() -> None:
    assert read({**format_3(), "special_ids": {"pad": 0, "begin": 0, "end": 0, "unknown": 0}, "architecture": {}})


def test_the_vocabularies_may_differ() -> None:
    value = {**format_3(), "source_vocab_size": 900}
    value["architecture"] |= {"source_vocab_size": 900, "source_embedding": "own"}
    assert read(value).source_vocab_size == 900


def test_the_widest_beam_is_that_of_a_request() -> None:
    assert data.MAX_BEAM_SIZE == MAX_BEAM_SIZE


# --- many languages


def test_a_manifest_of_202_languages_is_read_at_once() -> None:
    text = json.dumps({**format_3(), "languages": {"pairs": [], "sources": MANY, "targets": MANY}})
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        manifest, problems = read_manifest(text)
        seconds.append(time.perf_counter() - start)
    assert problems == []
    assert manifest is not None
    assert len(manifest.languages) == 40_602
    assert min(seconds) < 0.05  # 2 ms
    assert len(text) < 10_000


def test_checks_of_many_pairs_take_time_in_proportion() -> None:
    pairs = [[one, other] for one in MANY for other in MANY if one != other]
    start = time.perf_counter()
    manifest = read({**format_3(), "languages": {"pairs": pairs, "sources": [], "targets": []}})
    assert time.perf_counter() - start < 10  # 0.3 s; to compare each with each would take a minute
    assert len(manifest.languages) == len(pairs)
