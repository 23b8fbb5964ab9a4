"""The format of the server's log, with texts of callers in it."""

from __future__ import annotations

import io
import logging

import pytest

from dragoman_service.cli import serve as serve_command
from dragoman_service.cli.log_format import LogFormatter
from dragoman_service.cli.main import main


@pytest.fixture
def written() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(written: io.StringIO) -> logging.Logger:
    logger = logging.Logger("x")
    handler = logging.StreamHandler(written)
    handler.setFormatter(LogFormatter("%(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    return logger


def test_a_record_is_one_line(log: logging.Logger, written: io.StringIO) -> None:
    log.error("got %s", "a\nERROR x: forged\r\x1b[2J\u202e")
    assert written.getvalue() == r"ERROR x: got a\nERROR x: forged\r\x1b[2J\u202e" + "\n"


def test_a_record_has_an_end(log: logging.Logger, written: io.StringIO) -> None:
    log.error("%s", "ä" * 3_000_000)
    assert 4_000 < len(written.getvalue()) < 4_100


def test_a_traceback_forges_no_record(log: logging.Logger, written: io.StringIO) -> None:
    try:
        raise ValueError("a\nERROR x: forged\x1b[2J\rERROR x: forged too")
    except ValueError:
        log.exception("failed")
    first, *rest = written.getvalue().splitlines()
    assert first == "ERROR x: failed"
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest[-1] == r"    ERROR x: forged\x1b[2J\rERROR x: forged too"
    assert all(line.startswith("    ") for line in rest)


def test_a_traceback_has_an_end(log: logging.Logger, written: io.StringIO) -> None:
    try:
        raise ValueError("a\n" * 100_000 + "the end")
    except ValueError:
        log.exception("failed")
    lines = written.getvalue().splitlines()
    assert len(lines) == 202
    assert any(line.startswith("    ... (99") for line in lines)
    assert lines[-1] == "    the end"


def test_the_server_logs_in_this_format(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, list[logging.Handler]] = {}
    monkeypatch.setattr(serve_command, "_serve", lambda config: 0)
    monkeypatch.setattr(logging, "basicConfig", lambda **given: options.update(given))
    monkeypatch.setattr(logging.getLogger(serve_command.GRPC_LOGGER), "filters", [])
    assert main(["serve", "unused"]) == 0
    (handler,) = options["handlers"]
    assert isinstance(handler.formatter, LogFormatter)
