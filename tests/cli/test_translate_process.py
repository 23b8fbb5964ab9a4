"""`dragoman translate` as a process of its own: pipes, full disks, locales, and a server that restarts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import grpc
import pytest

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from support.fake_workers import FakeWorkers, served
from support.server_process import START_SECONDS, dragoman
from support.server_thread import ServerThread, serving
from support.waiting import wait_until

LINES = [f"line {number}" for number in range(3_000)]
SOURCE = "".join(f"{line}\n" for line in LINES)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with serving([served(FakeWorkers(), scores=())]) as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_text(SOURCE)
    return path


def shell(script: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of bash, in which "$@" is the command `dragoman translate` with these arguments."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}", "bash", *dragoman("translate", *arguments)],
        capture_output=True, text=True, timeout=START_SECONDS, check=False, env=os.environ | environment,
    )  # fmt: skip


def test_a_reader_that_leaves_ends_the_command_in_silence(server: ServerThread, source: Path) -> None:
    done = shell('"$@" | head -n 1', "--server", server.address, "--input", source)
    assert (done.returncode, done.stdout, done.stderr) == (1, "LINE 0\n", "")


@pytest.mark.parametrize("command", ["translate", "models"])
@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_standard_output_that_cannot_be_written(
    server: ServerThread, command: str, redirection: str, unbuffered: str
) -> None:
    arguments = dragoman(command, "--server", server.address, *(("a",) if command == "translate" else ()))
    done = subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "bash", *arguments],
        capture_output=True, text=True, timeout=START_SECONDS, check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    if command == "models" and redirection == ">&-":  # Python prints nothing then
        return
    reason = "No space left on device" if "full" in redirection else "closed"
    where = "" if command == "models" and unbuffered else "standard output: "
    assert (done.returncode, done.stderr) == (1, f"dragoman: {where}{reason}\n")


def test_output_that_cannot_be_written(server: ServerThread, source: Path, tmp_path: Path) -> None:
    done = shell('"$@"', "--server", server.address, "--input", source, "--output", "/dev/full")
    assert (done.returncode, done.stderr) == (1, "dragoman: /dev/full: No space left on device\n")


def test_a_disk_that_becomes_full_keeps_the_old_output(server: ServerThread, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("old")
    done = shell('ulimit -f 10; "$@"', "--server", server.address, "--input", source, "--output", target)
    assert (done.returncode, done.stderr) == (1, f"dragoman: {target}: File too large\n")
    assert target.read_text() == "old"
    assert sorted(it.name for it in tmp_path.iterdir()) == ["source", "target"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_old_output_and_leaves_no_other_file(
    tmp_path: Path, source: Path, number: signal.Signals
) -> None:
    workers = FakeWorkers(held=True)
    output = tmp_path / "output"
    output.write_text("old")
    with serving([served(workers)]) as held:
        command = ["translate", "--server", held.address, "--input", str(source), "--output", str(output)]
        with subprocess.Popen(dragoman(*command)) as process:
            try:
                wait_until(lambda: bool(workers.submitted))
                process.send_signal(number)
                assert process.wait(START_SECONDS) == -number
            finally:
                process.kill()
                workers.release()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["output", "source"]
    assert output.read_text() == "old"


INTERRUPTED = """
import os, signal, sys
import grpc._channel
from dragoman_service.cli.main import main

grpc._channel._run_channel_spin_thread = lambda *_: os.kill(os.getpid(), signal.SIGINT)
sys.exit(main(sys.argv[1:]))
"""
"""`dragoman` that gets SIGINT when a call has begun and gRPC's thread for its answer is about to start."""


def test_ctrl_c_ends_the_command_at_its_worst_moment(server: ServerThread, source: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, "translate", "--server", server.address, "--input", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_a_file_that_is_both_input_and_standard_output(server: ServerThread, source: Path) -> None:
    done = shell(f'"$@" >> {source}', "--server", server.address, "--input", source)
    assert done.returncode == 2
    assert "is both input and output" in done.stderr
    assert source.read_text() == SOURCE


def test_a_fifo_is_input_and_output(server: ServerThread, source: Path) -> None:
    done = shell(f'"$@" --input <(cat {source}) --output >(cat)', "--server", server.address)
    assert (done.returncode, done.stdout, done.stderr) == (0, SOURCE.upper(), "")


def test_pipes_are_utf_8_in_any_locale(server: ServerThread) -> None:
    locale = {"PYTHONIOENCODING": "latin-1", "LC_ALL": "C"}
    done = shell("printf 'größe \\xe2\\x80\\xa8 日本\\n' | \"$@\"", "--server", server.address, **locale)
    assert (done.returncode, done.stdout, done.stderr) == (0, "GRÖSSE \u2028 日本\n", "")


class _ShuttingDown(translation_pb2_grpc.TranslationServicer):
    def __init__(self) -> None:
        self.refused = Event()

    def Translate(self, request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:  # noqa: N802
        self.refused.set()
        context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")


def test_a_restart_of_the_server_does_not_end_a_long_file() -> None:
    with serving([served(FakeWorkers(), scores=())]) as first:
        port = first.server.port
        process = subprocess.Popen(
            dragoman("translate", "--server", first.address),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(SOURCE)
        process.stdin.flush()
        assert process.stdout.readline() == "LINE 0\n"
    leaving = _ShuttingDown()
    between = grpc.server(ThreadPoolExecutor(2))
    translation_pb2_grpc.add_TranslationServicer_to_server(leaving, between)
    assert between.add_insecure_port(f"127.0.0.1:{port}") == port
    between.start()
    process.stdin.write(SOURCE)
    process.stdin.flush()
    assert leaving.refused.wait(START_SECONDS)
    between.stop(0).wait()
    with serving([served(FakeWorkers(), scores=())], port=port):
        process.stdin.close()  # `communicate` would lose what `readline` has buffered
        output, errors = (
            process.stdout.read(),
            process.stderr.read(),
        )
        process.wait()
    assert (process.returncode, errors) == (0, "")
    assert "LINE 0\n" + output == 2 * SOURCE.upper()
