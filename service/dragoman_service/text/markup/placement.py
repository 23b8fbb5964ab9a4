"""Where the tags of a text stand in its translation.

An element encloses the smallest interval of the translation that has all words to which its own words are aligned. Two
elements side by side never enclose the same word: what both would enclose is divided between them. So every tag stands
in the translation once, and tags that are nested in the text are nested in its translation. The time is linear in the
text, its translation and the tags, but for sorting.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from dragoman_service.text.spans import Kind, find_spans
from dragoman_service.text.words import words_of

Range = tuple[int, int]

_VISIBLE = re.compile(r"\S")


@dataclass(frozen=True, slots=True)
class Element:
    """A pair of tags, or a tag by itself."""

    start: int
    """Characters of the text that it encloses, `start` to `end`. A tag by itself encloses none."""
    end: int
    opening: int
    """Number of its first tag. Tags are numbered in the order of the text."""
    closing: int | None = None
    """Number of its last tag. None: it is a tag by itself, or an element that the text does not end."""
    parent: int | None = None
    """Number of the element around it, which comes before it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A sentence and its translation. What lies between two parts is the same in both texts."""

    source: Range
    target: Range
    words: Sequence[tuple[Range, Range]] = ()
    """Words of the text, and words of the translation to which they are aligned. Empty: this is not known."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A tag and its place in the translation."""

    place: int
    tag: int


def placed_tags(
    source: str, elements: Sequence[Element], target: str, parts: Sequence[Part] | None = None
) -> list[Placed]:
    """The tags in the order in which they stand in `target`.

    Args:
        source: The text without its tags.
        elements: In the order of their first tags, each after its parent.
        target: The translation of the text.
        parts: Sentences in order. None: all of the text is one sentence.
    """
    atoms = _Atoms(source, target, [Part((0, len(source)), (0, len(target)))] if parts is None else parts)
    return _Placement(source, elements, target, atoms).tags()


@dataclass(slots=True)
class _Atoms:
    """The words of a text in order, or the characters where it is not changed, and what they are in the translation."""

    source: str
    target: str
    parts: Sequence[Part]
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    hulls: list[Range | None] = field(default_factory=list)
    """None: an atom is not aligned."""

    def __post_init__(self) -> None:
        source_end = target_end = 0
        for part in self.parts:
            self._add_copy(source_end, part.source[0], target_end)
            (start, source_end), (begin, target_end) = part.source, part.target
            if self.source[start:source_end] == self.target[begin:target_end]:
                self._add_copy(start, source_end, begin)
            else:
                self._add_words(part)
        self._add_copy(source_end, len(self.source), target_end)

    def _add_copy(self, start: int, end: int, target: int) -> None:
        self.starts += range(start, end)
        self.ends += range(start + 1, end + 1)
        self.hulls += [(place, place + 1) for place in range(target, target + end - start)]

    def _add_words(self, part: Part) -> None:
        own, its = _whole_words(self.source, *part.source), _whole_words(self.target, *part.target)
        pairs = [(_around(one, own), _around(other, its)) for one, other in part.words]
        hulls: dict[Range, Range] = {}
        for word, aligned in pairs or _guessed(self.source, own, self.target, its):
            first, last = hulls.get(word, aligned)
            hulls[word] = min(first, aligned[0]), max(last, aligned[1])
        self.starts += [start for start, _ in own]
        self.ends += [end for _, end in own]
        self.hulls += [hulls.get(word) for word in own]


def _whole_words(text: str, start: int, end: int) -> list[Range]:
    """Words in which a tag may not stand: those that touch a kept span or an accent are one with it."""
    spans = [(start + it.start, start + it.end) for it in find_spans(text[start:end]) if it.kind is not Kind.SPACE]
    words: list[Range] = []
    for begin, stop in sorted([*words_of(text, start, end), *spans]):
        if words and (begin < words[-1][1] or (begin == words[-1][1] and _is_inside_word(text, begin))):
            words[-1] = words[-1][0], max(stop, words[-1][1])
        else:
            words.append((begin, stop))
    return words


