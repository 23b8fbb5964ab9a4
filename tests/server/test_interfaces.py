"""Interfaces of others over the wire, in front of a scripted engine: what they share with dragoman.v1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.rpc import error_details_pb2, status_pb2

from dragoman_protos.google import translation_v3_pb2 as google
from dragoman_protos.google import translation_v3_pb2_grpc as google_grpc
from dragoman_protos.metadata import DETAILS_KEY
from dragoman_protos.riva import nmt_pb2 as riva
from dragoman_protos.riva import nmt_pb2_grpc as riva_grpc
from dragoman_service.bundle.languages import Languages
from dragoman_service.translation.settings import RequestLimits
from support.fake_workers import FakeWorkers, served
from support.server_thread import ServerThread, refusal, serving
from support.tokens import add_token, bearer
from support.waiting import wait_until

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
UNIMPLEMENTED, EXISTS = grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.ALREADY_EXISTS
FORBIDDEN, UNAUTHENTICATED = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
PARENT = "projects/p/locations/global"
BANK = f"{PARENT}/glossaries/bank"
GOOGLE = "/google.cloud.translation.v3.TranslationService/"


@pytest.fixture
def engine() -> FakeWorkers:
    return FakeWorkers()


@pytest.fixture
def server(engine: FakeWorkers, tmp_path: Path) -> Iterator[ServerThread]:
    (tmp_path / "bank.en-de.tsv").write_text("# Bank terms\nbank\tUfer\nUS\tUSA\tcase\n")
    with serving(
        [served(engine)], limits=RequestLimits(max_texts=20), glossaries=tmp_path, glossaries_writable=True
    ) as running:
        yield running


@pytest.fixture
def cloud(channel: grpc.Channel) -> Any:
    return google_grpc.TranslationServiceStub(channel)


@pytest.fixture
def nmt(channel: grpc.Channel) -> Any:
    return riva_grpc.RivaTranslationStub(channel)


def text_request(**fields: Any) -> google.TranslateTextRequest:
    plain = {"parent": PARENT, "contents": ["a"], "target_language_code": "de", "mime_type": "text/plain"}
    return google.TranslateTextRequest(**{**plain, **fields})


def named(error: Any) -> str:
    """The field that an error names."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())[DETAILS_KEY])
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    return bad.field_violations[0].field


def test_google_translates(cloud: Any) -> None:
    reply = cloud.TranslateText(text_request(contents=["One.\n Two!", ""]))
    assert [it.translated_text for it in reply.translations] == ["ONE.\n TWO!", ""]
    assert [it.detected_language_code for it in reply.translations] == ["en", "en"]
    reply = cloud.TranslateText(text_request(contents=["<b>a</b> &amp; b"], mime_type="", source_language_code="en-US"))
    assert [it.translated_text for it in reply.translations] == ["<b>A</b> &amp; B"]
    assert not reply.translations[0].detected_language_code


def test_google_translates_with_and_without_a_glossary(cloud: Any) -> None:
    for ignore_case, expected in ((False, "THE Ufer, us"), (True, "THE Ufer, USA")):
        config = {"glossary": BANK, "ignore_case": ignore_case}
        reply = cloud.TranslateText(
            text_request(contents=["the bank, us"], source_language_code="en", glossary_config=config)
        )
        assert [it.translated_text for it in reply.translations] == ["THE BANK, US"]
        assert [it.translated_text.replace("US", "us") if not ignore_case else it.translated_text
                for it in reply.glossary_translations] == [expected]  # fmt: skip
        assert reply.glossary_translations[0].glossary_config.glossary == BANK


