"""Training text that is segmented anew for every epoch: BPE-dropout (Provilkov et al. 2020).

SentencePiece draws: each merge that could be made is passed over with a probability, so that a word falls apart in
different ways. In the paper a merge that was passed over may be tried again behind another one; SentencePiece tries it
again only once a neighbour has changed, so that the same probability makes a few more subwords.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from dragoman_model.batches import Tokenized, TokenizedCorpus, flatten
from dragoman_model.entry_writer import EntryWriter
from dragoman_model.token_cache import Entry, TokenCache, key_of
from dragoman_service.errors import InvalidInput
from dragoman_service.tokenizer import Tokenizer

log = logging.getLogger(__name__)

_TOGETHER = 1_000
"""Pairs that are segmented with one seed. Another number is another segmentation: see `FORMAT`."""

_DRAWING = threading.Lock()
"""The seed is one for the whole process."""


def check_is_bpe(tokenizer_model: bytes, rate: float) -> None:
    """Raise InvalidInput if there is to be BPE-dropout and the vocabulary is not one of merges."""
    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # the module makes its classes itself
    model.ParseFromString(tokenizer_model)
    if rate and model.trainer_spec.model_type != model.trainer_spec.BPE:
        raise InvalidInput("tokenizer.bpe_dropout", rate, "0, as the vocabulary is not one of byte-pair encoding")


def sample(
    processor: sentencepiece.SentencePieceProcessor, texts: Sequence[str], rate: float, seed: int
) -> list[list[int]]:
    """The ids of texts in segmentations drawn with BPE-dropout; the same for the same seed, below 2**31.

    A new thread does it all: SentencePiece has a random number generator for each thread, which some of its versions
    seed when the thread first draws, and several threads would share the texts by chance.
    """
    with _DRAWING, ThreadPoolExecutor(1) as thread:
        sentencepiece.set_random_generator_seed(seed)
        ids: list[list[int]] = thread.submit(
            processor.encode, list(texts), enable_sampling=True, nbest_size=-1, alpha=rate, num_threads=1
        ).result()
        return ids


def segmented_anew(
    entry: Entry, rate: float, seed: int, max_tokens: int, epoch: int, cache: Path | None
) -> TokenizedCorpus:
    """The pairs of an entry that keeps its text, in the same order, segmented as they are seen in one epoch.

    A pair that would get longer than `max_tokens` keeps the segmentation without dropout. The ids are in files: the
    cache keeps those of the epoch that was asked for last, from which a resumed run and other processes take them.

    Args:
        entry: The text.
        rate: The probability that a merge is passed over.
        seed: Of the run.
        max_tokens: The limit of the recipe, on either side, with tag and end.
        epoch: From 0.
        cache: Its folder; None keeps nothing, and takes room for temporary files.

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
        log.info("epoch %s: segmented anew in %.1f s", epoch, time.monotonic() - started)

    made = tokens.get(key, write)
    tokens.remove_others(family, key)
    return made.train


def _write(entry: Entry, rate: float, max_tokens: int, seed: str, partial: Path, key: str) -> None:
    tokenizer = Tokenizer(entry.tokenizer_model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=entry.tokenizer_model)
    writer = EntryWriter(partial, tokenizer.vocab_size)
    try:
        for first in range(0, len(entry.train), _TOGETHER):
            indices = range(first, min(first + _TOGETHER, len(entry.train)))
            drawn = int.from_bytes(hashlib.sha256(f"{seed} {first}".encode()).digest()[:4], "little") >> 1
            ids = sample(processor, entry.texts(indices), rate, drawn)
            writer.add(_tokenized(entry, tokenizer, indices, ids, max_tokens), entry.weights[first : indices.stop])
        writer.finish(key, entry.tokenizer_model, {})
    finally:
        writer.abandon()


def _tokenized(
    entry: Entry, tokenizer: Tokenizer, indices: range, ids: Sequence[list[int]], max_tokens: int
) -> Tokenized:
    """With tag, begin and end, as in the entry."""
    sources, targets = list[list[int]](), list[list[int]]()
    num_tags = tokenizer.source_overhead - 1
    for place, index in enumerate(indices):
        source, target = ids[2 * place], ids[2 * place + 1]
        plain_source, plain_target = entry.train.ids(index)
        if max(len(source) + tokenizer.source_overhead, len(target) + 1) > max_tokens:
            sources.append(plain_source.tolist())
            targets.append(plain_target.tolist())
        else:
            sources.append([*plain_source[:num_tags].tolist(), *source, tokenizer.end_id])
            targets.append([tokenizer.begin_id, *target, tokenizer.end_id])
    return Tokenized(np.arange(len(sources)), *flatten(sources), *flatten(targets))
