"""Text made by a served model: `dragoman distill` and `dragoman back-translate` against a server in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman_model.data import synthetic
from dragoman_model.data.corpus import read_pairs
from dragoman_model.data.synthetic import Job, make_pairs
from dragoman_model.recipe import Corpus
from dragoman_service.cli.main import main
from dragoman_service.client.values import FinishReason, Hypothesis, Translation
from dragoman_service.errors import InvalidInput
from dragoman_service.translation.settings import RequestLimits
from support.fake_workers import FakeWorkers, served
from support.server_thread import ServerThread, serving

TEXT = ["one", "two  words", "", "one", "x" * 60, "three"]


@pytest.fixture
def engine() -> Iterator[FakeWorkers]:
    engine = FakeWorkers()
    yield engine
    engine.close()


@pytest.fixture
def server(engine: FakeWorkers) -> Iterator[ServerThread]:
    """It shouts, and refuses texts of over 50 characters."""
    with serving([served(engine)], limits=RequestLimits(max_characters=50)) as running:
        yield running


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.en.gz"
    path.write_bytes(gzip.compress("".join(line + "\n" for line in TEXT).encode()))
    return path


def job(tmp_path: Path, text: Path, **changes: Any) -> Job:
    made = Job(text, None, None, False, 50, tmp_path / "made.tsv", {"beam_size": 4})
    return dataclasses.replace(made, **changes)


def translation(*texts: str, finish_reason: FinishReason = FinishReason.STOP) -> Translation:
    hypotheses = tuple(Hypothesis(text, -1.0, (), (), finish_reason) for text in texts)
    return Translation(hypotheses, finish_reason, 0, 0, 0, 1, 1, 1, "loud", "1")


def shout(texts: Iterable[str]) -> Iterator[Translation]:
    for line in texts:
        yield translation(line.upper())


def rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def test_distilled_text_is_source_and_translation(
    server: ServerThread, engine: FakeWorkers, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "made.tsv.xz"
    assert main(["distill", str(text), "--output", str(output), "--server", server.address]) == 0
    pairs = list(read_pairs(Corpus(path="made.tsv.xz"), tmp_path))
    assert pairs == [("one", "ONE"), ("two words", "TWO WORDS"), ("three", "THREE")]
    assert {request.options.beam_size for request in engine.submitted} == {4}
    assert "read 6, kept 3, dropped 3 (empty 1, duplicate 1, too long 1)" in capsys.readouterr().out
    report = json.loads((tmp_path / "made.tsv.xz.json").read_text())
    assert (report["kept"], report["models"], report["options"]["beam_size"]) == (3, ["loud 1"], 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.tsv.xz", "made.tsv.xz.json", "text.en.gz"]


def test_back_translated_text_has_the_original_as_target(
    server: ServerThread, engine: FakeWorkers, text: Path, tmp_path: Path
) -> None:
    arguments = ["back-translate", str(text), "--server", server.address]
    assert main([*arguments, "--output", str(tmp_path / "greedy.tsv")]) == 0
    assert rows(tmp_path / "greedy.tsv")[0] == ["ONE", "one", "-1.0000"]
    assert {request.options.beam_size for request in engine.submitted} == {1}
    assert main([*arguments, "--output", str(tmp_path / "drawn.tsv"), "--sample", "--top-k", "7"]) == 0
    sampling = engine.submitted[-1].options.sampling
    assert sampling is not None
    assert sampling.top_k == 7


def test_the_hypothesis_nearest_to_the_reference_is_taken(server: ServerThread, tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("one\tONE!!\tx\ntwo\tTWO\tx\n")
    arguments = ["distill", str(tmp_path / "pairs.tsv"), "--column", "0", "--reference-column", "1"]
    assert main([*arguments, "--output", str(tmp_path / "made.tsv"), "--server", server.address]) == 0
    assert [row[1] for row in rows(tmp_path / "made.tsv")] == ["ONE!!", "TWO"]


def test_what_did_not_end_or_is_empty_is_dropped(tmp_path: Path, text: Path) -> None:
    answers = iter([translation("cut", finish_reason=FinishReason.LENGTH), translation(" "), translation("a\tb\nc")])
    outcome = make_pairs(job(tmp_path, text), lambda texts: (next(answers) for _ in texts), resume=False)
    assert outcome.dropped["unfinished"] == outcome.dropped["nothing came out"] == 1
    assert rows(tmp_path / "made.tsv") == [["three", "a b c", "-1.0000"]]


@pytest.mark.parametrize("cut", [0, 3])
def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path: Path, text: Path, cut: int) -> None:
    whole = job(tmp_path, text, output=tmp_path / "whole.tsv")
    make_pairs(whole, shout, resume=False)
    broken, asked = job(tmp_path, text), []

    def failing(texts: Iterable[str]) -> Iterator[Translation]:
        ahead = list(texts)  # as a client does that keeps a server busy
        yield translation(ahead[0].upper())
        yield translation(ahead[1].upper())
        raise RuntimeError

    def noting(texts: Iterable[str]) -> Iterator[Translation]:
        for line in texts:
            asked.append(line)
            yield translation(line.upper())

    with pytest.raises(RuntimeError):
        make_pairs(broken, failing, resume=False)
    assert not broken.output.exists()
    broken.part.write_bytes(broken.part.read_bytes()[: -cut or None])
    outcome = make_pairs(broken, noting, resume=True)
    assert asked == (["two words", "three"] if cut else ["three"])
    assert broken.output.read_bytes() == whole.output.read_bytes()
    assert broken.report.read_bytes() == whole.report.read_bytes()
    assert (outcome.read, outcome.kept) == (6, 3)


def test_what_must_not_be_mixed_up(tmp_path: Path, text: Path) -> None:
    begun = job(tmp_path, text)
    with pytest.raises(InvalidInput, match="--output"):
        make_pairs(begun, shout, resume=True)  # nothing to go on with
    with pytest.raises(RuntimeError):
        make_pairs(begun, refuse, resume=False)
    with pytest.raises(InvalidInput, match="--resume to continue"):
        make_pairs(begun, shout, resume=False)
    with pytest.raises(InvalidInput, match=r"--resume: got 'options'"):
        make_pairs(dataclasses.replace(begun, options={"beam_size": 1}), shout, resume=True)
    text.write_bytes(gzip.compress(b"other\n"))
    with pytest.raises(InvalidInput, match=r"--resume: got 'sha256'"):
        make_pairs(begun, shout, resume=True)
    begun.part.write_text("not ours\n")
    with pytest.raises(InvalidInput, match="part file of this command"):
        make_pairs(begun, shout, resume=True)
    begun.output.write_text("precious")
    with pytest.raises(InvalidInput, match="does not exist yet"):
        make_pairs(begun, shout, resume=False)
    assert begun.output.read_text() == "precious"


def refuse(texts: Iterable[str]) -> Iterator[Translation]:
    raise RuntimeError
    yield


def test_a_full_disk_loses_nothing(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "_finish", full)
        with pytest.raises(InvalidInput, match="No space left on device"):
            make_pairs(job(tmp_path, text), shout, resume=False)
    outcome = make_pairs(job(tmp_path, text), refuse_all, resume=True)
    assert outcome.kept == 3


def refuse_all(texts: Iterable[str]) -> Iterator[Translation]:
    assert list(texts) == []
    yield from ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--column", "-1"], "--column"),
        (["--column", "5"], "at least 6"),
        (["--reference-column", "1"], "--column"),
        (["--model", "nobody"], "nobody"),
    ],
)
def test_mistakes_are_named(
    server: ServerThread, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.tsv").write_text("one\tONE\n")
    command = ["distill", str(tmp_path / "pairs.tsv"), "--output", str(tmp_path / "made.tsv"), "--server"]
    with contextlib.suppress(SystemExit):
        assert main([*command, server.address, *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "made.tsv").exists()
