"""`dragoman translate --format` against a gRPC server in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman_service.cli.main import main
from dragoman_service.translation.settings import RequestLimits
from support.fake_workers import FakeWorkers, served
from support.office import docx, entries
from support.office import run as word_run
from support.server_thread import serving

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving([served(FakeWorkers())], limits=RequestLimits(max_texts=8, max_characters=200)) as running:
        yield running.address


def run(*arguments: str) -> int:
    try:
        return main(["translate", *arguments])
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize(
    ("file_format", "source", "translation"),
    [
        ("html", b"<p>one <b>two</b>\r\n<p>three &amp; four", b"<p>ONE <b>TWO</b>\r\n<p>THREE &amp; FOUR"),
        ("markdown", b"# one\n\n- **two** `x`\n", b"# ONE\n\n- **TWO** `x`\n"),
        ("srt", b"1\n00:00:01,0 --> 00:00:02,0\n<i>one</i>\n", b"1\n00:00:01,0 --> 00:00:02,0\n<i>ONE</i>\n"),
        ("vtt", b"WEBVTT\n\n00:01.0 --> 00:02.0\none & two", b"WEBVTT\n\n00:01.0 --> 00:02.0\nONE & TWO"),
        ("json", b'{"a": "one", "b": [1, "two"]}', b'{"a": "ONE", "b": [1, "TWO"]}'),
        ("po", b'msgid "one"\nmsgstr ""\n', b'msgid "one"\nmsgstr "ONE"\n'),
        ("po", b"", b""),
        (
            "xliff",
            b'<xliff version="1.2"><trans-unit><source>one <g>two</g></source></trans-unit></xliff>',
            b'<xliff version="1.2"><trans-unit><source>one <g>two</g></source>'
            b"<target>ONE <g>TWO</g></target></trans-unit></xliff>",
        ),
    ],
)
def test_files(server: str, tmp_path: Path, file_format: str, source: bytes, translation: bytes) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(source)
    assert run("--server", server, "--format", file_format, "--input", str(old), "--output", str(new)) == 0
    assert new.read_bytes() == translation


def test_a_word_document(server: str, tmp_path: Path) -> None:
    old, new = tmp_path / "old.docx", tmp_path / "new.docx"
    old.write_bytes(docx(f"<w:p>{word_run('one')}</w:p>"))
    assert run("--server", server, "--input", str(old), "--output", str(new)) == 0
    assert word_run("ONE") in entries(new.read_bytes())["word/document.xml"].decode()


def test_the_suffix_says_the_format(server: str, tmp_path: Path, capsys: Capture) -> None:
    for name, source, translation in (
        ("a.JSON", '{"one": "two"}', '{"one": "TWO"}'),
        ("a.srt", "1\n00:00:01,0 --> 00:00:02,0\none\n", "1\n00:00:01,0 --> 00:00:02,0\nONE\n"),
        ("a.txt", "<b>one</b>\n", "<b>ONE</b>\n"),
        ("a.log", '{"one": 1}\n', '{"ONE": 1}\n'),
    ):
        path = tmp_path / name
        path.write_text(source)
        assert run("--server", server, "--input", str(path)) == 0
        assert capsys.readouterr().out == translation
    assert run("--server", server, "--input", str(tmp_path / "a.JSON"), "--format", "lines") == 0
    assert capsys.readouterr().out == '{"ONE": "TWO"}\n'


def test_the_name_of_a_file_stands_for_it(server: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "report.html"
    path.write_text("<p>one</p>")
    assert run("--server", server, str(path), "--to", "de") == 0
    assert (tmp_path / "report.de.html").read_text() == "<p>ONE</p>"
    assert run("--server", server, str(path), "--to", "de") == 2
    assert "report.de.html: is there already; name it with --output to replace it" in capsys.readouterr().err
    assert run("--server", server, str(path), "--output", str(tmp_path / "report.de.html")) == 0
    lines = tmp_path / "lines.txt"
    lines.write_text("one\ntwo\n")
    assert run("--server", server, str(lines)) == 0
    assert run("--server", server, "nothing.html", "two") == 0
    assert capsys.readouterr().out == "ONE\nTWO\nNOTHING.html\nTWO\n".replace("NOTHING", "nothing")


def test_texts_may_be_documents(server: str, capsys: Capture) -> None:
    options = ("--format", "html", "--html-attribute", "alt")
    assert run("--server", server, *options, "<b>one</b>", "<img alt='two'> three") == 0
    assert capsys.readouterr().out == "<b>ONE</b>\n<img alt='TWO'> THREE\n"


def test_what_is_incomplete_is_told(server: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "a.json"
    path.write_text('["one",\n "two"]')
    assert run("--server", server, "--format", "json", "--input", str(path), "--max-length", "2") == 0
    captured = capsys.readouterr()
    assert captured.out == '["ON",\n "TW"]'
    message = "its translation is incomplete (finish reason length)"
    assert captured.err == f"dragoman: {path}:1: {message}\ndragoman: {path}:2: {message}\n"


def test_what_fails_stays_as_it_is_and_is_told(server: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "a.json"
    path.write_text('["one",\n "%s",\n "two"]' % ("x" * 201))
    assert run("--server", server, "--format", "json", "--input", str(path)) == 1
    captured = capsys.readouterr()
    assert captured.out == '["ONE",\n "%s",\n "TWO"]' % ("x" * 201)
    assert f"{path}:2: got '201 characters'; allowed: at most 200" in captured.err
    assert run("--server", server, "--format", "json", "--input", str(path), "--fail-fast", "--output", str(path)) == 1
    assert path.read_text().startswith('["one"')


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--format", "srt", "one"), 2, "--format srt: only with a file or standard input"),
        (("--format", "html", "--prefix", "x", "one"), 2, "--prefix: not with --format html"),
        (("--html-attribute", "alt", "one"), 2, "--html-attribute: only with --format html"),
        (("--format", "html", "--n-best", "2"), 2, "not with a file of --format html"),
        (("--format", "html", "--html-attribute", "href", "one"), 1, "html_attributes[0]: got 'href'"),
        (("--format", "json", "--input", "BAD"), 1, "bad.json: not JSON: "),
        (("--format", "srt", "--input", "LATIN"), 1, "latin.srt: line 2: got the byte 0xe9; allowed: UTF-8"),
        (("--format", "srt", "--input", "nowhere"), 1, "nowhere: No such file"),
    ],
)
def test_mistakes_are_explained(
    server: str, tmp_path: Path, capsys: Capture, arguments: tuple[str, ...], status: int, message: str
) -> None:
    bad, latin = tmp_path / "bad.json", tmp_path / "latin.srt"
    bad.write_text("{")
    latin.write_bytes(b"1\ncaf\xe9\n")
    names = {"BAD": str(bad), "LATIN": str(latin)}
    assert run("--server", server, *(names.get(it, it) for it in arguments)) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert "Traceback" not in captured.err
