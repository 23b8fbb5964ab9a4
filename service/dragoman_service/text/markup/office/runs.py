"""A paragraph as runs, its text as HTML, and a translation as runs again."""

from __future__ import annotations

import html
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from dragoman_service.text.markup.inline import Inline, Kind

Range = tuple[int, int]
"""Characters of the source, in which other paragraphs may stand."""
Piece = str | Range

_WIDE = re.compile("( {4,})")
"""Spaces with which something is placed on the page."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is written around text to give it its formatting."""

    begin: str
    end: str


class Role(Enum):
    """What an item of a paragraph is."""

    TEXT = auto()
    MARK = auto()
    OPENS = auto()
    CLOSES = auto()
    FIELD = auto()
    """A mark of a field, until it is known where the field ends."""


@dataclass(frozen=True, slots=True)
class Item:
    """A piece of a paragraph, in order."""

    role: Role
    written: Piece
    """Of TEXT: what it says. Else how it is written, in a run of its own formatting."""
    look: Look | None = None
    """None: it is not in a run."""
    kind: Kind = Kind.IMG
    """Of a MARK."""
    group: str = ""
    """Marks of a group keep their order."""
    whole: tuple[Item, ...] = ()
    """What it consists of, if it is more than one item."""


class RunWriter(ABC):
    """Writes items, with those of equal formatting in one run."""

    def __init__(self, prefix: str) -> None:
        """`prefix`: that of the names of elements, with its colon."""
        self.prefix = prefix
        self.pieces: list[Piece] = []
        self._look: Look | None = None

    def add(self, item: Item) -> None:
        """Write an item."""
        for it in item.whole or (item,):
            self._switch(it.look)
            if it.role is Role.TEXT:
                assert isinstance(it.written, str)
                self._add_text(it.written)
            else:
                self._add_mark(it.written)

    def finished(self) -> list[Piece]:
        """All that is written."""
        self._switch(None)
        return self.pieces

    def _switch(self, look: Look | None) -> None:
        if look == self._look:
            return
        if self._look is not None:
            self.pieces.append(self._look.end)
        if look is not None:
            self.pieces.append(look.begin)
        self._look = look

    def _add_mark(self, written: Piece) -> None:
        self.pieces.append(written)

    @abstractmethod
    def _add_text(self, text: str) -> None:
        """Write text inside a run."""


class ParagraphText:
    """The text of a paragraph as HTML."""

    def __init__(self, items: Sequence[Item]) -> None:
        """The items, without fields."""
        items = list(_joined(items))
        self._bases = _bases(items)
        self._inline = Inline()
        self._items: list[Item] = []
        """By the number of an element: what is written for it."""
        self._ends: dict[int, Item] = {}
        """By the number of an element: what is written for its end."""
        self._base_of: dict[int, Look | None] = {}
        """By the number of an element: the formatting of text in it."""
        self._add_all(items)
        self.html = "".join(self._inline.parts)

    def items(self, translation: str) -> Iterator[Item]:
        """A translation of `html`."""
        looks = [self._bases[0]]
        for token in self._inline.read(translation):
            if isinstance(token, str):
                text = html.unescape(token)
                if text:
                    yield Item(Role.TEXT, text, looks[-1])
                continue
            kind = self._inline.kinds[token.number]
            if token.ends:
                looks.pop()
            elif kind.tag == "span":
                looks.append(self._base_of[token.number])
            if kind is not Kind.LOOK:
                yield self._ends[token.number] if token.ends else self._items[token.number]

    def _add(self, kind: Kind, item: Item) -> None:
        self._inline.add(kind, item.group)
        self._items.append(item)

    def _add_all(self, items: Sequence[Item]) -> None:
        around: list[int] = []
        base, bases = self._bases[0], iter(self._bases[1:])
        look = base
        for item in items:
            divides = item.role is not Role.TEXT and (item.role is not Role.MARK or item.kind is Kind.BR)
            wanted = item.look if item.role is Role.TEXT else base if divides else look
            if look not in (wanted, base):
                self._inline.end()
            if wanted not in (look, base):
                self._base_of[len(self._items)] = wanted
                self._add(Kind.LOOK, item)
            look = wanted
            if item.role is Role.TEXT:
                self._inline.parts.append(html.escape(str(item.written), quote=False))
            elif item.role is Role.MARK:
                self._add(item.kind, item)
            elif item.role is Role.OPENS:
                around.append(len(self._items))
                look = base = self._base_of[len(self._items)] = next(bases)
                self._add(Kind.SPAN, item)
            else:
                self._ends[around.pop()] = item
                self._inline.end()
                look = base = self._base_of[around[-1]] if around else self._bases[0]
        if look != base:
            self._inline.end()


def has_letters(items: Iterable[Item]) -> bool:
    """Whether there is something to translate."""
    return any(it.role is Role.TEXT and any(map(str.isalpha, str(it.written))) for it in items)


def _joined(items: Iterable[Item]) -> Iterator[Item]:
    """Items with text of equal formatting as one, and spaces with which something is placed as marks."""
    texts: list[str] = []
    last: Item | None = None

    def finished() -> Iterator[Item]:
        if last is not None:
            for number, text in enumerate(_WIDE.split("".join(texts))):
                item = replace(last, written=text)
                if number % 2:
                    yield Item(Role.MARK, "", kind=Kind.BR, whole=(item,))
                elif text:
                    yield item

    for item in items:
        if item.role is not Role.TEXT:
            yield from finished()
            yield item
            last, texts = None, []
            continue
        if last is None or (item.look != last.look and not str(item.written).isspace()):
            yield from finished()
            last, texts = item, []
        texts.append(str(item.written))
    yield from finished()


def _bases(items: Iterable[Item]) -> list[Look | None]:
    """The formatting of most text, outside of what encloses text, and inside of each that does, in order."""
    lengths: list[Counter[Look | None]] = [Counter()]
    around = [0]
    parents = [0]
    for item in items:
        if item.role is Role.OPENS:
            parents.append(around[-1])
            around.append(len(lengths))
            lengths.append(Counter())
        elif item.role is Role.CLOSES:
            around.pop()
        elif item.role is Role.TEXT:
            lengths[around[-1]][item.look] += len(str(item.written))
    found = [_most(lengths[0]) if lengths[0] else _most(sum(lengths, Counter()))]
    for own, parent in zip(lengths[1:], parents[1:], strict=True):
        found.append(_most(own) if own else found[parent])
    return found


def _most(lengths: Counter[Look | None]) -> Look | None:
    return max(lengths, key=lambda it: lengths[it], default=None)