def test_google_detects_and_lists(cloud: Any) -> None:
    request = google.DetectLanguageRequest(parent=PARENT, content="<p>Guten Morgen, wie geht es dir heute?</p>")
    (found,) = cloud.DetectLanguage(request).languages
    assert found.language_code == "de"
    assert found.confidence > 0.5
    listed = cloud.GetSupportedLanguages(google.GetSupportedLanguagesRequest(parent=PARENT, display_language_code="en"))
    assert [(it.language_code, it.display_name) for it in listed.languages] == [("de", "German"), ("en", "English")]


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"contents": []}, INVALID, "contents"),
        ({"contents": [""] * 21}, INVALID, "contents"),
        ({"contents": ["a", "b" * 100_001]}, INVALID, "contents[1]"),
        ({"target_language_code": "xx", "source_language_code": "en"}, INVALID, "target_language_code"),
        ({"target_language_code": "de", "source_language_code": "xx"}, INVALID, "target_language_code"),
        ({"model": f"{PARENT}/models/other"}, NOT_FOUND, ""),
        ({"glossary_config": {"glossary": f"{PARENT}/glossaries/other"}}, NOT_FOUND, ""),
        ({"glossary_config": {"glossary": f"{PARENT}/glossaries/..%2f"}}, NOT_FOUND, ""),
        ({"labels": {f"a{number}": "" for number in range(101)}}, INVALID, "labels"),
    ],
)
def test_errors_of_google(cloud: Any, fields: dict[str, Any], code: grpc.StatusCode, field: str) -> None:
    error = refusal(lambda: cloud.TranslateText(text_request(**fields)))
    assert error.code() is code, error.details()
    if field:
        assert named(error) == field


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"texts": []}, "texts"),
        ({"texts": [""] * 21}, "texts"),
        ({"target_language": "xx"}, "target_language"),
        ({"model": "other"}, "model"),
        ({"dnt_phrases": ["!"]}, "dnt_phrases[0]"),
        ({"dnt_phrases": ["a##" + "b" * 200]}, "dnt_phrases[0].target"),
        ({"dnt_phrases": [f"a{number}" for number in range(1001)]}, "dnt_phrases"),
        ({"max_len_variation": "x"}, "max_len_variation"),
    ],
)
def test_errors_of_riva(nmt: Any, fields: dict[str, Any], field: str) -> None:
    asked = {"texts": ["a"], "source_language": "en", "target_language": "de", **fields}
    error = refusal(lambda: nmt.TranslateText(riva.TranslateTextRequest(**asked)))
    assert error.code() is INVALID, error.details()
    assert named(error) == field


def test_riva_translates(nmt: Any, engine: FakeWorkers) -> None:
    request = riva.TranslateTextRequest(
        texts=["use the <dnt>nim</dnt> server."], source_language="en-US", target_language="de-DE",
        dnt_phrases=["nim##,server##Dienst"], max_len_variation="5", id={"value": "7"},
    )  # fmt: skip
    reply = nmt.TranslateText(request)
    assert [(it.text, it.language) for it in reply.translations] == [("USE THE nim Dienst.", "de-DE")]
    assert reply.id.value == "7"
    assert [request.max_length for request in engine.submitted] == [len(engine.submitted[0].source) - 1 + 5]
    listed = nmt.ListSupportedLanguagePairs(riva.AvailableLanguageRequest()).languages
    assert {name: (list(it.src_lang), list(it.tgt_lang)) for name, it in listed.items()} == {"loud": (["en"], ["de"])}


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (GOOGLE + "RomanizeText", "RomanizeText: this server does not romanize text"),
        (GOOGLE + "BatchTranslateText", "does not read or write Cloud Storage"),
        (GOOGLE + "AdaptiveMtTranslate", "TranslateText takes a glossary"),
        ("/google.longrunning.Operations/ListOperations", "operations are done"),
        ("/nvidia.riva.nmt.RivaTranslation/StreamingTranslateSpeechToText", "does not recognise or synthesise speech"),
    ],
)
def test_what_is_not_served_says_so(channel: grpc.Channel, server: ServerThread, path: str, sentence: str) -> None:
    error = refusal(lambda: channel.unary_unary(path)(b"\x0a\x01x"))
    assert error.code() is UNIMPLEMENTED
    assert sentence in error.details()
    api = "riva" if "riva" in path else "google_v3"
    method = path.rpartition("/")[2]
    assert server.metric("dragoman_requests_total", api=api, method=method, code="UNIMPLEMENTED") == 1


def test_calls_are_counted_by_interface(cloud: Any, nmt: Any, server: ServerThread) -> None:
    cloud.TranslateText(text_request())
    nmt.TranslateText(riva.TranslateTextRequest(texts=["a"], target_language="de"))
    for api in ("google_v3", "riva"):
        assert server.metric("dragoman_requests_total", api=api, method="TranslateText", code="OK") == 1


def test_interfaces_are_switched_off(engine: FakeWorkers) -> None:
    with serving([served(engine)], interfaces=("riva",)) as server, grpc.insecure_channel(server.address) as channel:
        error = refusal(lambda: google_grpc.TranslationServiceStub(channel).TranslateText(text_request()))
        assert error.code() is UNIMPLEMENTED
        assert riva_grpc.RivaTranslationStub(channel).TranslateText(
            riva.TranslateTextRequest(texts=["a"], target_language="de")
        )


