"""Files of texts: subtitles, catalogues of messages, XLIFF, JSON. Only what is translated is replaced, all else stays.

`units_of` finds what is translated. `written` puts translations in the places of the units; a translation that is the
text itself leaves the file as it is, to the byte.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest

from dragoman_service.text.markup.formats import TextFormat, document_of
from dragoman_service.text.markup.units import FileError, Unit
from dragoman_service.text.markup.xliff import segments
from dragoman_service.text.markup.xml import ENCODING


class FileFormat(enum.Enum):
    """The formats of files, by the name that the command line has for them."""

    TEXT = "text"
    HTML = "html"
    MARKDOWN = "markdown"
    SRT = "srt"
    VTT = "vtt"
    JSON = "json"
    PO = "po"
    XLIFF = "xliff"
    DOCX = "docx"
    ODT = "odt"

    @property
    def of_texts(self) -> TextFormat:
        """The format of the texts of its units."""
        match self:
            case FileFormat.TEXT | FileFormat.JSON | FileFormat.PO:
                return TextFormat.PLAIN
            case FileFormat.MARKDOWN:
                return TextFormat.MARKDOWN
        return TextFormat.HTML

    @property
    def is_text(self) -> bool:
        """Whether a file is text, and no archive."""
        return self not in (FileFormat.DOCX, FileFormat.ODT)


_LONGEST_PART = 20_000
"""Characters of text or HTML that are sent together; more if a line or a block is longer."""


_LONGEST_HEAD = 10_000
"""Characters at the beginning of a file, in which it says its encoding."""
_ENCODINGS = {
    FileFormat.HTML: re.compile(r"""<meta\s[^<>]*?charset\s*+=\s*+["']?([^\s"'/<>;]++)""", re.IGNORECASE),
    FileFormat.PO: re.compile(r'^"Content-Type:[^"\\\r\n]*?charset=([^\s"\\;]++)', re.IGNORECASE | re.MULTILINE),
    FileFormat.XLIFF: ENCODING,
}
_UTF_8 = re.compile("utf-?8|charset", re.IGNORECASE)
"""Its names, and what templates of PO have in the place of an encoding."""


def units_of(source: str, file_format: FileFormat) -> list[Unit]:
    """The units of a file of text, in order. Raises FileError, whose message says where and what is wrong."""
    text = source.removeprefix("\ufeff")
    _check_encoding(text, file_format)
    before = len(source) - len(text)
    return [replace(unit, start=unit.start + before, end=unit.end + before) for unit in _units(text, file_format)]


def _check_encoding(source: str, file_format: FileFormat) -> None:
    """Raise FileError for a file that says it has another encoding than UTF-8, in which it will be written."""
    pattern = _ENCODINGS.get(file_format)
    found = pattern.search(source, 0, _LONGEST_HEAD) if pattern else None
    if found and not _UTF_8.fullmatch(found[1]):
        line = source.count("\n", 0, found.start(1)) + 1
        raise FileError(f"line {line}: got the encoding {found[1]}; allowed: UTF-8")


def _units(source: str, file_format: FileFormat) -> Iterator[Unit]:
    match file_format:
        case FileFormat.TEXT:
            yield from _parts_of_text(source)
        case FileFormat.SRT | FileFormat.VTT:
            yield from _cues(source)
        case FileFormat.JSON:
            yield from _values(source)
        case FileFormat.PO:
            yield from _messages(source)
        case FileFormat.XLIFF:
            yield from segments(source)
        case FileFormat.HTML:
            yield from _parts_of_html(source)
        case FileFormat.MARKDOWN:
            if source:
                yield Unit(0, len(source), source)
        case FileFormat.DOCX | FileFormat.ODT:
            raise ValueError(f"{file_format.value} is no text")


def _parts_of_text(source: str) -> Iterator[Unit]:
    """Paragraphs that are sent together, and lines of one that is too long. No line is divided."""
    start = end = blank = 0  # of the part: its first line, the end of its last, and that of its last line without text
    for line in _LINE.finditer(source):
        while start < end and line.end() - start > _LONGEST_PART:
            stop = blank if blank > start else end
            yield from _part_of_text(source, start, stop)
            start = stop
        end = line.end()
        if not line["line"].strip():
            blank = end
    yield from _part_of_text(source, start, end)


