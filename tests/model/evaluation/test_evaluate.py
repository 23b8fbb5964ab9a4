from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import pytest
import sacrebleu

from dragoman_model.commands.evaluate import EvaluateCommand
from dragoman_model.evaluation.evaluate import evaluate, read_test_sets, table, write_lines
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.manifest import Score
from dragoman_service.bundle.typed_json import from_json
from dragoman_service.errors import InvalidInput
from support.fake_workers import FakeWorkers, served
from support.server_thread import serving
from support.tiny import sentences

ENGLISH = ["The cat sees a dog.", "Two birds sing .", "", "It rains."]
GERMAN = ["Die Katze sieht einen Hund.", "Zwei Vögel singen.", "", "Es regnet."]


class Dictionary:
    """A system that knows all the answers, or all but one."""

    def __init__(self, answers: dict[str, str]) -> None:
        self._answers = answers

    def translate(self, texts: Sequence[str], done: Callable[[], object]) -> list[str]:
        for _ in texts:
            done()
        return [self._answers[text] for text in texts]

    def __enter__(self) -> Dictionary:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        pass


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    write_lines(tmp_path / "a.en", ENGLISH)
    write_lines(tmp_path / "a.de", GERMAN)
    return tmp_path / "a.en", tmp_path / "a.de"


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    EvaluateCommand().add_arguments(parser)
    return EvaluateCommand().run(parser.parse_args([str(argument) for argument in arguments]))


def test_scores_are_sacrebleus(files: tuple[Path, Path]) -> None:
    (test_set,) = read_test_sets([files[0]], [files[1]])
    perfect = evaluate(Dictionary(dict(zip(ENGLISH, GERMAN, strict=True))), test_set)
    assert perfect.bleu.value == pytest.approx(100)
    assert perfect.chrf.value == pytest.approx(100)
    answers = ["DIE Katze sieht einen Hund.", "Zwei Vögel singen.", "", "Es schneit."]
    flawed = evaluate(Dictionary(dict(zip(ENGLISH, answers, strict=True))), test_set)
    assert flawed.bleu.value == pytest.approx(sacrebleu.corpus_bleu(answers, [GERMAN]).score)
    assert flawed.chrf.value == pytest.approx(sacrebleu.corpus_chrf(answers, [GERMAN]).score)
    assert "tok:13a" in flawed.bleu.signature
    assert f"version:{sacrebleu.__version__}" in flawed.chrf.signature
    lower = evaluate(Dictionary(dict(zip(ENGLISH, answers, strict=True))), test_set, lowercase=True, tokenize="char")
    assert "case:lc" in lower.bleu.signature
    assert "tok:char" in lower.bleu.signature
    assert lower.chrf.value > flawed.chrf.value
    shown = table([perfect, flawed])
    assert shown.count("a.en") == 2
    assert "100.00" in shown
    assert flawed.bleu.signature in shown
    with pytest.raises(InvalidInput, match="13a"):
        evaluate(Dictionary({}), test_set, tokenize="14b")


def test_a_log_is_not_flooded_with_progress_bars(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (test_set,) = read_test_sets([files[0]], [files[1]])
    system = Dictionary(dict(zip(ENGLISH, GERMAN, strict=True)))
    evaluate(system, test_set)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    evaluate(system, test_set)
    assert "4/4" in capsys.readouterr().err


def test_files_that_cannot_be_a_test_set(files: tuple[Path, Path], tmp_path: Path) -> None:
    write_lines(tmp_path / "short.de", GERMAN[:2])
    write_lines(tmp_path / "empty", [])
    for sources, targets, message in (
        ([files[0]], [tmp_path / "short.de"], r"short\.de: got '2 lines'"),
        ([files[0]], [tmp_path / "none.de"], "No such file"),
        ([files[0], files[0]], [files[1]], "--target: got '1 files'"),
        ([tmp_path / "empty"], [tmp_path / "empty"], "at least one line"),
    ):
        with pytest.raises(InvalidInput, match=message):
            read_test_sets(sources, targets)


def test_checkpoint_and_bundle_translate_alike(
    tiny_checkpoint: Path, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both search through the server's own engine; what differs is PyTorch against ONNX Runtime."""
    write_lines(tmp_path / "a.en", ["", *sentences(12, seed=4)])
    write_lines(tmp_path / "a.de", ["", *sentences(12, seed=5)])
    for kind, folder in (("checkpoint", tiny_checkpoint), ("bundle", tiny_bundle.path)):
        status = run(
            f"--{kind}", folder, "--source", tmp_path / "a.en", "--target", tmp_path / "a.de", "--beam-size", 3,
            "--output", tmp_path / f"{kind}.txt", "--json", tmp_path / f"{kind}.json", "--threads", 1,
        )  # fmt: skip
        assert status == 0
    translations = (tmp_path / "checkpoint.txt").read_text(encoding="utf-8")
    assert translations.count("\n") == 13
    assert len(set(translations.splitlines())) > 5
    assert (tmp_path / "bundle.txt").read_text(encoding="utf-8") == translations
    problems: list[str] = []
    text = json.loads((tmp_path / "bundle.json").read_text(encoding="utf-8"))
    scores = from_json(tuple[Score, ...], text, "scores", problems)
    assert not problems, "a manifest must be able to take them"
    assert [(score.test_set, score.metric) for score in scores] == [("a.en", "BLEU"), ("a.en", "chrF")]
    assert "nrefs:1" in capsys.readouterr().out


def test_a_server_and_several_test_sets(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = FakeWorkers()
    test_set = ["--source", files[0], "--target", files[1]]
    with serving([served(engine)], default_beam_size=1) as server:
        arguments = ["--server", server.address, *test_set, *test_set, "--beam-size", 2]
        assert run(*arguments, "--output", tmp_path / "1.txt", "--output", tmp_path / "2.txt") == 0
        with pytest.raises(InvalidInput, match="--output"):
            run(*arguments, "--output", tmp_path / "1.txt")
        with pytest.raises(SystemExit):
            run(*arguments, "--model", "nobody")
    engine.close()
    assert (tmp_path / "2.txt").read_text(encoding="utf-8").splitlines() == [text.upper() for text in ENGLISH]
    assert {request.options.beam_size for request in engine.submitted} == {2}
    captured = capsys.readouterr()
    assert captured.out.count("a.en") == 2
    assert "nobody" in captured.err


def test_what_cannot_be_evaluated(files: tuple[Path, Path], tmp_path: Path) -> None:
    test_set = ["--source", files[0], "--target", files[1]]
    with pytest.raises(InvalidInput, match="checkpoint"):
        run("--checkpoint", tmp_path, *test_set)
    with pytest.raises(InvalidInput, match="beam_size"):
        run("--checkpoint", tmp_path, *test_set, "--beam-size", 0)
    with pytest.raises(InvalidInput, match="--threads"):
        run("--checkpoint", tmp_path, *test_set, "--threads", 0)


def test_line_breaks_inside_of_a_translation_do_not_shift_the_lines(tmp_path: Path) -> None:
    write_lines(tmp_path / "out.txt", ["one\ntwo\u2028three", "four"])
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "one two three\nfour\n"
    with pytest.raises(InvalidInput, match="output"):
        write_lines(tmp_path / "none" / "out.txt", [])
