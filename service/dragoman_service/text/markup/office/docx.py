"""The parts of a DOCX document: WordprocessingML.

Source: ECMA-376, part 1, chapter 17. A paragraph (`w:p`) has runs (`w:r`), each with its formatting (`w:rPr`) and text
(`w:t`). Word divides a run wherever it has been edited or checked, in the middle of words too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dragoman_service.text.markup.inline import Kind
from dragoman_service.text.markup.office.elements import Elements
from dragoman_service.text.markup.office.fields import INSTRUCTION, without_fields
from dragoman_service.text.markup.office.part import Part
from dragoman_service.text.markup.office.runs import Item, Look, Range, Role, RunWriter
from dragoman_service.text.markup.xml import xml_text

_W = "w:"
NAMESPACES = {
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main": _W,
    "http://purl.oclc.org/ooxml/wordprocessingml/main": _W,
    "http://schemas.openxmlformats.org/officeDocument/2006/math": "m:",
    "http://purl.oclc.org/ooxml/officeDocument/math": "m:",
}
_ENCLOSING = frozenset(["w:hyperlink", "w:ins", "w:moveTo", "w:smartTag", "w:customXml", "w:dir", "w:bdo"])
"""Elements that enclose runs."""
_CODES = frozenset(["m:oMath", "m:oMathPara", "w:fldSimple", "w:sym"])
"""Those that say something themselves."""
_BREAKS = frozenset(["w:tab", "w:ptab", "w:br", "w:cr"])
_UNSEEN = frozenset(["w:proofErr", "w:lastRenderedPageBreak", "w:noProof"])
"""Notes of a program about what it has seen in the text, which is another one after its translation."""
_CHARACTERS = {"w:noBreakHyphen": "\u2011", "w:softHyphen": "\u00ad"}
_RANGES = re.compile(r"w:(?:bookmark|comment|perm|move|customXml)\w*(?:Start|End)")
"""Ends of ranges, which must stay in order."""
_LANGUAGE = re.compile(r"<(?:\w+:)?(?:lang|noProof)\b[^<>]*/>")
"""Formatting that belongs to the source language."""
_EMPTY = re.compile(r"<(?:\w+:)?rPr\s*(?:/>|>\s*</[^<>]*>)")
_CHARACTER = re.compile("([\t\n])")
_ELEMENTS = {"\t": "tab", "\n": "br"}


class DocxPart(Part):
    """A part with paragraphs of WordprocessingML."""

    def __init__(self, source: str) -> None:
        super().__init__(Elements(source, NAMESPACES))

    def _found(self) -> Iterator[tuple[Range, Sequence[Item]]]:
        elements = self._elements
        for number in range(len(elements.tags)):
            if elements.opens(number) and elements.name(number) == "w:p":
                reader = _Reader(elements)
                start = reader.read(number)
                end = elements.tags[elements.ends[number]].start()
                yield (start, end), without_fields(reader.items, reader.instructions)

    def _writer(self) -> RunWriter:
        return _DocxWriter(self._elements.prefix(_W))


class _DocxWriter(RunWriter):
    def _add_text(self, text: str) -> None:
        for number, part in enumerate(_CHARACTER.split(text)):
            if number % 2:
                self.pieces.append(f"<{self.prefix}{_ELEMENTS[part]}/>")
            elif part:
                self.pieces.append(f'<{self.prefix}t xml:space="preserve">{xml_text(part)}</{self.prefix}t>')


class _Reader:
    """Reads a paragraph."""

    def __init__(self, elements: Elements) -> None:
        self._elements = elements
        self.items: list[Item] = []
        self.instructions: dict[int, str] = {}

    def read(self, paragraph: int) -> int:
        """Take the items of a paragraph. Returns where they begin in the source."""
        elements = self._elements
        start = elements.tags[paragraph].end()
        inner, end = paragraph + 1, elements.ends[paragraph]
        closing: list[tuple[int, int]] = []
        """Where elements end that enclose runs: the tag of the end of what they enclose, and their last tag."""
        while inner < end:
            if closing and inner == closing[-1][0]:
                _, last = closing.pop()
                self._add(Role.CLOSES, (elements.tags[inner].start(), elements.tags[last].end()))
                inner = last + 1
                continue
            name = elements.name(inner)
            following = elements.ends[inner] + 1
            if name == "w:pPr":
                start = elements.whole(inner)[1]
            elif name == "w:r":
                self._read_run(inner)
            elif elements.opens(inner) and (enclosed := self._enclosed(inner, name)) is not None:
                self._add(Role.OPENS, (elements.tags[inner].start(), elements.tags[enclosed].end()))
                closing.append((elements.ends[enclosed], elements.ends[inner]))
                following = enclosed + 1
            elif name not in _UNSEEN:
                self._add_mark(inner, name)
            inner = following
        return start

    def _enclosed(self, number: int, name: str) -> int | None:
        """The tag after which the runs begin that an element encloses. None: it encloses none."""
        if name in _ENCLOSING:
            return number
        if name == "w:sdt":
            content = (it for it in self._elements.children(number) if self._elements.name(it) == "w:sdtContent")
            return next((it for it in content if self._elements.opens(it)), None)
        return None

    def _read_run(self, run: int) -> None:
        elements = self._elements
        prefix, formatting = elements.prefix(_W), ""
        for inner in elements.children(run) if elements.opens(run) else ():
            name = elements.name(inner)
            start, end = elements.whole(inner)
            if name == "w:rPr":
                formatting = _EMPTY.sub("", _LANGUAGE.sub("", elements.source[start:end]))
                continue
            look = Look(f"<{prefix}r>{formatting}", f"</{prefix}r>")
            if name == "w:t":
                text = elements.text(inner) if elements.opens(inner) else ""
                preserved = elements.attribute(inner, "space") == "preserve"
                self._add(Role.TEXT, text if preserved else text.strip(" \t\r\n"), look)
            elif name in _CHARACTERS:
                self._add(Role.TEXT, _CHARACTERS[name], look)
            elif name == "w:fldChar":
                self._add(Role.FIELD, (start, end), look, group=elements.attribute(inner, "fldCharType"))
            elif name == "w:instrText":
                self.instructions[len(self.items)] = elements.text(inner) if elements.opens(inner) else ""
                self._add(Role.FIELD, (start, end), look, group=INSTRUCTION)
            elif name not in _UNSEEN:
                self._add_mark(inner, name, look)

    def _add_mark(self, number: int, name: str, look: Look | None = None) -> None:
        kind = Kind.BR if name in _BREAKS else Kind.CODE if name in _CODES else Kind.IMG
        group = "range" if _RANGES.fullmatch(name) else ""
        self._add(Role.MARK, self._elements.whole(number), look, kind, group)

    def _add(
        self, role: Role, written: str | Range, look: Look | None = None, kind: Kind = Kind.IMG, group: str = ""
    ) -> None:
        self.items.append(Item(role, written, look, kind, group))
