"""Joins the lines of wrapped text."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from dragoman_service.text.characters import LETTER, word_set

_BREAK = re.compile(
    rf"(?<=[^ \t\r\n])(?P<hyphen>(?<=[{LETTER}])[-\u2010\u00ad])?[ \t]*+(?:\r\n|\r|\n)(?![ \t]*+(?:[\r\n]|\Z))[ \t]*+"
)
"""The end of a line that is not blank, before one that is not blank."""
_ITEM = re.compile(r"(?:[-–—*•>+#]|[0-9]{1,3}[.)])\s")
_WORD_BEFORE = re.compile(rf"[{LETTER}]+\Z")
_WORD_AFTER = re.compile(rf"[{LETTER}]++")
_HYPHENATED = re.compile(rf"(?<![{LETTER}])[{LETTER}]++(?:-[{LETTER}]++)++")
_CONJUNCTIONS = word_set("und oder bzw sowie and or et ou y o e en of i och og")
"""Words before which a hyphen stands for a part that follows: "Haupt- und Nebenstraße"."""
_LONGEST_WORD = 64


@dataclass(frozen=True, slots=True)
class JoinedText:
    """A text without the line breaks inside its paragraphs."""

    text: str
    starts: tuple[int, ...]
    """Where the parts that are copied from the source begin in `text`, ascending."""
    sources: tuple[int, ...]
    """Where they begin in the source."""

    def source_of(self, index: int) -> int:
        """The index in the source of an index in `text`."""
        part = bisect_right(self.starts, index) - 1
        return self.sources[part] + index - self.starts[part]

    def index_of(self, source: int) -> int:
        """The index in `text` of an index in the source; of a character that was removed, that of the next one."""
        part = bisect_right(self.sources, source) - 1
        after = self.starts[part + 1] if part + 1 < len(self.starts) else len(self.text)
        return min(self.starts[part] + source - self.sources[part], after)


def joined_lines(text: str, marked: Sequence[tuple[int, int]] = ()) -> JoinedText:
    """Replace each line break inside a paragraph by a space, and put the halves of hyphenated words together.

    A blank line ends a paragraph, and so does a line that begins an item of a list. A hyphen at the end of a line stays
    if the text has the word with it elsewhere, or if a capital or a conjunction follows. Nothing is changed in what is
    marked.
    """
    hyphenated = {word.lower() for word in _HYPHENATED.findall(text)}
    starts, sources, length = [0], [0], 0
    parts: list[str] = []
    position, ranges, number = 0, sorted(marked), 0
    for match in _BREAK.finditer(text):
        while number < len(ranges) and ranges[number][1] <= match.start():
            number += 1
        if (number < len(ranges) and ranges[number][0] < match.end()) or _ITEM.match(text, match.end()):
            continue
        kept = text[position : match.start()] + _between(text, match, hyphenated)
        parts.append(kept)
        length += len(kept)
        position = match.end()
        starts.append(length)
        sources.append(position)
    return JoinedText("".join([*parts, text[position:]]), tuple(starts), tuple(sources))


def _between(text: str, match: re.Match[str], hyphenated: set[str]) -> str:
    """What stands for a line break: nothing, a hyphen, or a space."""
    hyphen = match["hyphen"]
    if hyphen is None:
        return " "
    before = _WORD_BEFORE.search(text[max(0, match.start() - _LONGEST_WORD) : match.start()])
    after = _WORD_AFTER.match(text, match.end())
    if before is None or after is None:
        return hyphen + " "
    if hyphen == "\u00ad":
        return ""
    if after[0] in _CONJUNCTIONS:
        return hyphen + " "
    if after[0][0].isupper() or f"{before[0]}-{after[0]}".lower() in hyphenated:
        return hyphen
    return ""