def _part_of_text(source: str, start: int, end: int) -> Iterator[Unit]:
    """The lines of a part, without white space around them."""
    text = source[start:end]
    start += len(text) - len(text.lstrip())
    text = text.strip()
    if any(map(str.isalpha, text)):
        yield Unit(start, start + len(text), text)


def _parts_of_html(source: str) -> Iterator[Unit]:
    """Parts of a document that can be sent apart: no block is divided. What has no block, such as a script, is none."""
    start = end = place = 0  # of the part that is collected, from its first block to its last
    for part in document_of(source, TextFormat.HTML).parts:
        length = len(part) if isinstance(part, str) else len("".join(map(str, part.source())))
        if not isinstance(part, str):
            if start < end and place + length - start > _LONGEST_PART:
                yield Unit(start, end, source[start:end])
                start = end
            start, end = (start if start < end else place), place + length
        place += length
    if start < end:
        yield Unit(start, end, source[start:end])


def written(source: str, units: Sequence[Unit], translations: Sequence[str | None]) -> str:
    """The file with a translation for each unit. None: it stays as it is."""
    parts, done = [], 0
    for unit, translation in zip(units, translations, strict=True):
        own = unit.text if unit.unchanged is None else unit.unchanged
        if translation is not None and translation != own:
            parts += [source[done : unit.start], unit.write(translation)]
            done = unit.end
    return "".join([*parts, source[done:]])


_LINE = re.compile(r"(?P<line>[^\r\n]*+)(?:\r\n|\r|\n|\Z)")
_BREAK = re.compile(r"\r\n|\r|\n")
_TIME = r"(?:[0-9]{1,4}:)?[0-9]{1,4}:[0-9]{2}[,.][0-9]++"
_TIMES = re.compile(rf"[ \t]*+{_TIME}[ \t]*+-->[ \t]*+{_TIME}")
_DASH = r"[ \t]*+(?:\{\\[^{}\r\n]*+\}[ \t]*+)*+(?:[-–—](?=[ \t]*+[^\s-])[ \t]*+)?+"
_BEFORE = re.compile(_DASH)
"""Where a subtitle stands on the screen, and the dash before what a person says."""
_APART = re.compile(
    r"<[0-9:.]++>|(?:\r\n|\r|\n)(?=[ \t]*+(?:\{\\[^{}\r\n]*+\}|<[^<>\r\n]*+>)*+[ \t]*+[-–—][ \t]*+[^\s-])"
)
"""What divides a subtitle: a time inside it, and a line of another person."""
_WORDS = re.compile(r"(?:<[^<>]*+>|[^\s<]++|<)++")
_TAG = re.compile("<[^<>]*+>")


def _cues(source: str) -> Iterator[Unit]:
    """The text of each cue. What several persons say, and what has times between, are units by themselves."""
    for start, end in _texts_of_cues(source):
        begin = start
        for stop, following in [*(match.span() for match in _APART.finditer(source, start, end)), (end, end)]:
            before = _BEFORE.match(source, begin, stop)
            text = source[before.end() if before else begin : stop].rstrip()
            if any(map(str.isalpha, _TAG.sub("", text))):
                first = before.end() if before else begin
                yield Unit(first, first + len(text), text, partial(_as_lines, like=text))
            begin = following


def _texts_of_cues(source: str) -> Iterator[tuple[int, int]]:
    """The lines behind a line of times, up to an empty line: start of the first and end of the last.

    Without an empty line, they end before the next times, and the number before these.
    """
    first: int | None = None
    last = before_number = 0
    for match in _LINE.finditer(source):
        begins = _TIMES.match(match["line"]) is not None
        if first is not None and (begins or not match["line"].strip()):
            end = before_number if begins else last
            if first < end:
                yield first, end
            first = None
        if begins:
            first = last = before_number = match.end()
        elif first is not None:
            before_number = last if match["line"].strip().isdecimal() else match.end("line")
            last = match.end("line")
    if first is not None and first < last:
        yield first, last


