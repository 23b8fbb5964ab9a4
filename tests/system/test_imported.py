"""Checkpoints of other programs, imported and served by a real process, translate as these programs do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman_model.evaluation.reference_decode import search_uncached
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.client.client import AsyncTranslationClient, TranslationClient
from dragoman_service.client.values import Model, Options, Translation
from dragoman_service.engine.request import DecodingOptions, Normalisation
from support.foreign.checkpoints import OPTIONS, read
from support.foreign.imports import ARGOS, Case, cases, imported_bundle
from support.server_process import ServerProcess, server_process

NAMES = sorted(OPTIONS)
COMPARED = sorted(cases())
KINDS = ("opus-mt-en-de", "marian-untied", "marian-pre-norm", "nllb", "small-100", "mbart-50", "ct2-opennmt-float32")
"""Every family, activation and place of a norm, and heads of a width that is padded."""
LENGTH = 24
"""Most tokens of the expected translations."""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("imported")
    return {name: imported_bundle(name, folder) for name in (*NAMES, ARGOS)}


@pytest.fixture(scope="module")
def server(bundles: dict[str, Bundle]) -> Iterator[ServerProcess]:
    with server_process([it.path for it in bundles.values()], "--max-rows", "16") as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[TranslationClient]:
    with TranslationClient(server.address) as connection:
        yield connection


@pytest.fixture(scope="module")
def models(server: ServerProcess) -> dict[str, Model]:
    with TranslationClient(server.address) as connection:
        return {it.name: it for it in connection.list_models()}


def test_every_checkpoint_has_expected_translations_that_end_at_different_lengths() -> None:
    assert set(NAMES) - set(COMPARED) == {"marian-toy"}
    ended = {len(case.ids) for some in cases().values() for case in some if case.ended}
    assert len(ended) > 8
    for name, some in cases().items():
        assert len({tuple(case.ids) for case in some}) >= 8, name


def test_the_list_of_models_has_languages_and_defaults(models: dict[str, Model]) -> None:
    assert set(models) == {*NAMES, ARGOS}
    assert models["opus-mt-en-de"].language_pairs == (("en", "de"),)
    many = models["opus-mt-en-mul"]
    assert [target for target in ("de", "fr", "zh-Hans", "en") if many.translates("en", target)] == [
        "de",
        "fr",
        "zh-Hans",
    ]
    for name, languages in (
        ("m2m", "de en fr"),
        ("small-100", "de en fr"),
        ("nllb", "de en fr"),
        ("mbart-50", "ar de en"),
    ):
        assert sorted(models[name].source_languages) == sorted(models[name].target_languages) == languages.split(), name
    defaults = {name: (it.default_beam_size, it.default_length_penalty) for name, it in models.items()}
    assert defaults["opus-mt-en-de"] == (4, 1)
    assert defaults["marian-old"] == (6, 1)
    assert defaults["nllb"] == (1, 1)
    assert defaults["mbart-50"] == (5, 1)
    assert defaults[ARGOS] == (4, pytest.approx(0.2))
    assert {it.length_normalisation for it in models.values()} == {"power"}


@pytest.mark.parametrize("name", COMPARED)
def test_greedy_translations_are_those_of_the_other_program(
    name: str, client: TranslationClient, bundles: dict[str, Bundle]
) -> None:
    for case in cases()[name]:
        (translation,) = client.translate([case.text], case.options(name, LENGTH, beam_size=1))
        case.check(bundles[name], translation, LENGTH)


def test_a_model_of_marian_writes_capitals(client: TranslationClient) -> None:
    """It was trained to. No other program computes its positions; its log-probabilities are compared elsewhere."""
    for beam in (1, 4):
        for text in ("a b c d e", "e d c b a", "b", "c a c a"):
            (translation,) = client.translate([text], Options(model="marian-toy", beam_size=beam))
            assert translation.text == text.upper()


def test_an_argos_package_translates_as_its_model(client: TranslationClient, bundles: dict[str, Bundle]) -> None:
    model, bundle = read("ct2-opennmt-float32").model(), bundles[ARGOS]
    for case in cases()["ct2-opennmt-float32"]:
        source = bundle.tokenizer.source(bundle.tokenizer.encode(case.text), "en", "de")
        (wanted,) = search_uncached(model, source, LENGTH)
        (translation,) = client.translate([case.text], case.options(ARGOS, LENGTH, beam_size=1))
        assert translation.hypotheses[0].tokens == tuple(bundle.tokenizer.pieces(wanted.tokens))


def test_a_crowd_of_all_models_and_languages(server: ServerProcess, bundles: dict[str, Bundle]) -> None:
    """Requests of all models, languages and lengths at once, greedy and beams: each greedy one is as it is alone."""
    rng = random.Random(0)
    work = [(name, case, rng.randint(1, LENGTH), rng.random() < 0.3) for name in COMPARED for case in cases()[name]]
    rng.shuffle(work)
    waiting = iter(work)

    async def one() -> None:
        async with AsyncTranslationClient(server.address) as connection:
            for name, case, length, beams in waiting:
                options = case.options(name, length, beam_size=3 if beams else 1)
                (translation,) = await connection.translate([case.text], options)
                if not beams:
                    case.check(bundles[name], translation, length)

    async def crowd() -> None:
        await asyncio.gather(*(one() for _ in range(24)))

    asyncio.run(crowd())


@pytest.mark.parametrize("name", ["opus-mt-en-mul", "m2m", "small-100", "nllb", "mbart-50", "ct2-nllb-float16"])
def test_several_target_languages_run_in_one_batch(
    name: str, server: ServerProcess, bundles: dict[str, Bundle]
) -> None:
    """Ids that a language forces belong to their request alone."""
    some = cases()[name]
    assert len({case.target for case in some}) == 3

    async def translate() -> list[list[Translation]]:
        async with AsyncTranslationClient(server.address) as connection:
            return await asyncio.gather(
                *(
                    connection.translate([case.text], case.options(name, LENGTH - place, beam_size=1))
                    for place, case in enumerate(some)
                )
            )

    for place, (case, (translation,)) in enumerate(zip(some, asyncio.run(translate()), strict=True)):
        case.check(bundles[name], translation, LENGTH - place)


@pytest.mark.parametrize("name", COMPARED)
def test_a_stream_gives_the_whole_piece_by_piece(
    name: str, client: TranslationClient, bundles: dict[str, Bundle]
) -> None:
    for case in cases()[name][:3]:
        *pieces, whole = client.translate_stream(case.text, case.options(name, LENGTH, beam_size=1))
        assert isinstance(whole, Translation)
        case.check(bundles[name], whole, LENGTH)
        assert "".join(map(str, pieces)) == whole.text


def searched(
    bundle: Bundle, name: str, case: Case, options: DecodingOptions, prefix: str = ""
) -> tuple[list[str], float]:
    """The best hypothesis of our slow search over the checkpoint's own model, without caches and graphs."""
    tokenizer = bundle.tokenizer
    best = search_uncached(
        read(name).model(),
        tokenizer.source(tokenizer.encode(case.text), case.source, case.target),
        LENGTH,
        options,
        tokenizer.encode_target(prefix) if prefix else (),
        forced=tokenizer.forced(case.target),
        normalisation=Normalisation.POWER,
    )[0]
    return tokenizer.pieces(best.tokens), best.score


