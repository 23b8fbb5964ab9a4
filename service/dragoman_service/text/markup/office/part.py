"""A part of an archive, with its paragraphs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dragoman_service.text.markup.office.elements import Elements
from dragoman_service.text.markup.office.runs import Item, ParagraphText, Piece, Range, RunWriter, has_letters


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Text that is translated as a whole. Others may stand inside of it, such as those of a text box."""

    start: int
    """Where what it consists of begins in the source."""
    end: int
    text: ParagraphText
    number: int
    """From 1, of those in the part."""


class Part(ABC):
    """A source of XML. What is not translated stays as it is."""

    def __init__(self, elements: Elements) -> None:
        self._elements = elements
        self.paragraphs = sorted(self._paragraphs(), key=lambda it: it.start)
        """Those with something to translate, in order."""

    @abstractmethod
    def _found(self) -> Iterator[tuple[Range, Sequence[Item]]]:
        """The range of every paragraph, and what it consists of."""

    @abstractmethod
    def _writer(self) -> RunWriter:
        """Writes a paragraph."""

    def _paragraphs(self) -> Iterator[Paragraph]:
        for number, ((start, end), items) in enumerate(self._found(), 1):
            if has_letters(items):
                yield Paragraph(start, end, ParagraphText(items), number)

    def written(self, translations: Sequence[str | None]) -> str:
        """The source with a translation for each of `paragraphs`. None: it stays as it is."""
        changed = [
            (paragraph, translation)
            for paragraph, translation in zip(self.paragraphs, translations, strict=True)
            if translation is not None and translation != paragraph.text.html
        ]
        starts = [paragraph.start for paragraph, _ in changed]
        source = self._elements.source
        written: list[str] = []
        # What is still to be written, the last first: text, or a range of the source, in which paragraphs may stand.
        todo: list[Piece] = [(0, len(source))]
        while todo:
            piece = todo.pop()
            if isinstance(piece, str):
                written.append(piece)
                continue
            start, end = piece
            number = bisect_left(starts, start)
            if number == len(changed) or changed[number][0].end > end:
                written.append(source[start:end])
                continue
            paragraph, translation = changed[number]
            writer = self._writer()
            for item in paragraph.text.items(translation):
                writer.add(item)
            written.append(source[start : paragraph.start])
            todo.append((paragraph.end, end))
            todo += reversed(writer.finished())
        return "".join(written)
