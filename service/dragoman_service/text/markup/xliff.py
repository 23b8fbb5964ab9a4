"""XLIFF 1.2 and 2: the segments without a translation, which is written beside their source.

The text of a unit is HTML. What XLIFF has inside a text stands there as elements with a number: what encloses text as a
`span`, the beginning or end of formatting as an `img`, and what says something itself, such as a variable, as a `code`,
which a translation keeps as it keeps any word that it must not change.

The file is checked by Expat. So a regular expression suffices to find the tags of what is known to be well-formed.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from dragoman_service.text.markup.inline import ELEMENT, Inline, Kind
from dragoman_service.text.markup.units import FileError, Unit
from dragoman_service.text.markup.xml import TOKEN, attributes_of, check_xml, ends_of, is_element, xml_text

_STATE = re.compile(r"""(\sstate\s*+=\s*+["'])(?:new|needs-translation)(?=["'])""")
_INDENT = re.compile(r"(?:\r\n|\r|\n)[ \t]*+\Z")
_LETTER = re.compile(r"[^\W\d_]")
_REFERENCE = re.compile("(&#(?:[0-9]++|x[0-9A-Fa-f]++);)")

_CODES = frozenset(["bpt", "bx", "cp", "ec", "em", "ept", "ex", "it", "ph", "sc", "sm", "x"])
"""Elements that stand for code of the file from which the text was taken. They have no text to be translated."""
_FORMATTING = frozenset(["bpt", "bx", "ec", "em", "ept", "ex", "it", "sc", "sm"])
"""Those of them that do not say anything themselves."""


@dataclass(slots=True)
class _Element:
    name: str
    translated: bool
    preserved: bool
    """Whether line breaks in its text mean something."""
    start: int = 0
    """Where what is between its tags begins."""
    source: str | None = None
    """Of a segment: what is between the tags of its source, as it is segmented if it is."""
    indent: str = ""
    place: int = 0
    """Of a segment: where its translation belongs."""
    target: re.Match[str] | None = None
    target_end: int = 0
    target_text: str = ""


@dataclass(slots=True)
class _Html:
    """The text of a segment."""

    inline: Inline = field(default_factory=Inline)
    written: list[str] = field(default_factory=list)
    """By number: how an element, or its beginning, is written in the file."""
    ends: list[str] = field(default_factory=list)
    """By number: how the end of an element is written."""

    @property
    def parts(self) -> list[str]:
        return self.inline.parts

    def element(self, kind: Kind, written: str, end: str = "") -> None:
        self.inline.add(kind)
        self.written.append(written)
        self.ends.append(end)

    def in_file(self, translation: str) -> str:
        """A translation as it is written in the file."""
        return "".join(
            _as_xml(it) if isinstance(it, str) else (self.ends if it.ends else self.written)[it.number]
            for it in self.inline.read(translation)
        )


def segments(source: str) -> Iterator[Unit]:
    """The segments of a file that want a translation. Raises FileError."""
    _check(source)
    elements: list[_Element] = []
    outer = _Element("", translated=True, preserved=False)
    prefix: str | None = None
    for match in TOKEN.finditer(source):
        if not is_element(match):
            continue
        prefix = (match["prefix"] or "") if prefix is None else prefix
        name = match["name"] if (match["prefix"] or "") == prefix else match[0]  # else of another vocabulary
        parent = elements[-1] if elements else outer
        if not match["closes"]:
            if name == "target" and _is_segment(parent):
                parent.target, parent.target_end = match, match.end()
            if not match["empty"]:
                if name == "source" and _is_segment(parent):
                    parent.indent = _indent(source, match.start())
                elements.append(_opened(name, match, parent))
            continue
        element = elements.pop()
        parent = elements[-1] if elements else outer
        if _is_segment(element):
            yield from _unit(source, element, prefix)
        elif _is_segment(parent) and element.name in ("source", "seg-source"):
            parent.source, parent.place = source[element.start : match.start()], match.end()
            parent.preserved = element.preserved
        elif _is_segment(parent) and element.name == "target":
            parent.target_text, parent.target_end = source[element.start : match.start()], match.end()


def _check(source: str) -> None:
    """Raise FileError unless this is XLIFF."""
    root, attributes = check_xml(source, "not XLIFF: ")
    name, version = root.rpartition(":")[2], attributes.get("version", "")
    if name != "xliff" or not version.startswith(("1.", "2.")):
        raise FileError(f'not XLIFF: got <{name} version="{version}">; allowed: xliff of version 1.2 or 2')


def _opened(name: str, match: re.Match[str], parent: _Element) -> _Element:
    attributes = attributes_of(match)
    translate = attributes.get("translate")
    space = attributes.get("xml:space")
    return _Element(
        name,
        start=match.end(),
        translated=parent.translated if translate is None else translate != "no",
        preserved=parent.preserved if space is None else space == "preserve",
    )


def _is_segment(element: _Element) -> bool:
    return element.name in ("trans-unit", "segment")


def _indent(source: str, place: int) -> str:
    """The line break and the spaces before an element that begins its line; else nothing."""
    before = _INDENT.search(source, max(0, place - 200), place)
    return before[0] if before else ""


def _unit(source: str, segment: _Element, prefix: str) -> Iterator[Unit]:
    target = segment.target
    if segment.source is None or not segment.translated:
        return
    is_new = target is not None and attributes_of(target).get("state") in ("new", "needs-translation")
    if _has_text(segment.target_text) and not is_new:
        return
    text = segment.source.strip()
    content = _html(text, preserved=segment.preserved)
    if not _LETTER.search(ELEMENT.sub("", html.unescape("".join(content.parts)))):
        return
    if target is None:
        begin, start, end = f"{segment.indent}<{prefix}target>", segment.place, segment.place
    else:
        attributes = _STATE.sub(r"\1needs-review-translation", target["attributes"].rstrip())
        begin, start, end = f"<{prefix}target{attributes}>", target.start(), segment.target_end
    before, _, after = segment.source.partition(text)
    write = partial(_target, content, f"{begin}{before}", f"{after}</{prefix}target>")
    yield Unit(start, end, "".join(content.parts), write, unchanged="")


def _has_text(content: str) -> bool:
    """Whether there is more than tags and space. A target that is not translated may have the tags of segments."""
    text = TOKEN.sub(lambda match: match["data"] or "", content)
    return bool(html.unescape(text).strip())


def _as_xml(text: str) -> str:
    """Text of HTML as it is written in XML. References to characters by their numbers are those of the source."""
    parts = _REFERENCE.split(text)
    parts[::2] = [xml_text(html.unescape(part)) for part in parts[::2]]
    return "".join(parts)


def _target(content: _Html, before: str, after: str, translation: str) -> str:
    return f"{before}{content.in_file(translation)}{after}"


def _html(text: str, *, preserved: bool) -> _Html:
    content, done = _Html(), 0
    tokens = list(TOKEN.finditer(text))
    ends = ends_of(tokens)
    number = 0
    while number < len(tokens):
        match = tokens[number]
        _add_text(content, text[done : match.start()], preserved=preserved)
        following = number + 1
        if match["data"] is not None:
            _add_text(content, html.escape(match["data"], quote=False), preserved=preserved)
        elif not is_element(match):
            content.element(Kind.IMG, match[0])
        elif match["closes"]:
            content.inline.end()
        elif match["empty"] or match["name"] in _CODES or _is_protected(match):
            following = ends[number] + 1
            whole = text[match.start() : tokens[following - 1].end()]
            content.element(Kind.IMG if _is_formatting(match) else Kind.CODE, whole)
        else:
            content.element(Kind.SPAN, match[0], tokens[ends[number]][0])
        done = tokens[following - 1].end()
        number = following
    _add_text(content, text[done:], preserved=preserved)
    return content


def _add_text(content: _Html, text: str, *, preserved: bool) -> None:
    if not preserved:
        content.parts.append(text)
        return
    first, *others = re.split(r"(\r\n|\r|\n)", text)
    content.parts.append(first)
    for line_break, line in zip(others[::2], others[1::2], strict=True):
        content.element(Kind.BR, line_break)
        content.parts.append(line)


def _is_protected(match: re.Match[str]) -> bool:
    attributes = attributes_of(match)
    return attributes.get("translate") == "no" or attributes.get("mtype") == "protected"


def _is_formatting(match: re.Match[str]) -> bool:
    """Whether an element without text only says how the text around it looks."""
    attributes = attributes_of(match)
    if match["name"] in ("ph", "x"):
        return "ctype" in attributes or attributes.get("type") == "fmt"
    return match["name"] in _FORMATTING or match["name"] not in (*_CODES, "mrk")
