"""One model for several target languages: a tag before the source tells it into which to translate."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dragoman_service.bundle.bundle import Bundle, GoldenSentence, write_bundle
from dragoman_service.bundle.languages import Languages
from dragoman_service.bundle.manifest import Generation
from dragoman_service.bundle.tokenizer import Tokenizer, target_tag
from dragoman_service.engine.request import DecodingOptions
from dragoman_service.errors import BundleError, InvalidInput
from dragoman_service.text.segmenter import on_one_line
from support.parity import served
from support.tiny import tokenizer_model

PAIRS = (("en", "de"), ("en", "fr"), ("de", "en"))
TAGGED = Tokenizer(tokenizer_model(control_symbols=("<2de>", "<2fr>")))
PLAIN = Tokenizer(tokenizer_model())


def test_a_tag_stands_before_the_text() -> None:
    ids = TAGGED.encode("a cat.")
    german, french = (TAGGED.target_tags[language] for language in ("de", "fr"))
    assert german != french
    assert TAGGED.source(ids, "en", "fr") == (french, *ids, TAGGED.end_id)
    assert len(TAGGED.source(ids, "en", "de")) == len(ids) + TAGGED.source_overhead
    assert TAGGED.pieces([german]) == [target_tag("de")]


def test_a_model_of_one_target_language_needs_none() -> None:
    ids = PLAIN.encode("a cat.")
    assert PLAIN.source(ids, "en", "anything") == (*ids, PLAIN.end_id)
    assert (PLAIN.target_tags, PLAIN.source_overhead) == ({}, 1)


@pytest.mark.parametrize("tokenizer", [PLAIN, TAGGED])
def test_no_target_id_is_forced(tokenizer: Tokenizer) -> None:
    assert (tokenizer.forced("de"), tokenizer.target_overhead) == ((), 0)
    assert tokenizer.encode_target("a cat.") == tokenizer.encode("a cat.")


def test_a_language_without_a_tag_is_named() -> None:
    with pytest.raises(InvalidInput, match="target_language: got 'ko'; allowed: de, fr"):
        TAGGED.source([5], "en", "ko")


def test_text_that_looks_like_a_tag_is_text() -> None:
    assert not set(TAGGED.encode("<2de> a cat")) & set(TAGGED.target_tags.values())
    assert TAGGED.decode(TAGGED.encode("<2de> a cat")) == "<2de> a cat"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    pytest.importorskip("torch")
    from dragoman_export.exporter import ExportOptions, export_checkpoint  # noqa: PLC0415
    from support.tiny_checkpoint import random_model, write_checkpoint  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("several")
    tokenizer = Tokenizer(tokenizer_model(control_symbols=("<2de>", "<2en>", "<2fr>")))
    model = random_model(seed=4, vocab_size=tokenizer.vocab_size)
    checkpoint = write_checkpoint(folder / "checkpoint", model, language_pairs=PAIRS)
    return export_checkpoint(checkpoint, folder / "several" / "1", ExportOptions("several", "1"))[0]


def as_served(bundle: Bundle, sentence: GoldenSentence) -> str:
    """The translation of a golden sentence as a text: its byte pieces form whole characters."""
    options = DecodingOptions(length_penalty=sentence.length_penalty, max_length=sentence.max_length)
    (hypothesis,) = served(bundle, [sentence.source_ids], 1, options, as_texts=True)
    return on_one_line(bundle.tokenizer.decode(hypothesis.tokens))


def test_a_bundle_lists_its_pairs_and_has_golden_sentences_for_each_target(bundle: Bundle) -> None:
    assert bundle.manifest.languages.pairs == PAIRS
    tags = bundle.tokenizer.target_tags
    assert {sentence.source_ids[0] for sentence in bundle.golden} == {tags[language] for language in ("de", "en", "fr")}


def test_a_bundle_without_a_tag_for_a_target_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    files: dict[str, bytes | Path] = {name: bundle.path / name for name in bundle.manifest.files}
    manifest = dataclasses.replace(bundle.manifest, languages=Languages((*PAIRS, ("en", "ko"))))
    with pytest.raises(BundleError, match="no tag for ko, to which the manifest says it translates"):
        write_bundle(tmp_path / "several" / "1", manifest, files)


def test_the_languages_of_a_request_decide(bundle: Bundle) -> None:
    """Over gRPC: another target is another translation; with none given, it is asked for."""
    from dragoman_service.client.client import TranslationClient  # noqa: PLC0415
    from dragoman_service.client.errors import InvalidRequest  # noqa: PLC0415
    from dragoman_service.client.values import Options  # noqa: PLC0415
    from support.server_process import server_process  # noqa: PLC0415

    golden = {sentence.source_ids[0]: sentence for sentence in reversed(bundle.golden) if sentence.beam_size == 1}
    assert len(golden) == 3
    with server_process([bundle.path]) as server, TranslationClient(server.address) as client:
        for language, tag in bundle.tokenizer.target_tags.items():
            sentence = golden[tag]
            options = Options(target_language=language, beam_size=1, max_length=sentence.max_length)
            (translation,) = client.translate([sentence.source], options)
            assert translation.text == as_served(bundle, sentence)
        with pytest.raises(InvalidRequest, match=r"target_language|source_language"):
            client.translate(["a cat."])


def test_a_bundle_of_sets_of_languages_is_served(bundle: Bundle, tmp_path: Path) -> None:
    """Any source into any target, in a process whose front processes get the description over a socket."""
    from dragoman_service.client.client import TranslationClient  # noqa: PLC0415
    from dragoman_service.client.errors import InvalidRequest, ModelNotFound  # noqa: PLC0415
    from dragoman_service.client.values import Options  # noqa: PLC0415
    from support.server_process import server_process  # noqa: PLC0415

    tags = ("de", "en", "fr")
    manifest = dataclasses.replace(
        bundle.manifest, languages=Languages((), tags, tags), generation=Generation(2, 0.5), licence="MIT"
    )
    files: dict[str, bytes | Path] = {name: bundle.path / name for name in bundle.manifest.files}
    sets = write_bundle(tmp_path / "several" / "1", manifest, files)
    golden = next(
        it for it in sets.golden if it.source_ids[0] == sets.tokenizer.target_tags["fr"] and it.beam_size == 1
    )
    expected = as_served(sets, golden)
    with server_process([sets.path], "--fronts", "1") as server, TranslationClient(server.address) as client:
        (model,) = client.list_models()
        for source in ("de", "EN"):
            options = Options(
                source_language=source,
                target_language="fr",
                beam_size=1,
                length_penalty=0.6,
                max_length=golden.max_length,
            )
            assert client.translate([golden.source], options)[0].text == expected
        default = client.translate([golden.source], Options(source_language="de", target_language="fr"))
        same = Options(source_language="de", target_language="fr", beam_size=2, length_penalty=0.5)
        assert default[0].hypotheses == client.translate([golden.source], same)[0].hypotheses
        with pytest.raises(ModelNotFound, match="no language pair fr to fr"):
            client.translate(["a"], Options(source_language="fr", target_language="fr"))
        with pytest.raises(InvalidRequest, match="target_language"):
            client.translate(["a"], Options(source_language="fr"))
    assert (model.language_pairs, model.source_languages, model.target_languages) == ((), tags, tags)
    assert (model.licence, model.default_beam_size, model.default_length_penalty) == ("MIT", 2, 0.5)
