"""A document with markup as blocks of plain text and what stands between them.

A *block* is text that belongs together, such as a paragraph. Its inline tags are taken out and remembered, and what it
keeps, such as code, is one private character each. `Document.written` is the only way back: with translations that are
the texts of the blocks, it gives the document to the byte.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar, Union

from dragoman_service.text.characters import PRIVATE
from dragoman_service.text.markup.placement import Element, Part, Range, placed_tags

Markup = tuple[Union[str, "Block"], ...]
"""What is written as it is, and blocks in it, such as the value of an attribute."""
Escape = Callable[[str, Mapping[str, str]], Sequence[str]]
"""`escape(text, spellings)`: how each character of a text is written in a document. `spellings` says it for some."""

_BYTES_PER_BLOCK, _BYTES_PER_MARK, _BYTES_PER_OFFSET, _BYTES_PER_PART = 700, 250, 120, 60
_FIRST_KEPT, _LAST_KEPT = map(ord, PRIVATE.split("-"))

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work that yields after each small step, and returns its result."""


def at_once(steps: Steps[T]) -> T:
    """Do all steps of some work."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


@dataclass(frozen=True, slots=True)
class Mark:
    """A tag."""

    place: int
    """Where it stands in the text of its block."""
    markup: Markup


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Text that is translated as a whole."""

    text: str
    kept: tuple[tuple[int, int], ...]
    """Characters of `text` that must stand in the translation, each once."""
    marks: tuple[Mark, ...]
    """The tags in order."""
    elements: tuple[Element, ...]
    """What the tags enclose."""
    spelled: Mapping[int, str]
    """How characters are written in the document, by their index, if not as they are."""
    offsets: tuple[tuple[int, int], ...]
    """Ascending, the first is that of 0: an index in `text`, and its index in the document."""
    escape: Escape

    @property
    def memory(self) -> int:
        """About how many bytes it takes."""
        offsets = len(self.offsets) + len(self.spelled) + len(self.kept)
        return _BYTES_PER_BLOCK + _BYTES_PER_MARK * len(self.marks) + _BYTES_PER_OFFSET * offsets

    def without_kept_of_others(self, translation: str, ranges: Iterable[tuple[Range, Range]]) -> str:
        """A translation in which a sentence has only what itself keeps: a model may write any character.

        Args:
            translation: That of `text`.
            ranges: Characters of each sentence, and of its translation.
        """
        kept = {self.text[start] for start, _ in self.kept}
        if not kept:
            return translation
        parts, done = [], 0
        for (start, end), (begin, stop) in ranges:
            strange = kept.difference(self.text[start:end])
            own = (" " if it in strange else it for it in translation[begin:stop])
            parts += [translation[done:begin], *own]
            done = stop
        return "".join([*parts, translation[done:]])

    def source_of(self, index: int) -> int:
        """The index in the document of an index in `text`."""
        own, offset = self.offsets[bisect_right(self.offsets, index, key=lambda pair: pair[0]) - 1]
        return offset + index - own

    def source(self) -> list[str | Block]:
        """The block as it stands in the document."""
        spelled = self.spelled
        characters = [spelled.get(index, character) for index, character in enumerate(self.text)]
        return _woven(characters, self.marks)

    def written(self, translation: str, parts: Sequence[Part] | None = None) -> list[str | Block]:
        """The translation as it stands in the document, with every tag.

        Args:
            translation: That of `text`. It has each kept span once.
            parts: As for `placed_tags`.
        """
        if translation == self.text:
            return self.source()
        characters = list(self.escape(translation, self._spellings()))
        for source, target, length in _copies(self.text, translation, parts):
            for number in range(length):
                if source + number in self.spelled:
                    characters[target + number] = self.spelled[source + number]
        placed = placed_tags(self.text, self.elements, translation, parts) if self.elements else ()
        return _woven(characters, [Mark(it.place, self.marks[it.tag].markup) for it in placed])

    def _spellings(self) -> dict[str, str]:
        """How characters are written in translated text too. This does not hold for the ends of lines."""
        return {self.text[index]: written for index, written in self.spelled.items() if self.text[index] != " "}


def _woven(characters: Sequence[str], marks: Iterable[Mark]) -> list[str | Block]:
    """Characters with marks between them."""
    found: list[str | Block] = []
    done = 0
    for mark in marks:
        found += ["".join(characters[done : mark.place]), *mark.markup]
        done = mark.place
    return [*found, "".join(characters[done:])]


def _copies(text: str, translation: str, parts: Sequence[Part] | None) -> Iterator[tuple[int, int, int]]:
    """The runs of a translation that are not translated: start in the text and in the translation, and length."""
    if parts is None:
        return
    source = target = 0
    for part in parts:
        (start, end), (begin, stop) = part.source, part.target
        yield source, target, start - source
        if text[start:end] == translation[begin:stop]:
            yield start, begin, end - start
        source, target = end, stop
    yield source, target, len(text) - source


