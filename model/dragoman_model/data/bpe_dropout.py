"""BPE-dropout (Provilkov et al. 2020): a new random segmentation of the training text for every epoch.

Before each merge, every possible merge of a word is skipped with a probability, and the best of the others is made. If
all are skipped, the word is finished. SentencePiece has BPE-dropout, too, but its draws differ in every process, even
with a seed, so that no run could be repeated or resumed.

The vocabulary has all that is known of merges: two neighbouring symbols merge if their concatenation is a subword, and
the pair with the highest score merges first (Sennrich et al. 2016). Symbols never merge across a space, so that each
word can be segmented from its plain subwords alone.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sentencepiece import sentencepiece_model_pb2

from dragoman_model.data.batches import Tokenized, TokenizedCorpus, flatten
from dragoman_model.data.entry_writer import EntryWriter
from dragoman_model.data.token_cache import Entry, TokenCache, key_of
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.errors import InvalidInput

log = logging.getLogger(__name__)

_TOGETHER = 1_000
"""Number of pairs that are segmented with one seed. A change of it changes the segmentation: see `FORMAT`."""

_REMEMBERED = 100_000
"""Sizes of the caches of words and of states of words, some hundred bytes each. Few words make up most of a text."""

_work: Callable[[int], Tokenized]
"""The function of a worker process; see `_on_all_cores`."""


def check_is_bpe(tokenizer_model: bytes, rate: float) -> None:
    """Raise InvalidInput if `rate` is above 0 and the vocabulary is not one of byte-pair encoding."""
    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # the class is made at run time
    model.ParseFromString(tokenizer_model)
    if rate and model.trainer_spec.model_type != model.trainer_spec.BPE:
        raise InvalidInput("tokenizer.bpe_dropout", rate, "0, as the vocabulary is not one of byte-pair encoding")


@dataclass(frozen=True, slots=True)
class _Word:
    """A word before segmentation."""

    plain: list[int]
    """The ids of its segmentation without dropout."""
    symbols: tuple[str, ...]
    """The symbols before the first merge: characters, and pieces that never merge, such as bytes."""

    @property
    def num_merges(self) -> int:
        return len(self.symbols) - len(self.plain)


class BpeDropout:
    """The random segmentation of text whose plain segmentation is given."""

    def __init__(self, tokenizer_model: bytes, rate: float) -> None:
        """Take a vocabulary of byte-pair encoding, and the probability that a merge is skipped, above 0 and below 1."""
        model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
        model.ParseFromString(tokenizer_model)
        self._pieces = [piece.piece for piece in model.pieces]
        self._ids = {piece: index for index, piece in enumerate(self._pieces)}
        normal = [piece for piece in model.pieces if piece.type == piece.NORMAL]
        self._normal = {piece.piece for piece in normal}
        self._costs = {piece.piece: -piece.score for piece in normal if len(piece.piece) > 1}
        self._begins_word = np.array([piece.startswith("\u2581") for piece in self._pieces])
        self._log_keep, self._log_drop = math.log1p(-rate), math.log(rate)
        self._word = functools.lru_cache(_REMEMBERED)(self._split)
        self._merges = functools.lru_cache(_REMEMBERED)(self._find_merges)

    def segment(self, ids: np.ndarray, rng: random.Random) -> list[int]:
        """Segment a text with dropout. `ids` and the result have no special ids; `ids` are those without dropout."""
        begins = np.flatnonzero(self._begins_word[ids]).tolist()
        bounds = [0, *begins[bool(begins and begins[0] == 0) :], len(ids)]
        plain, found = ids.tolist(), list[int]()
        for start, end in itertools.pairwise(bounds):
            word = self._word(tuple(plain[start:end]))
            # The number of merges before the best merge is skipped for the first time: geometrically distributed.
            kept = int(math.log(1.0 - rng.random()) / self._log_keep) if word.num_merges else 0
            found.extend(word.plain if kept >= word.num_merges else self._merged(word.symbols, kept, rng))
        return found

    def _merged(self, symbols: tuple[str, ...], kept: int, rng: random.Random) -> list[int]:
        """Merge `symbols` and return their ids.

        The first `kept` merges are those without dropout. The best merge is skipped in the next one. All later merges
        are drawn.
        """
        for made in itertools.count():
            places = self._merges(symbols)
            skipped = 0 if made < kept else int(math.log(1.0 - rng.random()) / self._log_drop) + (made == kept)
            if skipped >= len(places):
                break
            place = places[skipped]
            symbols = (*symbols[:place], symbols[place] + symbols[place + 1], *symbols[place + 2 :])
        return [self._ids[symbol] for symbol in symbols]

    def _find_merges(self, symbols: tuple[str, ...]) -> tuple[int, ...]:
        """The indices of the symbols that can merge with their right neighbour, the best merge first."""
        pairs, costs = map(str.__add__, symbols, symbols[1:]), self._costs
        return tuple(place for _, place in sorted((costs[pair], i) for i, pair in enumerate(pairs) if pair in costs))

    def _split(self, ids: tuple[int, ...]) -> _Word:
        symbols = list[str]()
        for piece in map(self._pieces.__getitem__, ids):
            characters = piece in self._normal and all(character in self._normal for character in piece)
            symbols.extend(piece if characters else [piece])
        return _Word(list(ids), tuple(symbols))


def segmented_anew(
    entry: Entry, rate: float, seed: int, max_tokens: int, epoch: int, cache: Path | None
) -> TokenizedCorpus:
    """The pairs of an entry, in the same order, in the segmentation of one epoch.

    A pair that would become longer than `max_tokens` keeps the segmentation without dropout. The ids are in files. The
    cache keeps those of the last epoch, for a resumed run and for the other processes of this run.

    Args:
        entry: The text.
        rate: The probability that a merge is skipped.
        seed: The seed of the run.
        max_tokens: The limit of the recipe for either side, the tag and the end of the sentence included.
        epoch: The number of the epoch, from 0.
        cache: The folder of the cache. None keeps nothing, and needs disk space for temporary files.

    Raises:
        InvalidInput: the cache cannot be written, or is full.
    """
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="dragoman-") as folder:
            return segmented_anew(entry, rate, seed, max_tokens, epoch, Path(folder))
    tokens, family = TokenCache(cache), f"{key_of('bpe-dropout', entry.key, rate, seed)}-"
    key = f"{family}{epoch}"

    def write(partial: Path) -> None:
        started = time.monotonic()
        _write(entry, rate, max_tokens, f"{seed} {epoch}", partial, key)
        log.info("epoch %s: segmented with BPE-dropout in %.1f s", epoch, time.monotonic() - started)

    made = tokens.get(key, write)
    tokens.remove_others(family, key)
    return made.train


def _write(entry: Entry, rate: float, max_tokens: int, seed: str, partial: Path, key: str) -> None:
    """Write the cache entry `key`, in the folder `partial`."""
    tokenizer, dropout = Tokenizer(entry.tokenizer_model), BpeDropout(entry.tokenizer_model, rate)
    writer = EntryWriter(partial, tokenizer.vocab_size)

    def block(first: int) -> Tokenized:
        indices, rng = range(first, min(first + _TOGETHER, len(entry.train))), random.Random(f"{seed} {first}")
        return _tokenized(entry.train, indices, tokenizer, dropout, max_tokens, rng)

    try:
        firsts = range(0, len(entry.train), _TOGETHER)
        for first, made in zip(firsts, _on_all_cores(block, firsts), strict=True):
            writer.add(made, entry.weights[first : first + _TOGETHER])
        writer.finish(key, entry.tokenizer_model, {})
    finally:
        writer.abandon()


def _on_all_cores(work: Callable[[int], Tokenized], values: Sequence[int]) -> Iterator[Tokenized]:
    """The results of `work` for all values, in order. Uses one process per core, if there are enough values."""
    cores = min(len(os.sched_getaffinity(0)), len(values) // 10)
    if cores < 2:
        yield from map(work, values)
        return
    # Forked processes share the memory-mapped text of this one. They use neither PyTorch nor a GPU.
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(cores, fork, initializer=_begin, initargs=(work,)) as processes:
        for start in range(0, len(values), 8 * cores):  # in rounds, because results wait in memory
            yield from processes.map(_work_on, values[start : start + 8 * cores])


def _begin(work: Callable[[int], Tokenized]) -> None:
    global _work  # noqa: PLW0603  # of a worker process, which has no other purpose
    _work = work


def _work_on(value: int) -> Tokenized:
    return _work(value)


def _tokenized(
    plain: TokenizedCorpus,
    indices: range,
    tokenizer: Tokenizer,
    dropout: BpeDropout,
    max_tokens: int,
    rng: random.Random,
) -> Tokenized:
    """Segment the pairs `indices` of `plain`. The special ids are those of `plain`."""
    sources, targets = list[list[int]](), list[list[int]]()
    num_tags = tokenizer.source_overhead - 1
    for index in indices:
        source, target = plain.ids(index)
        segmented = dropout.segment(source[num_tags:-1], rng), dropout.segment(target[1:-1], rng)
        if max(len(segmented[0]) + tokenizer.source_overhead, len(segmented[1]) + 1) > max_tokens:
            segmented = source[num_tags:-1].tolist(), target[1:-1].tolist()
        sources.append([*source[:num_tags].tolist(), *segmented[0], tokenizer.end_id])
        targets.append([tokenizer.begin_id, *segmented[1], tokenizer.end_id])
    return Tokenized(np.arange(len(sources)), *flatten(sources), *flatten(targets))
