"""Google Cloud Translation v3: messages from and to those of dragoman.v1, without a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dragoman_protos.google import translation_v3_pb2 as pb
from dragoman_protos.v1 import glossaries_pb2
from dragoman_protos.v1 import translation_pb2 as v1
from dragoman_service.errors import AlreadyExists, InvalidInput, NoLanguagePair, NotFound
from dragoman_service.interfaces.google import glossaries, languages, names, operations, translate
from dragoman_service.interfaces.google.common import errors_of

PARENT = "projects/p/locations/global"


def text_request(**fields: Any) -> pb.TranslateTextRequest:
    return pb.TranslateTextRequest(**{"parent": PARENT, "contents": ["a"], "target_language_code": "de", **fields})


def glossary(name: str, source: str = "en", target: str = "de", *sources: str) -> glossaries_pb2.Glossary:
    entries = [v1.Term(source=it, target=it.upper(), case_sensitive=True) for it in sources]
    return glossaries_pb2.Glossary(
        name=name, source_language=source, target_language=target, entries=entries, entry_count=len(entries)
    )


def refused(field: str, act: Callable[[], object]) -> str:
    with pytest.raises(InvalidInput) as raised:
        act()
    assert raised.value.field == field
    return str(raised.value)


def test_every_field_of_a_translation() -> None:
    request = text_request(
        contents=["a", "b"], mime_type="text/plain", source_language_code="en", model=f"{PARENT}/models/m@2",
        labels={"team": "x-1", "größe": ""},
    )  # fmt: skip
    assert translate.request_of(request) == v1.TranslateRequest(
        texts=["a", "b"], model="m@2", source_language="en", target_language="de", format=v1.TEXT_FORMAT_PLAIN
    )
    assert translate.request_with_glossary(request) is None


@pytest.mark.parametrize(
    ("mime_type", "text_format"),
    [("", v1.TEXT_FORMAT_HTML), ("text/html", v1.TEXT_FORMAT_HTML), ("text/plain", v1.TEXT_FORMAT_PLAIN)],
)
def test_no_mime_type_is_html(mime_type: str, text_format: int) -> None:
    assert translate.request_of(text_request(mime_type=mime_type)).format == text_format


@pytest.mark.parametrize("parent", ["projects/p", "projects/a-b.c:d", PARENT])
@pytest.mark.parametrize(
    ("model", "selector"),
    [
        ("", ""), ("general/nmt", ""), ("general/base", ""), ("loud", "loud"), ("loud@1", "loud@1"),
        ("general/translation-llm", "general/translation-llm"), ("a\nb", "a\nb"),
    ],
)  # fmt: skip
def test_names_of_models(parent: str, model: str, selector: str) -> None:
    assert names.model_selector(model and f"{parent}/models/{model}") == selector


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"parent": ""}, "parent"),
        ({"parent": "projects/p/"}, "parent"),
        ({"parent": "projects/p/locations/l/x"}, "parent"),
        ({"parent": "projects/p\n"}, "parent"),
        ({"mime_type": "text/xml"}, "mime_type"),
        ({"target_language_code": ""}, "target_language_code"),
        ({"model": "m"}, "model"),
        ({"model": f"{PARENT}/models/"}, "model"),
        ({"labels": {"": "x"}}, "labels"),
        ({"labels": {"1": "x"}}, "labels"),
        ({"labels": {"A": "x"}}, "labels"),
        ({"labels": {"a": "X"}}, "labels"),
        ({"labels": {"a": "b c"}}, "labels"),
        ({"labels": {"a" * 64: "x"}}, "labels"),
        ({"labels": {"a": "b" * 64}}, "labels"),
        ({"labels": {f"a{n}": "" for n in range(65)}}, "labels"),
        (
            {"transliteration_config": {"enable_transliteration": True}},
            "transliteration_config.enable_transliteration",
        ),
    ],
)
def test_what_is_not_allowed_is_named(fields: dict[str, Any], field: str) -> None:
    refused(field, lambda: translate.request_of(text_request(**fields)))


def test_a_request_with_a_glossary() -> None:
    config = {"glossary": f"{PARENT}/glossaries/bank", "ignore_case": True}
    asked = translate.request_with_glossary(text_request(source_language_code="en", glossary_config=config))
    assert asked is not None
    assert (asked.glossary, asked.glossary_ignore_case, list(asked.texts)) == ("bank", True, ["a"])
    config = {"glossary": f"{PARENT}/glossaries/bank.en-de"}
    asked = translate.request_with_glossary(text_request(source_language_code="en", glossary_config=config))
    assert asked is not None
    assert (asked.glossary, asked.glossary_ignore_case) == ("bank", False)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"glossary": "bank"}, "glossary_config.glossary"),
        ({}, "glossary_config.glossary"),
        (
            {"glossary": f"{PARENT}/glossaries/bank", "contextual_translation_enabled": True},
            "glossary_config.contextual_translation_enabled",
        ),
    ],
)
def test_a_glossary_that_is_not_allowed_is_named(config: dict[str, Any], field: str) -> None:
    refused(field, lambda: translate.request_with_glossary(text_request(glossary_config=config)))


def translated(text: str, source: str = "en") -> v1.TranslateResponse:
    return v1.TranslateResponse(
        translations=[v1.TextTranslation(hypotheses=[v1.Hypothesis(text=text)], source_language=source)]
    )


def test_replies_have_what_was_asked_for() -> None:
    request = text_request()
    assert translate.reply_of(request, translated("A"), None) == pb.TranslateTextResponse(
        translations=[pb.Translation(translated_text="A", detected_language_code="en")]
    )
    model, config = f"{PARENT}/models/general/nmt", {"glossary": f"{PARENT}/glossaries/bank"}
    request = text_request(source_language_code="en-US", model=model, glossary_config=config)
    assert translate.reply_of(request, translated("A"), translated("B")) == pb.TranslateTextResponse(
        translations=[pb.Translation(translated_text="A", model=model)],
        glossary_translations=[
            pb.Translation(translated_text="B", model=model, glossary_config=request.glossary_config)
        ],
    )


def test_detection() -> None:
    request = pb.DetectLanguageRequest(parent=PARENT, content="<b>a</b>", labels={"a": "b"})
    assert languages.detection_request(request) == v1.DetectLanguageRequest(
        texts=["<b>a</b>"], format=v1.TEXT_FORMAT_HTML
    )
    request = pb.DetectLanguageRequest(
        parent=PARENT, content="", mime_type="text/plain", model=f"{PARENT}/models/language-detection/default"
    )
    assert languages.detection_request(request) == v1.DetectLanguageRequest(texts=[""], format=v1.TEXT_FORMAT_PLAIN)
    candidates = [v1.LanguageCandidate(language=it, confidence=part) for it, part in (("en", 0.75), ("de", 0.25))]
    reply = languages.detection_reply(v1.DetectLanguageResponse(detections=[v1.Detection(candidates=candidates)]))
    assert [(it.language_code, it.confidence) for it in reply.languages] == [("en", 0.75)]
    reply = languages.detection_reply(v1.DetectLanguageResponse(detections=[v1.Detection()]))
    assert [(it.language_code, it.confidence) for it in reply.languages] == [("und", 0)]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"parent": "x", "content": "a"}, "parent"),
        ({"parent": PARENT}, "content"),
        ({"parent": PARENT, "content": "a", "mime_type": "x"}, "mime_type"),
        ({"parent": PARENT, "content": "a", "model": f"{PARENT}/models/m"}, "model"),
        ({"parent": PARENT, "content": "a", "labels": {"A": ""}}, "labels"),
    ],
)
def test_a_detection_that_is_not_allowed_is_named(fields: dict[str, Any], field: str) -> None:
    refused(field, lambda: languages.detection_request(pb.DetectLanguageRequest(**fields)))


def model(name: str, pairs: list[tuple[str, str]], *, default: bool = True, version: str = "1") -> v1.ModelInfo:
    language_pairs = [v1.LanguagePair(source_language=one, target_language=other) for one, other in pairs]
    return v1.ModelInfo(name=name, version=version, language_pairs=language_pairs, is_default=default, aliases=["best"])


def test_supported_languages() -> None:
    models = [
        model("a", [("en", "de"), ("en", "zh-Hant")]),
        model("a", [("fr", "en")], default=False, version="2"),
        model("b", [("eng", "pt-BR")]),
        v1.ModelInfo(name="c", version="1", is_default=True, source_languages=["de"], target_languages=["en"]),
    ]

    def listed(**fields: str) -> list[tuple[str, str, bool, bool]]:
        request = pb.GetSupportedLanguagesRequest(parent=PARENT, **fields)
        found = languages.supported_languages(request, models).languages
        return [(it.language_code, it.display_name, it.support_source, it.support_target) for it in found]

    assert listed() == [
        ("de", "", True, True), ("en", "", True, True), ("pt-BR", "", False, True), ("zh-Hant", "", False, True),
    ]  # fmt: skip
    assert listed(display_language_code="en", model=f"{PARENT}/models/a") == [
        ("de", "German", False, True), ("en", "English", True, False),
        ("zh-Hant", "Chinese (Traditional)", False, True),
    ]  # fmt: skip
    assert listed(model=f"{PARENT}/models/a@2") == [("en", "", False, True), ("fr", "", True, False)]
    assert listed(model=f"{PARENT}/models/b@best") == [("eng", "", True, False), ("pt-BR", "", False, True)]
    with pytest.raises(NotFound, match="no model 'x'; there are: a, b, c"):
        listed(model=f"{PARENT}/models/x")
    refused("display_language_code", lambda: listed(display_language_code="no language"))


def test_a_pair_that_is_not_served_is_an_invalid_argument() -> None:
    with (
        pytest.raises(InvalidInput, match=r"^target_language_code: no pair") as raised,
        errors_of({}, "target_language_code"),
    ):
        raise NoLanguagePair("no pair")
    assert raised.value.field == "target_language_code"
    with pytest.raises(NotFound), errors_of({}, "target_language_code"):
        raise NotFound("no model")


def new(**fields: Any) -> glossaries_pb2.CreateGlossaryRequest:
    pair = {"source_language_code": "en", "target_language_code": "de"}
    kind = {} if "language_codes_set" in fields else {"language_pair": pair}
    asked = {"name": f"{PARENT}/glossaries/new", "display_name": "New", **kind, **fields}
    return glossaries.new_glossary(
        pb.CreateGlossaryRequest(parent=PARENT, glossary=pb.Glossary(**asked)), [glossary("bank")]
    )


def test_a_new_glossary() -> None:
    assert new().glossary == glossaries_pb2.Glossary(
        name="new", source_language="en", target_language="de", description="New"
    )
    refused("glossary.name", lambda: new(name="new"))
    refused("glossary.name", lambda: new(name="projects/other/glossaries/new"))
    refused("glossary.name", lambda: new(name=f"{PARENT}/glossaries/a/b"))
    refused("glossary.language_codes_set", lambda: new(language_codes_set={"language_codes": ["en"]}))
    refused("glossary.input_config", lambda: new(input_config={"gcs_source": {"input_uri": "gs://x"}}))
    with pytest.raises(AlreadyExists):
        new(name=f"{PARENT}/glossaries/bank")


def test_only_the_display_name_of_a_glossary_is_updated() -> None:
    there = glossary("bank", "en", "de", "a")
    request = pb.UpdateGlossaryRequest(glossary={"display_name": "Other"}, update_mask={"paths": ["display_name"]})
    changed = glossaries.changed_glossary(request, there).glossary
    assert (changed.description, list(changed.entries)) == ("Other", list(there.entries))
    request.update_mask.paths.append("name")
    refused("update_mask", lambda: glossaries.changed_glossary(request, there))


def entry(source: str, target: str, **fields: Any) -> pb.GlossaryEntry:
    pair = {"source_term": {"text": source}, "target_term": {"text": target}}
    return pb.GlossaryEntry(**{"terms_pair": pair, **fields})


def test_entries() -> None:
    there = glossary("bank", "en", "de", "a", "b")
    term = glossaries.new_term(entry("c", "C"), there)
    assert term == v1.Term(source="c", target="C", case_sensitive=True)
    grown = glossaries.with_entry(there, term).glossary
    assert [it.source for it in grown.entries] == ["a", "b", "c"]
    message = glossaries.entry_message(f"{PARENT}/glossaries/bank", grown, term)
    resource, id_ = names.entry_resource("name", message.name)
    assert (resource.id, glossaries.find_entry(id_, grown)) == ("bank", 2)
    assert message.terms_pair.source_term == pb.GlossaryTerm(language_code="en", text="c")
    assert message.terms_pair.target_term == pb.GlossaryTerm(language_code="de", text="C")
    changed = glossaries.with_entry(grown, v1.Term(source="x", target="y", case_sensitive=True), 1).glossary
    assert [it.source for it in changed.entries] == ["a", "x", "c"]
    assert [it.source for it in glossaries.without_entry(changed, 0).glossary.entries] == ["x", "c"]
    with pytest.raises(AlreadyExists):
        glossaries.with_entry(there, v1.Term(source="a", target="other", case_sensitive=True))
    with pytest.raises(NotFound, match="no entry 'zz'"):
        glossaries.find_entry("zz", there)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.GlossaryEntry(), "glossary_entry.terms_pair"),
        (pb.GlossaryEntry(terms_set={"terms": [{"text": "a"}]}), "glossary_entry.terms_set"),
        (entry("a", "b", description="x"), "glossary_entry.description"),
        (
            pb.GlossaryEntry(terms_pair={"source_term": {"language_code": "fr", "text": "a"}}),
            "glossary_entry.terms_pair.source_term.language_code",
        ),
    ],
)
def test_an_entry_that_is_not_allowed_is_named(message: pb.GlossaryEntry, field: str) -> None:
    refused(field, lambda: glossaries.new_term(message, glossary("bank")))


def test_pages() -> None:
    items, token, found = list("abcde"), "", []
    while True:
        page, token = glossaries.page_of(items, 2, token, 10)
        found.append("".join(page))
        if not token:
            break
    assert found == ["ab", "cd", "e"]
    assert glossaries.page_of(items, 0, "", 3) == (list("abc"), "3")
    assert glossaries.page_of(items, 99, "9", 3) == ([], "")
    refused("page_size", lambda: glossaries.page_of(items, -1, "", 3))
    for token in ("x", "-1", "²", "1" * 10):
        refused("page_token", lambda token=token: glossaries.page_of(items, 1, token, 3))  # type: ignore[misc]


def test_the_name_of_an_operation_tells_what_it_was() -> None:
    done = operations.made(operations.CREATE, pb.Glossary(name=f"{PARENT}/glossaries/a.en-de"))
    assert done.done
    assert operations.parsed_operation(done.name) == ("create", f"{PARENT}/glossaries/a.en-de")
    found = pb.Glossary()
    assert done.response.Unpack(found)
    assert found.name == f"{PARENT}/glossaries/a.en-de"
    deleted = operations.deleted(f"{PARENT}/glossaries/a")
    assert operations.parsed_operation(deleted.name) == ("delete", f"{PARENT}/glossaries/a")
    with pytest.raises(NotFound):
        operations.parsed_operation(f"{PARENT}/operations/x")
    refused("name", lambda: operations.parsed_operation("operations/x"))
