"""Archives of documents, and documents of XML as Word and LibreOffice write it."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\r\n'
_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.{}+xml"
_PARTS = {"document": "document.main", "header1": "header", "footnotes": "footnotes"}
CONTENT_TYPES = (
    '<?xml version="1.0" encoding="UTF-8"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    + "".join(
        f'<Override PartName="/word/{name}.xml" ContentType="{_TYPE.format(kind)}"/>' for name, kind in _PARTS.items()
    )
    + "</Types>"
)
RELATIONSHIPS = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"/>'
ODF = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{kind}:1.0"'
    for name, kind in {"office": "office", "text": "text", "draw": "drawing", "xlink": "xlink"}.items()
)


def archive(entries: Mapping[str, str | bytes], stored: str = "") -> bytes:
    """An archive with these entries. `stored` is not compressed."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name, data, zipfile.ZIP_STORED if name == stored else None)
    return written.getvalue()


def entries(data: bytes) -> dict[str, bytes]:
    """The entries of an archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def docx(body: str, header: str = "", notes: str = "", **others: str | bytes) -> bytes:
    """A document of Word with paragraphs of XML."""
    return archive(
        {
            "[Content_Types].xml": CONTENT_TYPES,
            "_rels/.rels": RELATIONSHIPS,
            "word/document.xml": f"{HEAD}<w:document {W}><w:body>{body}</w:body></w:document>",
            "word/header1.xml": f"<w:hdr {W}>{header}</w:hdr>",
            "word/footnotes.xml": f"<w:footnotes {W}>{notes}</w:footnotes>",
            "word/media/image1.png": b"\x89PNG",
            **others,
        }
    )  # fmt: skip


def odt(body: str, styles: str = "", **others: str | bytes) -> bytes:
    """A document of OpenDocument with paragraphs of XML."""
    whole = f"<office:body><office:text>{body}</office:text></office:body>"
    return archive(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": f"<office:document-content {ODF}>{whole}</office:document-content>",
            "styles.xml": f"<office:document-styles {ODF}>{styles}</office:document-styles>",
            "META-INF/manifest.xml": "<manifest/>",
            **others,
        },
        stored="mimetype",
    )  # fmt: skip


def run(text: str, formatting: str = "", rsid: str = "") -> str:
    """A run of Word."""
    own = f' w:rsidR="{rsid}"' if rsid else ""
    look = f"<w:rPr>{formatting}</w:rPr>" if formatting else ""
    return f'<w:r{own}>{look}<w:t xml:space="preserve">{text}</w:t></w:r>'


def louder(text: str) -> str:
    """A text of HTML in capitals, and its tags as they are."""
    return re.sub(r"(<[^<>]*>|&[^;]*;)|([^<&]+)", lambda it: it[1] or it[2].upper(), text)
