"""Code shared by the workers of train.py, each of which is a trainer in a separate process.

    python bench/peers/trainers/NAME.py '{"folder": "...", "precision": "fp32", "batch_tokens": 2048, ...}'

The first line that a worker writes to its standard output has the versions of its packages and means that it is ready.
It answers each line `round` on its standard input with a `Round` as a line of JSON. train.py starts it; do not start it
by hand. This module imports only the standard library, because workers may run in virtual environments of their own.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PAD, BEGIN, END = 0, 1, 2
"""Ids of the vocabulary that train.py tokenises with; 3 is the unknown."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of all trainers."""

    folder: str
    """Folder with `text.tsv`, `tokenizer.model` and `ids.json`."""
    precision: str
    """fp32 or bf16."""
    batch_tokens: int
    """Target tokens of a batch."""
    threads: int
    seconds: float
    """Least seconds of a round."""
    cpu_time: bool = False
    """Measure processor time instead of elapsed time."""
    sorted: bool = False
    """Batches of sentences of similar length, for a trainer that does not sort by length itself."""
    checkout: str = ""
    """Folder of the source code, for the workers that are Dragoman."""


@dataclass(frozen=True, slots=True)
class Round:
    """The work of a trainer in one timed round."""

    tokens: int
    """Target tokens with the end of each sentence, without padding."""
    updates: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Ids:
    """The text as subword ids, without begin and end of sentence, which the trainers add."""

    vocabulary: int
    source: list[list[int]]
    target: list[list[int]]


def read_ids(settings: Settings) -> Ids:
    """The text that train.py has tokenised."""
    return Ids(**json.loads((Path(settings.folder) / "ids.json").read_text(encoding="utf-8")))


def rounds_of(update: Callable[[], int], settings: Settings) -> Callable[[], Round]:
    """A function that runs a timed round of a trainer in this process.

    Args:
        update: Makes one update and returns its target tokens.
        settings: Length of a round, and its clock.
    """
    clock = time.process_time if settings.cpu_time else time.perf_counter

    def make_round() -> Round:
        tokens = updates = 0
        started = clock()
        while (passed := clock() - started) < settings.seconds:
            tokens += update()
            updates += 1
        return Round(tokens, updates, passed)

    return make_round


def batches_for_ever(ids: Ids, batch_tokens: int) -> Iterator[list[int]]:
    """Batches of indices of pairs of similar length, at most `batch_tokens` on their longer side, in random order.

    For trainers that leave batching to their users. Lengths include the end of the sentence, which `ids` does not have.
    """
    lengths = [(len(source) + 1, len(target) + 1) for source, target in zip(ids.source, ids.target, strict=True)]
    batches, batch, longest = [], list[int](), 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        longest = max(longest, *lengths[index])
        if batch and longest * (len(batch) + 1) > batch_tokens:
            batches.append(batch)
            batch, longest = [], max(lengths[index])
        batch.append(index)
    batches.append(batch)
    generator = random.Random(1)
    while True:
        yield from generator.sample(batches, len(batches))


def serve(prepare: Callable[[Settings], Callable[[], Round]], packages: Sequence[str]) -> None:
    """Answer until the input ends.

    Args:
        prepare: Sets up a trainer, and returns a function that makes a round.
        packages: Packages whose versions are printed above the table.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # output of libraries must not mix with the answers

    def answer(value: object) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        make_round = prepare(Settings(**json.loads(sys.argv[1])))
        answer([f"{name} {importlib.metadata.version(name)}" for name in packages])
        for _ in sys.stdin:
            answer(asdict(make_round()))
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}"})
        raise
