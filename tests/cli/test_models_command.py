"""`dragoman models ...` as operators type it, against a server in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman_service.bundle.bundle import Bundle, GoldenSentence, golden_to_json, write_bundle
from dragoman_service.bundle.manifest import Score
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.cli.main import main
from support.manifests import manifest_of
from support.operated import Operated, operated
from support.stores import Store
from support.tiny import tokenizer_model

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    with operated(tmp_path_factory.mktemp("models"), "1", "2") as server:
        server.stage.bad = {"m@3"}
        server.stage.store.add_manifest("m", "3")
        yield server


@pytest.fixture
def server(running: Operated) -> Operated:
    """One whose versions are as at the start."""
    running.stage.store.aliases("m")
    assert run("models", "unload", "m", "--admin", running.admin) == 0
    for version in ("1", "2"):
        assert run("models", "load", f"m@{version}", "--admin", running.admin) == 0
    assert run("models", "unload", "m@1", "--admin", running.admin) == 0
    return running


def run(*arguments: str) -> int:
    """The exit status, however the command ends."""
    try:
        return main(arguments)
    except SystemExit as end:
        return int(end.code or 0)


def output(capsys: Capture, *arguments: str) -> list[str]:
    """The lines that a command prints."""
    capsys.readouterr()
    assert run("models", *arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def assert_one_message(capsys: Capture, *parts: str) -> None:
    """What a person sees of a mistake: words, not a traceback."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert all(part in captured.err for part in parts), captured.err


def test_the_status_is_a_line_for_each_version(server: Operated, capsys: Capture) -> None:
    assert output(capsys, "status", "--admin", server.admin) == [
        "m 1 unloaded",
        "m 2 serving (default)",
        "m 3 unloaded",
    ]


def test_what_is_wrong_with_a_version_is_said_below_it(server: Operated, capsys: Capture) -> None:
    assert run("models", "load", "m@3", "--admin", server.admin) == 1
    assert_one_message(capsys, "dragoman: bundle m/3: it is bad")
    assert output(capsys, "status", "--admin", server.admin)[-2:] == ["m 3 unloaded", "  bundle m/3: it is bad"]


def test_versions_are_loaded_and_unloaded(server: Operated, capsys: Capture) -> None:
    assert output(capsys, "load", "m@1", "--admin", server.admin)[:2] == ["m 1 serving", "m 2 serving (default)"]
    assert output(capsys, "unload", "m@2", "--admin", server.admin)[:2] == ["m 1 serving (default)", "m 2 unloaded"]
    assert output(capsys, "unload", "m", "--admin", server.admin)[0] == "m 1 unloaded"
    assert server.stage.serving() == []


def test_a_name_alone_loads_the_newest(server: Operated, capsys: Capture) -> None:
    server.stage.store.add_manifest("m", "10")
    assert output(capsys, "load", "m", "--admin", server.admin)[-1] == "m 10 serving (default)"
    server.stage.store.remove("m/10")
    run("models", "unload", "m@2", "--admin", server.admin)
    run("models", "load", "m@2", "--admin", server.admin)
    assert server.stage.default() == "2"


def test_aliases_are_set_moved_and_forgotten(server: Operated, capsys: Capture) -> None:
    lines = output(capsys, "alias", "m@1", "canary", "--share", "0.05", "--admin", server.admin)
    assert lines[:2] == ["m 1 serving (canary 0.05)", "m 2 serving (default)"]
    assert output(capsys, "alias", "m@1", "stable", "--admin", server.admin)[:2] == [
        "m 1 serving (default, canary 0.05, stable)",
        "m 2 serving",
    ]
    assert output(capsys, "alias", "m@2", "stable", "--admin", server.admin)[1] == "m 2 serving (default, stable)"
    assert output(capsys, "unalias", "m@canary", "--admin", server.admin)[0] == "m 1 available"
    assert server.stage.in_force() == {"stable": "2"}


def test_a_refresh_looks_at_the_repository(server: Operated, capsys: Capture) -> None:
    server.stage.store.add_manifest("another", "7")
    assert output(capsys, "refresh", "--admin", server.admin)[0] == "another 7 serving (default)"
    server.stage.store.remove("another")


def test_without_an_action_callers_see_what_serves(server: Operated, capsys: Capture) -> None:
    run("models", "alias", "m@1", "canary", "--admin", server.admin)
    run("models", "alias", "m@2", "stable", "--admin", server.admin)
    lines = output(capsys, "--server", server.address)
    assert "m 2 (en to de, fp32; default, stable)" in lines
    assert "m 1 (en to de, fp32; canary)" in lines
    run("models", "unalias", "m@canary", "--admin", server.admin)
    run("models", "load", "m@1", "--admin", server.admin)
    assert "m 1 (en to de, fp32; by version only)" in output(capsys, "--server", server.address)


