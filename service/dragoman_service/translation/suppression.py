"""Words and pieces of the vocabulary that a translation must not contain.

A token is banned if with it the text of a hypothesis, as far as it is written, has one of the words as a whole word. So
no spelling in pieces gets around it. A longer word that begins with one of the words may be written, but not in pieces
of which the first ones are that word.
"""

from __future__ import annotations

import re
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from dragoman_service.engine.biases import ANYWHERE, AT_BORDER, Suppressed
from dragoman_service.errors import InvalidInput
from dragoman_service.repository.models import TextTokenizer
from dragoman_service.text.characters import CONTROL
from dragoman_service.translation.prefix import Prefix
from dragoman_service.translation.text_worker import Steps
from dragoman_service.translation.vocabulary import Vocabulary, is_word, parts_of, vocabulary_of

MAX_SUPPRESSED = 100
"""Most words, and most pieces, of a call. Each is a ban in every step, for which all rows of the step wait."""
MAX_CHARACTERS = 64
"""Most characters of a word."""
_RECENT = 16
"""Lists that are kept for each tokenizer: clients send the same one with every call."""

_CONTROL_CHARACTER = re.compile(f"[{CONTROL}]")


@dataclass(frozen=True, slots=True)
class Unwanted:
    """What the translations of a call must not contain."""

    words: tuple[tuple[str, str], ...]
    """Names of fields, and their words as the model writes them; without words that it cannot write."""
    pieces: tuple[tuple[str, str, int], ...]
    """Names of fields, their pieces, and the ids of these."""
    bias: Suppressed

    def check_prefix(self, prefix: Prefix) -> None:
        """Raise InvalidInput if no translation can begin with a prefix and contain nothing unwanted."""
        allowed = f"nothing that stands in the target prefix {prefix.text!r}"
        parts = parts_of(prefix.decoded.encode())
        if prefix.allowed and not prefix.text[-1:].isspace():
            parts.pop()  # the last word may go on
        for field, word in self.words:
            own = parts_of(word.encode())
            if any(parts[start : start + len(own)] == own for start in range(len(parts))):
                raise InvalidInput(field, word, allowed)
        for field, piece, i in self.pieces:
            if i in prefix.tokens:
                raise InvalidInput(field, piece, allowed)
        banned = self.bias.added(prefix.tokens)[0].tolist()
        if prefix.allowed and set(prefix.allowed).issubset(banned):
            raise InvalidInput("target_prefix", prefix.text, "a prefix that can go on without what is suppressed")


_recent: WeakKeyDictionary[TextTokenizer, OrderedDict[tuple[object, ...], Unwanted]] = WeakKeyDictionary()


def unwanted_steps(words: tuple[str, ...], pieces: tuple[str, ...], tokenizer: TextTokenizer) -> Steps[Unwanted]:
    """Find the tokens to ban, in a step for each word. It takes a second if the vocabulary is large and new.

    Raises:
        InvalidInput: too many words or pieces; a word that is empty or too long, or has spaces around it or control
            characters; a piece that is not in the vocabulary, or is the end of the sentence. It names the field.
    """
    for name, given in (("suppressed_words", words), ("suppressed_tokens", pieces)):
        if len(given) > MAX_SUPPRESSED:
            raise InvalidInput(name, f"{len(given)} of them", f"at most {MAX_SUPPRESSED}")
    recent = _recent.setdefault(tokenizer, OrderedDict())
    if (words, pieces) not in recent:
        recent[words, pieces] = yield from _unwanted(words, pieces, tokenizer)
    recent.move_to_end((words, pieces))
    if len(recent) > _RECENT:
        recent.popitem(last=False)
    return recent[words, pieces]


def _unwanted(words: Sequence[str], pieces: Sequence[str], tokenizer: TextTokenizer) -> Steps[Unwanted]:
    vocabulary = vocabulary_of(tokenizer)
    automaton = _Automaton(vocabulary)
    found_pieces, found_words = [], []
    for index, piece in enumerate(pieces):
        field, ids = f"suppressed_tokens[{index}]", vocabulary.with_piece(piece)
        if not ids or tokenizer.end_id in ids:
            allowed = "a piece of the model's vocabulary, as return_tokens shows it, and not the end of the sentence"
            raise InvalidInput(field, piece, allowed)
        automaton.ban(ids)
        found_pieces += [(field, piece, i) for i in ids]
    for index, word in enumerate(words):
        field = f"suppressed_words[{index}]"
        if written := _written(word, field, tokenizer):
            automaton.add(written)
            found_words.append((field, written))
        yield
    return Unwanted(tuple(found_words), tuple(found_pieces), automaton.bias())


def _written(word: str, field: str, tokenizer: TextTokenizer) -> str:
    """A word as the model writes it; empty if it cannot. Raises InvalidInput."""
    if not 0 < len(word) <= MAX_CHARACTERS or word != word.strip() or _CONTROL_CHARACTER.search(word):
        allowed = f"1 to {MAX_CHARACTERS} characters, no spaces around them, and no control characters"
        raise InvalidInput(field, word, allowed)
    ids = tokenizer.encode_target(word)
    return "" if tokenizer.unknown_id in ids else tokenizer.decode(ids).strip()


class _Automaton:
    """Builds a `Suppressed`."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._endings = defaultdict[int, set[int]](set)
        self._steps = defaultdict[int, set[tuple[int, int]]](set)
        self._free = AT_BORDER + 1  # the first number that no state has

    def ban(self, ids: Sequence[int]) -> None:
        """Add tokens that never come."""
        self._endings[ANYWHERE].update(ids)

    def add(self, word: str) -> None:
        """Add a word that is never written."""
        vocabulary, text = self._vocabulary, word.encode()
        # States by the number of bytes that are written.
        states = [AT_BORDER if is_word(word[0]) else ANYWHERE, *range(self._free, self._free + len(text) - 1)]
        self._free += len(text) - 1
        self.ban(vocabulary.with_later_parts(text))
        for done, state in enumerate(states):
            rest = text[done:]
            self._endings[state].update(vocabulary.with_first_parts(rest))
            for token in vocabulary.with_last_parts(text[:done]) if done else ():
                self._steps[token].add((ANYWHERE, state))
            for length in range(1, min(len(rest), vocabulary.longest + 1)):
                for token in vocabulary.with_text(rest[:length]):
                    self._steps[token].add((state, states[done + length]))

    def bias(self) -> Suppressed:
        """What has been added."""
        endings = {state: tuple(sorted(tokens)) for state, tokens in self._endings.items() if tokens}
        steps = {token: tuple(sorted(pairs)) for token, pairs in self._steps.items()}
        return Suppressed(endings, steps, self._vocabulary.ends)
