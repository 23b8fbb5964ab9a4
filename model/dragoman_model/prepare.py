"""From a recipe to tokenised data: cleaning, the vocabulary, token ids."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dragoman_model.batches import TokenizedCorpus
from dragoman_model.corpus import Pair, read_pairs
from dragoman_model.mixture import natural_texts, read_parts
from dragoman_model.provenance import provenance
from dragoman_model.recipe import Corpus, Recipe
from dragoman_model.vocab import train_tokenizer
from dragoman_service.errors import InvalidInput
from dragoman_service.tokenizer import Tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """A corpus to measure on."""

    name: str
    """Languages and file."""
    target_language: str
    pairs: list[Pair]
    """The text itself, for BLEU."""
    tokenized: TokenizedCorpus
    """The same, for the loss."""


@dataclass(frozen=True, slots=True)
class PreparedData:
    """What the training loop needs of the data."""

    tokenizer: Tokenizer
    tokenizer_model: bytes
    """The file that `tokenizer` was read from."""
    train: TokenizedCorpus
    weights: np.ndarray
    """[pairs of `train`] how often each is seen in an epoch."""
    validation: tuple[ValidationSet, ...]
    """What progress is measured on."""
    summary: list[dict[str, Any]]
    """Per corpus: name, weight, pairs kept, pairs dropped by reason, pairs added by augmentation."""
    provenance: dict[str, Any]
    """Of code, libraries, machine and text; see `provenance`."""

    @property
    def validation_fingerprint(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the validation text: scores compare only where it is the same."""
        texts = [[measured.name, measured.pairs] for measured in self.validation]
        return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def prepare(recipe: Recipe, data_folder: Path, tokenizer_model: bytes | None = None) -> PreparedData:
    """Read, clean and tokenise the text of a recipe, and log what was dropped and why.

    Args:
        recipe: Names the corpora.
        data_folder: What their paths are relative to.
        tokenizer_model: Use this tokenizer; None trains one on the cleaned text.

    Raises:
        InvalidInput: a corpus cannot be read, or nothing is left of it.
    """
    data, seed = recipe.data, recipe.training.seed
    parts = []
    for part in read_parts(recipe, data_folder):
        log.info("%s", part.report)
        parts.append(part)
    pairs = [pair for part in parts for pair in part.pairs]
    if tokenizer_model is None:
        tokenizer_model = train_tokenizer(natural_texts(parts, seed), recipe.tokenizer, seed, data.target_tags)
    tokenizer = Tokenizer(tokenizer_model)
    missing = [language for language in data.target_tags if language not in tokenizer.target_tags]
    if missing:
        raise InvalidInput("data.train", ", ".join(missing), "target languages that the given vocabulary has tags for")
    targets = (part.languages[1] for part in parts for _ in part.pairs)
    train = TokenizedCorpus(pairs, tokenizer, data.max_tokens, targets)
    weights = np.repeat([part.weight for part in parts], [len(part.pairs) for part in parts])[train.kept]
    too_long = len(pairs) - len(train)
    log.info("%s pairs; %s were longer than %s subwords", f"{len(train):,}", f"{too_long:,}", data.max_tokens)
    validation = tuple(_validation_set(corpus, recipe, data_folder, tokenizer) for corpus in data.validation)
    if not len(train) or not all(len(measured.tokenized) for measured in validation):
        raise InvalidInput("data", "no pairs", f"text with sentences of at most {data.max_tokens} subwords")
    summary, made_of = [part.summary() for part in parts], provenance(data, data_folder)
    return PreparedData(tokenizer, tokenizer_model, train, weights, validation, summary, made_of)


def _validation_set(corpus: Corpus, recipe: Recipe, folder: Path, tokenizer: Tokenizer) -> ValidationSet:
    languages = recipe.data.languages(corpus)
    pairs = list(itertools.islice(read_pairs(corpus, folder), recipe.data.validation_limit))
    tokenized = TokenizedCorpus(
        pairs, tokenizer, recipe.model.max_positions, itertools.repeat(languages[1], len(pairs))
    )
    return ValidationSet(f"{'-'.join(languages)} {corpus.name}", languages[1], pairs, tokenized)
