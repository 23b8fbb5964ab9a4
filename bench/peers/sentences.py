"""The sentences of the benchmarks: a random mix of news and captions with a fixed seed."""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.peers.artifacts import Artifacts
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.text.segmenter import segment

SOURCES = ("dev/newstest2013.en-de.en", "multi30k/test_2016_flickr.en")
"""Files in the data folder: news, with long sentences, and captions, with short ones."""


def add_sentence_options(parser: argparse.ArgumentParser, count: int) -> None:
    """Declare --data, --sentences and --seed."""
    parser.add_argument("--data", type=Path, help="folder with the text; without it, DRAGOMAN_DATA names the folder")
    parser.add_argument("--sentences", type=int, default=count, help=f"number of sentences (default: {count})")
    parser.add_argument("--seed", type=int, default=1, help="seed of their choice (default: 1)")


def sentences_for(args: argparse.Namespace, artifacts: Artifacts) -> list[str]:
    """The sentences chosen by the options of `add_sentence_options`, none too long for the model."""
    tokenizer = Tokenizer(artifacts.tokenizer)
    return read_sentences(data_folder(args.data), tokenizer, args.sentences, args.seed, artifacts.max_source_tokens - 1)


def data_folder(given: Path | None) -> Path:
    """The folder `given`, or else the one that DRAGOMAN_DATA names. Exits with a message if its files are missing."""
    folder = given or (Path(os.environ["DRAGOMAN_DATA"]) if os.environ.get("DRAGOMAN_DATA") else None)
    if folder is None:
        raise SystemExit("no text: give --data FOLDER, or set DRAGOMAN_DATA (recipes/README.md describes the folder)")
    for name in SOURCES:
        if not (folder / name).is_file():
            raise SystemExit(f"no file {name} in {folder}")
    return folder


def read_sentences(folder: Path, tokenizer: Tokenizer, count: int, seed: int, max_tokens: int) -> list[str]:
    """`count` lines, equally many from each file, in random order; the same for the same seed.

    Only lines that the server takes as one sentence of at most `max_tokens` tokens are chosen, so that no competitor
    splits or truncates a line.
    """
    files = [(folder / name).read_text(encoding="utf-8").splitlines() for name in SOURCES]
    return choose(files, count, seed, lambda line: is_one_sentence(line, tokenizer, max_tokens))


def is_one_sentence(line: str, tokenizer: Tokenizer, max_tokens: int) -> bool:
    """Whether the server would translate this line as one sentence."""
    pieces = segment(line, "en")
    return len(pieces) == 1 and pieces[0].translatable and len(tokenizer.encode(line)) <= max_tokens


def choose(files: Sequence[Sequence[str]], count: int, seed: int, fits: Callable[[str], bool]) -> list[str]:
    """`count` different lines for which `fits` is true, as evenly as possible from all files, shuffled.

    Raises:
        ValueError: a file has too few such lines.
    """
    rng = random.Random(seed)
    chosen: list[str] = []
    for index, lines in enumerate(files):
        wanted = (count - len(chosen)) // (len(files) - index)
        found: list[str] = []
        seen = set(chosen)
        for line in rng.sample(lines, len(lines)):
            if len(found) == wanted:
                break
            if line not in seen and fits(line):
                found.append(line)
                seen.add(line)
        if len(found) < wanted:
            raise ValueError(f"file {index}: {len(found)} lines fit; {wanted} are needed")
        chosen += found
    rng.shuffle(chosen)
    return chosen
