"""Finds what a translation must leave as it is: addresses, file names, placeholders, tags, symbols and the like.

A text is read once from left to right. Every pattern either begins at a border of words or at a sign, and nothing in it
is tried twice (possessive quantifiers, sets that exclude what comes next), so the time is linear in the text.
"""

from __future__ import annotations

import enum
import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dragoman_service.text.characters import (
    CONTROL,
    EMOJI,
    INVISIBLE,
    JOINING,
    LETTER,
    NUMBER,
    SPACE_CONTROL,
    UNSPACED,
    WORD,
    extends,
    word_set,
)


class Kind(enum.Enum):
    """What a span is."""

    SPACE = "space"
    """Line breaks and tabs."""
    INVISIBLE = "invisible"
    """Control and format characters, which have no shape of their own."""
    SYMBOL = "symbol"
    """Emoji, emoticons, arrows, bullets and other signs."""
    NUMBER = "number"
    """Digits that Unicode's compatibility normalisation (NFKC) would change: 10², ½, CO₂."""
    URL = "url"
    MAIL = "mail"
    FILE = "file"
    """File names and paths."""
    IDENTIFIER = "identifier"
    """Names from programs, options, versions, hexadecimal ids, and code in backticks."""
    PLACEHOLDER = "placeholder"
    """What a program replaces: %1$s, {count}, {{x}}, &amp;."""
    TAG = "tag"
    """<b>, and the marks of Markdown."""
    MENTION = "mention"
    """@name and #topic."""
    MARKED = "marked"
    """What the caller says is to be kept."""


@dataclass(frozen=True, slots=True)
class Span:
    """A substring that is kept: characters `start` to `end` of the text that it belongs to."""

    start: int
    end: int
    kind: Kind
    written: str | None = None
    """What a translation has in its place; None: its own characters."""

    def shifted(self, by: int) -> Span:
        """The span, so many characters further on."""
        return replace(self, start=self.start + by, end=self.end + by)


_DOMAINS = word_set(
    "com org net edu gov mil int info biz io ai dev app cloud online shop store site tech xyz wiki blog de fr "
    "uk eu ch nl pl ru cn jp kr br cz hu dk fi gr au nz ie il ua tr mx cl za sk bg rs lt lv tw hk sg vn рф"
)
"""Last labels of the domains that need neither `www.` nor a path to be recognised."""
_DOMAINS_BEFORE_PATHS = _DOMAINS | word_set(
    "am at be ca cc co es fm gg gl hr id im in is it kz lu ly me ms my no pe ph pk pm pt ro se si so th to tv us"
)
_EXTENSIONS = word_set(
    "txt md rst pdf doc docx docm odt rtf tex xls xlsx xlsm ods csv tsv ppt pptx odp epub mobi djvu ps eps "
    "log bak tmp html htm xhtml xml xsl xslt xsd dtd svg json jsonl ndjson yaml yml toml ini cfg conf env "
    "properties lock plist reg jpg jpeg png gif bmp tif tiff webp ico heic psd mp3 mp4 m4a m4v wav flac ogg "
    "oga ogv opus avi mkv mov webm wmv srt vtt zip tar gz tgz bz2 xz zst 7z rar jar war iso dmg img deb rpm "
    "apk exe msi dll so dylib bin dat db sqlite sql py pyc pyi ipynb js mjs cjs jsx ts tsx css scss sass php "
    "rb pl pm java kt kts class c h cc cpp cxx hpp cs vb go rs swift sh bash zsh ps1 bat cmd lua r jl scala "
    "clj hs erl exs dart asm o a lib vue svelte proto onnx pt pth npz npy pkl safetensors parquet po pot mo "
    "xlf xliff ttf otf woff woff2 pem crt key csr asc sha256 patch diff ics vcf eml torrent map wasm gradle "
    "cmake mk tf vhd vmdk ova"
)
_ROOTS = "bin|boot|dev|etc|home|lib|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp|usr|var"
_DOLLARS = "USD?|CAN?|CAD|AUD?|NZD?|HKD?|SGD?|TW|NT|MX|R"
"""What follows the sign of the dollar and is no variable."""
_GENDERED = rf"[{LETTER}]{{3,}}+_(?:in|innen|e|er|n|r)"
"""German forms for all genders: Leser_innen, jede_r."""

