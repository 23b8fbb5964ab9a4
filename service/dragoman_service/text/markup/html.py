"""HTML: elements that divide text are borders of blocks, others are inline tags.

The source is cut into tokens as browsers cut it (WHATWG HTML, section 13.2.5), but kept to the byte. No tree is built,
so any source is a document, well-formed or not. Each character is read a bounded number of times.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dragoman_service.text.characters import PRIVATE, private_characters
from dragoman_service.text.markup.document import Block, BlockBuilder, Document, Steps


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


TRANSLATED_ATTRIBUTES = ("alt", "aria-description", "aria-label", "label", "placeholder", "summary", "title")
"""Attributes whose values are text."""
BLOCKS = _names(
    "address article aside audio base blockquote body br button canvas caption center col colgroup datalist dd "
    "details dialog dir div dl dt fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head "
    "header hgroup hr html iframe legend li link main menu meta nav noembed noframes noscript object ol optgroup "
    "option p param plaintext pre script search section select source style summary table tbody td template "
    "textarea tfoot th thead title tr track ul video xmp"
)
"""Elements that divide the text around them. All others, unknown ones too, stand inside it."""
KEPT = _names("code kbd listing math pre samp svg tt var")
"""Elements whose content is not translated."""
RAW = _names("iframe noembed noframes plaintext script style textarea xmp")
"""Elements whose content has no tags, and is not translated."""
ELEMENT = re.compile(r"[A-Za-z][^\s/>]{0,99}")
"""The name of an element."""
MAX_ELEMENTS = 100
"""Most names of one of `HtmlRules`."""
VOID = _names("area base br col embed frame hr img input link meta param source track wbr")
"""Elements without an end."""

_ENDED_BY: Mapping[str, frozenset[str]] = {
    "p": BLOCKS - _names("br button canvas iframe noscript object script select style template"),
    "li": frozenset({"li"}),
    "dt": frozenset({"dt", "dd"}),
    "dd": frozenset({"dt", "dd"}),
    "tr": frozenset({"tr", "tbody", "tfoot"}),
    "td": frozenset({"td", "th", "tr", "tbody", "tfoot"}),
    "th": frozenset({"td", "th", "tr", "tbody", "tfoot"}),
    "option": frozenset({"option", "optgroup"}),
}
"""Elements that may have no end tag: they end where one of these begins, or where the element around them ends."""

_VALUE = r"""(?:\s*+=\s*+(?:"(?P<double>[^"]*+)"|'(?P<single>[^']*+)'|[^\s>"'][^\s>]*+))?+"""
_ATTRIBUTE = re.compile(rf"[\s/]*+(?P<name>[^\s/>][^\s/>=]*+){_VALUE}")
TAG = re.compile(
    rf"<(?P<closes>/)?(?P<name>[A-Za-z][^\s/>]*+)"
    rf"(?P<attributes>(?:[\s/]++|[^\s/>][^\s/>=]*+{re.sub('[?]P<[a-z]+>', '?:', _VALUE)})*+)>"
)
_COMMENT_END = re.compile(r"-->|(?<!<!)--!>")
_MARKED = re.compile(r"translate|notranslate", re.IGNORECASE)
ENTITY = re.compile(r"&(?:[#][0-9]{1,7}|[#][xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});?")
_TEXT = re.compile(
    rf"(?P<text>(?:[^ \t\n\r\f&]++|[ ](?![ \t\n\r\f]))++)|(?P<space>[ \t\n\r\f]++)|(?P<entity>{ENTITY.pattern})|&"
)
_NOT_SHOWN = re.compile(f"[\t-\r\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff{PRIVATE}]")
"""Characters that are kept as their entity."""


@dataclass(frozen=True, slots=True)
class HtmlRules:
    """What HTML is cut by, beside what it says itself. All names are in lower case."""

    attributes: frozenset[str] = frozenset()
    """Attributes whose values, if they have quotes, are blocks too."""
    kept: frozenset[str] = frozenset()
    """Elements whose content is not translated, beside `KEPT`."""
    blocks: frozenset[str] = frozenset()
    """Elements that divide the text around them, beside `BLOCKS`."""
    inline: frozenset[str] = frozenset()
    """Elements that do not, although they are in `BLOCKS`."""

    def divides(self, name: str) -> bool:
        """Whether an element divides the text around it."""
        return name in self.blocks or (name in BLOCKS and name not in self.inline)


