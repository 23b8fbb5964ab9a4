"""Parallel text: reading and cleaning."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from dragoman_model.recipe import Cleaning, Corpus, Data
from dragoman_service.errors import InvalidInput
from dragoman_service.text.scripts import script_share

Pair = tuple[str, str]
"""Source and target text."""

_LEAST_HELD_OUT = 12
"""Least number of letters and digits of a held-out text. Shorter ones, such as "Good morning.", may be in both training
and test text."""

_ASCII_NOT_ALPHANUMERIC = bytes(code for code in range(128) if not chr(code).isalnum())
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")
"""Matches exactly the characters for which `str.isalnum` is false."""

OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""File suffix -> function that opens a compressed file, as `open` does."""


@dataclass(slots=True)
class CleaningReport:
    """The numbers of kept and dropped pairs of a corpus."""

    corpus: str
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> number of dropped pairs."""

    def __str__(self) -> str:
        return f"{self.corpus}: kept {self.kept:,}, dropped {self.dropped.total():,}{in_brackets(self.dropped)}"


def reasons(dropped: Counter[str]) -> str:
    """The reasons and their counts as text, the most frequent first."""
    return ", ".join(f"{reason} {count:,}" for reason, count in dropped.most_common())


def in_brackets(dropped: Counter[str]) -> str:
    """As `reasons`, in brackets after a space; empty if there are none."""
    return f" ({reasons(dropped)})" if dropped else ""


class PairStore(Protocol):
    """A sequence of pairs, in memory (`PairList`) or in files (`StoredPairs`)."""

    def append(self, pair: Pair, /) -> None:
        """Add a pair at the end."""

    def extend(self, pairs: Iterable[Pair], /) -> None:
        """Add several pairs at the end."""

    def keep_only(self, indices: Sequence[int] | np.ndarray) -> None:
        """Keep only the pairs with these indices, in the order of `indices`."""

    def repeats(self, among: int | None = None) -> np.ndarray:
        """[pairs] Whether a pair equals an earlier one; with `among`, an earlier one of the first `among` pairs."""

    def discard(self) -> None:
        """Free the memory or the files of the pairs. The store must not be used after it."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Pair: ...

    def __iter__(self) -> Iterator[Pair]: ...


class PairList(list[Pair]):
    """Pairs in memory."""

    def keep_only(self, indices: Sequence[int] | np.ndarray) -> None:
        """See `PairStore`."""
        self[:] = [self[index] for index in indices]

    def repeats(self, among: int | None = None) -> np.ndarray:
        """See `PairStore`."""
        seen, found = set[Pair](), np.zeros(len(self), dtype=bool)
        for index, pair in enumerate(self):
            found[index] = pair in seen
            if among is None or index < among:
                seen.add(pair)
        return found

    def discard(self) -> None:
        """See `PairStore`."""
        self.clear()


def read_pairs(corpus: Corpus, folder: Path) -> Iterator[Pair]:
    """The pairs of a corpus, in their order, without white space at the ends.

    Raises:
        InvalidInput: a file is missing, is not UTF-8 or lacks a column, or the two files differ in length.
    """
    for _, pair in read_together([corpus], folder):
        yield pair


def read_together(corpora: Sequence[Corpus], folder: Path) -> Iterator[tuple[int, Pair]]:
    """Read several corpora that are parts of the same file, or of the same two files. Each file is read once.

    Yields:
        The index of a corpus, and one of its pairs. The pairs of a corpus are in the order of `read_pairs`.

    Raises:
        InvalidInput: as `read_pairs`.
    """
    path, target_path = corpora[0].path, corpora[0].target_path
    if target_path is not None:
        lines = zip_longest(read_lines(folder / path), read_lines(folder / target_path))
        for number, (source, target) in enumerate(lines, start=1):
            if source is None or target is None:
                shorter = path if source is None else target_path
                allowed = "as many lines as the other side: they must correspond"
                raise InvalidInput(shorter, f"{number - 1} lines", allowed)
            pair = source.strip(), target.strip()
            for index in range(len(corpora)):
                yield index, pair
        return
    named = [
        column
        for corpus in corpora
        for column in (corpus.source_column, corpus.target_column, corpus.where_column)
        if column is not None
    ]
    columns = {column: position for position, column in enumerate(dict.fromkeys(named))}
    readers: dict[int | None, dict[str, list[tuple[int, int, int]]]] = {}
    for index, corpus in enumerate(corpora):
        where = None if corpus.where_column is None else columns[corpus.where_column]
        reader = index, columns[corpus.source_column], columns[corpus.target_column]
        readers.setdefault(where, {}).setdefault("" if where is None else corpus.where, []).append(reader)
    for found in read_columns(folder / path, list(columns)):
        for where, by_value in readers.items():
            for index, source_at, target_at in by_value.get("" if where is None else found[where], ()):
                yield index, (found[source_at].strip(), found[target_at].strip())


