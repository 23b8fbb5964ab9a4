"""Kept spans inside a sentence: what is shown to the model in their place, and how they are put back.

A *unit* is a kept span that must stand in the translation once, unchanged. A unit is shown as a stand-in, a short word
that the model copies. `Protected.restored` accepts a translation only if it has every stand-in exactly once. Otherwise
the sentence is translated in the parts around its units (`Protected.parts`), which is always lawful.

Invisible characters (soft hyphens, word joiners, marks of direction) are not shown to the model.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from dragoman_service.text.spans import Kind, Span

_WORD = re.compile(r"[^\W_]")
_DIGITS = re.compile(r"\d{2,}")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
"""Characters of scripts without spaces between words: Thai, Lao, Myanmar, Khmer, kana and Han."""
_UNNUMBERED = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?[a-zA-Z@]{1,3}|\{\}")
"""Placeholders that are filled in the order in which they stand: %s, %5.2f, {}."""
_ENDS_SENTENCE = re.compile(r"[.!?。！？…]$")


@dataclass(frozen=True, slots=True)
class Unit:
    """A kept span of a sentence."""

    start: int
    end: int
    text: str
    """What a translation has: its characters, but for terms, whose translation is given."""
    shown: str
    """What the model reads in its place: a stand-in, or its own text."""
    ordered: bool
    """Whether its order among the ordered units must not change."""
    contents: tuple[str, ...]
    """The texts of the spans that it consists of: it may be several that touch each other. Terms are not among them,
    as a model may write their translations for other words too."""

    @property
    def written(self) -> str:
        """See `Span.written`."""
        return self.text


@dataclass(frozen=True, slots=True)
class Beginning:
    """The beginning of a translation, which is given, with the units that it has."""

    text: str = ""
    units: tuple[Unit, ...] = ()
    """In the order in which they stand there."""

    @property
    def last(self) -> Unit | None:
        """The unit with which it ends."""
        return self.units[-1] if self.units and self.text.endswith(self.units[-1].text) else None


_NOTHING = Beginning()


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a translation."""

    text: str
    kept: bool
    """Whether it is a unit, in which nothing may be inserted."""
    written: str | None = None
    """What a translation has in place of a unit of a sentence; None: its text."""

    @property
    def output(self) -> str:
        """What a translation has in its place, if it is kept."""
        return self.text if self.written is None else self.written


