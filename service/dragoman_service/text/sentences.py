"""Where sentences end, in any script.

A mark that can end a sentence is judged by what stands directly before and after it, so the time is linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from dragoman_service.text.abbreviations import Abbreviations, abbreviations_of
from dragoman_service.text.characters import LETTER, UNSPACED, is_border, word_set
from dragoman_service.text.spans import Kind, Span

_WEAK = ".!?…‼⁇⁈⁉‽"
"""Marks that end a sentence only before a space."""
_STRONG = "。！？｡．؟۔।॥։።፧፨།༎།။។៕᙮᠃᠉᥄᥅᪨-᪫᭚᭛᭞᭟᰻᰼᱾᱿⳹⳾꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝-꩟꫰꫱꯫෴܀-܂߹"
"""Marks of scripts that may leave no space after a sentence."""
_CLOSING = "\"'”’»›«)\\]}」』】〉》）］｝〟*"


def _end(marks: str) -> re.Pattern[str]:
    closing = rf"(?:[{_CLOSING}]|“(?!\w)|[ \xa0\u202f][»›](?!\w)|\[[0-9]{{1,3}}\])*+"
    return re.compile(rf"(?P<mark>[{marks}]++)(?P<closing>{closing})\s*+")


_END = _end(_WEAK + _STRONG)
_GREEK_END = _end(_WEAK + ";\u037e")
_OPENING = re.compile(r"(?:[\s\"'“”„«»‹›‘’‚(\[{（「『【〈《¿¡*#]|[–—][ \xa0]|-{1,2} (?=[^\W\d]))*+")
_FORBIDDEN = re.compile(r"[,;:.!?…)\]}%&=+/，、；：）」』】。！？]|-(?!-? [^\W\d])")
"""What never begins a sentence. A hyphen between spaces is a dash, as before a line of dialogue."""
_QUOTATIVE = re.compile(r"(?:이?라[고며는던]|고|며)(?!\w)")
"""What follows a quotation in Korean."""
_NEXT_WORD = re.compile(r"\w++")
_INNER_CAPITAL = re.compile(r"[a-z]{1,2}[A-Z]")
_NUMERAL = re.compile(r"[0-9]++(?:[.,][0-9]++)*+")
_ROMAN = re.compile(r"[IVXLC]{2,7}")
_LETTERS_WITH_STOPS = re.compile(r"[^\W\d_](?:\.-?[^\W\d_]{1,2})++")
_TIME = frozenset({"a.m", "p.m", "am", "pm"})
_TIME_ZONE = re.compile(r"[A-Z]{1,3}T\b")
_VOWEL = re.compile("[aeiouyæœøıаеиоуыэюяіїєαεηιουω]", re.IGNORECASE)
_INTERJECTIONS = word_set("hm hmm hmmm mm mmm sh shh psst pst grr brr zzz tsk pfft")
_WITH_SYLLABIC_CONSONANTS = word_set("bg bs cs hr mk sk sl sr")
"""Languages with words that have no vowels, such as Czech "prst"."""
_CASED = re.compile(f"[{LETTER}]+")
_UNSPACED = re.compile(f"[{UNSPACED}]")
_SEPARATORS = re.compile("[/–—(\\[\"'“”„«»‘’]")
_BEFORE = 40
"""Characters before a full stop in which its word is looked for."""
_SEVERAL_SENTENCES = 40
"""Characters of a paragraph that has a capital if its writer uses any."""
_STANDING = (Kind.SYMBOL, Kind.INVISIBLE, Kind.SPACE, Kind.TAG)
"""Kinds of spans that say nothing about whether a sentence begins after them."""


def sentence_ends(text: str, begin: int, end: int, language: str, spans: Sequence[Span]) -> Iterator[int]:
    """Where the sentences between two indices end, but for the last, whose end is `end`.

    Args:
        text: Any text.
        begin: The first character of the paragraph.
        end: The end of the paragraph.
        language: A code such as "de" or "de-AT".
        spans: The spans between the indices, in order. No sentence ends inside one.
    """
    splitter = _Splitter(text, begin, end, re.split("[-_]", language, maxsplit=1)[0].lower(), spans)
    position = begin
    pattern = _GREEK_END if splitter.language == "el" else _END
    while (match := pattern.search(text, position, end)) is not None:
        span = splitter.span_over(match.start())
        if span is not None:
            position = span.end
            continue
        position = match.end()
        cut = splitter.cut_after(match, begin)
        if cut is not None and cut < end and is_border(text, cut):
            yield cut
            begin = cut


class _Splitter:
    """Judges the marks of one paragraph, which must be asked about in order."""

    def __init__(self, text: str, begin: int, end: int, language: str, spans: Sequence[Span]) -> None:
        self._text = text
        self._has_capitals = end - begin < _SEVERAL_SENTENCES or not text[begin:end].islower()
        """In a long text without capitals small letters say nothing."""
        self._end = end
        self.language = language
        self._words: Abbreviations = abbreviations_of(language)
        self._spans = spans
        self._next = 0
        """The first span that may still reach over an index."""

    def span_over(self, index: int) -> Span | None:
        """The span that has the character at an index."""
        while self._next < len(self._spans) and self._spans[self._next].end <= index:
            self._next += 1
        return self._span_at(self._next, index)

    def _span_at(self, number: int, index: int) -> Span | None:
        if 0 <= number < len(self._spans) and self._spans[number].start <= index < self._spans[number].end:
            return self._spans[number]
        return None

    def cut_after(self, match: re.Match[str], begin: int) -> int | None:
        """Where to cut after a mark, or None if no sentence ends there.

        Args:
            match: The mark, the quotation marks and brackets that close after it, and the space.
            begin: Where its sentence begins.
        """
        cut, start, number = match.end("closing"), match.end(), self._next
        while number < len(self._spans) and self._spans[number].end <= cut:
            number += 1
        if number < len(self._spans) and self._spans[number].start < cut:
            return None  # a mark closes where a span begins
        while (tag := self._span_at(number, start)) is not None and tag.kind is Kind.TAG and start == cut:
            cut = tag.end  # </b> and ** after the mark
            number += 1
            start = cut
            while start < self._end and self._text[start].isspace():
                start += 1
        if start >= self._end or _FORBIDDEN.match(self._text, start):
            return None
        spaced = start > cut
        start, span = self._after_opening(start, number)
        if start >= self._end or (span is None and not self._may_begin(match, start)):
            return None
        if not spaced and not self._may_lack_space(match, begin, start):
            return None
        if match["mark"] in ".．" and not self._ends_word(match, begin, start, span):
            return None
        return cut

    def _may_begin(self, match: re.Match[str], start: int) -> bool:
        """Whether a sentence can begin with what stands here: no comma, no small letter, no "said" of Korean."""
        text = self._text
        if _FORBIDDEN.match(text, start) or self._is_small(start):
            return False
        if match["mark"].endswith(("..", "…")) and text[start].isdigit():
            return False
        return not (match["closing"] and _QUOTATIVE.match(text, start))

    def _after_opening(self, start: int, number: int) -> tuple[int, Span | None]:
        """Skip quotation marks, brackets, symbols and tags. Returns the index, and the span that begins there."""
        while True:
            opening = _OPENING.match(self._text, start, self._end)
            while number < len(self._spans) and self._spans[number].end <= start:
                number += 1
            reached = opening.end() if opening is not None else start
            span = self._spans[number] if number < len(self._spans) else None
            if span is None or span.start > reached:
                return reached, None
            if span.kind not in _STANDING:
                return span.start, span
            start = span.end

    def _may_lack_space(self, match: re.Match[str], begin: int, start: int) -> bool:
        """Whether a sentence can end at a mark without a space after it."""
        if match["closing"]:
            if match["closing"] == "）" and self._text.startswith("（", begin):
                return True
            return self._text[match.end()] in '“「『（《"' and start > match.end() and match["mark"][-1] not in _WEAK
        if re.match(f"[{_STRONG}]", match["mark"][-1]):
            return not (match["mark"] == "．" and self._text[start].isdigit())
        around = self._text[match.start() - 1 : match.start()], self._text[start]
        return match["mark"][-1] in "!?" and all(map(_UNSPACED.match, around))

    def _is_small(self, start: int) -> bool:
        """Whether what begins here is in small letters, and no name such as iPhone."""
        character = self._text[start]
        is_georgian = "\u10d0" <= character <= "\u10ff"  # small letters without capitals
        small = character.islower() and self._has_capitals and not is_georgian
        return small and not _INNER_CAPITAL.match(self._text, start)

    def _ends_word(self, match: re.Match[str], begin: int, start: int, span: Span | None) -> bool:
        """Whether the full stop of a match ends a sentence, and not only an abbreviation, a number or an initial."""
        word, alone = self._word_before(match.start(), begin)
        if not word:
            return True
        is_number = _NUMERAL.fullmatch(word) is not None
        is_numeral = is_number or _ROMAN.fullmatch(word) is not None
        if alone and (is_numeral or len(word) == 1):
            return False  # the number of an item in a list
        next_word, starts = self._following(start, span)
        place = match.start() - len(word)
        if is_number or (is_numeral and self._words.ordinals):
            return starts or not self._is_ordinal(word, place, next_word)
        if word in _TIME and self.language == "en":
            return not (next_word[:1].isdigit() or next_word in self._words.dates or _TIME_ZONE.match(next_word))
        part = word.rpartition("-")[2]
        spellings = {word, word.lower(), part, part.lower()}
        if self._goes_on(spellings, next_word or span is not None):
            return False
        return starts or not (spellings & self._words.maybe or self._looks_short(word, place))

    def _following(self, start: int, span: Span | None) -> tuple[str, bool]:
        """The word that begins here, or "" for a span, and whether it is a word that begins sentences."""
        following = None if span is not None else _NEXT_WORD.match(self._text, start, self._end)
        word = following[0] if following is not None else ""
        is_initial = len(word) == 1 and self._text.startswith(".", start + 1)
        return word, word in self._words.starters and not is_initial

    def _goes_on(self, spellings: set[str], following: str | bool) -> bool:
        """Whether no sentence ends after an abbreviation in some spelling.

        Args:
            spellings: The word as it is and in small letters, and the last part of a compound likewise.
            following: The next word, or whether there is a span.
        """
        if spellings & self._words.never or any(word.endswith(self._words.endings) for word in spellings):
            return True
        counted = following is True or (following and (following[0].isdigit() or _ROMAN.fullmatch(following)))
        return bool(counted and spellings & self._words.number)

    def _is_ordinal(self, word: str, start: int, next_word: str) -> bool:
        """Whether a number with a full stop is an ordinal: "am 5. Klaus", but not "Tab. 5. Klaus"."""
        if not self._words.ordinals or (word.isdigit() and len(word) > 3):
            return False
        words = self._text[max(0, start - _BEFORE) : start].split()
        if not words or next_word in self._words.dates or _ROMAN.fullmatch(word):
            return True
        previous = words[-1]
        if len(word) == 3:
            return previous.capitalize() in self._words.starters  # zum 100. Mal
        return not previous[0].isupper() or previous[-1] in ",(" or previous in self._words.starters

    def _word_before(self, stop: int, begin: int) -> tuple[str, bool]:
        """The word before a full stop, and whether its sentence has no other, or a colon before it."""
        before = self._text[max(begin, stop - _BEFORE) : stop]
        if not before or before[-1].isspace():
            return "", False
        words = before.split()
        first = len(words) == 1 and len(before) < _BEFORE
        return _SEPARATORS.split(words[-1])[-1].lstrip("*_-¿¡"), first or (len(words) > 1 and words[-2][-1] == ":")

    def _looks_short(self, word: str, start: int) -> bool:
        """Whether a word that no list has looks like an abbreviation or an initial."""
        if _LETTERS_WITH_STOPS.fullmatch(word):
            return True
        if not _CASED.fullmatch(word) or self._span_at(self._next - 1, start) is not None:
            return False
        if len(word) == 1:
            return self._is_initial(word, start)
        return (
            len(word) <= 5
            and not word.isupper()
            and not _VOWEL.search(unicodedata.normalize("NFD", word))
            and word.lower() not in _INTERJECTIONS
            and self.language not in _WITH_SYLLABIC_CONSONANTS
        )

    def _is_initial(self, letter: str, start: int) -> bool:
        """Whether a single letter is an abbreviation: not "I", the unit of a number, or the end of "plan B"."""
        words = self._text[max(0, start - _BEFORE) : start].split()
        previous = words[-1] if words else ""
        if self.language == "en" and letter == "I":
            return not previous[:1].islower()
        return not (letter.islower() and previous[-1:].isdigit())
