"""LibreTranslate's interface, over a scripted engine. Its clients look at the texts of errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from dragoman_service.bundle.languages import Languages
from dragoman_service.translation.settings import RequestLimits
from support.fake_workers import FakeWorkers, served
from support.http_calls import FORM, ask
from support.server_thread import ServerThread, serving

PAIRS = (("en", "de"), ("de", "en"), ("en", "zh"), ("en", "pb"), ("fr", "en"))


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    model = served(FakeWorkers(), languages=Languages(PAIRS))
    with serving([model], http_port=0, limits=RequestLimits(max_characters=1_000)) as running:
        yield running


def translate(server: ServerThread, **fields: Any) -> tuple[int, Any]:
    reply = ask(f"{server.url}/translate", {"q": "One.", "source": "en", "target": "de", **fields})
    return reply.status, reply.json


def test_a_text_and_a_list_of_texts(server: ServerThread) -> None:
    assert translate(server) == (200, {"translatedText": "ONE."})
    assert translate(server, q=["One.", ""]) == (200, {"translatedText": ["ONE.", ""]})
    assert translate(server, q="<p>One &amp; two.</p>", format="html") == (
        200,
        {"translatedText": "<p>ONE &amp; TWO.</p>"},
    )


def test_json_form_parts_and_query_are_the_same(server: ServerThread) -> None:
    fields = {"q": "One.", "source": "en", "target": "de", "alternatives": "1"}
    encoded = urlencode(fields).encode()
    parts = "".join(f'--B\r\ncontent-disposition: form-data; name="{it}"\r\n\r\n{fields[it]}\r\n' for it in fields)
    url = f"{server.url}/translate"
    replies = [
        ask(url, fields), ask(url, encoded, FORM), ask(f"{url}?{encoded.decode()}", b""),
        ask(url, f"{parts}--B--\r\n".encode(), {"content-type": "multipart/form-data; boundary=B"}),
    ]  # fmt: skip
    assert [reply.json for reply in replies] == [{"translatedText": "ONE.", "alternatives": ["ONE.!"]}] * 4


def test_lines_of_a_form_end_as_those_of_json(server: ServerThread) -> None:
    sent = urlencode({"q": "One\r\ntwo", "source": "en", "target": "de"}).encode()
    assert ask(f"{server.url}/translate", sent, FORM).json == {"translatedText": "ONE\nTWO"}


def test_detected_languages_have_whole_numbers_and_alternatives_are_others(server: ServerThread) -> None:
    _, reply = translate(server, q=["This is English text.", "Ceci est un texte français."], source="auto", target="en")
    assert reply["translatedText"][0] == "This is English text."  # in the target language already
    assert [it["language"] for it in reply["detectedLanguage"]] == ["en", "fr"]
    assert all(type(it["confidence"]) is int and 50 <= it["confidence"] <= 100 for it in reply["detectedLanguage"])
    _, reply = translate(server, q="😀", source="auto", target="en", alternatives=2)
    assert reply == {
        "translatedText": "😀", "detectedLanguage": {"confidence": 0, "language": "en"}, "alternatives": []
    }  # fmt: skip
    assert translate(server, alternatives=2)[1]["alternatives"] == ["ONE.!", "ONE.!!"]


def test_the_only_possible_language_is_as_likely_as_detection_finds_it(server: ServerThread) -> None:
    """English alone is translated into German. What a translation tells of its texts is what `/detect` does."""
    texts = ["This is English text.", "Ceci est un texte français.", "😀"]
    _, reply = translate(server, q=texts, source="auto")
    for text, found in zip(texts, reply["detectedLanguage"], strict=True):
        detected = {it["language"]: it["confidence"] for it in ask(f"{server.url}/detect", {"q": text}).json}
        assert found == {"language": "en", "confidence": detected["en"]}
    english, french, none = (it["confidence"] for it in reply["detectedLanguage"])
    assert english > 90
    assert french < 10
    assert none == 0


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"q": ""}, "Invalid request: missing q parameter"),
        ({"q": []}, "Invalid request: missing q parameter"),
        ({"q": None}, "Invalid request: missing q parameter"),
        ({"source": ""}, "Invalid request: missing source parameter"),
        ({"target": None}, "Invalid request: missing target parameter"),
        ({"q": [1]}, "Invalid request: q has a value that is no text"),
        ({"source": ["en"]}, "Invalid request: source is no text"),
        ({"source": "zz"}, "zz is not supported"),
        ({"target": "zz"}, "zz is not supported"),
        ({"source": "auto", "target": "zz"}, "zz is not supported"),
        ({"source": "de", "target": "zh"}, "Chinese (zh-Hans) is not available as a target language from German (de)"),
        ({"source": "auto", "target": "fr"}, "French (fr) is not available as a target language from any language"),
        ({"format": "xml"}, "xml format is not supported"),
        ({"format": {"a": 1}}, "{'a': 1} format is not supported"),
        ({"q": "a" * 1_001}, "Invalid request: request (1001) exceeds text limit (1000)"),
        ({"alternatives": "many"}, "Invalid request: alternatives must be a number from 0 to 999"),
        ({"alternatives": -1}, "Invalid request: alternatives must be a number from 0 to 999"),
        ({"alternatives": True}, "Invalid request: alternatives must be a number from 0 to 999"),
    ],
)
def test_errors(server: ServerThread, fields: dict[str, Any], error: str) -> None:
    assert translate(server, **fields) == (400, {"error": error})


def test_languages_as_clients_ask_for_them(server: ServerThread) -> None:
    expected = [
        {"code": "de", "name": "German", "targets": ["en"]},
        {"code": "en", "name": "English", "targets": ["de", "pt-BR", "zh-Hans"]},
        {"code": "fr", "name": "French", "targets": ["en"]},
        {"code": "pt-BR", "name": "Portuguese (Brazil)", "targets": []},
        {"code": "zh-Hans", "name": "Chinese", "targets": []},
    ]
    url = f"{server.url}/languages"
    assert ask(url).json == expected
    assert ask(url, b"", FORM).json == expected
    assert ask(url, b"api_key=x", FORM, verb="GET").json == expected


@pytest.mark.parametrize("target", ["zh", "zh-Hans", "ZH-hans", "pb", "pt-BR", "PT-br", "de", "DE"])
def test_languages_may_be_spelled_as_in_the_list_or_otherwise(server: ServerThread, target: str) -> None:
    assert translate(server, target=target) == (200, {"translatedText": "ONE."})


def test_a_language_into_itself_is_a_copy(server: ServerThread) -> None:
    assert translate(server, source="en", target="en") == (200, {"translatedText": "One."})
    assert translate(server, source="en", target="en", q=["a"], alternatives=1) == (
        200, {"translatedText": ["a"], "alternatives": [[]]}
    )  # fmt: skip


def test_detection(server: ServerThread) -> None:
    found = ask(f"{server.url}/detect", {"q": "Ceci est un texte français."}).json
    assert found[0]["language"] == "fr"
    assert [it["confidence"] for it in found] == sorted((it["confidence"] for it in found), reverse=True)
    assert ask(f"{server.url}/detect", {"q": "😀"}).json == [{"confidence": 0, "language": "en"}]
    assert ask(f"{server.url}/detect", {}).json == {"error": "Invalid request: missing q parameter"}


def test_pages(server: ServerThread) -> None:
    assert ask(f"{server.url}/health").json == {"status": "ok"}
    settings = ask(f"{server.url}/frontend/settings").json
    assert (settings["charLimit"], settings["keyRequired"], settings["filesTranslation"]) == (1_000, False, True)
    assert ".docx" in settings["supportedFilesFormat"]
    assert set(ask(f"{server.url}/spec").json["paths"]) >= {"/translate", "/detect", "/languages"}
    suggestion = ask(f"{server.url}/suggest", {"q": "a", "s": "b", "source": "en", "target": "de"})
    assert (suggestion.status, list(suggestion.json)) == (403, ["error"])


def test_an_overloaded_server() -> None:
    engine = FakeWorkers()
    engine.refuse_after = 0
    with serving([served(engine)], http_port=0) as server:
        reply = ask(f"{server.url}/translate", {"q": "a", "source": "en", "target": "de"})
        assert (reply.status, reply.headers["retry-after"]) == (429, "3")
        assert reply.json["error"].startswith("Slowdown: ")


def test_interfaces_are_served_that_the_operator_chooses() -> None:
    with serving([served(FakeWorkers())], http_port=0, interfaces=("google",)) as server:
        assert ask(f"{server.url}/translate", {"q": "a"}).status == 404
        assert ask(f"{server.url}/language/translate/v2", {"q": "a", "target": "de"}).status == 200
