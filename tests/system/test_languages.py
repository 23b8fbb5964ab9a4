"""A real server with several models: languages by any name, detected, and through a third one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman_service.client import AsyncTranslationClient, Options, Translation, TranslationClient
from dragoman_service.client.errors import InvalidRequest, ModelNotFound
from support.repositories import add_version, rename_languages
from support.server_process import ServerProcess, run_dragoman, server_process

MODELS = Path(__file__).parents[2] / "deploy" / "models"
GERMAN, ENGLISH = "Das Wetter ist heute sehr schön.", "The weather is very nice today."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The bundled models; and copies that call German Dutch, and German French: `nl -> en -> fr`."""
    en_de, de_en = MODELS / "en-de" / "1", MODELS / "de-en" / "1"
    if not all((bundle / "manifest.json").exists() for bundle in (en_de, de_en)):
        pytest.skip("needs both bundled models")
    folder = tmp_path_factory.mktemp("models")
    first = add_version(folder, de_en, "first", "1")
    rename_languages(first, "nl", "en")
    second = add_version(folder, en_de, "second", "2")
    rename_languages(second, "en", "fr-FR")
    with server_process([en_de, de_en, first, second]) as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[TranslationClient]:
    with TranslationClient(server.address) as client:
        yield client


def shown(translation: Translation) -> tuple[str, str, bool, tuple[str, ...]]:
    return translation.source_language, translation.target_language, translation.detected, translation.models


@pytest.mark.parametrize("source", ["en", "EN", "en-US", "en_GB.UTF-8", "eng", "eng_Latn"])
@pytest.mark.parametrize("target", ["de", "de_AT", "DEU", "ger", "deu_Latn", "de-CH-1996"])
def test_a_language_has_many_names(client: TranslationClient, source: str, target: str) -> None:
    options = Options(source_language=source, target_language=target, beam_size=1)
    (translation,) = client.translate([ENGLISH], options)
    assert "Wetter" in translation.text
    assert shown(translation) == (source, target, False, ("en-de@1",))


@pytest.mark.parametrize("target", ["de-Cyrl", "nds", "German", "x" * 10_000, "de\n"])
def test_another_language_is_refused_with_those_that_there_are(client: TranslationClient, target: str) -> None:
    with pytest.raises(ModelNotFound, match="there are: en-de: en to de; de-en: de to en; first: nl to en; second"):
        client.translate([ENGLISH], Options(source_language="en", target_language=target))


def test_texts_of_several_languages_go_to_several_models_in_one_call(client: TranslationClient) -> None:
    texts = [ENGLISH, GERMAN, "12 + 3", "", ENGLISH, GERMAN]
    found = client.translate(texts, Options(model="", target_language=""))
    by_name = {
        text: client.translate([text], Options(source_language=source, target_language=target))[0].text
        for text, source, target in ((ENGLISH, "en", "de"), (GERMAN, "de", "en"))
    }
    assert [it.text for it in found] == [by_name.get(text, text) for text in texts]
    assert [shown(it) for it in found[:3]] == [
        ("en", "de", True, ("en-de@1",)),
        ("de", "en", True, ("de-en@1",)),
        ("", "", True, ()),
    ]
    assert [it.model for it in found] == ["en-de", "de-en", "", "", "en-de", "de-en"]


def test_a_text_in_the_target_language_is_copied(client: TranslationClient) -> None:
    first, second = client.translate([GERMAN, ENGLISH], Options(target_language="en"))
    assert "weather" in first.text
    assert shown(first) == ("de", "en", True, ("de-en@1",))
    assert (second.text, shown(second)) == (ENGLISH, ("en", "en", True, ()))


def test_a_stream_detects_too(client: TranslationClient) -> None:
    *pieces, result = client.translate_stream(GERMAN, Options(beam_size=1))
    assert isinstance(result, Translation)
    assert "".join(map(str, pieces)) == result.text
    assert shown(result) == ("de", "en", True, ("de-en@1",))


def test_two_models_translate_through_english(client: TranslationClient, server: ServerProcess) -> None:
    with pytest.raises(ModelNotFound, match="no language pair nl-BE to fr-CH"):
        client.translate([GERMAN], Options(source_language="nl-BE", target_language="fr-CH"))
    options = Options(source_language="nl-BE", target_language="fr-CH", allow_pivot=True)
    (pivoted,) = client.translate([GERMAN], options)
    (english,) = client.translate([GERMAN], Options(source_language="de", target_language="en"))
    (german,) = client.translate([english.text], Options(source_language="en", target_language="de"))
    assert pivoted.text == german.text
    assert shown(pivoted) == ("nl-BE", "fr-CH", False, ("first@1", "second@2"))
    assert (pivoted.model, pivoted.version, pivoted.source_tokens) == ("second", "2", english.source_tokens)
    *pieces, result = client.translate_stream(GERMAN, options)
    assert isinstance(result, Translation)
    assert "".join(map(str, pieces)) == result.text == pivoted.text
    assert shown(result) == shown(pivoted)
    server.wait_until_free()


def test_languages_are_detected_without_a_translation(client: TranslationClient, server: ServerProcess) -> None:
    german, nothing, english = client.detect_language([GERMAN, "12", ENGLISH])
    assert (german[0].language, nothing, english[0].language) == ("de", [], "en")
    assert {it.language for it in german} == {"de", "en", "nl", "fr-FR"}
    assert german[0].confidence > 0.9
    assert sum(it.confidence for it in german) == pytest.approx(1)
    (candidates,) = client.detect_language([GERMAN], ["nld", "DE", "en_US", "da", "sv", "nb", "fr"])
    assert len(candidates) == 5
    assert candidates[0].language == "DE"
    for texts, languages, field in (
        ([], [], "texts"),
        (["a"] * 1025, [], "texts"),
        (["a", "b" * 100_001], [], "texts[1]"),
        (["a"], ["en", "tlh"], "languages[1]"),
        (["a"], ["en"] * 101, "languages"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            client.detect_language(texts, languages)
        assert caught.value.field == field

    async def ask() -> str:
        async with AsyncTranslationClient(server.address) as other:
            return (await other.detect_language([GERMAN]))[0][0].language

    assert asyncio.run(ask()) == "de"


def test_the_command_detects_unless_it_is_told(server: ServerProcess) -> None:
    def translate(*arguments: str) -> str:
        done = run_dragoman("translate", "--server", server.address, "--beam-size", "1", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert "Wetter" in translate(ENGLISH)
    assert "weather" in translate("--from", "auto", GERMAN)
    assert "weather" in translate("--from", "deu", "--to", "en-GB", GERMAN)
    assert "Wetter" in translate("--from", "nl", "--to", "fr", "--pivot", GERMAN)
