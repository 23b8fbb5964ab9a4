"""Which languages a model translates, in pairs and in sets."""

from __future__ import annotations

import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_service.bundle.languages import MAX_SHOWN, Languages

PAIRS = Languages((("en", "de"), ("en", "pt-BR"), ("de", "en")))
SETS = Languages((), ("en", "de", "fr"), ("de", "ko", "EN"))
BOTH = Languages((("ja", "en"), ("en", "en")), ("en", "de"), ("en", "fr"))
MANY_TAGS = tuple(f"{a}{b}{c}" for a in "abcdef" for b in "abcdef" for c in "abcdef")[:202]
MANY = Languages((), MANY_TAGS, MANY_TAGS)

TAGS = st.sampled_from(["en", "EN", "de", "fr", "pt-BR", "pt-br", "ko"])
ANY = st.builds(
    Languages,
    st.lists(st.tuples(TAGS, TAGS), max_size=6).map(tuple),
    st.lists(TAGS, max_size=4).map(tuple),
    st.lists(TAGS, max_size=4).map(tuple),
)


def test_a_model_translates_its_pairs() -> None:
    assert list(PAIRS.all_pairs()) == [("en", "de"), ("en", "pt-BR"), ("de", "en")]
    assert PAIRS.translates("en", "pt-BR")
    assert not PAIRS.translates("de", "pt-BR")
    assert not PAIRS.translates("pt-BR", "en")


def test_a_model_of_sets_translates_every_source_into_every_target_but_itself() -> None:
    pairs = [("en", "de"), ("en", "ko"), ("de", "ko"), ("de", "EN"), ("fr", "de"), ("fr", "ko"), ("fr", "EN")]
    assert list(SETS.all_pairs()) == pairs
    assert not SETS.translates("en", "EN")
    assert not SETS.translates("ko", "en")


def test_pairs_stand_beside_sets() -> None:
    assert list(BOTH.all_pairs()) == [("ja", "en"), ("en", "en"), ("en", "fr"), ("de", "en"), ("de", "fr")]
    assert (BOTH.all_sources, BOTH.all_targets) == (("ja", "en", "de"), ("en", "fr"))


def test_case_does_not_matter_and_the_model_decides_how_a_language_is_written() -> None:
    assert PAIRS.find("EN", "pt-br") == ("en", "pt-BR")
    assert SETS.find("FR", "en") == ("fr", "EN")
    assert SETS.find("en", "fr") is None


def test_the_languages_that_go_with_one_are_found() -> None:
    assert PAIRS.targets_of("EN") == ("de", "pt-BR")
    assert SETS.targets_of("de") == ("ko", "EN")
    assert SETS.targets_of("ko") == ()
    assert SETS.targets_of("") == ()
    assert [source for source, _ in SETS.matching("", "DE")] == ["en", "fr"]


@given(ANY, TAGS, TAGS)
def test_all_ways_to_ask_agree(languages: Languages, source: str, target: str) -> None:
    pairs = list(languages.all_pairs())
    low = [(one.lower(), other.lower()) for one, other in pairs]
    wanted = {(one.lower(), other.lower()) for one, other in languages.pairs}
    wanted |= {(s.lower(), t.lower()) for s in languages.sources for t in languages.targets if s.lower() != t.lower()}
    assert len(low) == len(set(low)) == len(languages)
    assert set(low) == wanted
    assert languages.translates(source, target) == ((source.lower(), target.lower()) in wanted)
    assert list(languages.matching(source, target)) == [it for it in [languages.find(source, target)] if it]
    of_source = sorted(other for one, other in low if one == source.lower())
    assert sorted(map(str.lower, languages.targets_of(source))) == of_source
    of_target = sorted(one for one, other in low if other == target.lower())
    assert sorted(one.lower() for one, _ in languages.matching("", target)) == of_target
    assert {tag.lower() for tag in languages.all_sources} == {one for one, _ in low} | (
        {tag.lower() for tag in languages.sources}
    )


def test_a_summary_lists_few_pairs_and_counts_many() -> None:
    assert PAIRS.summary == "en to de, en to pt-BR, de to en"
    assert MANY.summary == "40602 pairs of 202 languages"
    edge = Languages(tuple(("en", tag) for tag in MANY_TAGS[:MAX_SHOWN]))
    assert edge.summary.count(" to ") == MAX_SHOWN
    more = Languages(tuple(("en", tag) for tag in MANY_TAGS[: MAX_SHOWN + 1]))
    assert more.summary == f"{MAX_SHOWN + 1} pairs of {MAX_SHOWN + 2} languages"


def test_a_pair_of_many_languages_is_found_in_constant_time() -> None:
    assert len(MANY) == 202 * 201
    start = time.perf_counter()
    for _ in range(10_000):
        MANY.find("fce", "aaa")
        next(MANY.matching("", ""))
    assert time.perf_counter() - start < 2  # 0.01 s; a search through the pairs would take 10 s


@pytest.mark.parametrize("languages", [PAIRS, SETS, BOTH, MANY])
def test_languages_cross_to_another_process(languages: Languages) -> None:
    data = pickle.dumps(languages)
    assert len(data) < 10_000
    again = pickle.loads(data)
    assert again == languages
    assert list(again.all_pairs()) == list(languages.all_pairs())
