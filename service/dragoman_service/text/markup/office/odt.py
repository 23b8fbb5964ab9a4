"""The parts of an ODT document: OpenDocument text.

Source: OpenDocument 1.3, part 3. A paragraph (`text:p`, `text:h`) has text, in which white space is as in HTML, and
elements such as `text:span`, which formats what it encloses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dragoman_service.text.markup.inline import Kind
from dragoman_service.text.markup.office.elements import Elements
from dragoman_service.text.markup.office.part import Part
from dragoman_service.text.markup.office.runs import Item, Look, Range, Role, RunWriter
from dragoman_service.text.markup.xml import xml_text

_TEXT = "text:"
NAMESPACES = {
    "urn:oasis:names:tc:opendocument:xmlns:text:1.0": _TEXT,
    "urn:oasis:names:tc:opendocument:xmlns:office:1.0": "office:",
    "urn:oasis:names:tc:opendocument:xmlns:drawing:1.0": "draw:",
}
_PARAGRAPHS = frozenset(["text:p", "text:h"])
_ENCLOSING = frozenset(["text:a", "text:meta"])
_BREAKS = frozenset(["text:tab", "text:line-break"])
_UNSEEN = frozenset(["text:soft-page-break"])
_POINTS = re.compile(
    r"text:(?:bookmark|reference-mark|change|toc-mark|user-index-mark|alphabetical-index-mark)(?:-start|-end)?"
    r"|office:annotation-end"
)
"""Marks of places and of the ends of ranges, which must stay in order."""
_OBJECTS = re.compile(r"text:note|office:annotation|draw:.*|(?!text:).*")
"""What stands at a place of the text and is no part of it."""
_DELETED = "text:tracked-changes"
_SPACE = re.compile("[ \t\r\n]+")
_WRITTEN = re.compile("( {2,}|[\t\n])")
_ELEMENTS = {"\t": "tab", "\n": "line-break"}
_MOST_SPACES = 1_000
"""Most spaces that one element stands for."""


class OdtPart(Part):
    """A part with paragraphs of OpenDocument."""

    def __init__(self, source: str) -> None:
        super().__init__(Elements(source, NAMESPACES))

    def _found(self) -> Iterator[tuple[Range, Sequence[Item]]]:
        elements = self._elements
        number = 0
        while number < len(elements.tags):
            name = elements.name(number)
            if elements.opens(number) and name in _PARAGRAPHS:
                start, end = elements.tags[number].end(), elements.tags[elements.ends[number]].start()
                yield (start, end), _Reader(elements).read(number)
            number = elements.ends[number] + 1 if name == _DELETED else number + 1

    def _writer(self) -> RunWriter:
        return _OdtWriter(self._elements.prefix(_TEXT))


class _OdtWriter(RunWriter):
    """White space at the beginning, and what follows white space, is written as elements: it would be left out."""

    _after_space = True

    def _add_mark(self, written: str | Range) -> None:
        super()._add_mark(written)
        self._after_space = False

    def _add_text(self, text: str) -> None:
        for number, part in enumerate(_WRITTEN.split(text)):
            if part in _ELEMENTS:
                self.pieces.append(f"<{self.prefix}{_ELEMENTS[part]}/>")
                self._after_space = False
            elif number % 2 or (part.startswith(" ") and self._after_space):
                spaces = len(part) - len(part.lstrip(" "))
                first = "" if self._after_space else " "
                self.pieces.append(f'{first}<{self.prefix}s {self.prefix}c="{spaces - len(first)}"/>')
                self._add_plain(part[spaces:])
            else:
                self._add_plain(part)

    def _add_plain(self, text: str) -> None:
        if text:
            self.pieces.append(xml_text(text))
            self._after_space = text.endswith(" ")


class _Reader:
    """Reads a paragraph."""

    def __init__(self, elements: Elements) -> None:
        self._elements = elements
        self._items: list[Item] = []
        self._looks: list[Look] = []
        self._after_space = True

    def read(self, paragraph: int) -> list[Item]:
        """The items of a paragraph."""
        elements = self._elements
        inner, end = paragraph + 1, elements.ends[paragraph]
        while inner <= end:
            self._add_text(elements.text_before(inner))
            if inner == end:
                break
            name, match = elements.name(inner), elements.tags[inner]
            following = inner + 1
            if match["data"] is not None:
                self._add_text(match["data"])
            elif elements.closes(inner):
                if name == "text:span":
                    self._looks.pop()
                else:
                    self._add(Role.CLOSES, match.span())
            elif name == "text:span":
                if elements.opens(inner):
                    self._looks.append(Look(match[0], elements.tags[elements.ends[inner]][0]))
            elif name in _ENCLOSING and elements.opens(inner):
                self._add(Role.OPENS, match.span())
            else:
                self._add_element(inner, name)
                following = elements.ends[inner] + 1
            inner = following
        return self._items

    def _add_text(self, text: str) -> None:
        text = _SPACE.sub(" ", text)
        if self._after_space:
            text = text.removeprefix(" ")
        if text:
            self._add(Role.TEXT, text, self._look())
            self._after_space = text.endswith(" ")

    def _add_element(self, number: int, name: str) -> None:
        if name in _UNSEEN:
            return
        if name == "text:s":
            count = self._elements.attribute(number, "c")
            spaces = int(count) if count.isascii() and count.isdigit() and len(count) < 6 else 1
            self._add(Role.TEXT, " " * min(spaces, _MOST_SPACES), self._look())
            return
        kind = Kind.CODE
        if name in _BREAKS:
            kind = Kind.BR
        elif not name or _POINTS.fullmatch(name) or _OBJECTS.fullmatch(name):
            kind = Kind.IMG
        group = "range" if _POINTS.fullmatch(name) else ""
        self._add(Role.MARK, self._elements.whole(number), self._look(), kind, group)
        self._after_space = False

    def _look(self) -> Look | None:
        if not self._looks:
            return None
        return Look("".join(it.begin for it in self._looks), "".join(it.end for it in reversed(self._looks)))

    def _add(
        self, role: Role, written: str | Range, look: Look | None = None, kind: Kind = Kind.IMG, group: str = ""
    ) -> None:
        self._items.append(Item(role, written, look, kind, group))