_TRAILING = ".,;:!?…'\"’*~|)]}>、。，；：！？）】」』》।؟۔،؛"
"""Characters at the end of an address that belong to the sentence."""
_OPENING = {")": "(", "]": "[", "}": "{"}
_ADDRESS = (
    rf"(?:[^\s{CONTROL}{INVISIBLE}{UNSPACED}\u2010-\u205f\u2100-\u2bff\U0001f000-\U0001faff\u3000-\u303f\u30fb\ufe10-\ufe4f\uff00-\uffef<>\"`«»|\\^{{}}]"
    rf"|\{{[\w.]*+\}}|(?<=[/=?&#_.:@%-])[{UNSPACED}]++)++"
)
"""The rest of an address. Letters of a script without spaces belong to it only after a delimiter."""
_SEGMENT = rf"[{WORD}.@+%-]"
_PART = r"[^\s\\/:*?\"<>|]"

_PLAIN = rf"(?:[A-ZÀ-ÖØ-Þ]?[a-zß-öø-ÿ]++|[0-9]++)(?![{WORD}@:/+(%\ufe0f\u20e3-]|\.\S)"
"""A word of small letters or a number that is no part of a span, as what follows shows. Most text consists of them."""
_SIGNS = rf"""
(?P<tag></?[A-Za-z][{WORD}:.-]*+(?:[ \t][^<>\n]*+)?/?>|</?[0-9]{{1,4}}\s?/?>|<[!?%][^<>\n]*+>)
|(?P<placeholder_entity>&(?:[A-Za-z][A-Za-z0-9]{{1,31}}|\#[0-9]{{1,7}}|\#[xX][0-9A-Fa-f]{{1,6}});)
|(?P<placeholder_braces>
    \{{\{{\{{?[^{{}}\n]*+\}}?\}}\}}
    |\{{%[^%\n]*+%\}}
    |[$\#%@]\{{[^{{}}\n]*+\}}
    |\{{[ ]?[\w.]++[ ]?,[ ]?(?:plural|select|selectordinal)[ ]?,(?:[^{{}}\n]++|\{{[^{{}}\n]*+\}})*+\}}
    |\{{[ ]?[\w.$@*-]*+(?:\[\w*+\])?(?:
        [:!][^{{}}\s]*+
        |[ ]?,[ ]?(?:number|date|time|ordinal|spellout|duration)\b[^{{}}\n]*+
    )?[ ]?\}}
    |\[\[[\w.-]++\]\]
)
|(?P<placeholder_printf>
    %%
    |(?<![0-9%])(?<![0-9][ \xa0\u202f])%(?:
        \(\w++\)[sdifr]
        |[A-Za-z_][A-Za-z0-9_]++%(?!%)
        |(?:[1-9][0-9]*+\$)?[-+0\#]*+(?:[0-9]++|\*)?(?:\.(?:[0-9]++|\*))?(?:hh?|ll?|[qLjzt])?(?:[sd@]|[A-Za-z](?![{LETTER}]))
        |L?[1-9](?![0-9]|[.,][0-9])
    )
)
|(?P<placeholder_named>(?<![^\s(\["'=,>]):[a-z][a-z0-9_]++(?![{WORD}]):?)
|(?P<placeholder_escape>\\[nrt](?![a-z])|(?<![{WORD}\\])\\(?:u[0-9A-Fa-f]{{4}}|[A-Za-z]{{2,}}+))
|(?P<identifier_variable>(?<![{WORD}$])\$(?!(?:{_DOLLARS})\b)[A-Za-z_][A-Za-z0-9_]*+)
|(?P<identifier_code>(?<![{WORD}`])(?:`(?![\s`])[^`\n]++(?<!\s)`|``(?!`)[^`\n]++``|```(?!`)[^`\n]++```)(?![{WORD}`]))
|(?P<identifier_fence>(?<!`)```[\w+\#.-]*+(?!`))
|(?P<identifier_option>(?<![^\s(\["'=,|/])(?:--[A-Za-z][\w-]*+(?:=[^\s"'`)\]]++)?|-[A-Za-z](?![{WORD}'’-])))
|(?P<mention_name>(?<![{WORD}@.])@[{LETTER}_][{WORD}]*+(?:[.-][{WORD}]++)*+(?:@[{WORD}-]++(?:\.[{WORD}-]++)++)?)
|(?P<mention_topic>(?<![\w&\#])\#(?=\d*+[^\W\d_])\w++)
|(?P<file_path>(?<![{WORD}/.\\)\]}}>%~])(?:
    (?:~|\.\.?)/{_SEGMENT}*+(?:/:?{_SEGMENT}++)*+/?
    |/(?:{_ROOTS})(?![{WORD}-])(?:/:?{_SEGMENT}++)*+/?
    |/(?=[^\s/]*+/)(?=[0-9.-]*+[{LETTER}_]){_SEGMENT}++(?:/:?{_SEGMENT}++)++/?
    |\\\\[{WORD}.-]++(?:\\{_PART}++)++
    |\.(?:[a-z]|[A-Z]{{2}})[{WORD}-]++(?:\.[{WORD}-]++)*+
))
|(?P<symbol_emoticon>(?<!\S)(?:[:;=]['’]?-?[()DPpO|/\\]{{1,4}}|<3++|\^_?\^|[xX]D++)(?![^\s.,!?]))
"""
"""What begins with a sign."""
_WORDS = rf"""
(?P<plain>{_PLAIN}(?:(?:,?[ ]|['’]){_PLAIN})*+)
|(?P<url_scheme>
    [A-Za-z][A-Za-z0-9+.-]{{1,20}}+://(?=[{WORD}{UNSPACED}\[{{$%]|[^\x00-\u02ff]){_ADDRESS}
    |(?:mailto|tel|sms|urn|magnet|sips?|xmpp|geo|bitcoin|doi):(?=[{WORD}?+]){_ADDRESS}
    |data:[a-z]++/{_ADDRESS}
)
|(?P<mail>[{WORD}.%+-]{{1,64}}+@[{LETTER}0-9][{LETTER}0-9-]*+(?:\.[{LETTER}0-9]++)++(?:-[{LETTER}0-9-]++(?:\.[{LETTER}0-9]++)++)*+)
|(?P<file_drive>[A-Za-z]:[\\/](?=[^\s\\/])(?:{_PART}++(?:[ ]{_PART}++){{0,2}}\\|{_PART}++/)*+{_PART}*+)
|(?P<identifier_pairs>[0-9A-Fa-f]{{2}}(?:[:-][0-9A-Fa-f]{{2}}){{5}}(?![{WORD}:-]))
|(?P<identifier_scoped>[{LETTER}_][{WORD}]*+(?:::~?[{LETTER}_][{WORD}]*+)++(?:\(\))?)
|(?P<word>[{WORD}]++(?:[./+-][{WORD}]++)*+)
"""
"""What begins with a letter or a digit after something else. The last takes a whole word, for `_add_word`."""
_PATTERN = re.compile(
    rf"""
(?P<symbol>(?:{EMOJI})++)
|(?P<number>[{NUMBER}]++)
|(?P<space>[{SPACE_CONTROL}]++)
|(?P<invisible_control>(?:(?![{SPACE_CONTROL}])[{CONTROL}])++)
|(?P<invisible>(?:[{INVISIBLE}]|(?<![{JOINING}])[\u200c\u200d]|[\u200c\u200d](?![{JOINING}]))++)
|(?P<emphasis>(?<![{WORD}*~\\])(?:\*{{1,3}}+|~~)(?=[^\s*~]))
|(?P<link>!?\[(?=[^\[\]\n]++\]\([^()\s]*+(?:\([^()\s]*+\)[^()\s]*+)*+(?:[ ]"[^"\n]*+")?\)))
|(?=[<&{{$%@\#\[:\\`~/.^=;xX-])(?:{_SIGNS})
|(?<![{WORD}])(?=[{WORD}])(?:{_WORDS})
""",
    re.VERBOSE,
)
_LINK_END = re.compile(r"\]\([^()\s]*+(?:\([^()\s]*+\)[^()\s]*+)*+(?:[ ]\"[^\"\n]*+\")?\)")
_REST_OF_ADDRESS = re.compile(rf"(?::[0-9]{{1,5}}(?![{WORD}]))?(?:[/?#]{_ADDRESS}|/)?")

