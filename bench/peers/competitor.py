"""A competitor in a separate process, because engines have thread pools and read environment variables at start.

    python bench/peers/competitor.py '{"engine": "Dragoman", "label": "", "model": "BUNDLE", "options": {...}}'

answers each line of JSON on its standard input with a line of JSON. decode.py starts it; do not start it by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.measure.common import seconds_per_call
from bench.peers.engines import ENGINES, Setting, make_sources


class CompetitorFailed(Exception):
    """A competitor failed. The message is that of its exception."""


class Process:
    """A running competitor. It loads its model at the first timing."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        text = json.dumps({"engine": setting.engine, "model": str(setting.model), "options": setting.options})
        self._process = subprocess.Popen(
            [sys.executable, __file__, text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | setting.env,
        )

    def time(self, sentences: int, beam_size: int, length: int, *, at_least: float = 0.0) -> float:
        """Median seconds of a call, among as many calls as take `at_least` seconds.

        Raises:
            CompetitorFailed: the process has failed or ended.
        """
        self.send(sentences, beam_size, length, at_least)
        return self.receive()

    def send(self, sentences: int, beam_size: int, length: int, at_least: float) -> None:
        """Request a timing, without waiting for it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([sentences, beam_size, length, at_least]) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise CompetitorFailed(f"{self.setting.label}: its process has ended") from error

    def receive(self) -> float:
        """Wait for the timing that `send` requested. Raises as `time` does."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "its process has ended"}
        if "error" in answer:
            raise CompetitorFailed(f"{self.setting.label}: {answer['error']}")
        return float(answer["seconds"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def serve(engine: str, model: str, options: dict[str, Any]) -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # output of libraries must not mix with the answers
    competitor = None
    for line in sys.stdin:
        try:
            competitor = competitor or ENGINES[engine](model, **options)
            answer: dict[str, Any] = {"seconds": _timed(competitor, *json.loads(line))}
        except Exception as error:  # the parent process reports it
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _timed(competitor: Any, sentences: int, beam_size: int, length: int, at_least: float) -> float:
    sources = make_sources(sentences, 8000)
    counts: list[int] = []
    seconds = seconds_per_call(
        lambda: counts.append(competitor.translate(sources, beam_size, length)), at_least=at_least, most_calls=200
    )
    if set(counts) != {sentences * length}:
        raise ValueError(f"{counts[0]} tokens instead of {sentences} times {length}")
    return seconds


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", type=json.loads, help="JSON: engine, model, options")
    return parser


if __name__ == "__main__":
    setting = argument_parser().parse_args().setting
    serve(setting["engine"], setting["model"], setting["options"])
