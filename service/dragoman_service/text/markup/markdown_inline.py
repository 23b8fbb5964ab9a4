"""The inline marks of Markdown: emphasis, links, code, HTML and escapes inside a block."""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import accumulate

from dragoman_service.text.markup.document import Block, BlockBuilder
from dragoman_service.text.markup.html import ENTITY, KEPT, TAG, VOID, add_entity

_DESTINATION = r"(?:<[^<>\r\n]*+>|[^\s()<]*+(?:\([^\s()]*+\)[^\s()]*+)*+)"
_TITLE = r"(?:\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)*+'|\((?:[^()\\]|\\.)*+\))"
_INLINE = re.compile(
    rf"""
    (?P<text>(?:[^\\`*_~\[\]<&!\n\r\x20\t]++|[\x20\t](?![\x20\t\r\n]))++)
    |(?P<space>[\x20\t\r\n]++)
    |(?P<escape>\\[!-/:-@\[-`{{-~])
    |(?P<ticks>`++)
    |(?P<entity>{ENTITY.pattern})
    |(?P<kept><[A-Za-z][A-Za-z0-9+.-]{{1,31}}:[^\s<>]*+>|<[^\s<>@]++@[^\s<>@]++>|\[\^[^\s\[\]]++\](?!\())
    |(?P<opening>!?\[)
    |(?P<closing>\](?:\([ \t\n]*+{_DESTINATION}(?:[ \t\n]++{_TITLE})?+[ \t\n]*+\)|\[[^\[\]\n]++\])?+)
    |(?P<run>\*++|_++|~~++)
    |(?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_BEGINS_BLOCK = re.compile(
    r"\s*+(?:[0-9]{1,9}(?=[.)](?:\s|\Z)))?+(?P<mark>(?<=[0-9])[.)]|(?<![0-9])(?:[-+](?=\s|\Z)|[#>=]))"
)
"""What would begin a list, a heading or a quotation."""
_SPECIAL = frozenset("\\`*_~[]<&")
_LABEL = re.compile(r"(?:[^\[\]\\]|\\.)++")


@dataclass(frozen=True)
class Source:
    """The text of a block whose lines may begin with marks of what contains it, such as "> "."""

    document: str
    lines: list[tuple[int, int]]
    """Start and end of each, in the document."""

    @cached_property
    def text(self) -> str:
        """The lines, joined by line breaks that stand for all between them."""
        return "\n".join(self.document[start:end] for start, end in self.lines)

    @cached_property
    def _starts(self) -> list[int]:
        """Where each line begins in `text`."""
        return list(accumulate((end - start + 1 for start, end in self.lines[:-1]), initial=0))

    def place(self, index: int) -> int:
        """The index in the document of an index in `text`."""
        line = bisect_right(self._starts, index) - 1
        return self.lines[line][0] + index - self._starts[line]

    def written(self, start: int, end: int) -> str:
        """Characters `start` to `end` as the document has them."""
        return self.document[self.place(start) : self.place(end)] if start < end else ""


@dataclass(slots=True)
class _Token:
    kind: str
    start: int
    end: int
    marks: list[tuple[str, str, int]] = field(default_factory=list)
    """What a run or a bracket is: "open" or "close", the name of the element, and the number of characters."""
    partner: int | None = None
    """Of a bracket: the number of the token that closes it."""


def inline_parts(
    source: Source, taken: frozenset[str], labels: Collection[str], *, cell: bool = False
) -> list[str | Block]:
    """The block of a text, or the text itself if it has nothing to translate.

    Args:
        source: The text.
        taken: See `BlockBuilder`.
        labels: The definitions of links of the document, in lower case.
        cell: Whether it is a cell of a table, in which vertical bars are escaped.
    """
    literal: set[str] = set()
    block = BlockBuilder(partial(escape_markdown, literal=literal, cell=cell), taken)
    tokens = _tokens(source.text)
    _match(tokens, source.text)
    _Adder(source, block, labels, literal).add(tokens)
    return block.build()


def _tokens(text: str) -> list[_Token]:
    tokens = []
    position = 0
    runs = _runs_of_ticks(text) if "`" in text else {}
    has_tags = has_comments = True
    while (match := _INLINE.match(text, position)) is not None:
        kind, start, position = match.lastgroup or "", match.start(), match.end()
        if kind == "ticks":
            closing = runs.get(start)
            kind, position = ("other", position) if closing is None else ("kept", closing)
        elif kind == "other" and match[0] == "<":
            if has_comments and text.startswith("<!--", start):
                end = text.find("-->", start)
                has_comments = end >= 0
                kind, position = ("comment", end + 3) if has_comments else (kind, position)
            elif has_tags and re.compile("</?[A-Za-z]").match(text, start):
                tag = TAG.match(text, start)
                has_tags = tag is not None
                kind, position = ("tag", tag.end()) if tag else (kind, position)
        tokens.append(_Token(kind, start, position))
    return tokens


def _runs_of_ticks(text: str) -> dict[int, int]:
    """Where a span of code begins -> where it ends. The runs of backticks around it have the same length."""
    found: dict[int, int] = {}
    following: dict[int, int] = {}  # length -> the end of the next run of this length
    for match in reversed(list(re.finditer("`++", text))):
        length = len(match[0])
        if length in following:
            found[match.start()] = following[length]
        following[length] = match.end()
    return found


def _match(tokens: Sequence[_Token], text: str) -> None:
    """Find the partners of brackets and of runs of `*`, `_` and `~~`. Runs do not cross brackets that are partners."""
    brackets: list[int] = []
    for number, token in enumerate(tokens):
        if token.kind == "opening":
            brackets.append(number)
        elif token.kind == "closing" and brackets:
            tokens[brackets.pop()].partner = number
    openers: list[dict[str, list[tuple[int, int]]]] = [{}]  # for each open bracket: mark -> runs and their lengths
    closings: list[int] = []
    for number, token in enumerate(tokens):
        if token.partner is not None:
            openers.append({})
            closings.append(token.partner)
        elif closings and number == closings[-1]:
            openers.pop()
            closings.pop()
        elif token.kind == "run":
            _match_run(tokens, number, text, openers[-1])


def _match_run(tokens: Sequence[_Token], number: int, text: str, openers: dict[str, list[tuple[int, int]]]) -> None:
    token = tokens[number]
    mark, length = text[token.start], token.end - token.start
    before, after = text[token.start - 1 : token.start] or " ", text[token.end : token.end + 1] or " "
    left = not after.isspace() and (after.isalnum() or not before.isalnum())
    right = not before.isspace() and (before.isalnum() or not after.isalnum())
    inside_word = mark == "_" and before.isalnum() and after.isalnum()
    same = openers.setdefault(mark, [])
    while right and not inside_word and length and same and same[-1][1] <= length:
        opener, size = same.pop()
        name = f"{mark}{size}"
        tokens[opener].marks.append(("open", name, size))
        token.marks.append(("close", name, size))
        length -= size
        for others in openers.values():  # runs between the two have no partner
            while others and others[-1][0] > opener:
                others.pop()
    if left and not inside_word and length and not token.marks:
        same.append((number, length))


class _Adder:
    """Adds tokens to a block."""

    def __init__(self, source: Source, block: BlockBuilder, labels: Collection[str], literal: set[str]) -> None:
        self._source = source
        self._block = block
        self._labels = labels
        self._literal = literal

    def add(self, tokens: Sequence[_Token]) -> None:
        closings: set[int] = set()
        ends = _ends_of_kept(tokens, self._source.text)
        number = 0
        while number < len(tokens):
            token = tokens[number]
            written = self._source.written(token.start, token.end)
            place = self._source.place(token.start)
            if token.partner is not None and self._is_link(token, tokens[token.partner]):
                last = tokens[token.partner]
                if last.end - last.start > 2:
                    self._block.open("[", written)
                    closings.add(token.partner)
                else:  # the text is also the name of the definition
                    self._block.keep(self._source.written(token.start, last.end), place)
                    number = token.partner
            elif number in closings:
                self._block.close("[", written)
            elif number in ends:
                number = ends[number]
                self._block.keep(self._source.written(token.start, tokens[number].end), place)
            else:
                self._add(token, written, place)
            number += 1

    def _is_link(self, first: _Token, last: _Token) -> bool:
        text = self._source.text
        if text[last.start : last.end] in ("]", "[]"):
            own = _LABEL.match(text, first.end, last.start)  # it has no brackets
            is_whole = own is not None and own.end() == last.start
            return is_whole and " ".join(text[first.end : last.start].lower().split()) in self._labels
        following = text[last.start + 1]
        label = " ".join(text[last.start + 2 : last.end - 1].lower().split())
        return following == "(" or label in self._labels

    def _add(self, token: _Token, written: str, place: int) -> None:
        block = self._block
        match token.kind:
            case "text":
                block.add(written, place)
            case "space":
                block.add(" ", place, written)
            case "escape":
                block.add(written[1], place, written)
            case "entity":
                add_entity(block, written, place)
            case "kept":
                block.keep(written, place)
            case "comment":
                block.tag(written)
            case "tag":
                self._add_tag(token, written)
            case "run" if token.marks:
                self._add_run(token, written, place)
            case _:
                self._literal.update(_SPECIAL & set(written))
                block.add(written, place)

    def _add_tag(self, token: _Token, written: str) -> None:
        tag = TAG.match(self._source.text, token.start)
        assert tag is not None
        name = tag["name"].lower()
        if tag["closes"]:
            self._block.close(name, written)
        elif name in VOID or tag["attributes"].endswith("/"):
            self._block.tag(written)
        else:
            self._block.open(name, written)

    def _add_run(self, token: _Token, written: str, place: int) -> None:
        # A run is opened by its outermost mark first, whose partner was found last.
        marks = token.marks if token.marks[0][0] == "close" else token.marks[::-1]
        done = 0
        for act, name, size in marks:
            (self._block.open if act == "open" else self._block.close)(name, written[done : done + size])
            done += size
        if done < len(written):
            self._literal.add(written[0])
            self._block.add(written[done:], place + done)


def _ends_of_kept(tokens: Sequence[_Token], text: str) -> dict[int, int]:
    """Numbers of the tags that open an element whose content is kept -> numbers of the tags that close it."""
    ends: dict[int, int] = {}
    closing: dict[str, int] = {}
    for number in reversed(range(len(tokens))):
        tag = TAG.match(text, tokens[number].start) if tokens[number].kind == "tag" else None
        if tag is None or (name := tag["name"].lower()) not in KEPT:
            continue
        if tag["closes"]:
            closing[name] = number
        elif name in closing:
            ends[number] = closing[name]
    return ends


def escape_markdown(
    text: str, spellings: Mapping[str, str], literal: Collection[str] = (), *, cell: bool = False
) -> list[str]:
    """See `Escape`. The characters of `literal` stand in the source without meaning anything; so they do here."""
    written = list(text)
    for index, character in enumerate(text):
        if character in spellings:
            written[index] = spellings[character]
        elif character == "|" and cell:
            written[index] = "\\|"
        elif character in _SPECIAL and character not in literal and _means_something(text, index):
            written[index] = "\\" + character
    if (begins := _BEGINS_BLOCK.match(text)) is not None and written[begins.start("mark")] == begins["mark"]:
        written[begins.start("mark")] = "\\" + begins["mark"]
    return written


def _means_something(text: str, index: int) -> bool:
    """Whether a special character would be read as more than itself."""
    before, after = text[index - 1 : index] if index else " ", text[index + 1 : index + 2] or " "
    match text[index]:
        case "&":
            entity = ENTITY.match(text, index)
            means = entity is not None and html.unescape(entity[0]) != entity[0]
        case "<":
            means = after.isalpha() or after in "/!?"
        case "\\":
            means = not after.isalnum() and not after.isspace()
        case "_":
            means = not (before.isalnum() and after.isalnum())
        case "*":
            means = not (before.isspace() and after.isspace())
        case "~":
            means = "~" in (before, after)
        case character:
            means = character != "]"
    return means
