"""Documents that are made to do harm: each fails with a sentence, costs its process alone, and touches no file."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.fake_workers import FakeWorkers, served
from support.http_calls import ask
from support.office import archive, docx, entries, odt, run
from support.server_thread import ServerThread, serving
from support.uploads import TYPE, begun, ended, form

ENTITIES = (
    '<!DOCTYPE w [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]><w>&j;</w>"
)
EXTERNAL = '<!DOCTYPE w [<!ENTITY a SYSTEM "file:///etc/passwd">]><w>&a;</w>'
MIB = 2**20
PATTERN = bytes(range(256)) * 4 * 1024
"""One MiB, which is compressed to a two-hundredth or less."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerThread]:
    folder = tmp_path_factory.mktemp("documents")
    with serving([served(FakeWorkers())], http_port=0, document_folder=folder, max_documents=1000) as running:
        yield running
        names = {path.name for path in folder.rglob("*") if path.is_file()}
        assert names <= {"job.json", "lock", "output"}, "the document that came is removed, and nothing else written"


HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "an entry": ("a.docx", lambda: docx("", **{"b": b"\0" * 64 * MIB}), "b: got more than 200 bytes"),
    "many entries": (
        "a.docx",
        lambda: docx("", **{f"x/{n}": PATTERN for n in range(520)}),
        "x/511: got an archive of more than 536870912 bytes",
    ),
    "a part": ("a.odt", lambda: odt(f"<text:p>{' ' * 64 * MIB}</text:p>"), "content.xml: got more than"),
    "a directory": (
        "a.docx",
        lambda: docx("", **{f"x/{n}": "" for n in range(10_001)}),
        "got more than 10000 entries",
    ),
    "a path": ("a.docx", lambda: docx("", **{"../../evil": "x"}), "'../../evil': got a name that leaves the archive"),
    "a root": ("a.docx", lambda: docx("", **{"/etc/evil": "x"}), "'/etc/evil': got a name that leaves the archive"),
    "entities": ("a.docx", lambda: docx("", **{"word/document.xml": ENTITIES}), "word/document.xml: got <!DOCTYPE"),
    "a file": ("a.odt", lambda: odt("", **{"content.xml": EXTERNAL}), "content.xml: got <!DOCTYPE"),
    "entities of XLIFF": ("a.xliff", ENTITIES.encode, "not XLIFF: got <!DOCTYPE"),
    "a file of XLIFF": ("a.xliff", EXTERNAL.encode, "not XLIFF: got <!DOCTYPE"),
    "deep XML": ("a.docx", lambda: docx("<w:p>" * 500_000 + "</w:p>" * 500_000), ""),
    "deep JSON": ("a.json", lambda: b"[" * 5_000_000 + b"]" * 5_000_000, ""),
    "no archive": ("a.docx", lambda: zlib.compress(b"\0" * 10 * MIB), "not a whole ZIP archive"),
    "a broken end": ("a.docx", lambda: archive({"a": "b"})[:-10] + b"\xff" * 10, "not a whole ZIP archive"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_it_fails_with_a_sentence(server: ServerThread, case: str) -> None:
    name, make, error = HOSTILE[case]
    document = make()
    before = _resident()
    job = ended(server.url, begun(server.url, name, document, source_language="en"))
    assert (job["state"], job["error"].startswith(error)) == ("FAILED", True), job
    assert job["error"]
    assert _resident() - before < 100 * MIB, "the server itself inflates nothing"


def _resident() -> int:
    """Bytes of memory of this process, in which the server is."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_nested_html_and_markdown_are_translated(server: ServerThread) -> None:
    for name, document in (
        ("a.html", "<div>" * 20_000 + "one" + "</div>" * 20_000),
        ("a.md", "> " * 5_000 + "one\n"),
        ("b.md", "[" * 20_000 + "one\n"),
    ):
        job = ended(server.url, begun(server.url, name, document.encode(), source_language="en"))
        assert job["state"] == "DONE", job


@pytest.mark.parametrize(
    ("name", "document", "part", "expected"),
    [
        (
            "a.docx",
            docx(f"<w:p>{run('The ')}{run('house', '<w:b/>')}</w:p>"),
            "word/document.xml",
            "<w:rPr><w:b/></w:rPr><w:t[^>]*> ?HOUSE</w:t>",
        ),
        ("a.odt", odt("<text:p>The house</text:p>"), "content.xml", "<text:p>THE HOUSE</text:p>"),
    ],
    ids=["docx", "odt"],
)
def test_a_good_archive_is_translated_meanwhile(
    server: ServerThread, name: str, document: bytes, part: str, expected: str
) -> None:
    bomb = begun(server.url, "a.docx", docx("", **{"b": b"\0" * 64 * MIB}), source_language="en")
    good = begun(server.url, name, document, source_language="en")
    assert ended(server.url, good)["state"] == "DONE"
    reply = ask(f"{server.url}/v1/documents/{good}/content")
    assert re.search(expected, entries(reply.body)[part].decode())
    assert reply.headers["content-type"].startswith("application/vnd.o")
    assert ended(server.url, bomb)["state"] == "FAILED"


@pytest.mark.parametrize("charset", ["unicode_escape", "punycode", "undefined"])
@pytest.mark.parametrize("path", ["/v1/documents", "/v2/document", "/translate_file"])
def test_a_form_is_in_utf8(server: ServerThread, path: str, charset: str) -> None:
    headers = {"content-type": f"{TYPE['content-type']}; charset={charset}"}
    reply = ask(f"{server.url}{path}", form({"target": "\\ud800"}, "a.txt", b"One."), headers)
    assert (reply.status, b"UTF-8" in reply.body) == (400, True), reply.body
