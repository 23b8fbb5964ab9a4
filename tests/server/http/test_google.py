"""Google Translation v2 and v3 over HTTP, over a scripted engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.fake_workers import FakeWorkers, served
from support.http_calls import FORM, ask
from support.server_thread import ServerThread, serving

V2, V3 = "/language/translate/v2", "/v3/projects/p/locations/global"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with serving([served(FakeWorkers())], http_port=0) as running:
        yield running


def test_v2_translates_html_unless_told_otherwise(server: ServerThread) -> None:
    sent = {
        "q": ["<b>one</b> &amp; two", "3"],
        "target": "de",
        "source": None,
        "format": None,
        "model": None,
        "cid": None,
    }
    (first, second) = ask(f"{server.url}{V2}?prettyPrint=false", sent).json["data"]["translations"]
    assert first == {"translatedText": "<b>ONE</b> &amp; TWO", "detectedSourceLanguage": "en"}
    assert second["translatedText"] == "3"
    plain = {"q": "a < b", "target": "de", "source": "en", "format": "text", "model": "nmt"}
    assert ask(server.url + V2, plain).json == {"data": {"translations": [{"translatedText": "A < B", "model": "nmt"}]}}


def test_v2_takes_forms_and_queries(server: ServerThread) -> None:
    expected = {"data": {"translations": [{"translatedText": "A"}, {"translatedText": "B"}]}}
    query = "q=a&q=b&target=de&source=en&key=x"
    assert ask(server.url + V2, query.encode(), FORM).json == expected
    assert ask(f"{server.url}{V2}?{query}").json == expected


def test_v2_detects_and_lists(server: ServerThread) -> None:
    ((found,), (nothing,)) = ask(f"{server.url}{V2}/detect", {"q": ["This is English.", "1"]}).json["data"][
        "detections"
    ]
    assert found["language"] == "en"
    assert nothing == {"language": "und", "confidence": 0, "isReliable": False}
    assert ask(f"{server.url}{V2}/languages").json["data"]["languages"] == [{"language": "de"}, {"language": "en"}]
    named = ask(f"{server.url}{V2}/languages?target=en").json["data"]["languages"]
    assert named[0] == {"language": "de", "name": "German"}


@pytest.mark.parametrize(
    ("sent", "status", "field"),
    [
        ({"q": "a"}, 400, "target"),
        ({"target": "de"}, 400, "q"),
        ({"q": {"a": 1}, "target": "de"}, 400, "q"),
        ({"q": "a", "target": "zz"}, 400, "target"),
        ({"q": "a", "target": ["de"]}, 400, "target"),
        ({"q": "a", "target": "de", "format": "xml"}, 400, "format"),
        ({"q": ["a"] * 1_025, "target": "de"}, 400, "q"),
        ({"q": "a", "target": "de", "model": "none"}, 404, ""),
    ],
)
def test_errors_of_v2(server: ServerThread, sent: object, status: int, field: str) -> None:
    reply = ask(server.url + V2, sent)
    error = reply.json["error"]
    assert reply.status == error["code"] == status
    assert error["message"].startswith(field)
    assert error["status"] == {400: "INVALID_ARGUMENT", 404: "NOT_FOUND"}[status]
    assert error["errors"][0]["reason"] == {400: "invalid", 404: "notFound"}[status]


@pytest.mark.parametrize("parent", [V3, "/v3/projects/p"])
def test_v3_is_the_mapping_of_its_messages(server: ServerThread, parent: str) -> None:
    sent = {"contents": ["one"], "targetLanguageCode": "de", "mimeType": "text/plain"}
    reply = ask(f"{server.url}{parent}:translateText?%24alt=json", sent)
    assert reply.json == {"translations": [{"translatedText": "ONE", "detectedLanguageCode": "en"}]}
    (language,) = ask(f"{server.url}{parent}:detectLanguage", {"content": "This is English."}).json["languages"]
    assert language["languageCode"] == "en"
    languages = ask(f"{server.url}{parent}/supportedLanguages?displayLanguageCode=en").json["languages"]
    assert languages[0] == {"languageCode": "de", "displayName": "German", "supportTarget": True}


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({}, "target_language_code"),
        ({"contents": ["a"], "targetLanguageCode": "zz"}, "target_language_code"),
        ({"contents": "a"}, "contents"),
        ({"content": "a"}, "content"),
    ],
)
def test_errors_of_v3(server: ServerThread, sent: object, field: str) -> None:
    reply = ask(f"{server.url}{V3}:translateText", sent)
    error = reply.json["error"]
    assert (reply.status, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert error["details"][1]["fieldViolations"][0]["field"] == field


def test_v3_has_glossaries(server: ServerThread) -> None:
    assert ask(f"{server.url}{V3}/glossaries").json == {}
    assert ask(f"{server.url}{V3}/glossaries/none").status == 404
    assert ask(f"{server.url}{V3}/glossaries/none", verb="DELETE").status == 404


def test_v3_changes_glossaries(tmp_path: Path) -> None:
    name = f"{V3[4:]}/glossaries/new"
    pair = {"sourceLanguageCode": "en", "targetLanguageCode": "de"}
    with serving([served(FakeWorkers())], http_port=0, glossaries=tmp_path, glossaries_writable=True) as server:

        def call(path: str, content: object = None, verb: str = "") -> Any:
            reply = ask(f"{server.url}/v3/{path}", content, verb=verb)
            assert reply.status == 200, reply
            return reply.json

        sent = {"name": name, "languagePair": pair, "displayName": "New"}
        made = call(f"{V3[4:]}/glossaries?%24alt=json", sent)
        assert made["done"]
        assert made["response"]["displayName"] == "New"
        assert call(made["name"])["response"] == made["response"]
        assert call(f"{made['name']}:wait", {"timeout": "3s"})["response"] == made["response"]
        terms = {"sourceTerm": {"text": "cat"}, "targetTerm": {"text": "Katze"}}
        entry = call(f"{name}/glossaryEntries", {"termsPair": terms})
        assert call(entry["name"]) == entry
        terms["targetTerm"]["text"] = "Kater"
        entry = call(entry["name"], {"termsPair": terms}, "PATCH")
        assert entry["termsPair"]["targetTerm"]["text"] == "Kater"
        assert call(f"{name}/glossaryEntries?pageSize=1")["glossaryEntries"] == [entry]
        config = {"glossary": name}
        text = {"contents": ["a cat"], "sourceLanguageCode": "en", "targetLanguageCode": "de", "glossaryConfig": config}
        assert call(f"{V3[4:]}:translateText", text)["glossaryTranslations"][0]["translatedText"] == "A Kater"
        changed = call(f"{name}?updateMask=displayName", {"displayName": "Newer"}, "PATCH")
        assert changed["response"]["displayName"] == "Newer"
        assert call(entry["name"], verb="DELETE") == {}
        assert call(name, verb="DELETE")["done"]
        for path, content, field in (
            ("glossaries", {**sent, "name": "x"}, "glossary.name"),
            ("glossaries", {**sent, "languagePair": {"sourceLanguageCode": "en"}},
             "glossary.language_pair.target_language_code"),
            ("glossaries", {**sent, "inputConfig": {}}, "glossary.input_config"),
            ("glossaries", {"nothing": 1}, "glossary.nothing"),
            ("glossaries/x/glossaryEntries", {"termsSet": 5}, "glossary_entry.termsSet"),
        ):  # fmt: skip
            reply = ask(f"{server.url}{V3}/{path}", content)
            assert reply.status == 400, (path, content)
            assert reply.json["error"]["details"][1]["fieldViolations"][0]["field"] == field
        assert ask(f"{server.url}{V3}/glossaries/none", {"displayName": "x"}, verb="PATCH").status == 404
        assert ask(f"{server.url}{V3}/operations/none").status == 404


def test_calls_are_counted_by_interface(server: ServerThread) -> None:
    ask(server.url + V2, {"q": "a", "target": "de"})
    ask(f"{server.url}{V3}/supportedLanguages")
    assert server.metric("dragoman_requests_total", api="google_v2", method="Translate", code="OK") > 0
    assert server.metric("dragoman_requests_total", api="google_v3_rest", method="GetSupportedLanguages", code="OK") > 0
