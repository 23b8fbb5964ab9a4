"""Whatever is wrong with a bundle: it is refused with all that is wrong, or it is served and does what it should."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import random
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.manifest import FILES, GOLDEN, TOKENIZER
from faults.bundle_loader import Loader, Outcome, loader
from faults.damage import DEPTH, NESTED, as_text, damaged, damaged_json
from faults.graph_damage import edited
from support.manifests import as_format_2

MANIFEST = "manifest.json"
PARSED = (*(name for name in FILES if name != "MODEL_CARD.md"), TOKENIZER)
"""What the service reads, beside checking that it is what was written."""


def rounds(usual: int, many: int) -> pytest.MarkDecorator:
    """So many bundles in every run of the tests, and many in the slow ones."""
    return pytest.mark.parametrize("rounds", [usual, pytest.param(many, marks=pytest.mark.slow)])


@dataclasses.dataclass
class Bench:
    """A bundle to damage, and somebody who tries to load what comes of it."""

    whole: Path
    folder: Path
    loader: Loader
    outcomes: Counter[str]

    def fresh(self) -> Path:
        """A copy of the bundle."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.whole, self.folder)
        return self.folder

    def replace(self, name: str, data: bytes, *, sealed: bool = False) -> None:
        """Change a file of the copy; `sealed`, the manifest says that it must be so."""
        (self.folder / name).write_bytes(data)
        if sealed:
            manifest = self.manifest()
            manifest["files"][name] = hashlib.sha256(data).hexdigest()
            (self.folder / MANIFEST).write_text(json.dumps(manifest))

    def manifest(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.whole / MANIFEST).read_text())
        return value

    def try_it(self, what: str, seconds: float = 60) -> Outcome:
        """Load the copy; but for a refusal that says which bundle is meant, or one that works, all is a failure."""
        outcome = self.loader.load(self.folder, seconds)
        self.outcomes[outcome.kind] += 1
        assert outcome.kind in ("served", "refused"), f"{what}: {outcome}"
        assert outcome.kind == "served" or str(self.folder) in outcome.message, f"{what}: {outcome}"
        return outcome


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loader]:
    with loader(tmp_path_factory.mktemp("loader") / "stderr") as child:
        yield child


@pytest.fixture(scope="module")
def right_answer(tiny_bundle: Bundle, child: Loader) -> str:
    """What the bundle says when nothing is wrong with it."""
    outcome = child.load(tiny_bundle.path)
    assert outcome.kind == "served", outcome
    return outcome.message


@pytest.fixture
def bench(tiny_bundle: Bundle, child: Loader, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tiny_bundle.path, tmp_path / "bundle", child, Counter())
    bench.fresh()
    yield bench
    print(f"{sum(bench.outcomes.values())} bundles:", dict(bench.outcomes))


@rounds(5, 300)
@pytest.mark.parametrize("name", [MANIFEST, *FILES, TOKENIZER])
def test_a_damaged_file_is_refused_by_its_name(bench: Bench, name: str, rounds: int) -> None:
    rng = random.Random(f"damage to {name}")
    good = (bench.whole / name).read_bytes()
    changes = [b"", good[:-1], good + b"\0", *(damaged(good, rng) for _ in range(rounds))]
    for number, data in enumerate(changes):
        bench.replace(name, data)
        outcome = bench.try_it(f"{name}, change {number}")
        assert data == good or name == MANIFEST or f"{name}: SHA-256 is" in outcome.message


def make_folder(path: Path) -> None:
    path.mkdir()
    (path / "file").touch()


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # addresses are at most 108 bytes long
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def make_linked_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def make_unreadable(path: Path) -> None:
    path.write_bytes(b"{}")
    path.chmod(0)


KINDS: dict[str, Callable[[Path], None]] = {
    "nothing": lambda path: None,
    "a folder": make_folder,
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to its folder": lambda path: path.symlink_to("."),
    "a pipe that nobody writes to": os.mkfifo,
    "a link to such a pipe": make_linked_pipe,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/null"),
    "a file that may not be read": make_unreadable,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [MANIFEST, *FILES, TOKENIZER])