@pytest.mark.parametrize("interface", ["google_v3", "riva"])
def test_a_call_that_is_given_up_frees_its_rows(interface: str) -> None:
    engine = FakeWorkers(lambda request: ())
    with serving([served(engine)]) as server, grpc.insecure_channel(server.address) as channel:
        call: Any
        if interface == "riva":
            stub = riva_grpc.RivaTranslationStub(channel)
            call = stub.TranslateText.future(riva.TranslateTextRequest(texts=["a"], target_language="de"))
        else:
            call = google_grpc.TranslationServiceStub(channel).TranslateText.future(text_request())
        wait_until(lambda: len(engine.submitted) == 1)
        call.cancel()
        wait_until(lambda: len(engine.cancelled) == 1)
        wait_until(
            lambda: (
                server.metric("dragoman_requests_total", api=interface, method="TranslateText", code="CANCELLED") == 1
            )
        )


def test_nested_lists_are_bounded(channel: grpc.Channel) -> None:
    terms = google.GlossaryEntry.GlossaryTermsSet(terms=[google.GlossaryTerm()] * 1001)
    request = google.CreateGlossaryEntryRequest(parent=BANK, glossary_entry=google.GlossaryEntry(terms_set=terms))
    error = refusal(lambda: google_grpc.TranslationServiceStub(channel).CreateGlossaryEntry(request))
    assert error.code() is INVALID
    assert named(error) == "glossary_entry.terms_set.terms"


def entry(source: str, target: str, name: str = "") -> google.GlossaryEntry:
    return google.GlossaryEntry(
        name=name, terms_pair={"source_term": {"text": source}, "target_term": {"text": target}}
    )


def test_glossaries_of_google(cloud: Any, channel: grpc.Channel, tmp_path: Path) -> None:
    listed = cloud.ListGlossaries(google.ListGlossariesRequest(parent=PARENT)).glossaries
    assert [(it.name, it.display_name, it.entry_count) for it in listed] == [(BANK, "Bank terms", 2)]
    name = f"{PARENT}/glossaries/new"
    pair = {"source_language_code": "en-US", "target_language_code": "de"}
    made = cloud.CreateGlossary(
        google.CreateGlossaryRequest(
            parent=PARENT, glossary={"name": name, "language_pair": pair, "display_name": "New"}
        )
    )
    assert made.done
    assert (tmp_path / "new.en-de.tsv").read_text() == "# New\n"
    ask = channel.unary_unary(
        "/google.longrunning.Operations/GetOperation",
        operations_pb2.GetOperationRequest.SerializeToString,
        operations_pb2.Operation.FromString,
    )
    assert ask(operations_pb2.GetOperationRequest(name=made.name)) == made
    first = cloud.CreateGlossaryEntry(
        google.CreateGlossaryEntryRequest(parent=name, glossary_entry=entry("cat", "Kater"))
    )
    changed = cloud.UpdateGlossaryEntry(
        google.UpdateGlossaryEntryRequest(glossary_entry=entry("cat", "Katze", first.name))
    )
    assert changed.name == first.name
    assert cloud.GetGlossaryEntry(google.GetGlossaryEntryRequest(name=first.name)) == changed
    reply = cloud.TranslateText(
        text_request(contents=["a cat"], source_language_code="en", glossary_config={"glossary": name})
    )
    assert reply.glossary_translations[0].translated_text == "A Katze"
    assert (tmp_path / "new.en-de.tsv").read_text() == "# New\ncat\tKatze\tcase\n"
    cloud.UpdateGlossary(google.UpdateGlossaryRequest(glossary={"name": name, "display_name": "Newer"}))
    assert cloud.GetGlossary(google.GetGlossaryRequest(name=name)).display_name == "Newer"
    cloud.DeleteGlossaryEntry(google.DeleteGlossaryEntryRequest(name=first.name))
    assert not cloud.ListGlossaryEntries(google.ListGlossaryEntriesRequest(parent=name)).glossary_entries
    deleted = cloud.DeleteGlossary(google.DeleteGlossaryRequest(name=name))
    response = google.DeleteGlossaryResponse()
    assert deleted.response.Unpack(response)
    assert response.name == name
    assert [path.name for path in tmp_path.iterdir()] == ["bank.en-de.tsv"]