def test_texts_of_bundles_forge_no_line_and_do_not_control_the_terminal(server: Operated, capsys: Capture) -> None:
    model = server.stage.loaded["m@2"][-1]
    score = Score("a\nb", "BLEU\x1b[2J", 1.0, "\u202e")
    forged = dataclasses.replace(model.description, description="good\nm 9 (en to de)\x1b[2J", scores=(score,))
    object.__setattr__(model, "description", forged)
    lines = output(capsys, "--server", server.address)
    assert r"  good\nm 9 (en to de)\x1b[2J" in lines
    assert r"  BLEU\x1b[2J 1.0 on a\nb \u202e" in lines


# --- mistakes


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("load", "x"), ("no model 'x'", "there are: m")),
        (("alias", "m@9", "stable"), ("no version '9'", "1, 2, 3")),
        (("alias", "m@1", "a", "--share", "7"), ("share: got 7.0", "0 to 1")),
        (("alias", "m@1", "2"), ("alias: got '2'", "not a version of m")),
        (("unalias", "m@nothing"), ("no alias 'nothing' of m",)),
    ],
)
def test_what_the_server_refuses_is_one_message(
    server: Operated, capsys: Capture, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    capsys.readouterr()
    assert run("models", *arguments, "--admin", server.admin) == 1
    assert_one_message(capsys, "dragoman: ", *parts)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("load", "m"), ("--admin",)),
        (("load", "@1", "--admin", "x:1"), ("got '@1'", "NAME or NAME@VERSION")),
        (("load", "m@", "--admin", "x:1"), ("got 'm@'", "NAME or NAME@VERSION")),
        (("alias", "m", "stable", "--admin", "x:1"), ("got 'm'", "NAME@VERSION")),
        (("alias", "m@1", "--admin", "x:1"), ("ALIAS",)),
        (("unalias", "m", "--admin", "x:1"), ("got 'm'",)),
        (("alias", "m@1", "a", "--share", "much", "--admin", "x:1"), ("--share", "much")),
        (("fly",), ("fly",)),
        (("publish", "somewhere"), ("PATH|URL",)),
    ],
)
def test_what_is_not_understood_is_status_2(
    capsys: Capture, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    assert run("models", *arguments) == 2
    assert_one_message(capsys, "usage: dragoman models", *parts)


def test_no_server_there_says_how_to_start_one(capsys: Capture, tmp_path: Path) -> None:
    assert run("models", "status", "--admin", f"unix:{tmp_path}/none") == 1
    assert_one_message(
        capsys, f"no server at unix:{tmp_path}/none", f"dragoman serve --repository PATH --admin unix:{tmp_path}/none"
    )


# --- publishing


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One that is whole, though its graphs are none."""
    golden = (GoldenSentence("a cat.", (261, 2), 1, 0.6, 8, (270, 271), (-0.5, -1.0), -1.25),)
    size = Tokenizer(tokenizer_model()).vocab_size
    files = {name: name.encode() for name in ("encoder.onnx", "decoder.onnx", "weights.safetensors", "MODEL_CARD.md")}
    return write_bundle(
        tmp_path_factory.mktemp("made") / "anything",
        manifest_of(name="en-de", version="4", vocab_size=size),
        {**files, "tokenizer.model": tokenizer_model(), "golden.json": golden_to_json(golden)},
    )


def test_a_bundle_is_published_under_its_own_name_and_version(bundle: Bundle, tmp_path: Path, capsys: Capture) -> None:
    store = Store(str(tmp_path / "models"))
    place = tmp_path / "models" / "en-de" / "4"
    assert output(capsys, "publish", str(bundle.path), store.url) == [str(place)]
    assert Bundle.load(place).manifest == bundle.manifest
    assert run("models", "publish", str(bundle.path), store.url) == 1
    assert_one_message(capsys, "version: got '4'", "bundles never change")


def test_a_bundle_that_is_damaged_is_not_published(bundle: Bundle, tmp_path: Path, capsys: Capture) -> None:
    store = Store(str(tmp_path / "models"))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in bundle.path.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes())
    (damaged / "weights.safetensors").write_bytes(b"")
    assert run("models", "publish", str(damaged), store.url) == 1
    assert_one_message(capsys, "weights.safetensors: SHA-256 is")
    assert store.names() == set()
    assert run("models", "publish", str(tmp_path / "nowhere"), store.url) == 1
    assert_one_message(capsys, "manifest.json: missing")