NO_RULES = HtmlRules()


def html_steps(
    source: str, rules: HtmlRules = NO_RULES, base: int = 0, taken: frozenset[str] | None = None
) -> Steps[Document]:
    """Cut HTML into blocks, in small steps.

    Args:
        source: A document, or the part of one that begins at character `base`.
        rules: Those of the caller.
        base: See `source`.
        taken: Characters that cannot stand for what is kept; None: those of the source (`private_characters`).
    """
    tokens = []
    for token in _tokens(source):
        tokens.append(token)
        yield
    ends = yield from _ends(tokens)
    taken = private_characters(source) if taken is None else taken
    return (yield from _Parser(source, rules, base, taken).document(tokens, ends))


@dataclass(frozen=True, slots=True)
class _Token:
    start: int
    end: int
    tag: re.Match[str] | None = None
    is_text: bool = False
    is_raw: bool = False
    """Whether it is an element whose content has no tags, with its end."""

    @property
    def name(self) -> str:
        return self.tag["name"].lower() if self.tag is not None else ""

    @property
    def closes(self) -> bool:
        return self.tag is not None and self.tag["closes"] is not None

    @property
    def opens(self) -> bool:
        """Whether it begins an element that has content."""
        if self.tag is None or self.closes or self.is_raw:
            return False
        return self.name not in VOID and not self.tag["attributes"].endswith("/")


def _tokens(source: str) -> Iterator[_Token]:
    position = 0
    has_tags = True
    while position < len(source):
        start = source.find("<", position)
        if start != position:
            end = len(source) if start < 0 else start
            yield _Token(position, end, is_text=True)
            position = end
            continue
        following = source[start + 1 : start + 3].removeprefix("/")[:1]
        if following.isascii() and following.isalpha():
            tag = TAG.match(source, start) if has_tags else None
            if tag is None:
                has_tags = False  # nor does any later tag have an end
                position = start + 1
                yield _Token(start, position, is_text=True)
                continue
            position = tag.end()
            is_raw = tag["name"].lower() in RAW and not tag["closes"]
            if is_raw:
                position = _end_of_raw(source, position, tag["name"])
            yield _Token(start, position, tag, is_raw=is_raw)
        elif source[start + 1 : start + 2] in ("!", "?", "/") and start + 2 < len(source):
            position = _end_of_comment(source, start)
            yield _Token(start, position)
        else:
            position = start + 1
            yield _Token(start, position, is_text=True)


def _end_of_raw(source: str, start: int, name: str) -> int:
    if name.lower() == "plaintext":
        return len(source)
    closing = re.compile(rf"</{re.escape(name)}(?=[\s/>])", re.IGNORECASE).search(source, start)
    return (source.find(">", closing.end()) + 1 or len(source)) if closing else len(source)


def _end_of_comment(source: str, start: int) -> int:
    if source.startswith("<!--", start):
        closing = _COMMENT_END.search(source, start + 2)
        return closing.end() if closing else len(source)
    return source.find(">", start) + 1 or len(source)


def _ends(tokens: Sequence[_Token]) -> Steps[dict[int, int]]:
    """Number of a token that opens an element -> number of the first token behind the element."""
    ends: dict[int, int] = {}
    opened: list[tuple[str, int]] = []
    count: Counter[str] = Counter()

    def end(number: int) -> str:
        name, opening = opened.pop()
        count[name] -= 1
        ends[opening] = number
        return name

    for number, token in enumerate(tokens):
        yield
        name = token.name
        if token.closes and count[name]:
            while opened[-1][0] != name:
                end(number)
            end(number + 1)
        elif token.tag is not None and not token.closes:
            while opened and name in _ENDED_BY.get(opened[-1][0], ()):
                end(number)
            if token.opens:
                opened.append((name, number))
                count[name] += 1
    while opened:
        end(len(tokens))
    return ends