@pytest.mark.parametrize(
    ("act", "code", "field"),
    [
        (lambda cloud: cloud.GetGlossary(google.GetGlossaryRequest(name=f"{PARENT}/glossaries/x")), NOT_FOUND, ""),
        (lambda cloud: cloud.GetGlossary(google.GetGlossaryRequest(name="x")), INVALID, "name"),
        (
            lambda cloud: cloud.CreateGlossary(
                google.CreateGlossaryRequest(
                    parent=PARENT,
                    glossary={"name": f"{PARENT}/glossaries/x", "language_pair": {"source_language_code": "en"}},
                )
            ),
            INVALID,
            "glossary.language_pair.target_language_code",
        ),
        (
            lambda cloud: cloud.CreateGlossaryEntry(
                google.CreateGlossaryEntryRequest(parent=BANK, glossary_entry=entry("#a", "b"))
            ),
            INVALID,
            "glossary_entry.terms_pair.source_term.text",
        ),
        (
            lambda cloud: cloud.CreateGlossaryEntry(
                google.CreateGlossaryEntryRequest(parent=BANK, glossary_entry=entry("a", "b\tc"))
            ),
            INVALID,
            "glossary_entry.terms_pair.target_term.text",
        ),
        (
            lambda cloud: cloud.CreateGlossaryEntry(
                google.CreateGlossaryEntryRequest(parent=BANK, glossary_entry=entry("US", "b"))
            ),
            EXISTS,
            "",
        ),
        (
            lambda cloud: cloud.UpdateGlossary(
                google.UpdateGlossaryRequest(glossary={"name": BANK, "display_name": "a\nb"})
            ),
            INVALID,
            "glossary.display_name",
        ),
    ],
)
def test_errors_of_glossaries(cloud: Any, act: Callable[[Any], object], code: grpc.StatusCode, field: str) -> None:
    error = refusal(lambda: act(cloud))
    assert error.code() is code, error.details()
    if field:
        assert named(error) == field


def test_tokens_and_quotas_are_those_of_dragoman(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    shop = add_token(path, "shop", requests_per_minute=4, models=("loud",))
    editor = add_token(path, "editor", scopes=("translate", "glossaries"))
    glossaries = tmp_path / "glossaries"
    glossaries.mkdir()
    (glossaries / "bank.en-de.tsv").write_text("a\tb\n")
    models = [served(FakeWorkers()), served(FakeWorkers(), name="other", languages=Languages((("fr", "de"),)))]
    with (
        serving(models, tokens=path, glossaries=glossaries, glossaries_writable=True) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        cloud, nmt = google_grpc.TranslationServiceStub(channel), riva_grpc.RivaTranslationStub(channel)
        asked = riva.TranslateTextRequest(texts=["a"], target_language="de")
        for act in (lambda: cloud.TranslateText(text_request()), lambda: nmt.TranslateText(asked)):
            assert refusal(act).code() is UNAUTHENTICATED
        error = refusal(lambda: channel.unary_unary(GOOGLE + "RomanizeText")(b""))
        assert error.code() is UNAUTHENTICATED
        key = (("x-goog-api-key", shop),)
        delete = google.DeleteGlossaryRequest(name=BANK)
        assert refusal(lambda: cloud.DeleteGlossary(delete, metadata=bearer(editor) + key)).code() is UNAUTHENTICATED
        other = riva.TranslateTextRequest(texts=["a"], target_language="de", model="other")
        assert refusal(lambda: nmt.TranslateText(other, metadata=key)).code() is FORBIDDEN
        assert set(
            nmt.ListSupportedLanguagePairs(riva.AvailableLanguageRequest(), metadata=bearer(shop)).languages
        ) == {"loud"}
        error = refusal(lambda: cloud.DeleteGlossary(delete, metadata=key))
        assert (error.code(), error.details()) == (FORBIDDEN, "token shop has no scope glossaries")
        assert cloud.TranslateText(text_request(), metadata=key).translations[0].translated_text == "A"
        assert refusal(lambda: nmt.TranslateText(asked, metadata=key)).code() is EXHAUSTED
        assert cloud.DeleteGlossary(delete, metadata=bearer(editor)).done


def test_glossaries_are_not_writable_unless_the_operator_says_so(tmp_path: Path) -> None:
    (tmp_path / "bank.en-de.tsv").write_text("a\tb\n")
    with (
        serving([served(FakeWorkers())], glossaries=tmp_path) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        cloud = google_grpc.TranslationServiceStub(channel)
        assert cloud.GetGlossary(google.GetGlossaryRequest(name=BANK)).entry_count == 1
        error = refusal(lambda: cloud.DeleteGlossary(google.DeleteGlossaryRequest(name=BANK)))
        assert error.code() is FORBIDDEN
        assert "--glossaries-writable" in error.details()
    assert (tmp_path / "bank.en-de.tsv").exists()