def read_columns(path: Path, columns: Sequence[int]) -> Iterator[list[str]]:
    """The given columns, numbered from 0, of every line of a TSV file.

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
    """The `folded` texts that must not be learned: the validation text, and the lines of the files of `data.held_out`.

    Raises:
        InvalidInput: a file cannot be read.
    """
    texts = [text for corpus in data.validation for pair in read_pairs(corpus, folder) for text in pair]
    for path in data.held_out:
        texts += read_lines(folder / path)
    return frozenset(text for text in map(folded, texts) if len(text) >= _LEAST_HELD_OUT)


def folded(text: str) -> str:
    """The letters and digits of a text, without case. Texts that differ only in other respects have the same result."""
    if text.isascii():
        return text.lower().encode().translate(None, _ASCII_NOT_ALPHANUMERIC).decode()
    return _NOT_ALPHANUMERIC.sub("", text.casefold())


def clean_pairs(
    corpus: Corpus,
    folder: Path,
    rules: Cleaning,
    languages: tuple[str, str],
    seed: int,
    held_out: Container[str] = frozenset(),
) -> tuple[PairList, CleaningReport]:
    """Read a corpus, drop pairs by `rules`, and draw at most `corpus.limit` of the remaining pairs.

    Args:
        corpus: The corpus.
        folder: The base of relative paths.
        rules: The filters.
        languages: Source and target language.
        seed: The seed of the draw.
        held_out: Texts, `folded`. A pair is dropped if one of its sides is among them.
    """
    kept = PairList()
    (report,) = clean_together([(corpus, languages, kept)], folder, rules, seed, held_out)
    return kept, report


def clean_together(
    corpora: Sequence[tuple[Corpus, tuple[str, str], PairStore]],
    folder: Path,
    rules: Cleaning,
    seed: int,
    held_out: Container[str] = frozenset(),
) -> list[CleaningReport]:
    """Clean several corpora that are parts of the same file, each as `clean_pairs` does. The file is read once.

    Args:
        corpora: Each corpus with its languages, and an empty store, to which the kept pairs are added.
        folder: The base of relative paths.
        rules: The filters.
        seed: The seed of the draws.
        held_out: Texts, `folded`. A pair is dropped if one of its sides is among them.
    """
    reports = [CleaningReport(corpus.name) for corpus, _, _ in corpora]
    for index, pair in read_together([corpus for corpus, _, _ in corpora], folder):
        _, languages, kept = corpora[index]
        reason = _reason_to_drop(pair, rules, languages)
        if reason is None and (folded(pair[0]) in held_out or folded(pair[1]) in held_out):
            reason = "held out"
        if reason is None:
            kept.append(pair)
        else:
            reports[index].dropped[reason] += 1
    for (corpus, _, kept), report in zip(corpora, reports, strict=True):
        if rules.drop_duplicates and (repeats := kept.repeats()).any():
            report.dropped["duplicate"] = int(repeats.sum())
            kept.keep_only(np.flatnonzero(~repeats))
        if corpus.limit is not None and len(kept) > corpus.limit:
            report.dropped["over the limit"] = len(kept) - corpus.limit
            kept.keep_only(random.Random(seed).sample(range(len(kept)), corpus.limit))
        report.kept = len(kept)
    return reports


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
    least = rules.min_script_share
    if script_share(source, languages[0]) < least or script_share(target, languages[1]) < least:
        return "wrong script"
    return None


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a text file, without line ends. The file may be compressed.

    Raises:
        InvalidInput: the file cannot be read, or is not UTF-8.
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