def _as_lines(text: str, like: str) -> str:
    """A text in as many lines as another, of about the same length, cut at spaces outside tags."""
    breaks = _BREAK.findall(like)
    if len(_BREAK.findall(text)) == len(breaks):
        return text
    words = _WORDS.findall(text)
    lengths = [len(_TAG.sub("", word)) + 1 for word in words]
    lines: list[list[str]] = [[]]
    done, most, total = 0, len(breaks) + 1, sum(lengths)
    for word, length in zip(words, lengths, strict=True):
        if lines[-1] and len(lines) < most and done + length / 2 > total * len(lines) / most:
            lines.append([])
        lines[-1].append(word)
        done += length
    return "".join(" ".join(line) + end for line, end in zip_longest(lines, breaks[: len(lines) - 1], fillvalue=""))


_JSON = re.compile(r'"(?:[^"\\]++|\\.)*+"(?P<key>\s*+:)?', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")


def _values(source: str) -> Iterator[Unit]:
    """The strings of JSON that are values, and no keys."""
    try:
        json.loads(source, parse_int=str)  # `int` refuses more than some thousand digits
    except (ValueError, RecursionError) as error:
        raise FileError(f"not JSON: {error}") from None
    for match in _JSON.finditer(source):
        text = "" if match["key"] else json.loads(match[0], strict=False)
        if any(map(str.isalpha, text)) and not _SURROGATE.search(text):
            escapes = source.isascii() and "\\u" in match[0]
            yield Unit(match.start(), match.end(), text, partial(json.dumps, ensure_ascii=escapes))


_PO = re.compile(
    r"[ \t]*+(?:(?P<keyword>msgctxt|msgid|msgid_plural|msgstr|msgstr\[[0-9]++\])[ \t]++)?+"
    r'(?P<string>"(?:[^"\\\r\n]++|\\[^\r\n])*+")[ \t]*+\Z'
)
_PO_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_PO_ESCAPE = re.compile(r"\\(.)")
_PO_WRITTEN = str.maketrans({'"': '\\"', "\\": "\\\\"} | {value: f"\\{name}" for name, value in _PO_ESCAPES.items()})


def _messages(source: str) -> Iterator[Unit]:
    """The empty translations of a catalogue, each with the message that it is to translate."""
    said: dict[str, list[str]] = {}
    keyword = ""
    place: tuple[int, int] | None = None
    write = partial(_po_string, line_break="\r\n" if "\r\n" in source else "\n")

    def finished() -> Iterator[Unit]:
        if place is None or not keyword.startswith("msgstr") or any(said[keyword]):
            return
        message = "".join(said.get("msgid" if keyword in ("msgstr", "msgstr[0]") else "msgid_plural", ()))
        if any(map(str.isalpha, message)):
            yield Unit(*place, message, write, unchanged="")

    for number, match in enumerate(_LINE.finditer(source), 1):
        line = match["line"]
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _PO.match(line)
        if found is None or not (found["keyword"] or keyword):
            raise FileError(f"line {number}: not PO: {line.strip()[:80]}")
        end = match.end("line") - (len(line) - found.end("string"))
        if found["keyword"]:
            yield from finished()
            if found["keyword"] in ("msgctxt", "msgid") and keyword.startswith("msgstr"):
                said = {}
            keyword = found["keyword"]
            said[keyword], place = [], (end - len(found["string"]), end)
        assert place is not None
        place = place[0], end
        said[keyword].append(_PO_ESCAPE.sub(lambda it: _PO_ESCAPES.get(it[1], it[1]), found["string"][1:-1]))
    yield from finished()


def _po_string(text: str, line_break: str) -> str:
    """A string; of several lines as gettext writes it, each in quotes of its own."""
    lines = [f'"{line.translate(_PO_WRITTEN)}"' for line in re.findall(r"[^\n]*\n|[^\n]+\Z", text)]
    return line_break.join(['""', *lines] if len(lines) > 1 else lines)
