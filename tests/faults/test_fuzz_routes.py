"""Requests for every route of HTTP with values that are nearly right: an answer that its clients can read, or an error
that says what is wrong; never an error of the server, and never none.

More of them: DRAGOMAN_CASES=100000 pytest -s tests/faults/test_fuzz_routes.py
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from dragoman_protos.google import translation_v3_pb2
from dragoman_protos.v1 import glossaries_pb2, translation_pb2
from dragoman_service.bundle.languages import Languages
from dragoman_service.interfaces.names import INTERFACES
from dragoman_service.server.http.endpoint import HttpInterface, Route
from dragoman_service.server.http.interfaces import http_interfaces
from dragoman_service.server.http.v1 import V1
from dragoman_service.translation.settings import RequestLimits
from support.asgi_calls import answered
from support.cases import cases
from support.fake_workers import FakeWorkers, served
from support.http_calls import FORM, JSON, Reply
from support.server_thread import ServerThread, serving

PAIRS = (("en", "de"), ("de", "en"), ("en", "pt-BR"), ("fr", "en"))
AT_ONCE = 50
"""Requests between two looks at the server, which then has one glossary again."""
SECONDS = 30
"""A request that is not answered then counts as hanging."""
MESSAGES: dict[str, MethodDescriptor] = {
    f"{api}.{method.name}": method
    for api, file in (
        ("http_v1", translation_pb2.DESCRIPTOR),
        ("http_v1", glossaries_pb2.DESCRIPTOR),
        ("google_v3_rest", translation_v3_pb2.DESCRIPTOR),
    )
    for service in file.services_by_name.values()
    for method in service.methods
}
_OPERATIONS = Default().FindServiceByName("google.longrunning.Operations")
MESSAGES |= {f"google_v3_rest.{method.name}": method for method in _OPERATIONS.methods}

TEXTS = (
    "One. Two.", "<p>a &amp; b</p>", "<b>a</b><x id='1'/>", "😀", "", " ", "\u0301", "\0", "漢字。", "a\nb", "x" * 300,
    "# A *b*", "{0} %s", "https://a.b/c", "\ud83d", "BIG NEWS TODAY.", "Ceci est un texte français.",
)  # fmt: skip
LANGUAGES = ("en", "EN", "de", "DE", "pt-BR", "PT", "fr", "auto", "zz", "en-US", "deu_Latn", "", "en_", "-", "x" * 200)
TSV = ("a\tb", "a\tb\nc\td", "a\tb\na\tb", "a", "#a\tb", "\t", "A\tb\na\tc", "a\tb\tc", "é\tb\r\nü\tc")
CSV = ("a,b", '"a,b",c', '"', "a,b,en,de", "a,b,c", "a\x00,b")
NAMES = ("new", "bank", "none", "..", "../a", "a.en-de", "a b", "%2e", "é", "x" * 200, "A", "a:wait")
PARENT = "projects/p/locations/l"
RESOURCES = (f"{PARENT}/glossaries/new", f"{PARENT}/glossaries/bank", "projects/p", PARENT, "projects//x", "")
PAIR = {"sourceLanguageCode": "en", "targetLanguageCode": "de"}
TERMS = {"sourceTerm": {"text": "cat"}, "targetTerm": {"text": "Katze", "languageCode": "de"}}


class Random:
    """Draws the fields of requests."""

    def __init__(self, seed: str) -> None:
        self._rng = random.Random(seed)
        self.one_of = self._rng.choice

    def often(self, share: float) -> bool:
        return self._rng.random() < share

    def several(self, draw: Callable[[], Any], most: int = 3) -> list[Any]:
        return [draw() for _ in range(self._rng.randint(0, most))]

    def text(self) -> str:
        if self.often(0.8):
            return self.one_of(TEXTS)
        return "".join(chr(self._rng.choice((32, 60, 38, 97, 0x301, 0x4E2D, 0x1F600, 9, 10))) for _ in range(12))

    def anything(self, depth: int = 3) -> Any:
        kind = self._rng.randrange(9 if depth else 7)
        if kind == 7:
            return self.several(lambda: self.anything(depth - 1))
        if kind == 8:
            return {self.one_of(list(FIELDS)): self.anything(depth - 1) for _ in range(self._rng.randint(0, 3))}
        return self.one_of([None, True, self._rng.randint(-(2**40), 2**70), 1.5, float("nan"), self.text(), "1"])

    def path_value(self, name: str) -> str:
        usual = {"project": "p", "location": "l"}.get(name, "bank")
        return usual if self.often(0.8) else str(self.one_of(NAMES))

    def field(self, name: str) -> Any:
        return self.anything() if self.often(0.06) else FIELDS[name](self)

    def fields(self, names: list[str]) -> dict[str, Any]:
        found = {name: self.field(name) for name in names if self.often(0.8)}
        if self.often(0.1):
            found[self.one_of(list(FIELDS))] = self.anything()
        return found


def _dictionary(some: Random) -> dict[str, Any]:
    return some.fields(["source_lang", "target_lang", "entries", "entries_format"])


def _flag(some: Random) -> Any:
    return some.one_of([True, False, "1", "0", None, ""])


FIELDS: dict[str, Callable[[Random], Any]] = {
    **dict.fromkeys(("texts", "contents", "text", "q"), lambda some: some.several(some.text) or some.text()),
    **dict.fromkeys(("content", "context", "translations"), lambda some: some.text()),
    "name": lambda some: some.one_of([f"{PARENT}/glossaries/new", "Mine", some.text()]),
    **dict.fromkeys(
        (
            "source",
            "target",
            "source_lang",
            "target_lang",
            "sourceLanguage",
            "targetLanguage",
            "sourceLanguageCode",
            "targetLanguageCode",
            "source_language",
            "target_language",
            "displayLanguageCode",
        ),
        lambda some: some.one_of(LANGUAGES[:6]) if some.often(0.7) else some.one_of(LANGUAGES),
    ),
    **dict.fromkeys(
        ("preserve_formatting", "show_billed_characters", "outline_detection", "returnTokens", "joinLines"), _flag
    ),
    **dict.fromkeys(
        ("ignore_tags", "splitting_tags", "non_splitting_tags", "glossary_ids"),
        lambda some: some.one_of([None, None, [], ["x"], "x,b", ["p", "b"], "<", ["bank"]]),
    ),
    "format": lambda some: some.one_of(["text", "html", "xml", "TEXT_FORMAT_HTML", "TEXT_FORMAT_MARKDOWN", 2]),
    "mimeType": lambda some: some.one_of(["text/html", "text/plain", "text/xml", ""]),
    "alternatives": lambda some: some.one_of([0, 1, 3, "2", 20, -1]),
    "tag_handling": lambda some: some.one_of(["html", "xml", "", None]),
    "split_sentences": lambda some: some.one_of(["0", "1", "nonewlines", "2"]),
    "formality": lambda some: some.one_of(["default", "prefer_more", "more", ""]),
    "glossary_id": lambda some: some.one_of([None, None, "bank", "none", "bank.en-de"]),
    "glossary": lambda some: some.one_of(
        ["", "bank", {"name": "made", "sourceLanguage": "en", "targetLanguage": "de"}]
    ),
    "glossaryConfig": lambda some: {"glossary": some.one_of(RESOURCES)},
    "entries": lambda some: some.one_of([TSV[0], TSV[0], *TSV, *CSV]),
    "entries_format": lambda some: some.one_of(["tsv", "tsv", "csv", "tsv", "tsv", "xml"]),
    "dictionaries": lambda some: some.several(lambda: _dictionary(some)),
    "type": lambda some: some.one_of(["source", "target", "both", ""]),
    "model": lambda some: some.one_of(["", "loud", "loud@1", "nmt", "none", f"{PARENT}/models/general/nmt"]),
    "options": lambda some: {"beamSize": some.one_of([1, 4, 0, 99]), "numHypotheses": some.one_of([1, 2, "3"])},
    "languages": lambda some: some.several(lambda: some.one_of(LANGUAGES)),
    "labels": lambda some: some.one_of([{}, {"a": "b"}, {"A": "b"}]),
    "terms": lambda some: [{"source": "One", "target": some.text()}],
    "htmlKeptElements": lambda some: some.one_of([[], ["b"], ["<"]]),
    "keep": lambda some: some.several(some.text),
    "languagePair": lambda some: some.one_of([PAIR, {}, {"sourceLanguageCode": "zz"}]),
    "displayName": lambda some: some.text(),
    "termsPair": lambda some: some.one_of([TERMS, {}, {"sourceTerm": {"text": some.text()}}]),
    "updateMask": lambda some: some.one_of(["displayName", "name", "", "a,b"]),
    "pageSize": lambda some: some.one_of([0, 1, "2", -1]),
    "pageToken": lambda some: some.one_of(["", "1", "x"]),
    "timeout": lambda some: some.one_of(["1s", "x"]),
}
_DEEPL = [
    "text", "source_lang", "target_lang", "context", "preserve_formatting", "show_billed_characters", "tag_handling",
    "split_sentences", "formality", "glossary_id", "glossary_ids", "ignore_tags", "splitting_tags", "outline_detection",
]  # fmt: skip
_V1 = [
    "sourceLanguage",
    "targetLanguage",
    "model",
    "options",
    "format",
    "terms",
    "keep",
    "joinLines",
    "returnTokens",
    "htmlKeptElements",
]
OF_METHOD: dict[str, list[str]] = {
    "http_v1.Translate": ["texts", *_V1],
    "http_v1.TranslateStream": ["text", *_V1],
    "http_v1.DetectLanguage": ["texts", "languages"],
    "http_v1.Score": ["texts", "translations", "sourceLanguage", "targetLanguage"],
    "libretranslate.Translate": ["q", "source", "target", "format", "alternatives"],
    "libretranslate.DetectLanguage": ["q"],
    "google_v2.Translate": ["q", "source", "target", "format", "model"],
    "google_v2.DetectLanguage": ["q"],
    "google_v2.ListModels": ["target", "model"],
    "google_v3_rest.TranslateText": [
        "contents", "sourceLanguageCode", "targetLanguageCode", "mimeType", "model", "labels", "glossaryConfig",
    ],
    "google_v3_rest.DetectLanguage": ["content", "mimeType", "labels"],
    "google_v3_rest.GetSupportedLanguages": ["displayLanguageCode", "model"],
    "google_v3_rest.CreateGlossary": ["name", "languagePair", "displayName"],
    "google_v3_rest.UpdateGlossary": ["displayName"],
    "google_v3_rest.CreateGlossaryEntry": ["termsPair"],
    "google_v3_rest.UpdateGlossaryEntry": ["termsPair"],
    "google_v3_rest.ListGlossaries": ["pageSize", "pageToken"],
    "google_v3_rest.ListGlossaryEntries": ["pageSize", "pageToken"],
    "google_v3_rest.WaitOperation": ["timeout"],
    "deepl.Translate": _DEEPL,
    "deepl.ListModels": ["type"],
    "deepl.CreateGlossary": ["name", "source_lang", "target_lang", "entries", "entries_format", "dictionaries"],
    "deepl.UpdateGlossary": ["name", "source_lang", "target_lang", "entries", "entries_format", "dictionaries"],
    "deepl.GetGlossary": ["source_lang", "target_lang"],
    "deepl.DeleteGlossary": ["source_lang", "target_lang"],
}  # fmt: skip
"""The fields that a method reads."""
ROUTES: list[tuple[HttpInterface, Route]] = [
    (interface, route)
    for interface in (V1, *http_interfaces(INTERFACES))
    for route in interface.routes
    if "Document" not in route.method  # whose bodies are files
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("outside") / "glossaries"
    made.mkdir()
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerThread]:
    model = served(FakeWorkers(), languages=Languages(PAIRS))
    limits = RequestLimits(max_texts=20, max_characters=1_000)
    with serving([model], http_port=0, glossaries=folder, glossaries_writable=True, limits=limits) as running:
        yield running
        assert model.engine.permits.idle


def request_of(some: Random, interface: HttpInterface, route: Route) -> tuple[str, str, bytes, dict[str, str], bytes]:
    """Verb, path, body, headers and query."""
    path = re.sub(r"{(\w+)}", lambda it: quote(some.path_value(it[1])), some.one_of(list(route.paths)))
    fields = some.fields(OF_METHOD.get(f"{interface.api}.{route.method}", []))
    verb = some.one_of(list(route.verbs))
    as_form = urlencode(fields, doseq=True, errors="replace").encode()
    if verb in ("GET", "DELETE"):
        return verb, path, b"", {}, as_form
    if interface is not V1 and some.often(0.3):
        return verb, path, as_form, FORM, b""
    return verb, path, json.dumps(fields).encode(), JSON, b""


def check(interface: HttpInterface, route: Route, reply: Reply) -> None:
    assert reply.status < 500, "an error of the server"
    if reply.status == 204:
        assert reply.body == b""
    elif reply.status < 300:
        check_reply(interface, route, reply)
    elif reply.status in (400, 413):
        assert field_of(interface, reply), "an error that names no field"
    else:
        assert reply.status in (403, 404, 409), "another status"
        assert reply.json


def check_reply(interface: HttpInterface, route: Route, reply: Reply) -> None:
    """It is what the clients read."""
    method = MESSAGES.get(f"{interface.api}.{route.method}")
    if reply.headers["content-type"] == "text/event-stream":
        assert reply.events
        for name, event in reply.events:
            json_format.ParseDict(event, status_pb2.Status() if name else translation_pb2.TranslateStreamResponse())
    elif method is not None:
        json_format.ParseDict(reply.json, GetMessageClass(method.output_type)())
    elif interface.api == "deepl":
        check_deepl(reply)
    elif interface.api == "google_v2":
        (kind,) = reply.json["data"]
        assert kind in ("translations", "detections", "languages")
    elif route.method == "Translate":
        assert set(reply.json) <= {"translatedText", "detectedLanguage", "alternatives"}
        assert type(reply.json["translatedText"]) in (str, list)
    else:
        assert all(isinstance(it.get("code", it.get("language")), str) for it in reply.json)


def check_deepl(reply: Reply) -> None:
    if not reply.headers["content-type"].startswith("application/json"):
        assert all(line.count("\t") == 1 for line in reply.body.decode().splitlines())
        return
    found = reply.json
    for each in found if isinstance(found, list) else [*found.get("translations", ()), *found.get("glossaries", ())]:
        assert {"text", "detected_source_language", "billed_characters"} <= set(each) or "name" in each
    for each in [found, *found.get("glossaries", ())] if isinstance(found, dict) else ():
        if "glossary_id" in each:
            assert each["name"]
            time.strptime(each["creation_time"], "%Y-%m-%dT%H:%M:%S.%fZ") if "." not in each["creation_time"] else None


def field_of(interface: HttpInterface, reply: Reply) -> object:
    """What an error says is wrong."""
    if interface.api == "deepl":
        return re.match(r"[\w.\[\]-]+: got |[\w.\[\]-]+: |Value for '\w+'", reply.json["message"])
    if interface.api == "libretranslate":
        return re.match(
            r"[\w.\[\]-]+: |Invalid request: |.* is not (supported|available)", reply.json["error"], re.DOTALL
        )
    status = reply.json.get("error", reply.json)
    details = [
        it for it in status["details"] if it["@type"].endswith(error_details_pb2.BadRequest.DESCRIPTOR.full_name)
    ]
    return details and details[0]["fieldViolations"][0]["field"]


@pytest.mark.timeout(3600)
def test_any_values_have_an_answer_that_clients_can_read(server: ServerThread, folder: Path) -> None:
    wanted = cases(3_000)
    seed = f"routes {wanted}"
    some = Random(seed)
    ends: Counter[str] = Counter()

    async def run(count: int) -> None:
        for _ in range(count):
            interface, route = some.one_of(ROUTES)
            request = request_of(some, interface, route)
            try:
                async with asyncio.timeout(SECONDS):
                    reply = await answered(server, *request)
                check(interface, route, reply)
            except Exception as error:
                error.add_note(f"{interface.api} {request}: {locals().get('reply')}")
                raise
            ends[f"{interface.api} {reply.status}"] += 1

    started = time.monotonic()
    for start in range(0, wanted, AT_ONCE):
        for path in folder.iterdir():
            path.unlink()
        (folder / "bank.en-de.tsv").write_text("One\tEins\n")
        asyncio.run_coroutine_threadsafe(run(min(AT_ONCE, wanted - start)), server.loop).result(AT_ONCE * SECONDS)
        good = answered(server, "POST", "/v1/translate", b'{"texts": ["a"], "targetLanguage": "de"}', JSON)
        assert asyncio.run_coroutine_threadsafe(good, server.loop).result(SECONDS).status == 200
        assert [path.name for path in folder.parent.iterdir()] == ["glossaries"], "nothing is written outside"
    print(f"{wanted} requests in {time.monotonic() - started:.0f} s: {dict(sorted(ends.items()))}")
    for interface in (V1, *http_interfaces(INTERFACES)):
        assert ends[f"{interface.api} 200"] > wanted // 100, "too few are good enough to tell anything"
