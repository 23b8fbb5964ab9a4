"""Markdown: CommonMark with GitHub's tables, strikethrough, task lists and footnotes.

The source is read line by line. Headings, paragraphs, items of lists and cells of tables are blocks; code, definitions
of links, metadata and the marks of blocks are written as they are. Where this differs from a full parser, a mark is
taken for text or text for code, and no character is lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from dragoman_service.text.characters import private_characters
from dragoman_service.text.markup.document import Block, Document, Steps
from dragoman_service.text.markup.html import BLOCKS, html_steps
from dragoman_service.text.markup.markdown_inline import Source, inline_parts

_LINE = re.compile(r"(?P<line>[^\r\n]*+)(?:\r\n|\r|\n|\Z)")
_METADATA = re.compile(r"(?P<mark>---|\+\+\+)[ \t]*+$")
_MARKER = re.compile(r">[ ]?|(?P<item>[-+*]|(?P<number>[0-9]{1,9})[.)])(?:[ \t]++|\Z)(?:\[[ xX]\][ \t]++)?")
_FENCE = re.compile(r"(?P<mark>`{3,}+(?=[^`]*+\Z)|~{3,}+)")
_HEADING = re.compile(r"#{1,6}+(?:[ \t]++|\Z)")
_MARKS_OF_RULE = 3
_RULE = re.compile(r"(?:(?:\*[ \t]*+){3,}+|(?:-[ \t]*+){3,}+|(?:_[ \t]*+){3,}+)\Z")
_UNDERLINE = re.compile(r"(?:=++|-++)[ \t]*+\Z")
_DEFINITION = re.compile(r"\[(?!\^)(?P<label>(?:[^\[\]\\]|\\.)++)\]:")
_FOOTNOTE = re.compile(r"\[\^[^\s\[\]]++\]:[ \t]*+")
_DELIMITERS = re.compile(r"(?=[^|]*+\||:?-)\|?[ \t]*+:?-++:?[ \t]*+(?:\|[ \t]*+:?-++:?[ \t]*+)*+\|?[ \t]*+\Z")
_CELL = re.compile(r"(?:[^|\\]++|\\.)++", re.DOTALL)
_HTML = re.compile(
    r"<(?:(?P<closed>!--|(?:script|pre|style|textarea)\b)|/?(?P<name>[a-z][a-z0-9-]*+)(?=[\s/>]|\Z)|[!?])",
    re.IGNORECASE,
)
_ENDS_OF_HTML = {"!--": "-->", "script": "</script>", "pre": "</pre>", "style": "</style>", "textarea": "</textarea>"}
_ALL_DEFINITIONS = re.compile(r"^[ \t>]*+" + _DEFINITION.pattern, re.MULTILINE)
_CODE_INDENT = 4
_TAB = 4


def markdown_steps(source: str, taken: frozenset[str] | None = None) -> Steps[Document]:
    """Cut Markdown into blocks, in small steps. For `taken`, see `html_steps`."""
    parser = _Parser(source, private_characters(source) if taken is None else taken)
    while parser.has_lines:
        yield from parser.next()
    return Document(tuple(parser.end()))


class _Parser:
    def __init__(self, source: str, taken: frozenset[str]) -> None:
        self._source = source
        self._lines = [(m.start(), m.end("line"), m.end()) for m in _LINE.finditer(source) if m[0]]
        self._labels = {" ".join(m["label"].lower().split()) for m in _ALL_DEFINITIONS.finditer(source)}
        self._taken = taken
        self._parts: list[str | Block] = []
        self._number = 0
        self._done = 0
        """The characters before are in `_parts` or in `_paragraph`."""
        self._paragraph: list[tuple[int, int]] | None = None
        """Start and end of the lines of the paragraph that has not ended."""
        self._quotes = 0
        """Number of ">" before the last line."""
        self._indent = 0
        """Columns before the content of the item of a list; 0: there is none."""

    @property
    def has_lines(self) -> bool:
        """Whether there is a line to read."""
        return self._number < len(self._lines)

    def end(self) -> list[str | Block]:
        """Everything, when all lines are read."""
        self._end_paragraph()
        self._copy(len(self._source))
        return self._parts

    def next(self) -> Steps[None]:
        """Read a line, or a block that is no paragraph."""
        yield
        source, (start, end, _) = self._source, self._lines[self._number]
        metadata = _METADATA.match(source, 0, end) if start == 0 else None
        if metadata is not None and self._skip_past(lambda line: line.rstrip() == metadata["mark"]):
            return
        content, quotes, is_item = self._content(start, end)
        rest = source[content:end]
        if not rest.strip():
            self._end_paragraph()
            self._number += 1
            return
        if quotes > self._quotes or is_item:
            self._end_paragraph()
        self._quotes = quotes
        indent = self._columns(start, content) if not is_item else self._indent
        if self._paragraph is None and not is_item and not quotes and indent < self._indent:
            self._indent = 0
        if self._paragraph is None and indent - self._indent >= _CODE_INDENT:
            self._number += 1  # code
        else:
            yield from self._block(content, end, is_item=is_item)

    def _block(self, content: int, end: int, *, is_item: bool) -> Steps[None]:
        """Read a line that is no code: its content is characters `content` to `end`."""
        rest = self._source[content:end]
        if (fence := _FENCE.match(rest)) is not None:
            self._end_paragraph()
            mark = fence["mark"]
            closing = re.compile(rf"[\s>]*{re.escape(mark[0])}{{{len(mark)},}}\s*\Z")
            if not self._skip_past(closing.match):
                self._number = len(self._lines)
        elif (heading := _HEADING.match(rest)) is not None:
            self._end_paragraph()
            self._add(content + heading.end(), content + heading.end() + len(_title(rest[heading.end() :])))
            self._number += 1
        elif self._is_single(rest, is_item=is_item):
            self._end_paragraph()
            self._number += 1
        elif self._is_table(rest):
            yield from self._table(content, end)
        elif (markup := _HTML.match(rest)) and (markup["name"] or "div").lower() in BLOCKS:
            yield from self._html(content, markup)
        else:
            self._add_line(content, end)
            self._number += 1

    def _content(self, start: int, end: int) -> tuple[int, int, bool]:
        """Where the content of a line begins, how many ">" stand before it, and whether it begins an item of a list."""
        source, place, quotes, is_item = self._source, start, 0, False
        columns, tail = 0, _Tail(source, start, end)
        while True:
            blank = place
            while blank < end and source[blank] in " \t":
                blank += 1
            marker = _MARKER.match(source, blank, end)
            if marker is None or tail.is_rule(blank):
                return blank, quotes, is_item
            if self._columns(place, blank) - self._indent >= _CODE_INDENT and not is_item:
                return blank, quotes, is_item
            if marker["item"]:
                if self._paragraph is not None and not self._indent and marker["number"] not in (None, "1"):
                    return blank, quotes, is_item
                if self._paragraph is not None and marker.end() == end and not self._indent:
                    return blank, quotes, is_item
                is_item = True
                self._indent = self._columns(place, marker.end("item"), columns) + 1
            else:
                quotes += 1
            columns = self._columns(place, marker.end(), columns)
            place = marker.end()

    def _columns(self, start: int, end: int, columns: int = 0) -> int:
        """The columns before a place, from those before another place of the same line."""
        for character in self._source[start:end]:
            columns += _TAB - columns % _TAB if character == "\t" else 1
        return columns

    def _is_single(self, rest: str, *, is_item: bool) -> bool:
        """Whether a line has nothing to translate: a rule, the line below a heading, or the definition of a link."""
        if self._paragraph is None:
            return bool(_RULE.match(rest) or _DEFINITION.match(rest))
        return not is_item and bool(_UNDERLINE.match(rest) or _RULE.match(rest))

    def _skip_past(self, is_last: Callable[[str], object]) -> bool:
        """Go behind the first line after this one for which `is_last` is true. False: there is none."""
        for number in range(self._number + 1, len(self._lines)):
            start, end, _ = self._lines[number]
            if is_last(self._source[start:end]):
                self._number = number + 1
                return True
        return False

    def _copy(self, end: int) -> None:
        """What is written as it is, up to a place."""
        if self._done < end:
            self._parts.append(self._source[self._done : end])
            self._done = end

    def _add(self, start: int, end: int, *, cell: bool = False) -> None:
        """A block of one line."""
        self._copy(start)
        self._parts += inline_parts(Source(self._source, [(start, end)]), self._taken, self._labels, cell=cell)
        self._done = end

    def _add_line(self, start: int, end: int) -> None:
        """A line of a paragraph. It ends it if a line break is wanted there."""
        if self._paragraph is None:
            footnote = _FOOTNOTE.match(self._source, start, end)
            start = footnote.end() if footnote else start
            self._copy(start)
            self._paragraph = []
        rest = self._source[start:end]
        stripped = rest.rstrip()
        self._done = start + len(stripped) - stripped.endswith("\\")
        self._paragraph.append((start, self._done))
        if rest.endswith(("  ", "\\")):
            self._end_paragraph()

    def _end_paragraph(self) -> None:
        if self._paragraph is not None:
            self._parts += inline_parts(Source(self._source, self._paragraph), self._taken, self._labels)
            self._paragraph = None

    def _is_table(self, rest: str) -> bool:
        if "|" not in rest or self._number + 1 >= len(self._lines):
            return False
        start, end, _ = self._lines[self._number + 1]
        return bool(_DELIMITERS.match(self._source[start:end].lstrip(" \t>")))

    def _table(self, content: int, end: int) -> Steps[None]:
        """The header, the line of delimiters, and the rows up to a line without a cell."""
        self._end_paragraph()
        first = self._number
        while self.has_lines:
            yield
            start, end, _ = self._lines[self._number]
            if self._number > first:
                content = start + len(self._source[start:end]) - len(self._source[start:end].lstrip(" \t>"))
            if "|" not in self._source[content:end]:
                break
            if self._number != first + 1:
                for cell in _CELL.finditer(self._source, content, end):
                    text = cell[0]
                    if text.strip():
                        begin = cell.start() + len(text) - len(text.lstrip())
                        self._add(begin, cell.start() + len(text.rstrip()), cell=True)
            self._number += 1

    def _html(self, content: int, markup: re.Match[str]) -> Steps[None]:
        self._end_paragraph()
        self._copy(content)
        closing = _ENDS_OF_HTML.get((markup["closed"] or "").lower())
        number = self._number
        while number < len(self._lines):
            start, end, _ = self._lines[number]
            line = self._source[start:end]
            if closing is None and not line.strip(" \t>"):
                break
            number += 1
            if closing is not None and closing in line.lower():
                break
        last = self._lines[number - 1][1]
        document = yield from html_steps(self._source[content:last], base=content, taken=self._taken)
        self._parts += document.parts
        self._done = last
        self._number = number


def _title(rest: str) -> str:
    """The text of a heading, of which `rest` is all behind the marks at its beginning."""
    text = rest.rstrip(" \t")
    title = text.rstrip("#")
    return title.rstrip(" \t") if not title or title[-1] in " \t" else text


class _Tail:
    """The end of a line that has only blanks and one of the characters that rules consist of."""

    def __init__(self, source: str, start: int, end: int) -> None:
        line = source[start:end].rstrip(" \t")
        self._source = source
        self._end = end
        self._mark = line[-1] if line[-1:] in set("*-_") else ""
        self._start = start + len(line.rstrip(f" \t{self._mark}"))

    def is_rule(self, place: int) -> bool:
        """Whether a rule begins at a place of the line: `_RULE`, without reading the line again for each place."""
        source, mark = self._source, self._mark
        begins = bool(mark) and place >= self._start and source.startswith(mark, place)
        return begins and source.count(mark, place, self._end) >= _MARKS_OF_RULE
