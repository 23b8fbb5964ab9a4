"""Packages of Argos Translate."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dragoman_export.imports.families import argos, ctranslate2
from dragoman_export.imports.imported import ImportOptions
from dragoman_export.imports.read import read_checkpoint
from dragoman_export.imports.tokenizers import BundleTokenizer
from dragoman_service.errors import InvalidInput
from support.foreign.checkpoints import FOLDER, expected, scores, wanted
from support.foreign.imports import argos_files as files
from support.foreign.imports import argos_package as package

MODEL = "ct2-opennmt-float32"
METADATA = {"from_code": "en", "to_code": "de", "package_version": "1.9", "target_prefix": "", "type": "translate"}


def test_a_package_is_its_model_with_the_options_of_argos(tmp_path: Path) -> None:
    imported = read_checkpoint(package(tmp_path, files()))
    assert scores(imported, expected(MODEL)) == pytest.approx(wanted(expected(MODEL)), abs=2e-5)
    assert (imported.languages.sources, imported.languages.targets) == (("en",), ("de",))
    assert (imported.generation.beam_size, imported.generation.length_penalty) == (4, 0.2)
    assert imported.origin["family"] == "argos"
    assert list(imported.origin["files"]) == ["en_de.argosmodel"]
    model = imported.tokenizer.files["model"]
    assert isinstance(model, Path)
    assert model.read_bytes() == (FOLDER / MODEL / "source.model").read_bytes()
    assert not (model.parent / "stanza").exists()


def test_an_unpacked_package(tmp_path: Path) -> None:
    for name, data in files().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    imported = read_checkpoint(tmp_path / "translate-en_de")
    assert imported.languages.targets == ("de",)
    assert "model.bin" in imported.origin["files"]


def changed(**values: object) -> dict[str, bytes]:
    return files() | {"translate-en_de/metadata.json": json.dumps(METADATA | values).encode()}


PREFIX = "▁red"
PREFIXED = {
    "the cat": "▁up ▁up d d d d d d d d d d",
    "we put one hen in the van": "▁up ▁long ▁one b c i d o j ▁long o j",
    "no men kept": "▁up ▁long d d d d d d d d d d",
}
"""Text -> what CTranslate2 4.8.5 gives after `target_prefix=[[PREFIX]]`, greedily and without the pieces that a bundle
never produces."""


def test_the_prefix_of_a_package_is_forced_upon_the_decoder(tmp_path: Path) -> None:
    imported = read_checkpoint(package(tmp_path, changed(target_prefix=PREFIX)))
    tokenizer, model = BundleTokenizer(imported).load(), imported.model()
    forced = tokenizer.forced("de")
    assert tokenizer.pieces(forced) == [PREFIX]
    assert tokenizer.decode(forced) == ""
    assert set(forced) <= set(imported.config.banned_ids)
    assert tokenizer.source(tokenizer.encode("the cat"), "en", "de") == tuple(tokenizer.encode("the cat"))
    for text, wanted_pieces in PREFIXED.items():
        source, target = tokenizer.source(tokenizer.encode(text), "en", "de"), [imported.config.begin_id, *forced]
        for _ in range(12):
            with torch.no_grad():
                logits = model(torch.tensor([source]), torch.tensor([target]))[0, -1]
            logits[list(imported.config.banned_ids)] = -torch.inf
            target.append(int(logits.argmax()))
        assert tokenizer.pieces(target[2:]) == wanted_pieces.split(), text


def test_tokens_like_the_prefix_are_never_produced_and_not_shown(tmp_path: Path) -> None:
    names = {"▁red": "__de__", "▁up": "__fr__", "▁sun": "__nodoc__"}
    contents = changed(target_prefix="__de__")
    file = "translate-en_de/model/target_vocabulary.json"
    pieces = [names.get(it, it) for it in json.loads(contents[file])]
    imported = read_checkpoint(package(tmp_path, contents | {file: json.dumps(pieces).encode()}))
    tokenizer, ids = BundleTokenizer(imported).load(), [pieces.index(it) for it in names.values()]
    assert tokenizer.pieces(tokenizer.forced("de")) == ["__de__"]
    assert set(ids) - set(imported.config.banned_ids) == {pieces.index("__nodoc__")}
    assert tokenizer.decode(ids) == "__nodoc__"


def test_a_package_reads_the_text_alone_whatever_its_vocabulary_names() -> None:
    """Argos Translate gives its encoder no language, not even that of a vocabulary of M2M-100."""
    folder = FOLDER / "ct2-m2m-bfloat16"
    options = ImportOptions(sources=("en",), targets=("de",), tokenizer=folder / "sentencepiece.bpe.model")
    imported = ctranslate2.read(folder, options, "__de__")
    tokenizer = BundleTokenizer(imported).load()
    ids = tokenizer.encode("the cat")
    assert tokenizer.source(ids, "en", "de")[: len(ids)] == tuple(ids)
    assert tokenizer.pieces(tokenizer.forced("de")) == ["__de__"]


def test_languages_that_the_user_names_count_and_are_noted(tmp_path: Path) -> None:
    path = package(tmp_path, files())
    imported = read_checkpoint(path, ImportOptions(sources=("en",), targets=("de-AT", "fr")))
    assert imported.languages.targets == ("de-AT", "fr")
    (note,) = [it for it in imported.notes if "--target" in it or "--source" in it]
    assert note == "The checkpoint says that it translates to de; de-AT, fr counts, as --target says."
    assert not [it for it in read_checkpoint(path).notes if "--" in it]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (lambda: {}, "got None; allowed: one folder"),
        (lambda: files() | {"elsewhere/x": b""}, "got 'elsewhere, translate-en_de'; allowed: one folder"),
        (lambda: files() | {"translate-en_de/../../x": b"x"}, r"translate-en_de/../../x.*files inside the package"),
        (lambda: files() | {"/x": b"x"}, "files inside the package"),
        (lambda: files() | {"translate-en_de\\..\\x": b"x"}, "files inside the package|one folder"),
        (lambda: files() | {"translate-en_de/model/zeros": bytes(50_000_000)}, "times the size of the package"),
        (lambda: files() | {f"translate-en_de/{it}": b"" for it in range(1000)}, "at most 1000 files"),
        (lambda: files() | {"translate-en_de/bpe.model": b""}, "bpe.model: got 'Moses and BPE'"),
        (lambda: {k: v for k, v in files().items() if "sentencepiece" not in k}, "sentencepiece.model: got None"),
        (lambda: {k: v for k, v in files().items() if "metadata" not in k}, "metadata.json: got None"),
        (lambda: {k: v for k, v in files().items() if "model.bin" not in k}, "model.bin: got None"),
        (lambda: changed(from_code=3), "metadata.json: from_code: got 3"),
        (lambda: changed(target_prefix="__de__"), "metadata.json: target_prefix: got '__de__'; allowed: a piece"),
        (lambda: changed(target_prefix=["x"]), r"metadata.json: target_prefix: got \['x'\]"),
    ],
)
def test_bad_packages(tmp_path: Path, contents: Callable[[], dict[str, bytes]], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_checkpoint(package(tmp_path, contents()))
    assert {it.name for it in tmp_path.iterdir()} == {"en_de.argosmodel"}


def test_damaged_packages(tmp_path: Path) -> None:
    path = package(tmp_path, files())
    whole = path.read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidInput, match=r"en_de.argosmodel: got 'damaged'"):
            read_checkpoint(path)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(100) + whole[middle + 100 :])
    with pytest.raises(InvalidInput, match=r"en_de.argosmodel: got 'damaged'"):
        read_checkpoint(path)


def test_links_in_packages(tmp_path: Path) -> None:
    path, data = tmp_path / "x.argosmodel", io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        link = zipfile.ZipInfo("translate/model/model.bin")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    path.write_bytes(data.getvalue())
    with pytest.raises(InvalidInput, match=r"translate/model/model.bin.*no links"):
        argos.read(path, argos.ImportOptions())