def _is_inside_word(text: str, place: int) -> bool:
    return any(unicodedata.category(character)[0] == "M" for character in text[place - 1 : place + 1])


def _around(word: Range, words: Sequence[Range]) -> Range:
    """The whole word of which a word is a part."""
    index = bisect_right(words, word[0], key=lambda it: it[0]) - 1
    return words[index] if index >= 0 and word[0] < words[index][1] else word


def _guessed(source: str, own: Sequence[Range], target: str, words: Sequence[Range]) -> list[tuple[Range, Range]]:
    """An alignment by the order of words. Those that stand once in both texts are pairs; between them, by place."""
    if not own or not words:
        return []
    pairs: list[tuple[int, int]] = []
    places = _single(target, words)
    for word, number in _single(source, own).items():
        if word in places:
            pairs.append((number, places[word]))
    anchors = [(-1, -1), *_ascending(sorted(pairs)), (len(own), len(words))]
    found = []
    for (first, begin), (last, end) in pairwise(anchors):
        if first >= 0:
            found.append((own[first], words[begin]))
        for number in range(first + 1, last):
            between = end - begin - 1
            if between:
                found.append((own[number], words[begin + 1 + (number - first - 1) * between // (last - first - 1)]))
        if last - first > 1:
            for number in range(begin + 1, end):
                found.append(
                    (own[first + 1 + (number - begin - 1) * (last - first - 1) // (end - begin - 1)], words[number])
                )
    return found


def _single(text: str, words: Sequence[Range]) -> dict[str, int]:
    """The words that stand once in a text, and their numbers."""
    found: dict[str, int] = {}
    for number, (start, end) in enumerate(words):
        word = text[start:end].casefold()
        found[word] = -1 if word in found else number
    return {word: number for word, number in found.items() if number >= 0}


def _ascending(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest sequence of pairs in which both numbers ascend."""
    lasts: list[int] = []  # of the sequences of each length, the lowest last number
    ends: list[int] = []
    before: list[int] = []
    for number, (_, value) in enumerate(pairs):
        length = bisect_left(lasts, value)
        before.append(ends[length - 1] if length else -1)
        lasts[length : length + 1] = [value]
        ends[length : length + 1] = [number]
    chosen = []
    number = ends[-1] if ends else -1
    while number >= 0:
        chosen.append(pairs[number])
        number = before[number]
    return chosen[::-1]


_Box = tuple[int, int, int]
"""Where an element stands in the translation: start and end, and its number."""


class _Placement:
    """Finds the smallest interval of every element, and then divides what several would enclose."""

    def __init__(self, source: str, elements: Sequence[Element], target: str, atoms: _Atoms) -> None:
        self._source = source
        self._target = target
        self._elements = elements
        self._atoms = atoms
        self._children: list[list[int]] = [[] for _ in elements]
        self._top: list[int] = []
        for number, element in enumerate(elements):
            (self._top if element.parent is None else self._children[element.parent]).append(number)
        self._visible = list(accumulate((not it.isspace() for it in source), initial=0))
        ends = (0 if it.isspace() else number for number, it in enumerate(target, 1))
        self._visible_ends = list(accumulate(ends, max, initial=0))
        self._nearest = _nearest(atoms.hulls)
        self._hulls = self._all_hulls()

    def tags(self) -> list[Placed]:
        """All tags in their order."""
        placed: list[Placed] = []
        # What is still to do: an element in its box, or a tag that closes one. The last is the next.
        todo: list[_Box | Placed] = [*reversed(self._inside(None, 0, len(self._target)))]
        while todo:
            item = todo.pop()
            if isinstance(item, Placed):
                placed.append(item)
                continue
            lo, hi, number = item
            element = self._elements[number]
            placed.append(Placed(lo, element.opening))
            if element.closing is not None:
                todo.append(Placed(hi, element.closing))
            todo += reversed(self._inside(number, lo, hi))
        return placed

    def _inside(self, parent: int | None, lo: int, hi: int) -> list[_Box]:
        """The boxes of the elements inside an element, or (None) inside the text, which stands at `lo` to `hi`."""
        whole = Element(0, len(self._source), -1) if parent is None else self._elements[parent]
        wide: list[_Box] = []
        points: list[_Box] = []
        for number in self._top if parent is None else self._children[parent]:
            element, hull = self._elements[number], self._hulls[number]
            if hull is None:
                place = min(max(self._anchor(element.start, whole, lo, hi), lo), hi)
                points.append((place, place, number))
                continue
            start, end = (min(max(place, lo), hi) for place in hull)
            if self._is_blank(whole.start, element.start) and self._is_blank(element.end, whole.end):
                # At the edges there are words that are not aligned, such as a full stop.
                start, end = min(start, self._next_visible(lo, hi)), max(end, self._last_visible(lo, hi))
            elif element.closing is None:
                end = hi
            wide.append((start, end, number))
        boxes = self._divided(wide, lo)
        return sorted([*boxes, *(_beside(point, boxes) for point in points)])

    def _divided(self, boxes: Sequence[_Box], lo: int) -> list[_Box]:
        """Boxes that do not overlap: each ends before the next one begins."""
        ordered = sorted(boxes)
        limits = [*(start for start, _, _ in ordered[1:]), len(self._target)]
        found: list[_Box] = []
        for (start, end, number), limit in zip(ordered, limits, strict=False):
            lo = max(start, lo)
            hi = self._last_visible(lo, limit) if lo < limit < end else max(lo, end)
            found.append((lo, hi, number))
            lo = hi
        return found

    def _all_hulls(self) -> list[Range | None]:
        """The smallest interval of each element. None: it has no words."""
        atoms, nearest = self._atoms, self._nearest
        ranges = [
            (bisect_right(atoms.ends, element.start), bisect_left(atoms.starts, element.end))
            for element in self._elements
        ]
        hulls: list[Range | None] = [None] * len(self._elements)
        for number in reversed(range(len(self._elements))):
            first, last = position, stop = ranges[number]
            found: list[Range] = []
            for child in self._children[number]:
                found += filter(None, atoms.hulls[position : ranges[child][0]])
                position = max(position, ranges[child][1])
                if (hull := hulls[child]) is not None:
                    found.append(hull)
            found += filter(None, atoms.hulls[position:stop])
            if found:
                hulls[number] = min(lo for lo, _ in found), max(hi for _, hi in found)
            elif first < last:
                hulls[number] = nearest[(first + last) // 2]
        return hulls

    def _anchor(self, place: int, whole: Element, lo: int, hi: int) -> int:
        """Where a tag that encloses no words stands: beside the word that it touches, or before the next one."""
        if place == whole.start:
            return lo
        if place == whole.end:
            return hi
        atoms = self._atoms
        before, after = bisect_right(atoms.ends, place) - 1, bisect_left(atoms.starts, place)
        follows = after < len(atoms.starts) and (before < 0 or self._source[place - 1].isspace())
        hull = self._nearest[after if follows else before]
        return hull[0] if follows else hull[1]

    def _is_blank(self, start: int, end: int) -> bool:
        return self._visible[start] == self._visible[end]

    def _next_visible(self, lo: int, hi: int) -> int:
        found = _VISIBLE.search(self._target, lo, hi)
        return found.start() if found else hi

    def _last_visible(self, lo: int, hi: int) -> int:
        return max(lo, self._visible_ends[hi])


def _nearest(hulls: Sequence[Range | None]) -> list[Range]:
    """The interval of each atom; of one that is not aligned, that of its nearest neighbour."""
    aligned = [number for number, hull in enumerate(hulls) if hull is not None]
    found: list[Range] = []
    for number in range(len(hulls)):
        index = bisect_left(aligned, number)
        near = min(aligned[max(0, index - 1) : index + 1], key=lambda it: (abs(it - number), -it), default=None)
        found.append((hulls[near] if near is not None else None) or (0, 0))
    return found


def _beside(point: _Box, boxes: Sequence[_Box]) -> _Box:
    """A tag that encloses no words, outside the elements beside it."""
    place, _, number = point
    index = bisect_right(boxes, place, key=lambda box: box[1])
    if index < len(boxes) and boxes[index][0] < place:
        start, end, other = boxes[index]
        place = start if number < other else end
    return place, place, number