@dataclass(frozen=True, slots=True)
class Protected:
    """A sentence with its units."""

    text: str
    """The sentence without its invisible characters, but for those right behind a unit, which belong to it."""
    units: tuple[Unit, ...]
    """In the order of the sentence. Two units never touch each other."""
    invisible: tuple[tuple[int, str], ...]
    """Where in `text` invisible characters belong, and which."""

    def shown(self, convert: Callable[[str], str] = str) -> str:
        """What the model reads. `convert` is applied to the text between the units."""
        shown: list[str] = []
        for segment in segments_around(self.text, self.units):
            if not segment.kept:
                shown.append(convert(segment.text))
                continue
            unit = self.units[len(shown) // 2]
            before, after = self._pads(unit)
            shown.append(" " * before + unit.shown + " " * after)
        return "".join(shown)

    def restored(
        self, translation: str, convert: Callable[[str], str] = str, given: Beginning = _NOTHING
    ) -> str | None:
        """A translation of `shown` with the units in place of the stand-ins; None if one is missing or not alone.

        Args:
            translation: The translation, without what is given of it.
            convert: Is applied to the text between the units, for example `str.upper`.
            given: How the translation begins.
        """
        start, translation = len(given.text), given.text + translation
        missing = [unit for unit in self.units if unit not in given.units]
        found = [(place, unit) for unit in missing if (place := _place_of(unit, translation, start)) is not None]
        again = any(unit.shown != unit.text and translation.find(unit.shown, start) >= 0 for unit in given.units)
        if again or len(found) < len(missing):
            return None
        found.sort(key=lambda pair: pair[0])
        ordered = [unit.start for unit in (*given.units, *(unit for _, unit in found)) if unit.ordered]
        if ordered != sorted(ordered):
            return None
        segments: list[Segment] = []
        done, previous = start, given.last
        for place, unit in found:
            if place < done:
                return None
            between = self._between(translation[done:place], previous, unit)
            segments += [Segment(convert(between), kept=False), Segment(unit.text, kept=True)]
            done, previous = place + len(unit.shown), unit
        segments.append(Segment(convert(self._between(translation[done:], previous, None)), kept=False))
        whole = self._counts_are_right(segments, given) and not self._has_rest_of_stand_in(segments)
        return self._written(segments, given) if whole else None

    def from_parts(self, parts: Sequence[str], translations: Sequence[str | None], given: Beginning = _NOTHING) -> str:
        """The translation of the sentence from those of `parts`, each of which may be cut further.

        None stands for a part that is kept, and given as it is written. An empty translation is replaced by the part.
        So are all of them if they form a unit together with what stands beside them. The parts follow what is `given`.
        """
        segments = [
            Segment(part, kept=True)
            if translation is None
            else Segment(self._part_written(part, translation, last=number == len(parts) - 1) or part, kept=False)
            for number, (part, translation) in enumerate(zip(parts, translations, strict=True))
        ]
        if not self._counts_are_right(segments, given):
            segments = [Segment(part, kept=True) for part in parts]
        return self._written(segments, given)

    def _part_written(self, part: str, translation: str, *, last: bool) -> str:
        """A translation of a part, without what would be wrong inside the sentence.

        A model ends what it takes for a sentence with a full stop; and units are nowhere but in their places.
        """
        if not last and _ENDS_SENTENCE.search(translation) and not _ENDS_SENTENCE.search(part):
            translation = translation[:-1]
        return without(translation, [each for each in self._contents if each not in part])

    def _written(self, segments: Sequence[Segment], given: Beginning) -> str:
        """The translation, with the invisible characters after what is given of it.

        They stand where they stood if the translation is the sentence itself; otherwise at the nearest border of words
        outside the units, in proportion to the lengths of both.
        """
        if not self.invisible:
            return given.text + "".join(segment.text for segment in segments)
        invisible = self._invisible_outside(given)
        own = {characters for _, characters in self.invisible}
        segments = [it if it.kept else Segment(without(it.text, own), kept=False) for it in segments]
        translation = given.text + "".join(segment.text for segment in segments)
        written = "".join(it.written or it.text for it in segments_around(self.text, self.units))
        if translation == written and not given.text:
            places = [place + self._longer_by(place) for place, _ in invisible]
        else:
            borders = _borders(segments, len(given.text))
            scale = len(translation) / max(1, len(self.text))
            places = [_nearest(borders, place * scale) for place, _ in invisible]
        pieces, done = [], 0
        for place, (_, characters) in sorted(zip(places, invisible, strict=True), key=lambda pair: pair[0]):
            pieces += [translation[done:place], characters]
            done = place
        return "".join([*pieces, translation[done:]])

    def _invisible_outside(self, given: Beginning) -> list[tuple[int, str]]:
        """The invisible characters without those that what is given has already, outside its units."""
        outside = without(given.text, [unit.text for unit in given.units])
        there = {characters: outside.count(characters) for _, characters in self.invisible}
        found = []
        for place, characters in self.invisible:
            there[characters] -= 1
            if there[characters] < 0:
                found.append((place, characters))
        return found

    def _longer_by(self, place: int) -> int:
        """By how many characters the units before a place are longer than what they stand for."""
        return sum(len(unit.text) - (unit.end - unit.start) for unit in self.units if unit.end <= place)

    def _pads(self, unit: Unit) -> tuple[bool, bool]:
        """Whether spaces are added before and after a stand-in, because letters or digits touch the unit."""
        if unit.shown == unit.text:
            return False, False
        before, after = self.text[unit.start - 1 : unit.start], self.text[unit.end : unit.end + 1]
        return bool(_WORD.match(before)), bool(_WORD.match(after))

    def _between(self, text: str, previous: Unit | None, following: Unit | None) -> str:
        """The text between two units of a translation, with the white space of the source around each unit."""
        body = text.strip()
        if not body and previous is not None and following is not None:
            gap = self.text[previous.end : following.start]
            return gap if previous.end <= following.start and not gap.strip() else text
        start = text.index(body) if body else len(text)
        left, right = text[:start], text[start + len(body) :]
        if previous is not None:
            left = self._space(left, body[:1], previous, after=True)
        if following is not None:
            right = self._space(right, body[-1:], following, after=False)
        return left + body + right

    def _space(self, space: str, neighbour: str, unit: Unit, *, after: bool) -> str:
        """The white space between a unit and the text of a translation that begins or ends with `neighbour`."""
        if not space:
            return space
        if self._pads(unit)[after]:
            own = self.text[unit.end] if after else self.text[unit.start - 1]
            # Where the source needs no spaces, but the translation does, there is one.
            return space if _UNSPACED.match(own) and not _UNSPACED.match(neighbour) else ""
        rest = self.text[unit.end :] if after else self.text[: unit.start][::-1]
        own = rest[: len(rest) - len(rest.lstrip())]
        return (own if after else own[::-1]) or space

    def _counts_are_right(self, segments: Sequence[Segment], given: Beginning) -> bool:
        """Whether no unit stands in a translation more often than in the sentence, or than what is given makes it."""
        translation = given.text + "".join(segment.text for segment in segments)
        missing = Counter(each for unit in self.units if unit not in given.units for each in unit.contents)
        return all(
            translation.count(each) <= max(self.text.count(each), given.text.count(each) + missing[each])
            for each in self._contents
        )

    def _has_rest_of_stand_in(self, segments: Sequence[Segment]) -> bool:
        """Whether digits of a stand-in, which the sentence does not have, were written beside it once more."""
        digits = {it for segment in segments if not segment.kept for it in _DIGITS.findall(segment.text)}
        shown = [unit.shown for unit in self.units if unit.shown != unit.text]
        return any(it in each for it in digits if it not in self.text for each in shown)

    @property
    def _contents(self) -> set[str]:
        return {each for unit in self.units for each in unit.contents}


def outputs_of(text: str, spans: Sequence[Span | Unit]) -> list[str]:
    """What a translation has in the place of each span of a text."""
    return [text[span.start : span.end] if span.written is None else span.written for span in spans]


def segments_around(text: str, spans: Sequence[Span | Unit]) -> list[Segment]:
    """Spans of a text, and the text before, between and after them, which may be empty."""
    segments, done = [], 0
    for span in spans:
        segments.append(Segment(text[done : span.start], kept=False))
        segments.append(Segment(text[span.start : span.end], kept=True, written=span.written))
        done = span.end
    return [*segments, Segment(text[done:], kept=False)]


def parts_around(text: str, spans: Sequence[Span | Unit]) -> list[Segment]:
    """The parts of a sentence around its spans. Those that are not kept have a letter, and no white space around."""
    parts: list[Segment] = []
    for segment in segments_around(text, spans):
        if segment.kept or not any(map(str.isalpha, segment.text)):
            parts.append(replace(segment, kept=True))
            continue
        body = segment.text.strip()
        start = segment.text.index(body)
        parts += [Segment(segment.text[:start], kept=True), Segment(body, kept=False)]
        parts.append(Segment(segment.text[start + len(body) :], kept=True))
    return [part for part in parts if part.text]


def trimmed(text: str, spans: Sequence[Span]) -> tuple[int, int]:
    """Where the part of a sentence that the model reads begins and ends.

    Symbols and invisible characters at either end are left out, and so are a tag and its end around the whole.
    """
    start, end = 0, len(text)
    left, right = 0, len(spans)
    while True:
        start += len(text[start:end]) - len(text[start:end].lstrip())
        end -= len(text[start:end]) - len(text[start:end].rstrip())
        inner = spans[left:right]
        if inner and inner[0].start <= start and inner[0].kind in _AT_ENDS:
            start, left = max(start, inner[0].end), left + 1
        elif inner and inner[-1].end >= end and inner[-1].kind in _AT_ENDS:
            end, right = max(start, min(end, inner[-1].start)), right - 1
        elif len(inner) > 1 and inner[0].start == start and inner[-1].end == end and _encloses(text, inner):
            start, end, left, right = inner[0].end, inner[-1].start, left + 1, right - 1
        else:
            return start, end


_AT_ENDS = frozenset({Kind.SYMBOL, Kind.INVISIBLE, Kind.SPACE})


def protected(text: str, spans: Sequence[Span], stand_ins: Sequence[str]) -> Protected | None:
    """A sentence with its kept spans as units; None if there are too few stand-ins that it does not contain."""
    visible: list[str] = []
    invisible: list[tuple[int, str]] = []
    found: list[tuple[int, int, list[Span]]] = []
    length = done = 0
    for span in spans:
        visible.append(text[done : span.start])
        length += span.start - done
        done = span.end
        content = text[span.start : span.end]
        touches = bool(found) and found[-1][1] == length
        if span.kind is Kind.INVISIBLE and not touches:
            invisible.append((length, content))
            continue
        visible.append(content)
        if touches:
            start, _, members = found.pop()
            found.append((start, length + len(content), [*members, span]))
        else:
            found.append((length, length + len(content), [span]))
        length += len(content)
    sentence = "".join([*visible, text[done:]])
    free = iter([each for each in stand_ins if each not in sentence])
    units = []
    for start, end, members in found:
        source, kinds = sentence[start:end], [span.kind for span in members]
        shown = source if _is_shown(source, kinds) else next(free, None)
        if shown is None:
            return None
        ordered = Kind.TAG in kinds or bool(_UNNUMBERED.fullmatch(source))
        written = "".join(text[it.start : it.end] if it.written is None else it.written for it in members)
        contents = tuple(text[it.start : it.end] for it in members if it.written is None)
        units.append(Unit(start, end, written, shown, ordered, contents))
    return Protected(sentence, tuple(units), tuple(invisible))


def _is_shown(unit: str, kinds: Sequence[Kind]) -> bool:
    """Whether a unit is shown as it is: a single mark of punctuation or currency, which belongs to the sentence."""
    return kinds == [Kind.SYMBOL] and len(unit) == 1 and unicodedata.category(unit) in _MARKS


_MARKS = frozenset({"Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sc"})


def _encloses(text: str, spans: Sequence[Span]) -> bool:
    """Whether the first and the last of some spans are a tag and its end, with no other tag between them."""
    if [span.kind for span in spans].count(Kind.TAG) != 2:
        return False
    first, last = (text[span.start : span.end] for span in (spans[0], spans[-1]))
    name = re.match(r"<(\w+)", first)
    return bool(name and last == f"</{name[1]}>") or (first == last and not first.startswith("<"))


def _place_of(unit: Unit, translation: str, start: int) -> int | None:
    """Where the stand-in of a unit stands after `start`, if it does so once and alone.

    No letter or digit touches it, and none of its own characters, which the model may have written twice.
    """
    place = translation.find(unit.shown, start)
    if place < 0 or translation.find(unit.shown, place + 1) >= 0:
        return None
    if unit.shown != unit.text:
        end = place + len(unit.shown)
        for neighbour in (translation[place - 1 : place], translation[end : end + 1]):
            is_word = _WORD.match(neighbour) and not _UNSPACED.match(neighbour)
            if neighbour and (is_word or neighbour in unit.shown):
                return None
    return place


def without(text: str, unwanted: Collection[str]) -> str:
    """A text from which strings have been removed, those too that come about by this."""
    while any(each in text for each in unwanted):
        for each in unwanted:
            text = text.replace(each, "")
    return text


def _nearest(ascending: Sequence[int], wanted: float) -> int:
    """The number that is nearest to another, the lower one of two."""
    index = bisect_left(ascending, wanted)
    return min(ascending[max(0, index - 1) : index + 1], key=lambda it: abs(it - wanted))


def _borders(segments: Sequence[Segment], start: int) -> list[int]:
    """Places in a translation from `start` on, where the segments begin, at which no word and no unit is torn apart."""
    places = [start]
    for segment in segments:
        if not segment.kept:
            places += [start + match.start() for match in re.finditer(r"\s", segment.text)]
        start += len(segment.text)
        places.append(start)
    return places