_NAME = re.compile(
    rf"""
    [vV][0-9]++(?:\.[0-9]++)++(?:[.+-]?[0-9A-Za-z]++)*+            # v1.2.3-rc1
    |[0-9]++(?:\.[0-9]++){{1,3}}[.+-]?(?:rc|alpha|beta|dev|post|pre|snapshot|a|b)[.-]?[0-9]*+
    |[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}}                           # 192.168.0.1
    |0[xX][0-9A-Fa-f]++
    |[0-9A-Fa-f]{{8}}(?:-[0-9A-Fa-f]{{4}}){{3}}-[0-9A-Fa-f]{{12}}
    |(?=[0-9]*+[a-f])(?=[a-f]*+[0-9])[0-9a-f]{{7,128}}             # a commit
    |(?=[0-9-]*+[A-Z])(?=[A-Z-]*+[0-9])[A-Z0-9]++(?:-[A-Z0-9]++){{2,}}+
    |[0-9]*+(?:[A-Za-z]++[0-9]++){{3,}}+[A-Za-z]*+                 # A1B2C3
    |__[A-Za-z0-9]++__
    |(?!{_GENDERED}\Z)_*+[0-9]*+[{LETTER}][{LETTER}0-9]*+(?:_++[{LETTER}0-9]++)++_*+
    |[a-z]{{2,}}+[0-9]*+[A-Z][A-Za-z0-9]*+                         # camelCase, but not iPhone
    |(?![A-Za-z]*Innen\Z)(?:[A-Z][a-z0-9]++){{3,}}+
    """,
    re.VERBOSE,
)
_LABEL = re.compile(rf"[{LETTER}0-9](?:[{LETTER}0-9-]*+)")
_CALLED = re.compile(rf"[{LETTER}_][{WORD}]*+(?:\.[{LETTER}_][{WORD}]*+)*+")
_DOTTED_NAME = re.compile(rf"[{LETTER}_][{WORD}]++(?:\.[{LETTER}_][{WORD}]++)++")
_BEFORE_RAISED = re.compile(rf"(?<![{WORD}])(?:[0-9]+(?:[.,][0-9]+)*|[A-Za-zµΩ]{{1,3}}|[A-Za-z][0-9]{{1,3}})\Z")
_BEFORE_LOWERED = re.compile(rf"(?<![{WORD}])(?:[A-Z][a-z]?|[A-Za-z])+\Z")
_AFTER_RAISED = re.compile(rf"(?:[A-Za-z]{{1,3}}[0-9]*+[{NUMBER}]++)*+")
_AFTER_LOWERED = re.compile(rf"(?:[A-Z][a-z]?[0-9{NUMBER}]*+)*+(?![{LETTER}])")
_LOWERED = re.compile("[\u2080-\u209c]")
_LONGEST_NUMBER = 16
"""Characters before a raised or lowered digit that may belong to it."""