def test_what_is_no_file_is_refused_by_its_name(bench: Bench, name: str, kind: str) -> None:
    (bench.folder / name).unlink()
    KINDS[kind](bench.folder / name)
    if kind == "a file that may not be read" and os.access(bench.folder / name, os.R_OK):
        pytest.skip("this user may read everything")
    outcome = bench.try_it(f"{name} is {kind}", seconds=5)
    assert outcome.kind == "refused"
    assert f"{name}: " in outcome.message


@pytest.mark.parametrize(("name", "instead"), list(itertools.permutations(PARSED, 2)))
def test_a_file_that_is_another_is_refused(bench: Bench, name: str, instead: str) -> None:
    """Even if the manifest says that it must be so."""
    bench.replace(name, (bench.whole / instead).read_bytes(), sealed=True)
    assert bench.try_it(f"{name} is {instead}").kind == "refused"


@rounds(12, 600)
@pytest.mark.parametrize("name", PARSED)
def test_damage_that_the_manifest_confirms_is_refused_or_does_no_harm(
    bench: Bench, right_answer: str, name: str, rounds: int
) -> None:
    """So that graphs, weights, tokenizer and golden sentences really are parsed, by native code for the most part."""
    rng = random.Random(f"confirmed damage to {name}")
    good = (bench.whole / name).read_bytes()
    for number in range(rounds):
        bench.replace(name, damaged(good, rng), sealed=True)
        outcome = bench.try_it(f"{name}, change {number}")
        # Another tokenizer may spell the same tokens in other letters.
        assert outcome.kind == "refused" or outcome.message == right_answer or name == TOKENIZER


def test_a_tokenizer_whose_subwords_are_no_text_is_refused(bench: Bench) -> None:
    good = (bench.whole / TOKENIZER).read_bytes()
    bench.replace(TOKENIZER, good.replace(b"<0x9A>", b"\xbc0x9A>"), sealed=True)
    assert bench.try_it("a subword that is no text").kind == "refused"


@rounds(12, 600)
@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx"])
def test_an_edited_graph_is_refused_or_does_no_harm(bench: Bench, right_answer: str, name: str, rounds: int) -> None:
    rng = random.Random(f"edits of {name}")
    good = (bench.whole / name).read_bytes()
    for number in range(rounds):
        bench.replace(name, edited(good, rng), sealed=True)
        outcome = bench.try_it(f"{name}, edit {number}")
        assert outcome.kind == "refused" or outcome.message == right_answer


@rounds(30, 1_500)
def test_a_manifest_of_odd_values_is_refused_or_does_no_harm(bench: Bench, rounds: int) -> None:
    rng = random.Random("manifest")
    good = bench.manifest()
    for number in range(rounds):
        text = damaged_json(good, rng)
        (bench.folder / MANIFEST).write_text(text)
        bench.try_it(f"change {number}: {text[:2_000]}")


@rounds(15, 800)
def test_a_manifest_of_format_2_of_odd_values_is_refused_or_does_no_harm(bench: Bench, rounds: int) -> None:
    rng = random.Random("manifest of format 2")
    good = as_format_2(bench.manifest())
    for number in range(rounds):
        text = damaged_json(good, rng)
        (bench.folder / MANIFEST).write_text(text)
        bench.try_it(f"change {number}: {text[:2_000]}")


@rounds(50, 1_500)
def test_golden_sentences_of_odd_values_are_refused_or_do_no_harm(bench: Bench, rounds: int) -> None:
    rng = random.Random("golden")
    good = json.loads((bench.whole / GOLDEN).read_text())
    good["sentences"] = good["sentences"][:3]
    for number in range(rounds):
        text = damaged_json(good, rng)
        bench.replace(GOLDEN, text.encode(), sealed=True)
        bench.try_it(f"change {number}: {text[:2_000]}")


def put(*where: Any) -> Callable[[dict[str, Any]], None]:
    """Set a value, the last, at a place, the others."""

    def change(value: Any) -> None:
        *path, key, new = where
        for step in path:
            value = value[step]
        value[key] = new

    return change


