"""What the workers of train.py share: each is a trainer in a process, and maybe a virtual environment, of its own.

    python bench/peers/trainers/NAME.py '{"folder": "...", "precision": "fp32", "batch_tokens": 2048, ...}'

A worker answers each line `round` on its standard input with a line of JSON, a `Round`, on its standard output; the
first line that it writes says that it is ready, and with which versions. train.py starts it; it is nothing to start by
hand. This module needs nothing but Python: whatever environment a worker lives in, it can be imported.
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
    """What all trainers are told."""

    folder: str
    """Of the text, in three forms: `text.tsv`, `tokenizer.model`, `ids.json`."""
    precision: str
    """fp32 or bf16."""
    batch_tokens: int
    """Target tokens of a batch."""
    threads: int
    seconds: float
    """The least that a round takes."""
    cpu_time: bool = False
    """Count seconds of the processor instead of the clock's."""
    sorted: bool = False
    """Batches of sentences of one length, for a trainer that has none of its own."""
    checkout: str = ""
    """Folder of the source code, for the workers that are Dragoman."""


@dataclass(frozen=True, slots=True)
class Round:
    """What a trainer did between two looks at the clock."""

    tokens: int
    """Target tokens with the end of each sentence, without padding."""
    updates: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Ids:
    """The text in subwords, without begin and end: those belong to the trainer."""

    vocabulary: int
    source: list[list[int]]
    target: list[list[int]]


def read_ids(settings: Settings) -> Ids:
    """The text that train.py has tokenised."""
    return Ids(**json.loads((Path(settings.folder) / "ids.json").read_text(encoding="utf-8")))


def rounds_of(update: Callable[[], int], settings: Settings) -> Callable[[], Round]:
    """Rounds of a trainer in this process.

    Args:
        update: Makes one update; returns its target tokens.
        settings: How long a round takes, by which clock.
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
    """Indices of pairs that are as long as one another, `batch_tokens` on their longer side, in random order.

    For trainers that leave batching to their users. Source and target are a token longer than in `ids`, the end.
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
        prepare: Gets a trainer ready; what it returns makes a round.
        packages: Whose versions are to stand above the table.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer

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
