"""Which version of which model a request means."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

from dragoman_service.bundle.languages import Languages
from dragoman_service.errors import DragomanError, InvalidInput, NotFound
from dragoman_service.repository.models import ServedModel
from dragoman_service.repository.registry import Alias, ModelEntry, ModelRegistry, check_names, version_order
from support.fake_workers import FakeWorkers, served

ENGINE = FakeWorkers()
EN_DE, EN_FR, DE_EN = ("en", "de"), ("en", "fr"), ("de", "en")

Pairs = tuple[tuple[str, str], ...]


def model(name: str, version: str = "1", pairs: Pairs = (EN_DE,)) -> ServedModel:
    return served(ENGINE, name=name, version=version, languages=Languages(pairs))


def entry(*models: ServedModel, default: str = "", **aliases: Alias) -> ModelEntry:
    versions = {it.description.version: it for it in models}
    return ModelEntry(versions, default or list(versions)[-1], aliases)


def registry(*entries: ModelEntry, draw: Callable[[], float] = lambda: 0.999999) -> ModelRegistry:
    made = ModelRegistry(draw=draw)
    for it in entries:
        made.replace(it.default.description.name, it)
    return made


def meant(models: ModelRegistry, name: str = "", source: str = "", target: str = "") -> str:
    description = models.route(name, source, target).model.description
    return f"{description.name}@{description.version}"


def refusal(models: ModelRegistry, name: str = "", source: str = "", target: str = "") -> str:
    with pytest.raises(NotFound) as caught:
        models.route(name, source, target)
    return str(caught.value)


# --- names


def test_the_first_model_that_has_the_language_pair_is_meant_if_none_is_named() -> None:
    models = ModelRegistry([model("one"), model("two", pairs=(DE_EN, EN_FR)), model("three", pairs=(EN_FR,))])
    assert meant(models) == "one@1"
    assert meant(models, source="en", target="fr") == "two@1"
    assert meant(models, source="DE") == "two@1"
    assert meant(models, "three", "en", "fr") == "three@1"


def test_a_name_means_the_default_version() -> None:
    models = registry(entry(model("m", "1"), model("m", "2"), model("m", "3"), default="2"))
    assert meant(models, "m") == "m@2"
    assert meant(models) == "m@2"


def test_a_name_with_a_version_or_an_alias_means_that_version() -> None:
    models = registry(entry(model("m", "1"), model("m", "2"), default="2", old=Alias("1"), stable=Alias("2")))
    assert [meant(models, f"m@{it}") for it in ("1", "2", "old", "stable")] == ["m@1", "m@2", "m@1", "m@2"]


def test_a_route_has_the_language_pair_as_the_model_writes_it() -> None:
    route = registry(entry(model("m", pairs=(("en", "pt-BR"),)))).route("m", "EN", "pt-br")
    assert (route.source_language, route.target_language) == ("en", "pt-BR")


# --- shares


@pytest.mark.parametrize(
    ("number", "version"),
    [(0.0, "2"), (0.0999, "2"), (0.1, "3"), (0.3999, "3"), (0.4, "1"), (0.7, "1"), (0.999, "1")],
)
def test_shares_are_parts_of_the_calls_that_name_no_version(number: float, version: str) -> None:
    made = entry(
        model("m", "1"), model("m", "2"), model("m", "3"),
        default="1", stable=Alias("1"), canary=Alias("2", 0.1), next=Alias("3", 0.3),
    )  # fmt: skip
    models = registry(made, draw=lambda: number)
    assert meant(models, "m") == f"m@{version}"
    assert meant(models) == f"m@{version}"
    assert meant(models, "m@canary") == "m@2"
    assert meant(models, "m@1") == "m@1"


def test_over_many_calls_the_shares_are_what_they_say() -> None:
    made = entry(model("m", "1"), model("m", "2"), default="1", canary=Alias("2", 0.05))
    models = registry(made, draw=random.Random(0).random)
    counts = Counter(meant(models, "m") for _ in range(20_000))
    assert counts["m@2"] == pytest.approx(1000, abs=100)


def test_a_share_of_all_leaves_none_to_the_default() -> None:
    made = entry(model("m", "1"), model("m", "2"), default="1", all=Alias("2", 1.0))
    assert {meant(registry(made, draw=lambda n=n: n / 100), "m") for n in range(100)} == {"m@2"}  # type: ignore[misc]


def test_what_the_version_drawn_cannot_translate_goes_to_the_default() -> None:
    made = entry(model("m", "1", (EN_DE, EN_FR)), model("m", "2", (EN_DE,)), default="1", canary=Alias("2", 1.0))
    models = registry(made, draw=lambda: 0.0)
    assert meant(models, "m", "en", "de") == "m@2"
    assert meant(models, "m", "en", "fr") == "m@1"
    assert meant(models, "", "en", "fr") == "m@1"


def test_a_version_named_is_not_replaced_by_another() -> None:
    made = entry(model("m", "1", (EN_DE, EN_FR)), model("m", "2", (EN_DE,)), default="1")
    assert "no language pair en to fr; there are: m: en to de" in refusal(registry(made), "m@2", "en", "fr")


# --- what is not there


def test_an_empty_registry_says_that_there_is_nothing() -> None:
    models = ModelRegistry()
    assert models.models == []
    assert refusal(models) == "no language pair any to any; there are: no models"
    assert refusal(models, "m") == "no model 'm'; there are: none"
    assert refusal(models, "m@1") == "no model 'm'; there are: none"


def test_refusals_list_what_there_is() -> None:
    made = entry(model("m", "9"), model("m", "10"), default="10", stable=Alias("10"), canary=Alias("9"))
    models = registry(made, entry(model("other", pairs=(DE_EN,))))
    assert refusal(models, "x" * 200) == f"no model {'x' * 80!r}; there are: m, other"
    assert refusal(models, "m@7") == "no version or alias '7' of model m in service; there are: 9, 10, canary, stable"
    assert refusal(models, "m@") == "no version or alias '' of model m in service; there are: 9, 10, canary, stable"
    expected = "no language pair en to xx; there are: m: en to de; other: de to en"
    assert refusal(models, "", "en", "xx") == expected
    assert refusal(models, "", "", "xx") == "no language pair any to xx; there are: m: en to de; other: de to en"


@pytest.mark.parametrize(
    ("source", "target", "field"), [("", "", "source_language"), ("en", "", "target_language"), ("", "en", "")]
)
def test_a_pair_left_open_must_leave_no_doubt(source: str, target: str, field: str) -> None:
    models = ModelRegistry([model("m", pairs=(EN_DE, EN_FR, DE_EN))])
    if not field:
        assert meant(models, "m", source, target) == "m@1"
        return
    with pytest.raises(InvalidInput) as caught:
        models.route("m", source, target)
    assert caught.value.field == field
    assert "en to de, en to fr" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "source", "target", "expected"),
    [
        ("", "", "", ("two", "en", "de")),
        ("", "EN", "", ("two", "en", "de")),
        ("", "", "fr", ("three", "en", "fr")),
        ("three", "fr", "", ("three", "fr", "en")),
        ("", "fr", "en", ("three", "fr", "en")),
    ],
)
def test_route_finds_what_is_meant(name: str, source: str, target: str, expected: tuple[str, str, str]) -> None:
    route = two_models().route(name, source, target)
    assert (route.model.description.name, route.source_language, route.target_language) == expected


@pytest.mark.parametrize(
    ("name", "source", "target", "error", "message"),
    [
        ("four", "", "", NotFound, "two, three"),
        ("", "en", "xx", NotFound, "two: en to de; three: en to fr, fr to en"),
        ("two", "en", "fr", NotFound, "two: en to de"),
        ("three", "", "", InvalidInput, "en to fr, fr to en"),
    ],
)
def test_route_says_what_there_is(
    name: str, source: str, target: str, error: type[DragomanError], message: str
) -> None:
    with pytest.raises(error, match=message):
        two_models().route(name, source, target)


def two_models() -> ModelRegistry:
    three = served(ENGINE, name="three", languages=Languages((("en", "fr"), ("fr", "en"))))
    return ModelRegistry([served(ENGINE, name="two"), three])


# --- many languages

TAGS = tuple(f"{a}{b}{c}" for a in "abcdef" for b in "abcdef" for c in "abcdef")[:202]
MANY = served(ENGINE, name="many", languages=Languages((), TAGS, TAGS))


def test_a_model_of_sets_translates_any_language_into_any_other() -> None:
    models = ModelRegistry([model("one"), MANY])
    route = models.route("", "AAB", "fce")
    assert (route.model, route.source_language, route.target_language) == (MANY, "aab", "fce")
    assert meant(models, source="en") == "one@1"


def test_a_region_is_a_language_of_its_own_where_it_is_served_and_a_script_always() -> None:
    tags = ("en", "pt", "pt-BR", "zh-Hant")
    models = ModelRegistry([served(ENGINE, languages=Languages((), tags, tags))])
    assert models.route("", "PT", "pt-br").target_language == "pt-BR"
    assert models.route("", "en", "pt-PT").target_language == "pt"
    assert models.route("", "en", "zh_TW").target_language == "zh-Hant"
    assert "no language pair en to zh" in refusal(models, "", "en", "zh")
    assert "no language pair en to zh-CN" in refusal(models, "", "en", "zh-CN")


def test_the_nearest_languages_are_meant_whichever_model_comes_first() -> None:
    brazil, portugal = model("brazil", pairs=(("en", "pt-BR"),)), model("portugal", pairs=(("en", "pt-PT"),))
    assert meant(ModelRegistry([brazil, portugal]), source="en_GB", target="PT-pt") == "portugal@1"
    assert meant(ModelRegistry([brazil, portugal]), source="eng", target="por") == "brazil@1"
    assert meant(ModelRegistry([brazil]), source="en", target="pt-PT") == "brazil@1"


def test_a_set_of_one_language_may_be_left_open() -> None:
    models = ModelRegistry([served(ENGINE, languages=Languages((), ("en",), ("de", "fr", "en")))])
    route = models.route("", "", "fr")
    assert (route.source_language, route.target_language) == ("en", "fr")
    with pytest.raises(InvalidInput, match="target_language: got ''; allowed: one of the languages of en to de, en to"):
        models.route("", "en", "")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("", "", "source_language: got ''; allowed: one of 202 languages; ListModels lists them"),
        ("aaa", "", "target_language: got ''; allowed: one of 201 languages; ListModels lists them"),
        ("", "aaa", "source_language: got ''; allowed: one of 201 languages; ListModels lists them"),
    ],
)
def test_a_choice_of_many_languages_is_not_listed(source: str, target: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ModelRegistry([MANY]).route("", source, target)
    assert str(caught.value) == message


def test_a_refusal_counts_many_languages_and_lists_few() -> None:
    models = ModelRegistry([model("one"), MANY])
    expected = "no language pair aaa to xx; there are: one: en to de; many: 40602 pairs of 202 languages"
    assert refusal(models, "", "aaa", "xx") == expected
    assert refusal(models, "", "aaa", "aaa").startswith("no language pair aaa to aaa")


def test_a_refusal_of_a_server_of_many_models_stays_short() -> None:
    models = ModelRegistry([model(f"model-{number}") for number in range(3_000)])
    for message in (refusal(models, "", "xx", "yy"), refusal(models, "x")):
        assert len(message) < 3_200
        shown = message.count("model-")
        assert shown > 50
        assert message.endswith(f"and {3_000 - shown} others; ListModels lists them")


def test_a_route_takes_the_same_time_with_many_languages() -> None:
    models = ModelRegistry([MANY])
    start = time.perf_counter()
    for _ in range(5_000):
        models.route("", "fce", "aaa")
        with pytest.raises(NotFound):
            models.route("many", "xx", "aaa")
    assert time.perf_counter() - start < 10  # 1 s; a search through the pairs would take a minute


# --- what serves


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"models: got \['a', 'b'\]; allowed: each name once"):
        check_names(["a", "b", "a", "c", "b"])
    with pytest.raises(InvalidInput, match="each name once"):
        ModelRegistry([model("m", "1"), model("m", "2")])


def test_models_come_in_their_order_each_name_with_its_default_first() -> None:
    first = entry(model("b", "1"), model("b", "2"), model("b", "3"), default="2")
    models = registry(first, entry(model("a")))
    listed = [(it.description.name, it.description.version) for it in models.models]
    assert listed == [("b", "2"), ("b", "1"), ("b", "3"), ("a", "1")]


def test_an_entry_is_replaced_or_taken_out_and_a_route_found_before_stays() -> None:
    models = registry(entry(model("m", "1")), entry(model("other")))
    route = models.route("m", "", "")
    models.replace("m", entry(model("m", "2")))
    assert (meant(models, "m"), route.model.description.version) == ("m@2", "1")
    assert meant(models) == "m@2"  # its place among the others is kept
    models.replace("m", None)
    models.replace("m", None)
    assert meant(models) == "other@1"


def test_an_entry_knows_the_aliases_of_its_versions() -> None:
    made = entry(model("m", "1"), model("m", "2"), b=Alias("2"), a=Alias("2"), c=Alias("1"))
    assert made.aliases_of("2") == ["a", "b"]
    assert made.aliases_of("3") == []


# --- order


def test_versions_are_in_the_order_that_people_expect() -> None:
    ordered = ["1", "1.2", "1.9", "1.10", "2", "9", "9a", "10", "2024-01-31", "2024-02-01"]
    for seed in range(20):
        shuffled = random.Random(seed).sample(ordered, len(ordered))
        assert sorted(shuffled, key=version_order) == ordered
    assert sorted(["v10", "v9", "v"], key=version_order) == ["v", "v9", "v10"]


def test_any_two_versions_can_be_compared() -> None:
    odd = ["1", "a", "1a", "a1", "1.", ".1", "01", "a-1", "1-a", "a.b", "٣"]
    for one, other in itertools.permutations(odd, 2):
        assert (version_order(one) < version_order(other)) is not (version_order(one) >= version_order(other))


def test_languages_of_any_length_are_not_repeated_whole() -> None:
    with pytest.raises(NotFound) as caught:
        ModelRegistry([]).route("", "en\n" + "x" * 3_000_000, "")
    assert str(caught.value).startswith(r"no language pair en\nxxx")
    assert len(str(caught.value)) < 300
