"""BPE-dropout (Provilkov et al. 2020): a new random segmentation of the training text for every epoch.

Before each merge, every possible merge of a word is skipped with a probability, and the best of the others is made. If
all are skipped, the word is finished. SentencePiece has BPE-dropout, too, but its draws differ in every process, even
with a seed, so that no run could be repeated or resumed.

The vocabulary has all that is known of merges: two neighbouring symbols merge if their concatenation is a subword, and
the pair with the highest score merges first (Sennrich et al. 2016). Symbols never merge across a space, so that each
word can be segmented from its plain subwords alone.

Worker processes import this module (see `epoch_text`). To start them quickly, it imports no PyTorch.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from dataclasses import dataclass

import numpy as np
from sentencepiece import sentencepiece_model_pb2

from dragoman_model.data.tokenized import Tokenized, flatten
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.errors import InvalidInput

_REMEMBERED = 100_000
"""Sizes of the caches of words and of states of words, some hundred bytes each. Few words make up most of a text."""


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


class PairDropout:
    """The random segmentation of pairs."""

    def __init__(self, tokenizer_model: bytes, rate: float, max_tokens: int) -> None:
        """Take the arguments of `BpeDropout`, and the most tokens of a side, its special ids included."""
        self._tokenizer, self._dropout = Tokenizer(tokenizer_model), BpeDropout(tokenizer_model, rate)
        self._max_tokens = max_tokens

    def segment(self, plain: Tokenized, seed: str) -> Tokenized:
        """Segment pairs with dropout. The special ids are those of `plain`, the pairs without dropout.

        A pair that would become longer than the most tokens keeps the segmentation without dropout.
        """
        sources, targets = list[list[int]](), list[list[int]]()
        tokenizer, segment, rng = self._tokenizer, self._dropout.segment, random.Random(seed)
        num_tags = tokenizer.source_overhead - 1
        for source, target in zip(*plain.sides(), strict=True):
            segmented = segment(source[num_tags:-1], rng), segment(target[1:-1], rng)
            if max(len(segmented[0]) + tokenizer.source_overhead, len(segmented[1]) + 1) > self._max_tokens:
                segmented = source[num_tags:-1].tolist(), target[1:-1].tolist()
            sources.append([*source[:num_tags].tolist(), *segmented[0], tokenizer.end_id])
            targets.append([tokenizer.begin_id, *segmented[1], tokenizer.end_id])
        return Tokenized(plain.kept, *flatten(sources), *flatten(targets))


def begin(tokenizer_model: bytes, rate: float, max_tokens: int) -> None:
    """Make the `PairDropout` of a worker process, whose arguments these are."""
    global _of_this_process  # noqa: PLW0603  # a worker process has no other purpose
    _of_this_process = PairDropout(tokenizer_model, rate, max_tokens)


def segment(plain: Tokenized, seed: str) -> Tokenized:
    """`PairDropout.segment` in a worker process."""
    return _of_this_process.segment(plain, seed)


_of_this_process: PairDropout
