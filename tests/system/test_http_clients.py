"""Clients of others over HTTP, unchanged, against a real server: what they get is what `dragoman.v1` gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from support.http_calls import ask
from support.office import docx, entries, run
from support.server_process import ServerProcess, server_process
from support.stock_clients import needs_clients, run_client

MORNING = "Good morning!"

pytestmark = needs_clients


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = str(tmp_path_factory.mktemp("glossaries"))
    with server_process([bundle], "--http-port", "0", "--glossaries", folder, "--glossaries-writable") as running:
        yield running


@pytest.fixture(scope="module")
def expected(server: ServerProcess) -> dict[str, str]:
    """Translations by `dragoman.v1`."""
    texts = (MORNING, "Two.")
    with grpc.insecure_channel(server.address) as channel:
        stub = translation_pb2_grpc.TranslationStub(channel)
        plain = stub.Translate(pb.TranslateRequest(texts=texts)).translations
        html = stub.Translate(pb.TranslateRequest(texts=HTML, format=pb.TEXT_FORMAT_HTML)).translations
        return dict(zip((*texts, *HTML), (it.hypotheses[0].text for it in (*plain, *html)), strict=True))


HTML = (f"<p>{MORNING}</p>", f"<b>{MORNING}</b>", "<b>Two</b>")


def test_libretranslate(server: ServerProcess, expected: dict[str, str]) -> None:
    found = run_client("libretranslate.py", server.url)
    assert found["translate"] == found["deep_translator"] == expected[MORNING]
    assert found["weblate"] == {"translatedText": expected[MORNING]}
    assert found["mastodon"]["translatedText"] == [expected[HTML[0]]]
    (detected,) = found["mastodon"]["detectedLanguage"]
    assert detected["language"] == found["detect"][0]["language"] == "en"
    assert detected in ask(f"{server.url}/detect", {"q": MORNING}).json, "as likely as in a request of its own"
    assert {it["code"]: it["targets"] for it in found["languages"]} == {"en": ["de"], "de": []}
    assert "HTTP Error 400" in found["error"]


def test_google_v2(server: ServerProcess, expected: dict[str, str]) -> None:
    found = run_client("google_v2.py", server.url)
    assert [it["translatedText"] for it in found["translate"]] == [expected[MORNING], expected[HTML[2]]]
    assert found["detect"]["language"] == "en"
    assert found["languages"] == [{"language": "de", "name": "German"}, {"language": "en", "name": "English"}]
    kind, code, message = found["error"]
    assert (kind, code) == ("BadRequest", 400)
    assert "no language pair any to zz" in message


def test_google_v3_over_rest(server: ServerProcess, expected: dict[str, str]) -> None:
    found = run_client("google_v3_rest.py", server.url)
    assert found["translate"] == [expected[MORNING]]
    assert (found["detect"], found["languages"]) == ("en", ["de", "en"])
    assert found["error"] == ["BadRequest", 400]
    name = "projects/p/locations/global/glossaries/rest"
    assert found["glossaries"] == {
        "made": name, "listed": [name], "entries": [["house", "Hütte"]], "applied": True, "renamed": "Renamed",
        "deleted": name, "left": [],
    }  # fmt: skip


def test_deepl(server: ServerProcess, expected: dict[str, str]) -> None:
    found = run_client("deepl_v2.py", server.url)
    assert found["translate"] == [[expected[MORNING], "EN", len(MORNING)], [expected["Two."], "EN", 4]]
    assert found["html"] == expected[HTML[1]]
    assert (found["sources"], found["targets"], found["usage"]) == (["EN"], [["DE", "German"]], True)
    assert "Value for 'target_lang' not supported: FR" in found["error"]


PAGE = f"<html><body><h1>{MORNING}</h1><p class='x'>Two.</p></body></html>"


def test_files_of_libretranslate(server: ServerProcess, expected: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(PAGE)
    found = run_client("libretranslate_files.py", server.url, str(path))
    assert found["address"].startswith(f"{server.url}/download_file/")
    assert found["content"] == PAGE.replace(MORNING, expected[MORNING]).replace("Two.", expected["Two."])


def test_documents_of_deepl(server: ServerProcess, expected: dict[str, str], tmp_path: Path) -> None:
    path, output = tmp_path / "page.html", tmp_path / "seite.html"
    path.write_text(PAGE)
    found = run_client("deepl_documents.py", server.url, str(path), str(output))
    assert output.read_text() == PAGE.replace(MORNING, expected[MORNING]).replace("Two.", expected["Two."])
    assert found["done"]
    assert found["characters"] > len(MORNING) + len("Two.")  # with the tags between them
    assert "not JSON" in found["error"]
    assert "Value for 'target_lang' not supported: FR" in found["refused"]


def test_word_documents(server: ServerProcess, expected: dict[str, str], tmp_path: Path) -> None:
    path, output = tmp_path / "brief.docx", tmp_path / "deepl.docx"
    path.write_bytes(docx(f"<w:p>{run(MORNING, '<w:b/>')}</w:p>"))
    run_client("deepl_documents.py", server.url, str(path), str(output))
    translated = run(expected[MORNING], "<w:b/>")
    assert translated in entries(output.read_bytes())["word/document.xml"].decode()
    address = run_client("libretranslate_files.py", server.url, str(path))["address"]
    assert address.endswith(".docx")
    assert translated in entries(ask(address).body)["word/document.xml"].decode()


def test_glossaries_of_deepl(server: ServerProcess) -> None:
    found = run_client("deepl_glossaries.py", server.url)
    assert found["pairs"] == [["en", "de"]]
    assert found["made"] == ["Houses", True, "EN", "DE", 2, True]
    assert found["same"]
    assert found["entries"] == {"house": "Hütte", "US": "USA"}
    assert found["listed"] == ["Houses"]
    assert "Hütte" in found["applied"]
    assert found["applied_by_call"] == found["several_applied"] == found["applied"]
    assert found["csv"] == {"house": "Hütte, die"}
    assert (found["gone"], found["bad"]) == ("GlossaryNotFoundException", "DeepLException")
    assert found["updated"] == ["Renamed", [["EN", "DE", 2]]]
    assert (found["replaced"], found["whole"]) == (1, "cat\tKater")
    assert (found["left"], found["again"], found["none"]) == ([], "Table", "GlossaryNotFoundException")
