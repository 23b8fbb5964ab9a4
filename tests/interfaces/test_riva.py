"""NVIDIA Riva: messages from and to those of dragoman.v1, without a server."""

from __future__ import annotations

import pytest

from dragoman_protos.riva import nmt_pb2 as pb
from dragoman_protos.v1 import translation_pb2 as v1
from dragoman_service.errors import InvalidInput, NotFound
from dragoman_service.interfaces.riva import languages, translate


def test_every_field_of_a_translation() -> None:
    request = pb.TranslateTextRequest(
        texts=["a <dnt>B C</dnt>", "d"],
        model="m",
        source_language="en-US",
        target_language="de-DE",
        dnt_phrases=["NIM", "server##Dienst"],
        max_len_variation="20",
        id={"value": "7"},
    )
    assert translate.request_of(request) == v1.TranslateRequest(
        texts=["a B C", "d"],
        model="m",
        source_language="en-US",
        target_language="de-DE",
        options=v1.DecodingOptions(max_added_length=20),
        keep=["NIM", "B C"],
        terms=[v1.Term(source="server", target="Dienst", case_sensitive=True)],
    )
    reply = v1.TranslateResponse(
        translations=[v1.TextTranslation(hypotheses=[v1.Hypothesis(text="A"), v1.Hypothesis(text="B")])]
    )
    assert translate.reply_of(request, reply) == pb.TranslateTextResponse(
        translations=[pb.Translation(text="A", language="de-DE")], id={"value": "7"}
    )
    assert not translate.reply_of(pb.TranslateTextRequest(), reply).HasField("id")


def test_what_is_left_out_is_left_to_the_server() -> None:
    request = pb.TranslateTextRequest(texts=["a"], target_language="de")
    assert translate.request_of(request) == v1.TranslateRequest(
        texts=["a"], target_language="de", options=v1.DecodingOptions()
    )
    with pytest.raises(InvalidInput, match="target_language"):
        translate.request_of(pb.TranslateTextRequest(texts=["a"]))


@pytest.mark.parametrize(
    ("elements", "keep", "terms"),
    [
        (["NIM##,server##Dienst"], ["NIM"], {"server": "Dienst"}),
        (["NIM##", "server##Dienst"], ["NIM"], {"server": "Dienst"}),
        (["NIM", "NIM", " a b "], ["NIM", "a b"], {}),
        (["a, b"], ["a, b"], {}),
        (["a, b##c"], [], {"a, b": "c"}),
        (["a##b##c"], [], {"a": "b##c"}),
        (["a##b", "a"], [], {"a": "b"}),
        ([], [], {}),
    ],
)
def test_phrases(elements: list[str], keep: list[str], terms: dict[str, str]) -> None:
    assert translate.phrases_of(elements) == translate.Phrases(tuple(keep), terms)


@pytest.mark.parametrize("element", ["", " ", "##x", "a##b,##c"])
def test_an_empty_phrase_is_named(element: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        translate.phrases_of(["a", element])
    assert raised.value.field == "dnt_phrases[1]"


@pytest.mark.parametrize(
    ("text", "plain", "phrases"),
    [
        ("Use <dnt>NVIDIA NIM</dnt>.", "Use NVIDIA NIM.", ["NVIDIA NIM"]),
        ("<dnt>a</dnt> <dnt>b</dnt><dnt>a</dnt>", "a ba", ["a", "b"]),
        ("<dnt> a </dnt>", " a ", []),
        ("<dnt>a", "a", []),
        ("a</dnt> <dnt>", "a ", []),
        ("<dnt><dnt>a</dnt></dnt>", "a", ["a"]),
        ("<dnt></dnt>x", "x", []),
        ("<dnt>!</dnt>", "!", []),
        ("a < b <DNT>", "a < b <DNT>", []),
    ],
)
def test_tags_are_never_translated(text: str, plain: str, phrases: list[str]) -> None:
    assert translate.unmarked([text]) == ([plain], phrases)


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "²", " 1", "9999999", "1" * 1000])
def test_a_variation_that_is_no_number_is_refused(text: str) -> None:
    assert (translate.variation_of("0"), translate.variation_of("0020")) == (0, 20)
    with pytest.raises(InvalidInput, match="max_len_variation"):
        translate.variation_of(text)


def info(name: str, pairs: str, *, default: bool = True, sources: str = "", targets: str = "") -> v1.ModelInfo:
    listed = [pair.split("-") for pair in pairs.split()]
    return v1.ModelInfo(
        name=name,
        version="1",
        is_default=default,
        language_pairs=[v1.LanguagePair(source_language=one, target_language=other) for one, other in listed],
        source_languages=sources.split(),
        target_languages=targets.split(),
    )


def listed(request: pb.AvailableLanguageRequest, *models: v1.ModelInfo) -> dict[str, tuple[str, str]]:
    reply = languages.language_pairs(request, models)
    return {name: (" ".join(it.src_lang), " ".join(it.tgt_lang)) for name, it in reply.languages.items()}


def test_language_pairs() -> None:
    models = [
        info("one", "en-de"), info("one", "fr-de", default=False), info("both", "en-de de-en"),
        info("many", "", sources="en de fr", targets="en de fr"), info("odd", "en-de fr-es"),
        info("more", "en-is", sources="en de", targets="de en"),
    ]  # fmt: skip
    found = listed(pb.AvailableLanguageRequest(), *models)
    assert found == {
        "one": ("en", "de"), "both": ("en de", "de en"), "many": ("en de fr", "en de fr"),
        "odd:en": ("en", "de"), "odd:fr": ("fr", "es"), "more:en": ("en", "is de"), "more:de": ("de", "en"),
    }  # fmt: skip
    assert listed(pb.AvailableLanguageRequest(model="both"), *models) == {"both": ("en de", "de en")}
    assert set(listed(pb.AvailableLanguageRequest(model="odd:en"), *models)) == {"odd:en", "odd:fr"}
    with pytest.raises(NotFound, match="no model 'x'"):
        listed(pb.AvailableLanguageRequest(model="x"), *models)


def test_names_that_are_listed_can_be_used() -> None:
    request = pb.TranslateTextRequest(texts=["a"], target_language="de", model="odd:en")
    assert translate.request_of(request).model == "odd"
