"""XML that is changed in places: Expat checks a source, so a regular expression suffices to find its tags."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from xml.parsers import expat
from xml.sax.saxutils import escape

from dragoman_service.text.markup.units import FileError

TOKEN = re.compile(
    r"<!--.*?-->|<!\[CDATA\[(?P<data>.*?)\]\]>|<\?.*?\?>"
    r"|<(?P<closes>/)?(?P<prefix>[^\s/>:]++:)?(?P<name>[^\s/>]++)"
    r"""(?P<attributes>(?:[^>"'/]++|"[^"]*+"|'[^']*+'|/(?!>))*+)(?P<empty>/)?>""",
    re.DOTALL,
)
"""A tag, and what else is not text, of a source that is well-formed and has no document type."""
_ATTRIBUTE = re.compile(r"""([^\s=]++)\s*+=\s*+(?:"([^"]*+)"|'([^']*+)')""")
ENCODING = re.compile(r"""\A\ufeff?<\?xml\s[^<>]*?encoding\s*+=\s*+["']([^"'<>]++)""")
"""What a source says about its encoding."""
_UTF_8 = re.compile("utf-?8|us-ascii", re.IGNORECASE)
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def is_element(match: re.Match[str]) -> bool:
    """Whether a match of `TOKEN` is a tag."""
    return match["name"] is not None and not match["name"].startswith("!")


def ends_of(tags: Sequence[re.Match[str]]) -> list[int]:
    """By the number of a tag that opens an element: that of the tag that closes it; of another one, its own."""
    ends = list(range(len(tags)))
    opened: list[int] = []
    for number, match in enumerate(tags):
        if match["empty"] or not is_element(match):
            continue
        if match["closes"]:
            ends[opened.pop()] = number
        else:
            opened.append(number)
    return ends


def attributes_of(match: re.Match[str]) -> dict[str, str]:
    """The attributes of a tag, with the names that they have in the source."""
    return {name: html.unescape(one or other) for name, one, other in _ATTRIBUTE.findall(match["attributes"])}


def xml_text(text: str) -> str:
    """Text as it is written in XML. Characters that XML cannot have are U+FFFD."""
    return _NOT_XML.sub("\ufffd", escape(text))


def check_encoding(source: str, where: str = "") -> None:
    """Raise FileError for a source that says it has another encoding than UTF-8."""
    found = ENCODING.match(source)
    if found and not _UTF_8.fullmatch(found[1]):
        raise FileError(f"{where}got the encoding {found[1][:100]}; allowed: UTF-8")


def check_xml(source: str, where: str = "") -> tuple[str, Mapping[str, str]]:
    """Check that a source is well-formed, and has no document type, which could define entities.

    Args:
        source: The source.
        where: Stands before the message of an error.

    Returns:
        The name of the root, as it is written, and its attributes.

    Raises:
        FileError: It is not.
    """
    root: list[tuple[str, Mapping[str, str]]] = []

    def begun(name: str, attributes: dict[str, str]) -> None:
        root.append((name, attributes))
        parser.StartElementHandler = None

    def refused(*_: object) -> None:
        raise FileError(f"{where}got <!DOCTYPE; allowed: none")

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = begun
    parser.StartDoctypeDeclHandler = refused
    try:
        parser.Parse(source.encode("utf-8", "surrogatepass"), True)
    except expat.ExpatError as error:
        raise FileError(f"{where}line {error.lineno}: not XML: {expat.errors.messages[error.code]}") from None
    return root[0]
