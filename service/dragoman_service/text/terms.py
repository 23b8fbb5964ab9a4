"""Terms: phrases of a text whose translations are given, or which are kept as they are.

Texts and phrases are cut into words, marks of punctuation and, in scripts without spaces between words, characters
(`_TOKEN`). A phrase is found where its tokens stand, with the same gaps between them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from dragoman_service.errors import InvalidInput
from dragoman_service.text.characters import CONTROL, MARK, UNSPACED, private_characters

MAX_CHARACTERS = 128
"""Most characters of a source or target."""
MAX_WORDS = 32
"""Most tokens of a source. The search looks at so many at most from each place of a text."""

_TOKEN = re.compile(rf"[{UNSPACED}][{MARK}]*+|(?:(?![{UNSPACED}])\w|[{MARK}])++|\S")
_CONTROL_CHARACTER = re.compile(f"[{CONTROL}]")
_LONGEST_TOKEN = 4 * MAX_CHARACTERS
"""Characters of the longest token that can be one of a source: a letter is at most four when it is decomposed."""


@dataclass(frozen=True, slots=True)
class Term:
    """A phrase and what is written in its place in a translation."""

    source: str
    target: str | None
    """None: the phrase as it stands in the text."""
    case_sensitive: bool = False
    """Whether upper and lower case of the source matter."""


@dataclass(frozen=True, slots=True)
class Match:
    """A term in a text."""

    start: int
    end: int
    term: Term


@dataclass(slots=True)
class _Node:
    """A node of a trie, whose edges are tokens."""

    children: dict[str, _Node] = field(default_factory=dict)
    exact: dict[str, Term] = field(default_factory=dict)
    """Case-sensitive terms that end here, by `_exact`."""
    folded: Term | None = None
    """The term that ends here in any case."""


@dataclass(frozen=True, slots=True)
class _Token:
    start: int
    end: int
    exact: str
    """Its normalised text, after a space if there is one before it."""
    key: str
    """`exact` without differences of case."""


class Glossary:
    """Terms with distinct sources."""

    def __init__(self, terms: Iterable[Term], called: Callable[[int], str] = "terms[{}]".format) -> None:
        """Check the terms. `called` gives what errors call a term, from its number.

        Raises:
            InvalidInput: a source has no letter or digit; a source or target is empty, too long, has spaces around it
                or a control character; or two terms have the same source.
        """
        self._root = _Node()
        self._size = 0
        self.private: frozenset[str] = frozenset()
        """Those of the targets (`private_characters`)."""
        for number, term in enumerate(terms):
            self._add(term, called(number))

    def __len__(self) -> int:
        return self._size

    def _add(self, term: Term, where: str) -> None:
        source = where if term.target is None else f"{where}.source"
        given = {source: term.source} | ({} if term.target is None else {f"{where}.target": term.target})
        for field_name, value in given.items():
            if not 0 < len(value) <= MAX_CHARACTERS or value != value.strip() or _CONTROL_CHARACTER.search(value):
                allowed = f"1 to {MAX_CHARACTERS} characters, no spaces around them, and no control characters"
                raise InvalidInput(field_name, value, allowed)
        if not any(map(str.isalnum, term.source)):
            raise InvalidInput(source, term.source, "a phrase with a letter or a digit")
        node, tokens = self._root, list(_tokens(term.source))
        if len(tokens) > MAX_WORDS:
            raise InvalidInput(source, term.source, f"at most {MAX_WORDS} words, marks, or characters of East Asia")
        for token in tokens:
            node = node.children.setdefault(token.key, _Node())
        exact = _exact(tokens)
        if exact in node.exact if term.case_sensitive else node.folded is not None:
            raise InvalidInput(source, term.source, "one term for each source")
        if term.case_sensitive:
            node.exact[exact] = term
        else:
            node.folded = term
        self._size += 1
        self.private |= private_characters(term.target or "")

    def matches(self, text: str) -> Iterator[Match]:
        """The terms in a text, from left to right; of those that begin at one place, the longest. None overlap.

        A case-sensitive term is preferred to one of the same words that is not.
        """
        tokens = list(_tokens(text))
        place = 0
        while place < len(tokens):
            found = self._longest(tokens, place)
            if found is None:
                place += 1
                continue
            end, term = found
            yield Match(tokens[place].start, tokens[end - 1].end, term)
            place = end

    def _longest(self, tokens: Sequence[_Token], place: int) -> tuple[int, Term] | None:
        """The longest term that begins at a token, and the number of the token behind it."""
        node = self._root.children.get(tokens[place].key.lstrip())
        found, end = None, place
        while node is not None:
            end += 1
            if node.folded or node.exact:
                term = node.exact.get(_exact(tokens[place:end])) if node.exact else None
                if term := term or node.folded:
                    found = end, term
            node = node.children.get(tokens[end].key) if end < len(tokens) else None
        return found


def in_any_case(terms: Iterable[Term]) -> Glossary:
    """The glossary of terms that all match in any case. Of those that have the same source then, the first counts."""
    first: dict[tuple[str, ...], Term] = {}
    for term in terms:
        first.setdefault(tuple(token.key for token in _tokens(term.source)), replace(term, case_sensitive=False))
    return Glossary(first.values())


def read_terms(text: str, name: str) -> list[Term]:
    """Parse a glossary: a term on each line, SOURCE<tab>TARGET or SOURCE<tab>TARGET<tab>case.

    The last form is that of a case-sensitive term. Empty lines and lines that begin with "#" are comments.

    Args:
        text: The lines.
        name: What errors call the glossary, such as its file.

    Raises:
        InvalidInput: a line or a term is not allowed. The message has the number of the line, from 1.
    """
    terms: list[Term] = []
    numbers: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        source, *rest = line.removesuffix("\r").split("\t")
        if len(rest) not in (1, 2) or rest[1:] not in ([], ["case"]):
            raise InvalidInput(f"{name}, line {number}", line, "SOURCE<tab>TARGET or SOURCE<tab>TARGET<tab>case")
        terms.append(Term(source, rest[0], case_sensitive=len(rest) == 2))
        numbers.append(number)
    Glossary(terms, lambda index: f"{name}, line {numbers[index]}")
    return terms


def find_terms(text: str, glossaries: Sequence[Glossary]) -> list[Match]:
    """The terms in a text, in order. Those of the first glossaries come first: others do not overlap them."""
    taken: list[Match] = []
    for glossary in glossaries:
        free = without_overlaps(glossary.matches(text), [(it.start, it.end) for it in taken])
        taken = sorted([*taken, *free], key=lambda match: match.start)
    return taken


def without_overlaps(matches: Iterable[Match], ranges: Sequence[tuple[int, int]]) -> list[Match]:
    """The matches, in order, that share no character with one of some ranges, which are disjoint and in order."""
    found, number = [], 0
    for match in matches:
        while number < len(ranges) and ranges[number][1] <= match.start:
            number += 1
        if number == len(ranges) or match.end <= ranges[number][0]:
            found.append(match)
    return found


def _tokens(text: str) -> Iterator[_Token]:
    done = 0
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        gap = text[done:start]
        # Phrases have no line breaks and the like, so a gap with one of them is that of no phrase.
        space = "" if not gap else "\n" if _CONTROL_CHARACTER.search(gap) else " "
        # The time of normalisation is quadratic in the accents on a letter.
        word = unicodedata.normalize("NFC", match[0]) if end - start <= _LONGEST_TOKEN else match[0]
        exact = space + word
        yield _Token(start, end, exact, exact.casefold())
        done = end


def _exact(tokens: Sequence[_Token]) -> str:
    return tokens[0].exact.lstrip() + "".join(token.exact for token in tokens[1:])
