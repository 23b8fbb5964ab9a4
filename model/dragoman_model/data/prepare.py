"""Preparation of the text of a recipe: cleaning, training of the vocabulary, and tokenisation."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from dragoman_model.data.batches import TokenizedCorpus, tokenize
from dragoman_model.data.bpe_dropout import check_is_bpe
from dragoman_model.data.corpus import CleaningReport, Pair, read_pairs
from dragoman_model.data.entry_writer import EntryWriter
from dragoman_model.data.epoch_text import segmented_anew
from dragoman_model.data.mixture import natural_texts, read_parts
from dragoman_model.data.pair_store import StoredPairs
from dragoman_model.data.provenance import fingerprint, provenance
from dragoman_model.data.token_cache import Entry, TokenCache, key_of, settings_of
from dragoman_model.data.vocab import train_tokenizer
from dragoman_model.recipe import Corpus, Data, Recipe
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.errors import InvalidInput

log = logging.getLogger(__name__)

_CHUNK = 200_000
"""Characters that are tokenised together. As lists of ids they take up to forty times as much memory."""


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """A corpus to measure on."""

    name: str
    """Languages and corpus, such as `en-de newstest.tsv`."""
    target_language: str
    pairs: list[Pair]
    """The text, for BLEU."""
    tokenized: TokenizedCorpus
    """The token ids of the text, for the loss."""


@dataclass(frozen=True, slots=True)
class PreparedData:
    """The data for the training loop."""

    tokenizer: Tokenizer
    tokenizer_model: bytes
    """The file that `tokenizer` was read from."""
    train: TokenizedCorpus
    weights: np.ndarray
    """[pairs of `train`] How often each pair occurs in an epoch."""
    validation: tuple[ValidationSet, ...]
    """The text of validation."""
    summary: list[dict[str, Any]]
    """For each corpus: name, languages, weight, and the pairs kept, dropped by reason, and added by augmentation."""
    provenance: dict[str, Any]
    """Versions of code and libraries, the machine, and fingerprints of the text; see `provenance`."""
    segmented_anew: functools.partial[TokenizedCorpus] | None = None
    """With BPE-dropout: the function of the epoch's number that makes its text."""

    def epoch(self, number: int) -> TokenizedCorpus:
        """The text of epoch `number`, from 0: `train`, or, with BPE-dropout, its segmentation for this epoch.

        Raises:
            InvalidInput: the cache cannot be written, or is full.
        """
        return self.segmented_anew(number) if self.segmented_anew else self.train

    @property
    def validation_fingerprint(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the validation text. Scores are comparable only if it is equal."""
        texts = [[measured.name, measured.pairs] for measured in self.validation]
        return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def prepare(
    recipe: Recipe, data_folder: Path, tokenizer_model: bytes | None = None, cache: Path | None = None
) -> PreparedData:
    """Read, clean and tokenise the text of a recipe, or take the result from the cache. Logs the dropped pairs.

    Text and ids are in memory-mapped files, so they may be larger than memory. Memory holds the sentences that the
    vocabulary is learned from and the held-out text (`held_out_texts`). It holds, for one corpus at a time, 9 bytes per
    pair while duplicates are dropped, and some dozens of bytes per pair that a limit or augmentation draws.

    Args:
        recipe: The recipe.
        data_folder: The base of the recipe's relative paths.
        tokenizer_model: The tokenizer to use; None trains one on the cleaned text.
        cache: The folder of the cache of tokenised text. None keeps nothing for the next start, and needs disk space
            for temporary files while this process lives.

    Raises:
        InvalidInput: a corpus cannot be read, or changes while it is read; cleaning drops all of its pairs; or the
            cache cannot be written or is full.
    """
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="dragoman-") as folder:
            made = prepare(recipe, data_folder, tokenizer_model, Path(folder))
        anew = made.segmented_anew
        return dataclasses.replace(made, segmented_anew=anew and functools.partial(anew, cache=None))
    made_of = provenance(recipe.data, data_folder)
    entry = _train_text(recipe, data_folder, tokenizer_model, TokenCache(cache), made_of)
    tokenizer, data, rate = Tokenizer(entry.tokenizer_model), recipe.data, recipe.tokenizer.bpe_dropout
    _check_vocabulary(recipe, tokenizer, entry.tokenizer_model)
    too_long = entry.details["too_long"]
    log.info("%s pairs; %s were longer than %s subwords", f"{len(entry.train):,}", f"{too_long:,}", data.max_tokens)
    validation = tuple(_validation_set(corpus, recipe, data_folder, tokenizer) for corpus in data.validation)
    if not len(entry.train) or not all(len(measured.tokenized) for measured in validation):
        raise InvalidInput("data", "no pairs", f"text with sentences of at most {data.max_tokens} subwords")
    anew = functools.partial(segmented_anew, entry, rate, recipe.training.seed, data.max_tokens, cache=cache)
    return PreparedData(
        tokenizer,
        entry.tokenizer_model,
        entry.train,
        entry.weights,
        validation,
        entry.details["summary"],
        made_of,
        anew if rate else None,
    )


def _train_text(
    recipe: Recipe, folder: Path, tokenizer_model: bytes | None, cache: TokenCache, made_of: dict[str, Any]
) -> Entry:
    """The cache entry of the training text. It is made if the cache does not have it."""
    learned = settings_of(recipe.tokenizer)
    del learned["bpe_dropout"]  # it changes neither the vocabulary nor these ids

    def key(tokenizer: Any) -> str:
        """The key of all that decides the ids: libraries, files, the recipe's text settings, and the vocabulary."""
        files = {path: made_of["data"][path] for path in sorted(made_of["data"])}
        libraries = [sentencepiece.__version__, unicodedata.unidata_version]
        return key_of(libraries, files, settings_of(recipe.data), recipe.training.seed, tokenizer)

    def key_with(model: bytes) -> str:
        return key([hashlib.sha256(model).hexdigest()])

    def find(quiet: bool = False) -> Entry | None:
        found = cache.alias(wanted) if tokenizer_model is None else wanted
        return cache.open(found, quiet) if found else None

    wanted = key(learned) if tokenizer_model is None else key_with(tokenizer_model)
    if entry := find():
        log.info("the text is tokenised already, in %s", cache.folder)
        return _logged(entry)
    with cache.writing(wanted) as partial:
        if entry := find(quiet=True):
            log.info("another process has tokenised the text meanwhile, into %s", cache.folder)
            return _logged(entry)
        model = _write_entry(recipe, folder, tokenizer_model, partial, key_with)
        _check_unchanged(recipe.data, folder, made_of)
        return cache.publish(partial, key_with(model), asked=wanted if tokenizer_model is None else None)


def _logged(entry: Entry) -> Entry:
    """Log the counts of kept and dropped pairs of an entry, as when it was made. Returns the entry."""
    for part in entry.details["summary"]:
        log.info("%s", CleaningReport(part["corpus"], part["kept"], Counter(part["dropped"])))
    return entry


def _write_entry(
    recipe: Recipe, folder: Path, model: bytes | None, partial: Path, key_with: Callable[[bytes], str]
) -> bytes:
    """Write the files of an entry to the folder `partial`. Returns the vocabulary; it is trained if `model` is None."""
    data, seed = recipe.data, recipe.training.seed
    numbers = itertools.count()
    parts = []
    for part in read_parts(recipe, folder, lambda: StoredPairs(partial / f"pairs-{next(numbers)}")):
        log.info("%s", part.report)
        parts.append(part)
    if model is None:
        texts = natural_texts(parts, seed, recipe.tokenizer.sample_sentences)
        model = train_tokenizer(texts, recipe.tokenizer, seed, data.target_tags)
    tokenizer = Tokenizer(model)
    _check_vocabulary(recipe, tokenizer, model)
    writer, count = EntryWriter(partial, tokenizer.vocab_size), 0
    try:
        for part in parts:
            for chunk in _chunks(part.pairs):
                languages = [part.languages[1]] * len(chunk)
                writer.add(tokenize(chunk, tokenizer, data.max_tokens, languages), part.weight)
                count += len(chunk)
        details = {"summary": [part.summary() for part in parts], "too_long": count - writer.pairs}
        writer.finish(key_with(model), model, details)
    finally:
        writer.abandon()
    for part in parts:
        part.pairs.discard()
    return model


def _chunks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    chunk, size = list[Pair](), 0
    for pair in pairs:
        chunk.append(pair)
        size += len(pair[0]) + len(pair[1])
        if size >= _CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _check_vocabulary(recipe: Recipe, tokenizer: Tokenizer, model: bytes) -> None:
    check_is_bpe(model, recipe.tokenizer.bpe_dropout)
    missing = [language for language in recipe.data.target_tags if language not in tokenizer.target_tags]
    if missing:
        raise InvalidInput("data.train", ", ".join(missing), "target languages that the given vocabulary has tags for")


def _check_unchanged(data: Data, folder: Path, made_of: dict[str, Any]) -> None:
    """Raise InvalidInput if a file has changed since `made_of`, its provenance, was read."""
    for path, before in made_of["data"].items():
        if fingerprint(folder / path) != before:
            raise InvalidInput("corpus", path, "a file that does not change while it is read")


def _validation_set(corpus: Corpus, recipe: Recipe, folder: Path, tokenizer: Tokenizer) -> ValidationSet:
    languages = recipe.data.languages(corpus)
    pairs = list(itertools.islice(read_pairs(corpus, folder), recipe.data.validation_limit))
    tokenized = TokenizedCorpus(
        pairs, tokenizer, recipe.model.max_positions, itertools.repeat(languages[1], len(pairs))
    )
    return ValidationSet(f"{'-'.join(languages)} {corpus.name}", languages[1], pairs, tokenized)