@dataclass(frozen=True)
class Document:
    """A document in parts: blocks, and what is written as it is."""

    parts: Markup

    @cached_property
    def blocks(self) -> list[Block]:
        """All blocks in order, each before those that stand in its tags."""
        found = []
        for part in self.parts:
            if isinstance(part, Block):
                found.append(part)
                found += [it for mark in part.marks for it in mark.markup if isinstance(it, Block)]
        return found

    @property
    def memory(self) -> int:
        """About how many bytes it takes."""
        return _BYTES_PER_PART * len(self.parts) + sum(block.memory for block in self.blocks)

    def written(self, translations: Sequence[tuple[str, Sequence[Part] | None]]) -> str:
        """Do all steps of `written_steps` at once."""
        return at_once(self.written_steps(translations))

    def written_steps(self, translations: Sequence[tuple[str, Sequence[Part] | None]]) -> Steps[str]:
        """The document with translations, a step for each block.

        `translations` has the text for each of `blocks`, and as parts what `placed_tags` takes.
        """
        of_block = {id(block): it for block, it in zip(self.blocks, translations, strict=True)}
        written: list[str] = []
        todo = list(reversed(self.parts))
        while todo:
            part = todo.pop()
            if isinstance(part, str):
                written.append(part)
            else:
                yield
                todo += reversed(part.written(*of_block[id(part)]))
        return "".join(written)


class BlockBuilder:
    """Collects the text and the tags of a block, in order."""

    def __init__(self, escape: Escape, taken: frozenset[str], base: int = 0) -> None:
        """Begin a block.

        Args:
            escape: Of its translations.
            taken: The private characters of the document (`characters.private_characters`).
            base: Is added to the offsets that are given below.
        """
        self._base = base
        self._escape = escape
        self._taken = taken
        self._clear()

    def _clear(self) -> None:
        self._text: list[str] = []
        self._length = 0
        self._spelled: dict[int, str] = {}
        self._offsets: list[tuple[int, int]] = []
        self._kept: list[tuple[int, int]] = []
        self._marks: list[Mark] = []
        self._elements: list[Element] = []
        self._open: list[tuple[str, int]] = []
        self._named: dict[str, list[int]] = {}
        self._next_kept = _FIRST_KEPT

    def add(self, text: str, offset: int, spelled: str | None = None) -> None:
        """Add text that begins at an offset of the document. `spelled` is how its one character is written there."""
        if not text:
            return
        self._offsets.append((self._length, self._base + offset))
        if spelled is not None and spelled != text:
            self._spelled[self._length] = spelled
        self._text.append(text)
        self._length += len(text)

    def keep(self, source: str, offset: int) -> None:
        """Add what is not translated and stands inside a sentence."""
        while chr(self._next_kept) in self._taken:
            self._next_kept += 1
        if self._next_kept > _LAST_KEPT:
            self.tag(source)
            return
        self._kept.append((self._length, self._length + 1))
        self.add(chr(self._next_kept), offset, source)
        self._next_kept += 1

    def open(self, name: str, *markup: str | Block) -> None:
        """Add a tag that opens an element."""
        self.tag(*markup)
        self._open.append((name, len(self._elements) - 1))
        self._named.setdefault(name, []).append(len(self._elements) - 1)

    def close(self, name: str, *markup: str | Block) -> None:
        """Add a tag that closes the last open element of this name, and what is open in it. Without one: as `tag`."""
        if not self._named.get(name):
            self.tag(*markup)
            return
        wanted = self._named[name][-1]
        while self._open[-1][1] != wanted:
            self._end()
        self._end(closing=len(self._marks))
        self._marks.append(Mark(self._length, markup))

    def tag(self, *markup: str | Block) -> None:
        """Add a tag by itself."""
        parent = self._open[-1][1] if self._open else None
        self._elements.append(Element(self._length, self._length, len(self._marks), parent=parent))
        self._marks.append(Mark(self._length, markup))

    def _end(self, closing: int | None = None) -> None:
        name, number = self._open.pop()
        self._named[name].pop()
        self._elements[number] = replace(self._elements[number], end=self._length, closing=closing)

    def build(self) -> list[str | Block]:
        """The block, or what it consists of if it has nothing to translate. The builder is empty again."""
        while self._open:
            self._end()
        text = "".join(self._text)
        block = Block(
            text,
            tuple(self._kept),
            tuple(self._marks),
            tuple(self._elements),
            self._spelled,
            tuple(self._offsets),
            self._escape,
        )
        self._clear()
        return [block] if any(map(str.isalpha, text)) else block.source()
