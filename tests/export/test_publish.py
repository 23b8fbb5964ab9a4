"""`dragoman export --publish`: from a checkpoint into a repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from dragoman_export import exporter
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.cli import main as cli
from dragoman_service.repository.repository import Repository
from support.stores import Store, empty_memory

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _empty_memory() -> Iterator[None]:
    yield
    empty_memory()


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.txt"
    path.write_text("The cat sees the dog.\nYes.\n", encoding="utf-8")
    return path


def run(*arguments: object) -> int:
    """The exit status, however the command ends."""
    try:
        return cli.main(["export", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)


def test_what_is_published_takes_the_next_version(
    tiny_checkpoint: Path, tmp_path: Path, sentences: Path, capsys: Capture
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    arguments = (tiny_checkpoint, "--publish", models, "--name", "en-de", "--sentences", sentences)
    assert run(*arguments) == 0
    assert f"published: {models}/en-de/1\n" in capsys.readouterr().out
    assert run(*arguments, "--description", "Newer.") == 0
    first, second = (Bundle.load(models / "en-de" / version).manifest for version in ("1", "2"))
    assert [(it.name, it.version, it.description) for it in (first, second)] == [
        ("en-de", "1", ""),
        ("en-de", "2", "Newer."),
    ]
    assert list(Repository(str(models), tmp_path).scan()["en-de"].versions) == ["1", "2"]
    assert sorted(path.name for path in (models / "en-de").iterdir()) == ["1", "2"]


def test_a_bundle_is_published_afar_under_the_version_given(
    tiny_checkpoint: Path, tmp_path: Path, sentences: Path, capsys: Capture
) -> None:
    store = Store("memory://models")
    arguments = (tiny_checkpoint, "--publish", store.url, "--name", "en-de", "--version", "2026-01")
    assert run(*arguments, "--sentences", sentences) == 0
    repository = Repository(store.url, tmp_path / "cache")
    path = repository.fetch("en-de", "2026-01", repository.scan()["en-de"].versions["2026-01"])
    assert Bundle.load(path).manifest.version == "2026-01"
    before = store.names()
    assert run(*arguments, "--sentences", sentences) == 1
    assert "version: got '2026-01'" in capsys.readouterr().err
    assert store.names() == before


def test_a_graph_that_disagrees_is_not_published(
    tiny_checkpoint: Path, tmp_path: Path, sentences: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = exporter.build_decoder

    def build_wrongly(*arguments: object) -> onnx.ModelProto:
        graph: onnx.ModelProto = build(*arguments)
        next(node for node in graph.graph.node if node.op_type == "Relu").op_type = "Abs"
        return graph

    monkeypatch.setattr(exporter, "build_decoder", build_wrongly)
    store = Store(str(tmp_path / "models"))
    arguments = (tiny_checkpoint, "--publish", store.url, "--name", "en-de", "--sentences", sentences)
    assert run(*arguments) == 1
    assert store.names() == set()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--publish", "FOLDER"), 1, "--name: got ''; allowed: the name of a model, with --publish"),
        (("--publish", "FOLDER", "--output", "m/1"), 2, "not allowed with argument"),
        ((), 2, "one of the arguments --output --publish is required"),
        (("--publish", "FOLDER/nowhere", "--name", "m"), 1, "nowhere: FileNotFoundError"),
        (("--publish", "nosuch://bucket", "--name", "m"), 1, "repository nosuch://bucket: "),
    ],
)
def test_mistakes_are_said_before_anything_is_made(
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    status: int,
    message: str,
) -> None:
    monkeypatch.setattr(exporter, "export_checkpoint", lambda *it: pytest.fail("exported"))
    assert run(tmp_path, *(it.replace("FOLDER", str(tmp_path)) for it in arguments)) == status
    assert message in capsys.readouterr().err