@pytest.mark.parametrize("name", [*COMPARED, "marian-toy"])
def test_beams_are_those_of_a_slow_search_over_the_checkpoint(
    name: str, client: TranslationClient, bundles: dict[str, Bundle]
) -> None:
    some = cases()[name][:4] if name in cases() else [Case("en", "de", "a b c", [], True, "")]
    for case, penalty in zip(some, (0.0, 1.0, 0.6, 1.4), strict=False):
        (translation,) = client.translate([case.text], case.options(name, LENGTH, beam_size=4, length_penalty=penalty))
        tokens, score = searched(
            bundles[name], name, case, DecodingOptions(beam_size=4, length_penalty=penalty, never_empty=True)
        )
        assert list(translation.hypotheses[0].tokens) == tokens, case
        assert translation.score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("name", ["opus-mt-en-mul", "m2m", "nllb", "mbart-50", "ct2-opennmt-float32"])
def test_a_target_prefix_follows_what_a_language_forces(
    name: str, client: TranslationClient, bundles: dict[str, Bundle]
) -> None:
    for case in cases()[name][:4]:
        options = case.options(name, LENGTH, beam_size=1)
        (translation,) = client.translate([case.text], options, target_prefixes="the red")
        tokens, _ = searched(bundles[name], name, case, DecodingOptions(), "the red")
        assert list(translation.hypotheses[0].tokens) == tokens, case
        assert translation.text.startswith("the red")


@pytest.mark.parametrize(
    ("precision", "kinds"),
    [
        ("int8", KINDS[3::2]),
        pytest.param("int8", KINDS, marks=pytest.mark.slow),
        pytest.param("fp16", KINDS, marks=pytest.mark.slow),
    ],
)
def test_other_precisions_of_every_family_are_served(precision: str, kinds: tuple[str, ...], tmp_path: Path) -> None:
    """Each bundle has been compared with its model when it was made, and the server checks its golden sentences."""
    folder = tmp_path / precision
    made = {name: imported_bundle(name, folder, precision) for name in (*kinds, ARGOS)}
    with (
        server_process([it.path for it in made.values()], "--max-rows", "8") as server,
        TranslationClient(server.address) as client,
    ):
        assert {it.name: it.precision for it in client.list_models()} == dict.fromkeys(made, precision)
        same = total = 0
        for name in kinds:
            for case in cases()[name][:4]:
                (translation,) = client.translate([case.text], case.options(name, 4, beam_size=1))
                wanted = made[name].tokenizer.pieces(case.ids[:4])
                same += list(translation.hypotheses[0].tokens) == wanted
                total += 1
        assert same / total > (0.95 if precision == "fp16" else 0.7), (same, total)
