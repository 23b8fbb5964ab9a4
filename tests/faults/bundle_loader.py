"""Loads bundles in a child process, because what is wrong with one may take the whole process with it.

As a program: reads the paths of bundles, a line each, and writes what became of each, a line of JSON each.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

SECONDS = 60.0
"""A bundle that takes longer to load hangs: it takes a tenth of a second."""
MEMORY = 16 * 2**30
"""Bytes of address space: sizes that a bundle makes up must not take the machine's memory."""

GOLDEN_SOURCES = ("Hello!", "Thank you very much.")
"""Among the golden sentences of every bundle, with a beam of 4."""


@dataclass(frozen=True)
class Outcome:
    """What became of a bundle: served, refused, or one of those that must not be: raised, crashed, hung."""

    kind: str
    message: str
    """The tokens of its translations, or what is wrong."""


class Loader:
    """A child process that loads one bundle after the other; a new one takes the place of one that dies."""

    def __init__(self, errors: IO[str]) -> None:
        """`errors` is where the child writes what it has to say."""
        self._errors = errors
        self._child: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def load(self, path: Path, seconds: float = SECONDS) -> Outcome:
        """Have a bundle loaded."""
        child = self._running()
        assert child.stdin is not None
        child.stdin.write(f"{path}\n")
        child.stdin.flush()
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            self.close()
            return Outcome("hung", f"no answer within {seconds:g} s")
        if line:
            return Outcome(**json.loads(line))
        status = child.wait()
        self.close()
        return Outcome("crashed", f"the process ended with status {status}")

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
        self._child = None

    def _running(self) -> subprocess.Popen[str]:
        if self._child is None:
            command = [sys.executable, __file__]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment
            )
            self._lines = queue.SimpleQueue()
            threading.Thread(target=_read, args=(self._child.stdout, self._lines), daemon=True).start()
        return self._child


@contextmanager
def loader(errors: Path) -> Iterator[Loader]:
    """A loader whose child is ended afterwards; what that writes to standard error goes to a file."""
    with errors.open("w", encoding="utf-8") as file:
        child = Loader(file)
        try:
            yield child
        finally:
            child.close()


def _read(lines: IO[str], into: queue.SimpleQueue[str]) -> None:
    for line in lines:
        into.put(line)
    into.put("")


def outcome_of(path: Path) -> Outcome:
    """Load a bundle, and use it as its clients would."""
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - the parent process needs none of this

    from dragoman_service.errors import DragomanError  # noqa: PLC0415
    from dragoman_service.repository.loading import load_models  # noqa: PLC0415
    from dragoman_service.server.metrics import Metrics  # noqa: PLC0415
    from dragoman_service.server.settings import ServiceConfig  # noqa: PLC0415
    from support.server_thread import serving  # noqa: PLC0415

    try:
        config = ServiceConfig.of(model_paths=(path,), threads=1, lanes=1, max_rows=4)
        models = load_models(config.model_paths, config.model, Metrics(CollectorRegistry()))
        with serving(models) as server:
            answer = ask(server.address)
    except DragomanError as error:
        return Outcome("refused", f"{type(error).__name__}: {error}")
    except BaseException as error:
        return Outcome("raised", f"{type(error).__name__}: {error}")
    return Outcome("served", answer)


def ask(address: str) -> str:
    """List the models, and translate golden sentences, and one of which the model cannot take the whole.

    Returns the tokens of the former.
    """
    import grpc  # noqa: PLC0415

    from dragoman_protos.v1 import translation_pb2 as pb  # noqa: PLC0415
    from dragoman_protos.v1 import translation_pb2_grpc  # noqa: PLC0415

    with grpc.insecure_channel(address) as channel:
        stub = translation_pb2_grpc.TranslationStub(channel)
        assert len(stub.ListModels(pb.ListModelsRequest()).models) == 1
        long = pb.TranslateRequest(texts=["dog " * 200], options=pb.DecodingOptions(max_length=2))
        assert len(stub.Translate(long, timeout=SECONDS).translations) == 1
        options = pb.DecodingOptions(beam_size=4, max_length=64)
        golden = pb.TranslateRequest(texts=GOLDEN_SOURCES, options=options, return_tokens=True)
        answers = stub.Translate(golden, timeout=SECONDS).translations
        return json.dumps([list(answer.hypotheses[0].tokens) for answer in answers])


def main() -> None:
    """Answer for each bundle."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    # ONNX Runtime prints, too: what we say goes where nobody else writes.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(asdict(outcome_of(Path(line.rstrip("\n"))))), file=answers, flush=True)


if __name__ == "__main__":
    main()