def older(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """The same change of a manifest of format 2."""

    def changed(manifest: dict[str, Any]) -> None:
        value = as_format_2(manifest)
        manifest.clear()
        manifest.update(value)
        change(manifest)

    return changed


def cache_of(layers: int) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["cache"]["decoder_layers"] = layers
        manifest["architecture"].pop("decoder_layers")

    return change


def limits_of(tokens: int) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["limits"] |= {"max_source_tokens": tokens, "max_target_tokens": tokens}
        manifest["architecture"].pop("max_positions")

    return change


SCORE = {"test_set": "t", "metric": "m", "value": 1.0, "signature": ""}
MANIFESTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "lists in lists": put("training", "step", NESTED),
    "an integer too large for a float": put("scores", [{**SCORE, "value": 10**400}]),
    "a file of a name with a zero byte": put("files", "a\0b", "0" * 64),
    "a file of a name that is no text": put("files", "a\ud800b", "0" * 64),
    "a file of a very long name": put("files", "a" * 5_000, "0" * 64),
    "a file in a file": put("files", "golden.json/x", "0" * 64),
    "itself as a file": put("files", MANIFEST, "0" * 64),
    "a description that is no text": put("description", "\ud800"),
    "a score whose name is no text": put("scores", [{**SCORE, "test_set": "\udfff"}]),
    "layers by the billion": cache_of(10**9),
    "limits that the model does not have": limits_of(1_000),
    "limits that no message can tell": limits_of(2**40),
    "an end that is no id": put("special_ids", "end", 10**9),
    "an end that no translation contains": put("banned_ids", [0, 1, 2, 3]),
    "ids that no translation contains by the billion": put("banned_ids", [10**9]),
    "a source vocabulary by the billion": put("source_vocab_size", 10**12),
    "a tokenizer that is none": put("tokenizer", "kind", "\ud800"),
    "a tokenizer whose file is a folder": put("tokenizer", "files", {"model": "."}),
    "a tokenizer whose file is elsewhere": put("tokenizer", "files", {"model": "/dev/zero"}),
    "a tokenizer that the server does not have": put("tokenizer", "kind", "marian"),
    "settings in settings": put("tokenizer", "settings", {"a": NESTED}),
    "languages that are none": put("languages", "sources", ["x" * 5_000]),
    "a side without languages": put("languages", "sources", ["fr"]),
    "a beam wider than any server's": put("generation", "beam_size", 10**9),
    "a penalty that is none": put("generation", "length_penalty", float("nan")),
    "a format 2 of fields of format 3": older(put("licence", "MIT")),
    "a format 2 without pairs": older(put("language_pairs", [])),
    "a normalisation that is none": put("generation", "normalisation", ""),
    "hashes of an origin that are none": put("origin", {"family": "m", "files": {"a": "b"}, "notes": []}),
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_a_manifest_that_says_what_cannot_be_is_refused(bench: Bench, what: str) -> None:
    manifest = bench.manifest()
    MANIFESTS[what](manifest)
    (bench.folder / MANIFEST).write_text(as_text(manifest))
    assert bench.try_it(what, seconds=10).kind == "refused"


def test_a_manifest_may_be_nested_as_it_likes(bench: Bench) -> None:
    """About as deep as Python's stack, reading may work and showing it not."""
    text = json.dumps({**bench.manifest(), "limits": NESTED})
    for depth in (1, 500, *range(960, 1_000), DEPTH):
        (bench.folder / MANIFEST).write_text(text.replace(f'"{NESTED}"', "[" * depth + "]" * depth))
        assert bench.try_it(f"{depth} deep").kind == "refused"


GOLDENS: dict[str, Callable[[dict[str, Any]], None]] = {
    "lists in lists": put("sentences", NESTED),
    "an integer too large for a float": put("sentences", 0, "score", 10**400),
    "no number": put("sentences", 0, "score", float("nan")),
    "a sentence that is no text": put("sentences", 0, "source", "\ud800"),
    "no source": put("sentences", 0, "source_ids", []),
    "a source longer than the model takes": put("sentences", 0, "source_ids", [5] * 5_000),
    "fewer scores than tokens": put("sentences", 0, "token_scores", []),
    "a length that never ends": put("sentences", 0, "max_length", 10**12),
    "a beam wider than any server's": put("sentences", 0, "beam_size", 10**9),
    "a penalty that is none": put("sentences", 0, "length_penalty", float("nan")),
}


@pytest.mark.parametrize("what", GOLDENS)
def test_golden_sentences_that_cannot_be_are_refused(bench: Bench, what: str) -> None:
    golden = json.loads((bench.whole / GOLDEN).read_text())
    GOLDENS[what](golden)
    bench.replace(GOLDEN, as_text(golden).encode(), sealed=True)
    assert bench.try_it(what).kind == "refused"