def find_spans(text: str, marked: Sequence[tuple[int, int]] = ()) -> list[Span]:
    """The spans of a text, in order. None is empty, and no two share a character.

    Args:
        text: Any text. The time is linear in its length.
        marked: Start and end of what the caller says is to be kept. Ranges that overlap are one span.
    """
    spans: list[Span] = []
    begin = 0
    for start, end in _merged(text, marked):
        spans += _Scan(text, begin, start).spans()
        spans.append(Span(start, end, Kind.MARKED))
        begin = end
    return spans + _Scan(text, begin, len(text)).spans()


def _merged(text: str, marked: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The ranges in order, without empty ones; those that overlap as one."""
    reached, begin = 0, 0
    for start, end in sorted(marked):
        if not 0 <= start <= end <= len(text):
            raise ValueError(f"marked: a range of a text of {len(text)} characters, not {start} to {end}")
        if start >= reached:
            if begin < reached:
                yield begin, reached
            begin = start
        reached = max(reached, end)
    if begin < reached:
        yield begin, reached


class _Scan:
    """One pass over a part of a text in which nothing is marked."""

    def __init__(self, text: str, begin: int, end: int) -> None:
        self._text = text
        self._begin = begin
        self._end = end
        self._spans: list[Span] = []
        self._closings: list[tuple[int, int]] = []
        """Heap of the marks that close what was opened: start and end. No other span crosses one."""

    def spans(self) -> list[Span]:
        """All spans of the part, in order."""
        position = self._begin
        while position < self._end:
            stop = self._closings[0][0] if self._closings else self._end
            match = _PATTERN.search(self._text, position, stop) if position < stop else None
            if match is not None:
                position = self._take(match)
            elif self._closings:
                start, end = heapq.heappop(self._closings)
                if start >= position:
                    position = self._add(Kind.TAG, start, end)
            else:
                break
        return self._spans

    def _take(self, match: re.Match[str]) -> int:
        """Add the spans of a match. Returns where to go on."""
        assert match.lastgroup is not None
        name, start, end = match.lastgroup, match.start(), match.end()
        if name == "plain":
            return end
        if name == "word":
            self._add_word(start, end, match.endpos)
            return max(end, self._reached())
        if name == "number":
            return self._add_number(start, end, match.endpos)
        if name in ("emphasis", "link"):
            return self._open(name, start, end)
        if name == "mail" and not match[0].rpartition(".")[2].isalpha():
            return end
        kind = Kind(name.partition("_")[0])
        if kind in (Kind.URL, Kind.FILE):
            end = self._without_punctuation(start, end)
        return self._add(kind, start, end)

    def _reached(self) -> int:
        return self._spans[-1].end if self._spans else self._begin

    def _add(self, kind: Kind, start: int, end: int) -> int:
        """Add a span, with the accents and the like that follow it. Returns its end."""
        if kind not in (Kind.SPACE, Kind.INVISIBLE):
            while end < self._end and extends(self._text[end]):
                end += 1
        self._spans.append(Span(start, end, kind))
        return end

    def _open(self, name: str, start: int, end: int) -> int:
        """Add a mark of Markdown if it is closed on the same line."""
        text = self._text
        if name == "link":
            closing = _LINK_END.match(text, text.index("]", end), self._end)
            if closing is None:
                return end
            heapq.heappush(self._closings, closing.span())
            return self._add(Kind.TAG, start, end)
        mark = text[start:end]
        place = text.find(mark, end, self._end)
        after = text[place + len(mark) : place + len(mark) + 1]
        if (
            place < 0
            or text.find("\n", end, place) >= 0
            or text[place - 1].isspace()
            or after.isalnum()
            or after == mark[0]
        ):
            return end
        heapq.heappush(self._closings, (place, place + len(mark)))
        return self._add(Kind.TAG, start, end)

    def _without_punctuation(self, start: int, end: int) -> int:
        """The end of an address without the punctuation of the sentence. Brackets that it opens are its own."""
        text = self._text
        surplus: dict[str, int] = {}
        while end > start + 1 and (last := text[end - 1]) in _TRAILING:
            if last in _OPENING:
                if last not in surplus:
                    surplus[last] = text.count(last, start, end) - text.count(_OPENING[last], start, end)
                if surplus[last] <= 0:
                    break
                surplus[last] -= 1
            end -= 1
        return end

    def _add_word(self, start: int, end: int, stop: int) -> None:
        """Add the spans of a word, which may have separators inside: the whole, or else some of its parts."""
        text = self._text
        word = text[start:end]
        host, slash, _ = word.partition("/")
        if _is_domain(host, path=bool(slash)):
            rest = _REST_OF_ADDRESS.match(text, start + len(host), stop)
            assert rest is not None
            self._add(Kind.URL, start, self._without_punctuation(start, rest.end()))
        elif _is_file(word):
            self._add(Kind.FILE, start, end)
        elif text.startswith("()", end, stop) and _CALLED.fullmatch(word):
            self._add(Kind.IDENTIFIER, start, end + 2)
        elif _NAME.fullmatch(word) or _is_dotted_name(word, called=text.startswith("(", end)):
            self._add(Kind.IDENTIFIER, start, end)
        elif separator := next((sign for sign in "/+-." if sign in word), None):
            for part in word.split(separator):
                self._add_word(start, start + len(part), min(stop, start + len(part)))
                start += len(part) + 1

    def _add_number(self, start: int, end: int, stop: int) -> int:
        """Add raised or lowered digits with the number, unit or formula that they belong to."""
        text = self._text
        lowered = _LOWERED.match(text, start) is not None
        before, after = (_BEFORE_LOWERED, _AFTER_LOWERED) if lowered else (_BEFORE_RAISED, _AFTER_RAISED)
        owner = before.search(text, max(self._reached(), start - _LONGEST_NUMBER), start)
        if owner is not None:
            start -= len(owner[0])
            rest = after.match(text, end, stop)
            end = rest.end() if rest is not None else end
        return self._add(Kind.NUMBER, start, end)


def _is_domain(word: str, *, path: bool) -> bool:
    """Whether a word, without its path, is a domain: www.name.tld, or name.tld with a known end."""
    *names, last = word.split(".")
    if not names or not all(map(_LABEL.fullmatch, names)) or not (last.islower() or word.isupper()):
        return False
    if names[0].lower() == "www" and len(names) > 1:
        return last.isalpha()
    if last == "NET":  # ASP.NET
        return False
    own = names[-1]
    known = _DOMAINS_BEFORE_PATHS if path else _DOMAINS
    return last.lower() in known and not own.isdigit() and (len(own) > 1 or last in ("com", "org", "net"))


def _is_file(word: str) -> bool:
    """Whether a word, perhaps with folders before it, is a file's name with an extension that is in use."""
    stem, _, extension = word.rpartition("/")[2].rpartition(".")
    if extension.lower() not in _EXTENSIONS or not (extension.islower() or extension.isupper()):
        return False
    if extension == "so":
        return stem.startswith("lib")
    if len(extension) == 1:  # main.c, but not p.s. and z.o.o.
        return extension.islower() and len(stem.rpartition(".")[2]) > 1
    return bool(stem)


def _is_dotted_name(word: str, *, called: bool) -> bool:
    """Whether a word is a name such as System.IO.File. "one.Two" is none: a space may be missing between sentences."""
    if not _DOTTED_NAME.fullmatch(word):
        return False
    parts = word.split(".")
    return called or len(parts) > 2 or parts[-1].isupper() or any(map(_NAME.fullmatch, parts))
