"""The training text of one epoch, segmented with BPE-dropout on all cores."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from dragoman_model.data import bpe_dropout
from dragoman_model.data.batches import TokenizedCorpus
from dragoman_model.data.entry_writer import EntryWriter
from dragoman_model.data.token_cache import Entry, TokenCache, key_of
from dragoman_model.data.tokenized import Tokenized
from dragoman_service.bundle.tokenizer import Tokenizer

log = logging.getLogger(__name__)

_TOGETHER = 1_000
"""Number of pairs that are segmented with one seed. A change of it changes the segmentation: see `FORMAT`."""


def segmented_anew(
    entry: Entry, rate: float, seed: int, max_tokens: int, epoch: int, cache: Path | None
) -> TokenizedCorpus:
    """The pairs of an entry, in the same order, in the segmentation of one epoch.

    A pair that would become longer than `max_tokens` keeps the segmentation without dropout. The ids are in files. The
    cache keeps those of the last epoch, for a resumed run and for the other processes of this run. Long text is
    segmented by processes that `multiprocessing` spawns: they import the main module of this one.

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
    writer, first = EntryWriter(partial, Tokenizer(entry.tokenizer_model).vocab_size), 0
    try:
        for made in _segmented(entry, rate, max_tokens, seed):
            writer.add(made, entry.weights[first : first + len(made.kept)])
            first += len(made.kept)
        writer.finish(key, entry.tokenizer_model, {})
    finally:
        writer.abandon()


def _segmented(entry: Entry, rate: float, max_tokens: int, seed: str) -> Iterator[Tokenized]:
    """All pairs of an entry, in order. Uses one process per core, if there are enough pairs."""
    settings, firsts = (entry.tokenizer_model, rate, max_tokens), range(0, len(entry.train), _TOGETHER)
    blocks = ((entry.train.block(first, first + _TOGETHER), f"{seed} {first}") for first in firsts)
    cores = min(len(os.sched_getaffinity(0)), len(firsts) // 10)
    if cores < 2:
        yield from itertools.starmap(bpe_dropout.PairDropout(*settings).segment, blocks)
        return
    # Not forked: the copy of a process has the locks that PyTorch's threads held, but no thread that releases them.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, spawn, bpe_dropout.begin, settings) as processes:
        while some := list(itertools.islice(blocks, 8 * cores)):  # in rounds, because results wait in memory
            yield from processes.map(bpe_dropout.segment, *zip(*some, strict=True))
