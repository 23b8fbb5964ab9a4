"""Which sentences an export takes: golden ones in the languages that the model reads, and int8's to calibrate with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dragoman_export.exporter import ExportOptions, export_checkpoint
from dragoman_export.renew_golden import renew_golden
from dragoman_export.sentences import BUILT_IN, CALIBRATION
from dragoman_export.sources import MOST_CALIBRATED, Sources
from dragoman_service.bundle.bundle import Bundle, write_bundle
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.cli import main as cli
from dragoman_service.errors import InvalidInput
from support.tiny import tokenizer_model
from support.tiny_checkpoint import write_checkpoint

Capture = pytest.CaptureFixture[str]
PLAIN = Tokenizer(tokenizer_model())
TAGGED = Tokenizer(tokenizer_model(control_symbols=("<2de>", "<2en>", "<2fr>")))
SHIPPED = Path(__file__).parents[2] / "deploy" / "models"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(contents: bytes) -> Path:
        path = tmp_path / "given.txt"
        path.write_bytes(contents)
        return path

    return write


def golden_texts(sources: Sources, *arguments: object) -> list[str]:
    return [it.text for it in sources.golden(*arguments)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("language", "base"),
    [("en", "en"), ("de", "de"), ("fr", "fr"), ("ko", "ko"), ("de-AT", "de"), ("tr", "tr"), ("zh-TW", "zh-Hant")],
)
def test_golden_sentences_are_in_the_source_language(language: str, base: str) -> None:
    sources = Sources(PLAIN, [(language, "xx")], 400)
    assert golden_texts(sources, None, None) == list(BUILT_IN[base])


def test_every_source_language_of_our_recipes_has_golden_sentences() -> None:
    recipes = Path(__file__).parents[2] / "recipes"
    lines = [line for path in recipes.glob("*.toml") for line in path.read_text(encoding="utf-8").splitlines()]
    languages = {line.split('"')[1] for line in lines if line.startswith("source_language")}
    assert {"en", "de", "ko"} <= languages <= set(BUILT_IN)


def test_another_language_wants_its_own(tmp_path: Path, write: Callable[[bytes], Path]) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", language_pairs=(("eo", "de"),))
    with pytest.raises(
        InvalidInput, match=r"golden: got None; allowed: .* language eo.* --golden FILE; .*de, .*en, .*fr, .*ko, "
    ):
        export_checkpoint(checkpoint, tmp_path / "m" / "1", ExportOptions("m", "1"))
    assert not (tmp_path / "m").exists()
    golden = write("Kato vidas ĉevalon.\r\nJes.\n".encode())
    bundle, report = export_checkpoint(checkpoint, tmp_path / "m" / "1", ExportOptions("m", "1", golden=golden))
    assert {it.source for it in bundle.golden} <= {"Kato vidas ĉevalon.", "Jes."}
    assert report.sentences == 10  # they are verified with as well, beside 8 at random


def test_given_ones_take_the_place_of_the_built_in_ones(write: Callable[[bytes], Path], tmp_path: Path) -> None:
    sources, golden = Sources(PLAIN, [("en", "de")], 100), write(b"a cat\na dog\na cat")
    other = tmp_path / "sentences"
    other.write_text("a tree\n")
    assert golden_texts(sources, golden, other) == ["a cat", "a dog"]
    assert golden_texts(sources, None, other) == ["a tree"]
    assert golden_texts(sources, None, None) == list(BUILT_IN["en"])


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (
            b"a cat\n\nx\n",
            r"golden, .*given.txt, line 2: got ''; allowed: .* 1 to 99 subwords; this line has 0",
        ),
        (
            b"a cat\n" + b"a dog " * 100,
            r"golden, .*, line 2: got 'a dog .*; allowed: .* 1 to 99 .* has \d{3}",
        ),
        (b"a cat\n\xff\n", r"golden: got '.*given.txt'; allowed: a readable UTF-8 file \(line 2: "),
        (b"", r"golden: got '.*given.txt'; allowed: a file with at least one sentence"),
        (None, r"golden: got '.*given.txt'; allowed: a readable UTF-8 file \(.*No such file"),
    ],
    ids=["empty line", "too long", "no UTF-8", "empty", "missing"],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, contents: bytes | None, message: str) -> None:
    path = tmp_path / "given.txt"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(InvalidInput, match=message):
        Sources(PLAIN, [("en", "de")], 100).golden(path, None)


PAIRS = [("en", "de"), ("en", "fr"), ("eo", "en")]


def test_several_source_languages_name_theirs(write: Callable[[bytes], Path]) -> None:
    sources, path = Sources(TAGGED, PAIRS, 100), write(b"kato\nhundo\n")
    with pytest.raises(InvalidInput, match=r"allowed: LANGUAGE=FILE, .*several languages: en, eo"):
        sources.golden(path, None)
    with pytest.raises(InvalidInput, match=r"golden: got 'fr'; allowed: a source language of the model: en, eo"):
        sources.golden({"fr": path}, None)
    with pytest.raises(InvalidInput, match=r"source language eo, .* --golden eo=FILE"):
        sources.golden({"en": path}, None)


def test_pairs_take_turns_so_that_the_first_few_are_of_all(write: Callable[[bytes], Path]) -> None:
    found = Sources(TAGGED, PAIRS, 100).golden({"eo": write(b"kato\nhundo\n")}, None)
    tags = {tag: language for language, tag in TAGGED.target_tags.items()}
    first, second = BUILT_IN["en"][:2]
    assert [(it.text, tags[it.ids[0]]) for it in found[:6]] == [
        (first, "de"), (first, "fr"), ("kato", "en"), (second, "de"), (second, "fr"), ("hundo", "en"),
    ]  # fmt: skip
    assert all(it.ids[-1] == TAGGED.end_id for it in found)


def test_sentences_are_golden_too_if_no_others_are_given(write: Callable[[bytes], Path]) -> None:
    """Of every target language, with several source languages too: they decide how long an export takes."""
    sources = Sources(TAGGED, PAIRS, 100)
    found = sources.golden(None, write(b"a cat\na dog\n"))
    assert [(it.text, it.languages[1]) for it in found] == [
        (text, target) for text in ("a cat", "a dog") for target in ("de", "fr", "en")
    ]


def test_many_sentences_are_read_for_one_target_language_each(write: Callable[[bytes], Path]) -> None:
    texts = [f"cat {number}" for number in range(MOST_CALIBRATED)]
    found = Sources(TAGGED, PAIRS, 100).read(write("\n".join(texts).encode()), "calibration")
    assert [it.text for it in found] == texts
    assert [it.languages[1] for it in found[:4]] == ["de", "fr", "en", "de"]


def test_of_many_pairs_a_calibration_takes_some_built_in_sentences_of_each() -> None:
    pairs = [(source, "xx") for source in ("en", "de", "fr", "es", "it", "nl", "pl", "pt", "sv", "cs", "da", "fi")]
    one, many = (Sources(PLAIN, it, 400).typical() for it in (pairs[:1], pairs))
    assert len(one) == len(CALIBRATION["en"])
    assert MOST_CALIBRATED / 2 < len(many) <= MOST_CALIBRATED
    assert {it.languages for it in many} == set(pairs)


def run(*arguments: object) -> int:
    return cli.main(["export", *map(str, arguments)])


@pytest.mark.parametrize("where", ["--output", "--publish"])
def test_int8_without_calibration_gives_the_command(
    tiny_checkpoint: Path, tmp_path: Path, capsys: Capture, where: str
) -> None:
    target = tmp_path / "my models" / ("1" if where == "--output" else "")
    given = ("--precision", "int8", where, target, "--name", "m", "--golden", "g.txt", "--force")
    assert run(tiny_checkpoint, *given) == 1
    error = capsys.readouterr().err
    assert "calibration: got None; allowed: for int8, a file of a few hundred typical source sentences" in error
    assert (
        f"dragoman export {tiny_checkpoint} {where} '{target}' --name m --precision int8 --golden g.txt --force "
        "--calibration FILE"
    ) in error
    assert list(tmp_path.iterdir()) == []


def test_nor_is_there_int8_without_calibration_from_python(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"calibration: .*dragoman export .* --precision int8 --calibration FILE"):
        export_checkpoint(tiny_checkpoint, tmp_path / "m" / "1", ExportOptions("m", "1", precision="int8"))
    assert not (tmp_path / "m").exists()


def test_the_command_says_what_int8_costs_against_the_checkpoint(
    tiny_checkpoint: Path, tmp_path: Path, capsys: Capture, write: Callable[[bytes], Path]
) -> None:
    path = write("\n".join(BUILT_IN["en"]).encode())
    given = ("--precision", "int8", "--calibration", path, "--golden", f"en={path}")
    assert run(tiny_checkpoint, "--output", tmp_path / "m" / "1", *given) == 0
    said = capsys.readouterr().out
    assert "int8 against the trained checkpoint: divergence " in said
    assert "% of the translations the same" in said
    assert " parts of the graphs within " in said


@pytest.mark.parametrize("given", [("a", "b"), ("en=a", "en=b"), ("en=a", "b")])
def test_a_language_is_given_once(
    tiny_checkpoint: Path, tmp_path: Path, capsys: Capture, given: tuple[str, ...]
) -> None:
    options = [word for it in given for word in ("--golden", it)]
    assert run(tiny_checkpoint, "--output", tmp_path / "m" / "1", *options) == 1
    error = capsys.readouterr().err
    assert any(f"golden: got '{it}'; allowed: LANGUAGE=FILE, each language once" in error for it in given)


def copied(bundle: Bundle, path: Path) -> Bundle:
    files: dict[str, bytes | Path] = {name: bundle.path / name for name in bundle.manifest.files}
    return write_bundle(path, bundle.manifest, files)


def test_golden_sentences_made_anew_are_those_of_the_export(tiny_int8_bundle: Bundle, tmp_path: Path) -> None:
    bundle = copied(tiny_int8_bundle, tmp_path / "tiny" / "1")
    assert renew_golden(bundle.path).golden == tiny_int8_bundle.golden
    manifest = "manifest.json"
    assert (bundle.path / manifest).read_bytes() == (tiny_int8_bundle.path / manifest).read_bytes()


def test_golden_sentences_of_a_bundle_can_be_exchanged(
    tiny_bundle: Bundle, tmp_path: Path, write: Callable[[bytes], Path]
) -> None:
    bundle = copied(tiny_bundle, tmp_path / "tiny" / "1")
    renewed = renew_golden(bundle.path, write(b"a cat sees\nthe dog.\n"))
    assert {it.source for it in renewed.golden} <= {"a cat sees", "the dog."}
    changed = {name for name, digest in renewed.manifest.files.items() if digest != bundle.manifest.files[name]}
    assert changed == {"golden.json"}


@pytest.mark.parametrize("name", ["en-de", "de-en"])
def test_the_bundled_models_have_golden_sentences_in_their_source_language(name: str) -> None:
    path = SHIPPED / name / "1"
    if not path.exists():
        pytest.skip(f"no bundle at {path}")
    bundle = Bundle.load(path)
    assert bundle.golden
    assert {it.source for it in bundle.golden} <= set(BUILT_IN[name.partition("-")[0]])
