"""DeepL's interface, over a scripted engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dragoman_service.bundle.languages import Languages
from support.fake_workers import FakeWorkers, served
from support.http_calls import FORM, ask
from support.server_thread import ServerThread, serving


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    with serving([served(FakeWorkers(), languages=Languages((("en", "de"), ("en", "pt-BR"))))], http_port=0) as running:
        yield running


def test_translate(server: ServerThread) -> None:
    url = f"{server.url}/v2/translate"
    expected = {
        "translations": [
            {"detected_source_language": "EN", "text": "ONE", "billed_characters": 3},
            {"detected_source_language": "EN", "text": "TWO!", "billed_characters": 4},
        ]
    }
    assert ask(url, {"text": ["one", "two!"], "target_lang": "DE"}).json == expected
    assert ask(url, b"text=one&text=two!&target_lang=pt-br&source_lang=EN", FORM).json == expected
    html = {"text": ["<b>a</b> &amp; b"], "target_lang": "DE", "tag_handling": "html"}
    assert ask(url, html).json["translations"][0]["text"] == "<b>A</b> &amp; B"


@pytest.mark.parametrize(("how", "text"), [("0", "ONE.\nTWO."), ("1", "ONE.\nTWO."), ("nonewlines", "ONE. TWO.")])
def test_where_texts_are_split(server: ServerThread, how: str, text: str) -> None:
    sent = {"text": "One.\nTwo.", "target_lang": "DE", "split_sentences": how}
    assert ask(f"{server.url}/v2/translate", sent).json["translations"][0]["text"] == text


def test_tags(server: ServerThread) -> None:
    def translated(text: str, **fields: object) -> str:
        sent = {"text": [text], "target_lang": "DE", "tag_handling": "html", **fields}
        found: str = ask(f"{server.url}/v2/translate", sent).json["translations"][0]["text"]
        return found

    text = "<p>one <x>two</x> three</p>"
    assert translated(text) == "<p>ONE <x>TWO</x> THREE</p>"
    assert (
        translated(text, ignore_tags=["x", "y"]) == translated(text, ignore_tags="y,x") == "<p>ONE <x>two</x> THREE</p>"
    )
    for fields in ({"splitting_tags": "x"}, {"non_splitting_tags": ["p"]}, {"outline_detection": True}):
        assert translated(text, **fields) == "<p>ONE <x>TWO</x> THREE</p>"
    hints = {"context": "About numbers.", "preserve_formatting": True, "show_billed_characters": True}
    assert translated(text, **hints) == translated(text)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"target_lang": None}, 400, "Value for 'target_lang' is missing."),
        ({"target_lang": "XX"}, 400, "Value for 'target_lang' not supported: XX"),
        ({"source_lang": "DE"}, 400, "Value for 'source_lang' not supported: DE"),
        ({"text": None}, 400, "text: got None; allowed: a text or a list of texts"),
        ({"tag_handling": "xml"}, 400, "tag_handling: got 'xml'; allowed: html, or nothing for plain text"),
        ({"formality": "more"}, 400, "formality: got 'more'"),
        ({"ignore_tags": ["x"]}, 400, "ignore_tags: got ['x']; allowed: nothing without tag_handling=html"),
        ({"tag_handling": "html", "ignore_tags": "a,<"}, 400, "ignore_tags[1]: got '<'"),
        ({"tag_handling": "html", "splitting_tags": ["a", 5]}, 400, "splitting_tags: got 5"),
        (
            {"tag_handling": "html", "splitting_tags": "a", "non_splitting_tags": "a"},
            400,
            "non_splitting_tags: got 'a'",
        ),
        ({"tag_handling": "html", "outline_detection": False}, 400, "outline_detection: got False"),
        ({"custom_instructions": ["be kind"]}, 400, "custom_instructions: got "),
        ({"glossary_id": "none"}, 404, ""),
    ],
)
def test_errors(server: ServerThread, change: dict[str, object], status: int, message: str) -> None:
    reply = ask(f"{server.url}/v2/translate", {"text": ["one"], "target_lang": "DE", **change})
    assert reply.status == status
    assert reply.json["message"].startswith(message)


def test_languages_and_usage(server: ServerThread) -> None:
    assert ask(f"{server.url}/v2/languages").json == [{"language": "EN", "name": "English"}]
    targets = ask(f"{server.url}/v2/languages?type=target").json
    assert targets[1] == {"language": "PT-BR", "name": "Portuguese (Brazil)", "supports_formality": False}
    assert ask(f"{server.url}/v2/languages?type=both").status == 400
    assert set(ask(f"{server.url}/v2/usage").json) == {"character_count", "character_limit"}
