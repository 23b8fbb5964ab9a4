"""The command line against a gRPC server in this process; `dragoman serve` itself is tested in tests/system."""

from __future__ import annotations

import errno
import importlib.metadata
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman_service.bundle.languages import Languages
from dragoman_service.cli import main as cli
from dragoman_service.cli.connection import server_address
from dragoman_service.cli.lines import one_line
from dragoman_service.cli.main import main
from dragoman_service.translation.settings import RequestLimits
from support.fake_workers import FakeWorkers, served
from support.server_thread import serving

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def engine() -> FakeWorkers:
    return FakeWorkers()


@pytest.fixture(scope="module")
def server(engine: FakeWorkers) -> Iterator[str]:
    with serving([served(engine, scores=())]) as running:
        yield running.address


def piped(data: bytes) -> io.TextIOWrapper:
    """Standard input with these bytes, in a locale that is not UTF-8."""
    return io.TextIOWrapper(io.BytesIO(data), encoding="latin-1")


def run(*arguments: str) -> int:
    """The exit status, however the command ends."""
    try:
        return main(arguments)
    except SystemExit as end:
        return int(end.code or 0)


def assert_one_message(capsys: Capture, *parts: str) -> None:
    """What a person sees of a mistake: words, not a traceback."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert all(part in captured.err for part in parts), captured.err


def test_texts_as_arguments(server: str, capsys: Capture) -> None:
    assert run("translate", "--server", server, "one", "two. Three\n\nfour") == 0
    assert capsys.readouterr().out == "ONE\nTWO. THREE\n\nFOUR\n"


def test_standard_input_line_by_line(server: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", piped(b"one\n\n two \r\nthree"))
    assert run("translate", "--server", server) == 0
    assert capsys.readouterr().out == "ONE\n\n TWO \r\nTHREE\n"


@pytest.mark.parametrize("typed", [False, True])
def test_terminal_gets_each_line_at_once(
    server: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, typed: bool
) -> None:
    seen = []

    class Typist(io.BytesIO):
        def isatty(self) -> bool:
            return typed

        def __next__(self) -> bytes:
            seen.append(capsys.readouterr().out)
            return super().__next__()

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(Typist(b"one\ntwo\n")))
    assert run("translate", "--server", server) == 0
    assert seen == (["", "ONE\n", "TWO\n"] if typed else ["", "", ""])


def test_files_keep_lines_and_order(server: str, capsys: Capture, tmp_path: Path) -> None:
    lines = [f"line {number}\u2028 end" if number % 3 else "" for number in range(1000)]
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert run("translate", "--server", server, "--input", str(source), "--output", str(target)) == 0
    assert target.read_text(encoding="utf-8") == source.read_text(encoding="utf-8").upper()
    assert capsys.readouterr() == ("", "")


def test_long_file_shows_progress_to_a_person(
    server: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_text("one\ntwo\n")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert run("translate", "--server", server, "--input", str(source), "--output", str(tmp_path / "target")) == 0
    assert "2/2" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("source", ["file", "pipe"])
@pytest.mark.parametrize("redirected", [True, False])
def test_progress_is_shown_where_the_translations_are_not(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, redirected: bool
) -> None:
    (tmp_path / "source").write_text("one\ntwo\n")
    errors, output = Terminal(), io.StringIO() if redirected else Terminal()
    monkeypatch.setattr("sys.stderr", errors)
    monkeypatch.setattr("sys.stdout", output)
    monkeypatch.setattr("sys.stdin", piped(b"one\ntwo\n"))
    arguments = ("--input", str(tmp_path / "source")) if source == "file" else ()
    assert run("translate", "--server", server, *arguments) == 0
    assert output.getvalue() == "ONE\nTWO\n"
    if redirected:
        assert ("2/2" if source == "file" else "2 lines") in errors.getvalue()
    else:
        assert errors.getvalue() == ""


def test_n_best(server: str, capsys: Capture) -> None:
    assert run("translate", "--server", server, "--n-best", "2", "a", "b") == 0
    expected = ["0 ||| A ||| -1.0000", "0 ||| A! ||| -2.0000", "1 ||| B ||| -1.0000", "1 ||| B! ||| -2.0000"]
    assert capsys.readouterr().out.splitlines() == expected


def test_terms_of_a_file_and_phrases_to_keep(server: str, tmp_path: Path, capsys: Capture) -> None:
    glossary = tmp_path / "terms.tsv"
    glossary.write_text("# of banks\nbank\tHaus\n\nUS\tVereinigte Staaten\tcase\r\n")
    arguments = ("--server", server, "--glossary", str(glossary))
    assert run("translate", *arguments, "--keep", "hi", "--keep", "ho ho", "hi ho ho, a bank", "us US") == 0
    assert capsys.readouterr().out == "hi ho ho, A Haus\nUS Vereinigte Staaten\n"
    for text, problem in (
        ("a\tb\nc", f"{glossary}, line 2: got 'c'; allowed: SOURCE<tab>TARGET"),
        ("a\tb\n\nA\tc", f"{glossary}, line 3.source: got 'A'; allowed: one term for each source"),
        ("a\tb\tx", f"{glossary}, line 1: got 'a\\tb\\tx'"),
    ):
        glossary.write_text(text)
        assert run("translate", *arguments, "a") == 2
        assert problem in capsys.readouterr().err
    glossary.write_bytes(b"a\t\xff")
    assert run("translate", *arguments, "a") == 2
    assert f"{glossary}: is not UTF-8" in capsys.readouterr().err
    glossary.unlink()
    assert run("translate", *arguments, "a") == 2
    assert f"{glossary}: No such file" in capsys.readouterr().err


def test_stream(server: str, capsys: Capture) -> None:
    assert run("translate", "--server", server, "--stream", "ab. Cd", "e") == 0
    assert capsys.readouterr().out == "AB. CD\nE\n"


def test_options_reach_the_server(server: str, engine: FakeWorkers) -> None:
    assert (
        run("translate", "--server", server, "--beam-size", "3", "--length-penalty", "0", "--max-length", "7", "a") == 0
    )
    options = engine.submitted[-1].options
    assert (options.beam_size, options.length_penalty, options.max_length, options.sampling) == (3, 0.0, 7, None)
    assert run("translate", "--server", server, "--seed", "5", "--prefix", "x", "--from", "en", "--to", "de", "a") == 0
    sampling = engine.submitted[-1].options.sampling
    assert sampling is not None
    assert sampling.seed == 5
    assert len(engine.submitted[-1].target_prefix) == 1
    suppress = ("--suppress", "B", "--suppress", "C", "--suppress-token", "D", "--patience", "2")
    assert run("translate", "--server", server, "--prefix", "x", "--prefix-bias", "0.5", *suppress, "a") == 0
    last = engine.submitted[-1]
    banned, preferred = (len(bias.added(())[0]) for bias in last.biases)
    assert (banned, preferred, last.target_prefix, last.options.patience) == (3, 1, (), 2.0)


@pytest.mark.parametrize(
    ("arguments", "status", "parts"),
    [
        (("--beam-size", "0", "a"), 1, ("beam_size: got 0", "1 to 16")),
        (("--beam-size", "1000", "a"), 1, ("beam_size: got 1000",)),
        (("--beam-size", "99999999999999", "a"), 2, ("99999999999999",)),
        (("--beam-size", "4", "--top-k", "3", "a"), 1, ("beam_size: got 4", "sampling")),
        (("--to", "xx", "a"), 1, ("en to de",)),
        (("--model", "quiet", "a"), 1, ("loud",)),
        (("--suppress", " x", "a"), 1, ("suppressed_words[0]: got ' x'", "no spaces around them")),
        (("--coverage-penalty", "1", "a"), 1, ("coverage_penalty: got 1.0", "gives no alignments")),
        (("--input", "/does/not/exist"), 1, ("/does/not/exist", "No such file")),
        (("--output", "/does/not/exist", "a"), 1, ("/does/not/exist", "No such file")),
        (("--input", "/etc/hosts", "a"), 2, ("--input",)),
        (("--stream", "--n-best", "2", "a"), 2, ("--n-best",)),
        (("a\udc80",), 1, ("TEXT 1: got a lone surrogate",)),
        (("--to", "a\udc80", "a"), 1, ("target_language: got a lone surrogate",)),
        (("--stream", "--json", "a"), 2, ("--json",)),
        (("--prefix-bias", "1", "a"), 2, ("--prefix-bias: only with --prefix",)),
        (("--output", "/", "a"), 1, ("dragoman: /: Is a directory",)),
    ],
)
def test_mistakes_are_explained(
    server: str, capsys: Capture, arguments: tuple[str, ...], status: int, parts: tuple[str, ...]
) -> None:
    assert run("translate", "--server", server, *arguments) == status
    assert_one_message(capsys, *parts)


@pytest.fixture(scope="module")
def strict() -> Iterator[str]:
    """A server that refuses lines of more than 9 characters."""
    with serving([served(FakeWorkers(), scores=())], limits=RequestLimits(max_characters=9)) as running:
        yield running.address


BAD = b"\xef\xbb\xbfone\nGr\xfc\xdfe\n\n" + b"x" * 10 + b"\ntwo\n\xff"


@pytest.mark.parametrize("piping", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_bad_lines_are_empty_and_told_at_the_end(
    strict: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piping: bool, stream: bool
) -> None:
    source, options = tmp_path / "source", ("--stream",) if stream else ()
    source.write_bytes(BAD)
    monkeypatch.setattr("sys.stdin", piped(BAD))
    assert run("translate", "--server", strict, *options, *(() if piping else ("--input", str(source)))) == 1
    shown = capsys.readouterr()
    assert shown.out == "ONE\n\n\n\nTWO\n\n"
    name = "<stdin>" if piping else source
    assert shown.err.splitlines() == [
        f"dragoman: {name}:2: got the byte 0xfc as byte 3 of the line; allowed: UTF-8",
        f"dragoman: {name}:4: got '10 characters'; allowed: at most 9; send it in parts",
        f"dragoman: {name}:6: got the byte 0xff as byte 1 of the line; allowed: UTF-8",
        "dragoman: 3 lines could not be translated: they are empty",
    ]


def test_bad_lines_as_json(strict: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", piped(BAD))
    assert run("translate", "--server", strict, "--json", "--n-best", "2") == 1
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [it["line"] for it in shown] == [1, 2, 3, 4, 5, 6]
    assert [[each["text"] for each in it.get("hypotheses", ())] for it in shown] == [
        ["ONE", "ONE!"], [], [""], [], ["TWO", "TWO!"], []
    ]  # fmt: skip
    assert shown[3]["error"] == "got '10 characters'; allowed: at most 9; send it in parts"


def test_many_bad_lines_are_counted(strict: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", piped(b"\xff\n" * 150))
    assert run("translate", "--server", strict) == 1
    shown = capsys.readouterr()
    assert shown.out == "\n" * 150
    assert shown.err.splitlines()[99:] == [
        "dragoman: <stdin>:100: got the byte 0xff as byte 1 of the line; allowed: UTF-8",
        "dragoman: and 50 more lines",
        "dragoman: 150 lines could not be translated: they are empty",
    ]


def test_fail_fast_keeps_the_old_output(strict: str, capsys: Capture, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(BAD)
    target.write_text("old")
    arguments = ("--server", strict, "--input", str(source), "--output", str(target))
    assert run("translate", *arguments, "--fail-fast") == 1
    assert_one_message(capsys, f"{source}:2: ")
    assert target.read_text() == "old"
    assert sorted(it.name for it in tmp_path.iterdir()) == ["source", "target"]
    assert run("translate", *arguments) == 1
    assert target.read_text() == "ONE\n\n\n\nTWO\n\n"


@pytest.mark.parametrize(
    "bad", [("--beam-size", "0"), ("--to", "xx"), ("--beam-size", "99999999999999"), ("--server", "127.0.0.1:1")]
)
def test_a_failure_keeps_the_old_output(server: str, tmp_path: Path, bad: tuple[str, str]) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("one\n")
    target.write_text("old")
    assert run("translate", "--server", server, "--input", str(source), "--output", str(target), *bad) in (1, 2)
    assert target.read_text() == "old"
    assert sorted(it.name for it in tmp_path.iterdir()) == ["source", "target"]


def test_output_may_be_the_input_and_keeps_mode_and_link(server: str, tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("one\ntwo\n")
    file.chmod(0o640)
    link.symlink_to(file)
    assert run("translate", "--server", server, "--input", str(file), "--output", str(link)) == 0
    assert file.read_text() == "ONE\nTWO\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()


def test_prefix_is_left_out_where_there_is_nothing_to_translate(
    server: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", piped(b"one\n\n \t\n***\ntwo\n"))
    assert run("translate", "--server", server, "--prefix", "X") == 0
    assert capsys.readouterr() == ("XONE\n\n \t\n***\nXTWO\n", "")


def test_formats_hold_whatever_the_text_has(server: str, capsys: Capture) -> None:
    text = "a\nb ||| c |||| \\ d\u2028e\r"
    assert run("translate", "--server", server, "--n-best", "1", text) == 0
    score = capsys.readouterr().out.rpartition(" ||| ")
    assert score[0] == r"0 ||| A\nB \|\|\| C \|\|\|| \\ D\u2028E\r"
    assert run("translate", "--server", server, "--json", text) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["hypotheses"][0]["text"] == text.upper()


def test_line_breaks_that_a_model_makes_are_spaces() -> None:
    assert one_line("a\nb\u2028c\r", "x") == "a b c "
    assert one_line("a\nb\u2028c\r", "x\r\u2028") == "a b\u2028c\r"


@pytest.mark.parametrize("command", [("models",), ("translate", "--deadline", "1", "a")])
def test_no_server_there(capsys: Capture, command: tuple[str, ...]) -> None:
    assert run(*command, "--server", "127.0.0.1:1") == 1
    assert_one_message(capsys, "127.0.0.1:1", "dragoman")


def test_models(server: str, capsys: Capture) -> None:
    assert run("models", "--server", server) == 0
    shown = capsys.readouterr().out
    assert "loud 1 (en to de, fp32; default)\n  Shouts.\n" in shown
    assert "  sentences up to 101 tokens, beam size up to 16, 4 by default\n" in shown


def test_models_of_many_languages(capsys: Capture) -> None:
    tags = tuple(f"{a}{b}" for a in "abcdef" for b in "abcdef")
    many = served(FakeWorkers(), languages=Languages((), tags, tags[1:]), licence="CC-BY-4.0\nforged")
    with serving([many]) as running:
        assert run("models", "--server", running.address) == 0
    assert capsys.readouterr().out.splitlines() == [
        "loud 1 (1225 pairs of 36 languages, fp32; default)",
        "  Shouts.",
        f"  from {' '.join(tags)}",
        f"  into {' '.join(tags[1:])}",
        "  sentences up to 101 tokens, beam size up to 16, 4 by default",
        "  licence CC-BY-4.0\\nforged",
    ]


def test_help_of_an_option_without_a_default_shows_none(capsys: Capture) -> None:
    assert run("serve", "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 is the fastest (default: that of each model, or 4) " in shown
    assert "None" not in shown


@pytest.mark.parametrize("options", [(), ("--stream",)])
def test_incomplete_translations_are_told(server: str, capsys: Capture, options: tuple[str, ...]) -> None:
    assert run("translate", "--server", server, "--max-length", "3", *options, "one", "three") == 0
    captured = capsys.readouterr()
    assert captured.out == "ONE\nTHR\n"
    assert captured.err == "dragoman: 1 translations are incomplete; --json says which, and why\n"


def test_ctrl_c_while_the_commands_are_imported(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def interrupted() -> list[importlib.metadata.EntryPoint]:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_entry_points", interrupted)
    assert run("--help") == 130
    assert_one_message(capsys)


def test_help_names_every_command(capsys: Capture) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    names = {entry.name for entry in importlib.metadata.entry_points(group=cli.COMMAND_GROUP)}
    assert {"serve", "translate", "train", "export", "distill", "back-translate"} < names
    assert all(name in text for name in names)


@pytest.mark.parametrize("command", ["serve", "translate", "models"])
def test_help_of_commands(capsys: Capture, command: str) -> None:
    assert run(command, "--help") == 0
    assert f"usage: dragoman {command}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [(), ("fly",), ("translate", "--no-such-option")])
def test_misuse_is_status_2(capsys: Capture, arguments: tuple[str, ...]) -> None:
    assert run(*arguments) == 2
    assert_one_message(capsys, "usage: dragoman")


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [
        ("--port", "70000", "port"),
        ("--max-rows", "0", "max_rows"),
        ("--default-beam-size", "99", "default_beam_size"),
        ("--grace", "-1", "grace"),
        ("--grace", "nan", "grace"),
        ("--max-queue", "0", "max_queue"),
        ("--threads", "-1", "threads"),
        ("--lanes", "-1", "lanes"),
        ("--lanes", "99", "lanes"),
        ("--window", "0", "window"),
        ("--metrics-port", "50051", "metrics_port"),
        ("--log-level", "loud", "log-level"),
        ("--device", "tpu", "device"),
        ("--gpu-memory", "-1", "gpu.memory_limit"),
        ("--gpu-steps", "0", "gpu.steps"),
        ("--gpu-graph-rows", "0", "gpu.graph_rows"),
        ("--gpu-graph-rows", "eight", "gpu-graph-rows"),
        ("--gpu-attention", "none", "gpu-attention"),
        ("--gpu-arena", "none", "gpu-arena"),
        ("--write-timeout", "0", "write_timeout"),
        ("--stream-interval", "-1", "stream_interval"),
        ("--stream-interval", "nan", "stream_interval"),
        ("--max-sentences", "0", "max_sentences"),
    ],
)
def test_bad_settings_of_serve(capsys: Capture, option: str, value: str, field: str) -> None:
    assert run("serve", "nowhere", option, value) in (1, 2)
    assert_one_message(capsys, field, value)


def entry_point(monkeypatch: pytest.MonkeyPatch, name: str, target: str) -> None:
    point = importlib.metadata.EntryPoint(name, target, cli.COMMAND_GROUP)
    monkeypatch.setattr(cli, "_entry_points", lambda: [point])


class Fails:
    """A command that fails when it runs."""

    help = "fails when it runs"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def add_arguments(self, parser: object) -> None:
        pass

    def run(self, args: object) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("command", "module", "library", "install"),
    [
        ("train", "torch", "PyTorch", "pip install '.[train]'"),
        ("export", "torch.nn", "PyTorch", "pip install '.[export]'"),
        ("train", "tensorboard", "TensorBoard", "pip install '.[train]'"),
        ("evaluate", "sacrebleu", "sacreBLEU", "pip install '.[train]'"),
        ("evaluate", "onnxruntime", "ONNX Runtime", "pip install '.[cpu]'"),
        ("train", "matplotlib", "Matplotlib", "pip install '.[train]'"),
        ("export", "onnx", "ONNX", "pip install '.[export]'"),
        ("serve", "onnxruntime", "ONNX Runtime", "pip install '.[cpu]'"),
        ("serve", "grpc_health.v1", "gRPC's health service", "pip install ."),
        ("translate", "grpc", "gRPC", "pip install ."),
    ],
)
def test_missing_library_names_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, command: str, module: str, library: str, install: str
) -> None:
    missing = ModuleNotFoundError(f"No module named {module!r}", name=module)
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda point: lambda: Fails(missing))
    entry_point(monkeypatch, command, "anything:at_all")
    assert run(command) == 2
    assert_one_message(capsys, f"dragoman {command} needs {library}: run {install} in a checkout")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", "/from/a", None, "/to/b"), "/to/b: No space left on device"),
    ],
)
def test_what_is_used_up_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, error: Exception, message: str
) -> None:
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda point: lambda: Fails(error))
    entry_point(monkeypatch, "train", "anything:at_all")
    assert run("train") == 1
    assert_one_message(capsys, message)


def test_missing_package_of_ours_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    entry_point(monkeypatch, "train", "no_such_package_anywhere:train")
    assert run("train") == 2
    assert_one_message(capsys, "dragoman train needs no_such_package_anywhere: run pip install .")


@pytest.mark.parametrize("command", [("models",), ("translate", "a")])
@pytest.mark.parametrize("server", ["", "localhost", "localhost:", ":50051", "localhost:http", "localhost:0", "::1:50"])
def test_server_that_is_no_address(capsys: Capture, command: tuple[str, ...], server: str) -> None:
    assert run(*command, f"--server={server}") == 2
    assert_one_message(capsys, f"--server: got {server!r}", "HOST:PORT", "localhost:50051")


@pytest.mark.parametrize("server", ["example.org:1", "127.0.0.1:65535", "[::1]:50051", "dns:///example.org:443"])
def test_server_addresses(server: str) -> None:
    assert server_address(server) == server
