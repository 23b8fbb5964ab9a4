"""`dragoman import` on bad input: one message that names the thing, exit status 1, and no bundle left behind."""

from __future__ import annotations

import json
import os
import pickle
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from dragoman_export import exporter
from dragoman_service.cli import main as cli
from support.foreign.checkpoints import OPTIONS, change_json, change_tensors, copied


class Executed:
    """Leaves a file behind if a pickle of it is loaded as a program."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


def nothing(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def half(name: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).write_bytes(data[: len(data) // 2])

    return cut


def code(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Executed(folder / "executed")}))


def other_tokenizer(name: str) -> Callable[[Path], None]:
    """A SentencePiece model of other texts."""

    def train(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(["АБВГД ЕЖЗИЙ КЛМНО ПРСТУ ФХЦЧШ"] * 5),
                model_writer=file,
                vocab_size=60,
                hard_vocab_limit=False,
                character_coverage=1.0,
                minloglevel=2,
            )

    return train


def without(name: str) -> Callable[[Path], None]:
    return lambda it: (it / name).unlink()


def tensors(**values: np.ndarray | None) -> Callable[[Path], None]:
    return lambda it: change_tensors(it, **values)


def fields(file: str, **values: object) -> Callable[[Path], None]:
    return lambda it: change_json(it / file, **values)


CASES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a folder of nothing": ("m2m", nothing, "an empty folder"),
    "half a download": ("m2m", half("model.safetensors"), "model.safetensors"),
    "half of an archive": ("marian-toy", half("model.npz"), "model.npz"),
    "half of a model.bin": ("ct2-opennmt-float32", half("model.bin"), "model.bin"),
    "half of a pickle": ("marian-old", half("pytorch_model.bin"), "pytorch_model.bin"),
    "a shard that is missing": ("mbart-50", without("model-00002-of-00003.safetensors"), "model-00002-of-00003"),
    "no weights": ("nllb", without("model.safetensors"), "model.safetensors or pytorch_model.bin"),
    "no tokenizer": ("nllb", without("sentencepiece.bpe.model"), "sentencepiece.bpe.model"),
    "half a tokenizer": ("opus-mt-en-de", half("source.spm"), "source.spm"),
    "the source of another model": ("opus-mt-en-de", other_tokenizer("source.spm"), "tokenizer: got 'source.spm'"),
    "the target of another model": ("marian-pre-norm", other_tokenizer("target.spm"), "tokenizer: got 'target.spm'"),
    "the tokenizer of another model": (
        "m2m",
        other_tokenizer("sentencepiece.bpe.model"),
        "tokenizer: got 'sentencepiece.bpe.model'",
    ),
    "no vocabulary": ("opus-mt-en-de", without("vocab.json"), "vocab.json"),
    "a tensor too many": ("m2m", tensors(odd__weight=np.zeros(3, np.float32)), "odd.weight"),
    "a tensor too few": ("m2m", tensors(model__decoder__layer_norm__bias=None), "model.decoder.layer_norm.bias"),
    "a shape that disagrees": (
        "m2m",
        tensors(model__decoder__layer_norm__bias=np.zeros(3, np.float32)),
        "model.decoder.layer_norm.bias: got 'shape [3]'",
    ),
    "no number": (
        "m2m",
        tensors(model__decoder__layer_norm__bias=np.full(16, np.nan, np.float32)),
        "decoder_norm.bias: got 'numbers that are not finite'",
    ),
    "a pickle with code in it": ("marian-old", code, "pytorch_model.bin"),
    "an unsupported switch": (
        "opus-mt-en-de",
        fields("config.json", activation_function="tanh"),
        "activation_function",
    ),
    "an unsupported family": ("opus-mt-en-de", fields("config.json", model_type="t5"), "T5 and MADLAD-400"),
    "an unknown family": ("opus-mt-en-de", fields("config.json", model_type="bert"), "model_type bert"),
}


def imported(checkpoint: Path | str, output: Path, *options: str) -> int:
    return cli.main(["import", str(checkpoint), "--output", str(output), *options])


def check_refused(status: int, capsys: pytest.CaptureFixture[str], output: Path, message: str) -> None:
    printed = capsys.readouterr()
    assert status == 1
    lines = printed.err.strip().splitlines()
    assert [line for line in lines if line.startswith("dragoman: ")] == lines[-1:], "behind the stages, one message"
    assert message in lines[-1]
    assert printed.out == ""
    assert not output.exists()
    assert not output.parent.exists() or list(output.parent.iterdir()) == []


@pytest.mark.parametrize("case", CASES)
def test_one_message_and_no_bundle(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, change, message = CASES[case]
    folder = copied(name, tmp_path)
    change(folder)
    output = tmp_path / "bundles" / "model" / "1"
    languages = ("--source", "en", "--target", "de") if OPTIONS[name].sources else ()
    check_refused(imported(folder, output, *languages), capsys, output, message)
    assert not (folder / "executed").exists()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("opus-mt-en-de", ("--precision", "int4"), "precision: got 'int4'"),
        ("nllb", ("--target", "xyz_Latn"), "xyz_Latn"),
        ("opus-mt-en-mul", ("--target", "spa"), "spa"),
        ("marian-toy", (), "source"),
        ("m2m", ("--positions", "marian"), "positions: got 'marian'"),
        ("opus-mt-en-de", ("--precision", "int8", "--calibration", "/nowhere/calibration.txt"), "/nowhere"),
        ("marian-toy", ("--source", "en", "--target", "de", "--tokenizer", "/nowhere/spm.model"), "/nowhere"),
        ("marian-old", ("--name", "../x"), "name: got '../x'; allowed: letters, digits"),
    ],
)
def test_bad_options(
    name: str, options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bundles" / "model" / "1"
    check_refused(imported(copied(name, tmp_path), output, *options), capsys, output, message)


def test_a_checkpoint_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "bundles" / "model" / "1"
    check_refused(imported(tmp_path / "none", output), capsys, output, "none")


def test_a_bundle_that_exists_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "model" / "1"
    output.mkdir(parents=True)
    (output / "mine").touch()
    assert imported(copied("marian-old", tmp_path), output) == 1
    assert "--force" in capsys.readouterr().err
    assert [it.name for it in output.iterdir()] == ["mine"]


def test_force_replaces_bundles_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copied("marian-old", tmp_path)
    files = sorted(it.name for it in folder.iterdir())
    assert imported(folder, folder, "--force") == 1
    assert "a folder with manifest.json, or an empty one: --force replaces nothing else" in capsys.readouterr().err
    assert sorted(it.name for it in folder.iterdir()) == files


def test_a_folder_that_cannot_be_made_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied("marian-old", tmp_path)
    (tmp_path / "file").touch()
    for output in (tmp_path / "file" / "m" / "1", tmp_path / ("x" * 300) / "1"):
        assert imported(folder, output) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("dragoman: output: got")
        assert "a folder that can be made" in line


def test_sigterm_ends_an_import_as_ctrl_c_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(exporter, "make_golden", choose)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        imported(copied("marian-old", tmp_path), tmp_path / "bundles" / "model" / "1")
    assert end.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (tmp_path / "bundles").exists()
    assert list(temporary.iterdir()) == []


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "old" / "3"
    assert imported(copied("marian-old", tmp_path), output, "--licence", "mit") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{output}: old version 3, fp32"
    assert lines[1].startswith("words are aligned by head ")
    assert lines[2] == "marian, en to de; licence: mit"
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["licence"] == "mit"
    assert manifest["origin"]["family"] == "marian"
