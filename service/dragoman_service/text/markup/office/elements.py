"""A source of XML as its tags, each with the one that ends it."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping

from dragoman_service.text.markup.xml import TOKEN, attributes_of, ends_of, is_element

Range = tuple[int, int]


class Elements:
    """The tags of a source that is well-formed, in order."""

    def __init__(self, source: str, namespaces: Mapping[str, str]) -> None:
        """`namespaces`: the URI of a namespace -> the prefix by which elements of it are named here."""
        self.source = source
        self.tags = list(TOKEN.finditer(source))
        """Tags, and comments and the like."""
        self.ends = ends_of(self.tags)
        """By the number of a tag that opens an element: that of the tag that closes it; else its own."""
        root = next(it for it in self.tags if is_element(it))
        declared = {name: uri for name, uri in attributes_of(root).items() if name.split(":")[0] == "xmlns"}
        self._prefixes = {
            name.removeprefix("xmlns").removeprefix(":") + ":": namespaces[uri]
            for name, uri in declared.items()
            if uri in namespaces
        }
        self._written = {own: prefix for prefix, own in self._prefixes.items()}

    def prefix(self, own: str) -> str:
        """How elements of a namespace begin in the source, with a colon unless it is the default one."""
        return self._written.get(own, own).removeprefix(":")

    def name(self, number: int) -> str:
        """The name of the element of a tag, such as `w:p`. Empty: it is none."""
        match = self.tags[number]
        if not is_element(match):
            return ""
        prefix = match["prefix"] or ":"
        return f"{self._prefixes.get(prefix, prefix)}{match['name']}"

    def opens(self, number: int) -> bool:
        """Whether a tag opens an element that another tag closes."""
        return self.ends[number] > number

    def closes(self, number: int) -> bool:
        """Whether a tag closes an element."""
        return bool(self.tags[number]["closes"])

    def attribute(self, number: int, name: str) -> str:
        """The value of an attribute, whatever its prefix; empty without one."""
        for key, value in attributes_of(self.tags[number]).items():
            if key.rpartition(":")[2] == name:
                return value
        return ""

    def whole(self, number: int) -> Range:
        """The characters of an element."""
        return self.tags[number].start(), self.tags[self.ends[number]].end()

    def text_before(self, number: int) -> str:
        """What stands between a tag and the one before it."""
        start = self.tags[number - 1].end() if number else 0
        return html.unescape(self.source[start : self.tags[number].start()])

    def text(self, number: int) -> str:
        """The text inside an element, without that of its comments."""
        parts = []
        for inner in range(number + 1, self.ends[number] + 1):
            parts.append(self.text_before(inner))
            parts.append(self.tags[inner]["data"] or "")
        return "".join(parts)

    def children(self, number: int) -> Iterator[int]:
        """The tags that stand directly in an element, without those that close."""
        inner, end = number + 1, self.ends[number]
        while inner < end:
            yield inner
            inner = self.ends[inner] + 1
