"""What stands inside a text of XML as elements of HTML with numbers, and the way back from a translation.

What encloses text is a `span`, what divides it a `br`, what does not say anything itself an `img`, and what does, such
as a variable, a `code`, which a translation keeps as it keeps any word that it must not change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

ELEMENT = re.compile(r'<(img|br|span) data-n="([0-9]{1,9})">|<(code) data-n="([0-9]{1,9})"></code>|</span>')
_TEXT = -1
"""In the place of the number of an element: the text itself."""
_NONE = -2
"""In the place of the number of an element: one that is left out."""


class Kind(Enum):
    """What an element does to the text around it, or inside it."""

    IMG = "img"
    BR = "br"
    CODE = "code"
    SPAN = "span"
    """Encloses text. A translation has it once, inside of the element that is around it in the text."""
    LOOK = "look"
    """Encloses text, and only says how it looks. A translation may have it any number of times."""

    @property
    def tag(self) -> str:
        """The name of its element of HTML."""
        return "span" if self is Kind.LOOK else self.value


@dataclass(frozen=True, slots=True)
class Tag:
    """An element in a translation, or the beginning or the end of one that encloses text."""

    number: int
    ends: bool = False


@dataclass(slots=True)
class Inline:
    """A text with elements, which are numbered as they are added."""

    parts: list[str] = field(default_factory=list)
    """The text as HTML."""
    kinds: list[Kind] = field(default_factory=list)
    _parents: list[int] = field(default_factory=list)
    """Of each element: the one of the kind SPAN that is around it."""
    _groups: dict[str, list[int]] = field(default_factory=dict)
    _group_of: dict[int, str] = field(default_factory=dict)
    _open: list[int] = field(default_factory=list)

    def add(self, kind: Kind, group: str = "") -> None:
        """Add an element, or the beginning of one that encloses text. Those of a group keep their order."""
        number = len(self.kinds)
        name = kind.tag
        self.parts.append(f'<{name} data-n="{number}">' + ("</code>" if kind is Kind.CODE else ""))
        self.kinds.append(kind)
        self._parents.append(next((it for it in reversed(self._open) if self.kinds[it] is Kind.SPAN), _TEXT))
        if group:
            self._groups.setdefault(group, []).append(number)
            self._group_of[number] = group
        if name == "span":
            self._open.append(number)

    def end(self) -> None:
        """Add the end of the last element that is open."""
        self._open.pop()
        self.parts.append("</span>")

    def read(self, translation: str) -> Iterator[str | Tag]:
        """A translation as HTML and its elements, of which each stands there once, and well nested.

        A model may lose, repeat and cross elements. Those that are lost stand at the end of what is around them, and
        what cannot be an element of the text is text.
        """
        tokens = list(self._tokens(translation))
        lost: dict[int, list[int]] = {}
        present = {it.number for it in tokens if isinstance(it, Tag)}
        for number, (kind, parent) in enumerate(zip(self.kinds, self._parents, strict=True)):
            if number not in present and kind is not Kind.LOOK:
                lost.setdefault(parent, []).append(number)
        yield from self._in_order([it for token in tokens for it in self._with_lost(token, lost)], lost)

    def _in_order(self, tokens: list[str | Tag], lost: dict[int, list[int]]) -> Iterator[str | Tag]:
        following = {group: iter(numbers) for group, numbers in self._groups.items()}
        for token in [*tokens, *self._those(lost.get(_TEXT, ()), lost)]:
            group = self._group_of.get(token.number) if isinstance(token, Tag) else None
            yield Tag(next(following[group])) if group else token

    def _with_lost(self, token: str | Tag, lost: dict[int, list[int]]) -> Iterator[str | Tag]:
        if isinstance(token, Tag) and token.ends:
            yield from self._those(lost.get(token.number, ()), lost)
        yield token

    def _those(self, numbers: list[int] | tuple[()], lost: dict[int, list[int]]) -> Iterator[Tag]:
        """Elements that are lost, with those that are lost in them."""
        todo = [Tag(number) for number in reversed(numbers)]
        while todo:
            tag = todo.pop()
            yield tag
            if self.kinds[tag.number] is Kind.SPAN and not tag.ends:
                todo.append(Tag(tag.number, ends=True))
                todo += [Tag(number) for number in reversed(lost.get(tag.number, ()))]

    def _tokens(self, translation: str) -> Iterator[str | Tag]:
        """Text and elements, without those that stand there again, or in another element than in the text."""
        opened: list[int] = []
        around: list[int] = [_TEXT]  # of the kind SPAN
        seen: set[int] = set()
        done = 0
        for match in ELEMENT.finditer(translation):
            yield translation[done : match.start()]
            done = match.end()
            name = match[1] or match[3]
            number = int(match[2] or match[4]) if name else opened.pop() if opened else _TEXT
            if number == _TEXT or (name and not self._is_of_text(number, name)):
                yield match[0].replace("<", "&lt;")
                if name == "span":
                    opened.append(_TEXT)
                continue
            if name and (number in seen or (name == "span" and self._is_elsewhere(number, around[-1]))):
                number = _NONE
            if name == "span":
                opened.append(number)
            if number != _NONE:
                self._follow(number, seen, around, ends=not name)
                yield Tag(number, ends=not name)
        yield translation[done:]
        yield from (Tag(number, ends=True) for number in reversed(opened) if number >= 0)

    def _follow(self, number: int, seen: set[int], around: list[int], *, ends: bool) -> None:
        kind = self.kinds[number]
        if kind is not Kind.LOOK:
            seen.add(number)
        if kind is Kind.SPAN and ends:
            around.pop()
        elif kind is Kind.SPAN:
            around.append(number)

    def _is_of_text(self, number: int, name: str) -> bool:
        return number < len(self.kinds) and self.kinds[number].tag == name

    def _is_elsewhere(self, number: int, around: int) -> bool:
        return self.kinds[number] is Kind.SPAN and self._parents[number] != around
