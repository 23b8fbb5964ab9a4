"""Parallel text: reading it, and dropping what would teach the model nonsense."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import IO

from dragoman_model.recipe import Cleaning, Corpus, Data
from dragoman_model.scripts import script_share
from dragoman_service.errors import InvalidInput

Pair = tuple[str, str]
"""Source and target text."""

_LEAST_HELD_OUT = 12
"""Letters and digits of a sentence that may be in training and test text alike: "Good morning." is nobody's secret."""

OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@dataclass(slots=True)
class CleaningReport:
    """What became of a corpus."""

    corpus: str
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Pairs by the reason for which they were dropped."""

    def __str__(self) -> str:
        return f"{self.corpus}: kept {self.kept:,}, dropped {self.dropped.total():,}{in_brackets(self.dropped)}"


def reasons(dropped: Counter[str]) -> str:
    """Why pairs were dropped and how many, the commonest reason first."""
    return ", ".join(f"{reason} {count:,}" for reason, count in dropped.most_common())


def in_brackets(dropped: Counter[str]) -> str:
    """The same, to be put behind a total; nothing if there is none."""
    return f" ({reasons(dropped)})" if dropped else ""


def read_pairs(corpus: Corpus, folder: Path) -> Iterator[Pair]:
    """The pairs of a corpus in their order, with white space at the ends removed.

    Raises:
        InvalidInput: a file is missing, is not UTF-8, lacks a column, or the sides differ in length.
    """
    if corpus.target_path is not None:
        lines = zip_longest(read_lines(folder / corpus.path), read_lines(folder / corpus.target_path))
        for number, (source, target) in enumerate(lines, start=1):
            if source is None or target is None:
                shorter = corpus.path if source is None else corpus.target_path
                allowed = "as many lines as the other side: they must correspond"
                raise InvalidInput(shorter, f"{number - 1} lines", allowed)
            yield source.strip(), target.strip()
        return
    columns = [corpus.source_column, corpus.target_column]
    where = [] if corpus.where_column is None else [corpus.where_column]
    for source, target, *found in read_columns(folder / corpus.path, [*columns, *where]):
        if not found or found[0] == corpus.where:
            yield source.strip(), target.strip()


def read_columns(path: Path, columns: Sequence[int]) -> Iterator[list[str]]:
    """Of every line of a TSV file, the columns of these numbers, from 0.

    Raises:
        InvalidInput: the file cannot be read, is not UTF-8, or lacks a column.
    """
    for number, line in enumerate(read_lines(path), start=1):
        found = line.split("\t")
        if len(found) <= max(columns):
            where = f"{path} line {number}"
            raise InvalidInput(where, f"{len(found)} columns", f"at least {max(columns) + 1}, tab-separated")
        yield [found[column] for column in columns]


def held_out_texts(data: Data, folder: Path) -> frozenset[str]:
    """What must not be learned: the validation text and that of `data.held_out`, `folded`.

    Raises:
        InvalidInput: a file cannot be read.
    """
    texts = [text for corpus in data.validation for pair in read_pairs(corpus, folder) for text in pair]
    for path in data.held_out:
        texts += read_lines(folder / path)
    return frozenset(text for text in map(folded, texts) if len(text) >= _LEAST_HELD_OUT)


def folded(text: str) -> str:
    """The letters and digits of a text without case: the same for texts that differ in nothing else."""
    return "".join(filter(str.isalnum, text.casefold()))


def clean_pairs(
    corpus: Corpus,
    folder: Path,
    rules: Cleaning,
    languages: tuple[str, str],
    seed: int,
    held_out: Container[str] = frozenset(),
) -> tuple[list[Pair], CleaningReport]:
    """Read a corpus, drop pairs by `rules`, and draw `corpus.limit` of what is left.

    Args:
        languages: Of source and target.
        seed: Of the draw.
        held_out: Texts, `folded`, that neither side may be.
    """
    report = CleaningReport(corpus.name)
    kept: list[Pair] = []
    seen: set[Pair] = set()
    for pair in read_pairs(corpus, folder):
        reason = _reason_to_drop(pair, rules, languages)
        if reason is None and rules.drop_duplicates:
            reason = "duplicate" if pair in seen else None
            seen.add(pair)
        if reason is None and any(folded(text) in held_out for text in pair):
            reason = "held out"
        if reason is None:
            kept.append(pair)
        else:
            report.dropped[reason] += 1
    if corpus.limit is not None and len(kept) > corpus.limit:
        report.dropped["over the limit"] = len(kept) - corpus.limit
        kept = random.Random(seed).sample(kept, corpus.limit)
    report.kept = len(kept)
    return kept, report


def _reason_to_drop(pair: Pair, rules: Cleaning, languages: tuple[str, str]) -> str | None:
    source, target = pair
    if not source or not target:
        return "empty side"
    shorter, longer = sorted((len(source), len(target)))
    if longer > rules.max_characters:
        return "too long"
    if (longer + 10) / (shorter + 10) > rules.max_ratio:
        return "length ratio"
    if rules.drop_copies and source == target and " " in source:
        return "untranslated"
    shares = (script_share(text, language) for text, language in zip(pair, languages, strict=True))
    if min(shares) < rules.min_script_share:
        return "wrong script"
    return None


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a text file, packed or not.

    Raises:
        InvalidInput: it cannot be read, or is not UTF-8.
    """
    opener = OPENERS.get(path.suffix, open)
    number = 0
    try:
        file: IO[bytes]
        with opener(path, "rb") as file:  # type: ignore[operator]
            for number, line in enumerate(file, start=1):  # noqa: B007 (named in the error)
                yield line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        offending = error.object[error.start : error.start + 8]
        raise InvalidInput(f"{path} line {number}", offending, "UTF-8 text") from error
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise InvalidInput("corpus", str(path), f"a readable file ({error})") from error