class _Parser:
    def __init__(self, source: str, rules: HtmlRules, base: int, taken: frozenset[str]) -> None:
        self._source = source
        self._rules = rules
        self._base = base
        self._taken = taken
        self._block = BlockBuilder(escape_html, taken, base)
        self._parts: list[str | Block] = []

    def document(self, tokens: Sequence[_Token], ends: Mapping[int, int]) -> Steps[Document]:
        source, number = self._source, 0
        while number < len(tokens):
            yield
            token = tokens[number]
            number += 1
            if token.is_text:
                add_text(self._block, source, token.start, token.end)
            elif token.tag is None:
                self._block.tag(source[token.start : token.end])
            elif token.closes:
                self._close(token)
            elif token.is_raw or token.name in self._rules.kept or _is_kept(token):
                number = ends.get(number - 1, number)
                self._keep(token, tokens[number - 1].end)
            else:
                self._open(token)
        self._parts += self._block.build()
        return Document(tuple(self._parts))

    def _close(self, token: _Token) -> None:
        written = self._source[token.start : token.end]
        if self._rules.divides(token.name):
            self._parts += [*self._block.build(), written]
        else:
            self._block.close(token.name, written)

    def _open(self, token: _Token) -> None:
        markup = self._markup(token)
        if self._rules.divides(token.name):
            self._parts += [*self._block.build(), *markup]
        elif token.opens:
            self._block.open(token.name, *markup)
        else:
            self._block.tag(*markup)

    def _keep(self, token: _Token, end: int) -> None:
        kept = self._source[token.start : end]
        if self._rules.divides(token.name):
            self._parts += [*self._block.build(), kept]
        elif token.opens:
            self._block.keep(kept, token.start)
        else:
            self._block.tag(kept)

    def _markup(self, token: _Token) -> list[str | Block]:
        """A tag with the values of its attributes, where they are wanted, as blocks."""
        source, done = self._source, token.start
        markup: list[str | Block] = []
        if self._rules.attributes and token.tag is not None:
            for attribute in _ATTRIBUTE.finditer(source, *token.tag.span("attributes")):
                group = "double" if attribute["double"] is not None else "single"
                if attribute["name"].lower() in self._rules.attributes and attribute[group]:
                    start, end = attribute.span(group)
                    value = BlockBuilder(partial(escape_html, quote=source[end]), self._taken, self._base)
                    add_text(value, source, start, end)
                    markup += [source[done:start], *value.build()]
                    done = end
        return [*markup, source[done : token.end]]


def _is_kept(token: _Token) -> bool:
    """Whether the content of an element is not translated."""
    if token.name in KEPT:
        return True
    if token.tag is None or not _MARKED.search(token.tag["attributes"]):
        return False
    values = {
        it["name"].lower(): html.unescape(it["double"] or it["single"] or it[0].partition("=")[2].strip())
        for it in _ATTRIBUTE.finditer(token.tag["attributes"])
    }
    return values.get("translate", "").lower() == "no" or "notranslate" in values.get("class", "").split()


def add_text(block: BlockBuilder, source: str, start: int, end: int) -> None:
    """Add characters `start` to `end` of a source, with entities, to a block. White space is shown as one space."""
    for match in _TEXT.finditer(source, start, end):
        written, place = match[0], match.start()
        if match["space"] is not None:
            block.add(" ", place, written)
        elif match["entity"] is None:
            block.add(written, place)
        else:
            add_entity(block, written, place)


def add_entity(block: BlockBuilder, written: str, place: int) -> None:
    character = html.unescape(written)
    if len(character) == 1 and not _NOT_SHOWN.match(character):
        block.add(character, place, written)
    elif character == written and not written.endswith(";"):
        block.add(written, place)
    else:
        block.keep(written, place)


def escape_html(text: str, spellings: Mapping[str, str], quote: str = "") -> list[str]:
    """See `Escape`. `quote` is the mark around the value of an attribute."""
    written = list(text)
    for index, character in enumerate(text):
        if character in spellings:
            written[index] = spellings[character]
        elif character == "&":
            entity = ENTITY.match(text, index)
            if entity and html.unescape(entity[0]) != entity[0]:
                written[index] = "&amp;"
        elif character == "<" and text[index + 1 : index + 2] and not text[index + 1].isspace():
            written[index] = "&lt;"
        elif character == quote:
            written[index] = "&quot;" if quote == '"' else "&#39;"
    return written
