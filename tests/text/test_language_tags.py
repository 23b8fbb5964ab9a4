"""Language tags: many spellings, one meaning."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_export.imports.languages import M2M_CODES, MBART50_CODES, NLLB_CODES, m2m, mbart50, nllb
from dragoman_service.text.language_tags import TagIndex, canonical, parse_tag

SPELLINGS = {
    # case, hyphens and underscores, regions
    "en": "en", "EN": "en", "En": "en", "en-US": "en-US", "en_us": "en-US", "EN-us": "en-US", "de_DE": "de-DE",
    "pt-br": "pt-BR", "PT_BR": "pt-BR", "es-419": "es-419", "fr_ca": "fr-CA",
    # ISO 639-3 and 639-2/B
    "deu": "de", "ger": "de", "GER": "de", "fra": "fr", "fre": "fr", "eng": "en", "zho": "zh", "chi": "zh", "kor": "ko",
    "nld": "nl", "dut": "nl", "ces": "cs", "cze": "cs", "ron": "ro", "rum": "ro", "fas": "fa", "per": "fa",
    "msa": "ms", "may": "ms", "ell": "el", "gre": "el", "ceb": "ceb", "yue": "yue", "deu-AT": "de-AT",
    # members of macrolanguages
    "cmn": "zh", "arb": "ar", "pes": "fa", "swh": "sw", "zsm": "ms", "lvs": "lv", "ekk": "et", "arz": "arz",
    "cmn_Hans": "zh-Hans", "zh-cmn-Hant": "zh-Hant", "zh-yue": "yue", "zh-min-nan": "nan",
    # scripts: the usual one is left out where it is the only one
    "eng_Latn": "en", "deu_Latn": "de", "rus_Cyrl": "ru", "ar-Arab": "ar", "jpn_Jpan": "ja", "kor_Hang": "ko",
    "zho_Hans": "zh-Hans", "zho_Hant": "zh-Hant", "ZH-HANT": "zh-Hant", "zh-hant-tw": "zh-Hant-TW", "zh-TW": "zh-TW",
    "zh_CN": "zh-CN", "zh-CHS": "zh-Hans", "zh-CHT": "zh-Hant", "sr-Latn": "sr-Latn", "srp_Cyrl": "sr-Cyrl",
    "uz-Cyrl": "uz-Cyrl", "en-Shaw": "en-Shaw", "ru-Latn": "ru-Latn",
    # deprecated and mistaken ones
    "iw": "he", "iw_IL": "he-IL", "in": "id", "in_ID": "id-ID", "ji": "yi", "jw": "jv", "mo": "ro", "sh": "sr-Latn",
    "hbs": "sr-Latn", "no-bok": "nb", "no-nyn": "nn", "en-UK": "en-GB", "de-DD": "de-DE",
    # both of two names of a language are kept
    "no": "no", "nb": "nb", "nob": "nb", "nor": "no", "nn": "nn", "tl": "tl", "fil": "fil", "tgl": "tl",
    # locales, and codes of models
    "de_DE.UTF-8": "de-DE", "sr_RS@latin": "sr-Latn-RS", "sr_RS.UTF-8@latin": "sr-Latn-RS", "ca_ES@valencia": "ca-ES",
    "en_XX": "en", "pb": "pt-BR", "zt": "zh-Hant", "ns": "nso", "sat_Beng": "sat",
    # variants, extensions, private use
    "de-CH-1996": "de-CH-1996", "sl-rozaj-biske": "sl-rozaj-biske", "de-x-formal": "de-x-formal",
    "en-u-ca-buddhist": "en-u-ca-buddhist", "de-DE-u-co-phonebk-x-a": "de-DE-u-co-phonebk-x-a",
}  # fmt: skip

NO_TAGS = [
    "", "auto", "English", "x", "e n", "en--US", "en-", "-en", "1", "deutsch", "en-US-", "日本", "en\n", "a" * 101,
    "en" + "-aaaaa" * 20, "de@", "C", "en-x", "ｅｎ",
]  # fmt: skip

TAGS = st.one_of(
    st.sampled_from(sorted(SPELLINGS)),
    st.from_regex(r"[a-zA-Z]{2,3}([-_][a-zA-Z]{4})?([-_]([a-zA-Z]{2}|[0-9]{3}))?([-_][a-z0-9]{5,8})?", fullmatch=True),
)


@pytest.mark.parametrize(("spelling", "expected"), SPELLINGS.items())
def test_a_tag_has_one_canonical_spelling(spelling: str, expected: str) -> None:
    assert canonical(spelling) == expected


@pytest.mark.parametrize("text", NO_TAGS)
def test_what_is_no_tag_stays_as_it_is(text: str) -> None:
    assert parse_tag(text) is None
    assert canonical(text) == text


@given(st.one_of(TAGS, st.text(max_size=20)))
def test_the_canonical_spelling_of_a_canonical_spelling_is_itself(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)


@given(TAGS, st.lists(TAGS, max_size=5))
def test_a_language_is_never_served_by_another_one_or_in_another_script(asked: str, offered: list[str]) -> None:
    tag = parse_tag(asked)
    assert tag is not None
    found = TagIndex(offered).fits(asked)
    for _, text in found:
        other = parse_tag(text)
        assert other is not None
        assert other.written_language == tag.written_language
    assert [distance for distance, _ in found] == sorted(distance for distance, _ in found)
    if asked in offered:
        assert found[0] == (0, next(it for it in offered if it.lower() == asked.lower()))


@pytest.mark.parametrize(
    ("asked", "offered", "found"),
    [
        ("EN", "en de", "en"),
        ("en-US", "en de", "en"),
        ("en", "de en-US", "en-US"),
        ("deu", "en de", "de"),
        ("de", "en deu", "deu"),
        ("eng_Latn", "en", "en"),
        ("iw", "he", "he"),
        ("he", "iw", "iw"),
        ("no", "nb", "nb"),
        ("nb", "no", "no"),
        ("nn", "no nb", ""),
        ("fil", "tl", "tl"),
        ("pt", "pt-PT pt-BR", "pt-PT pt-BR"),
        ("pt-BR", "pt pt-PT pt-BR", "pt-BR pt pt-PT"),
        ("pt-AO", "pt-BR pt", "pt pt-BR"),
        ("pt-PT", "pt-BR", "pt-BR"),
        ("zh-TW", "zh zh-Hans zh-Hant", "zh-Hant"),
        ("zh-HK", "zh-CN", ""),
        ("zh-Hant", "zh", ""),
        ("zh", "zh-Hant", ""),
        ("zh", "zh-Hans zh-Hant", "zh-Hans"),
        ("zh-CN", "zh", "zh"),
        ("zh-Hans", "zh", "zh"),
        ("zh-SG", "zh-Hans", "zh-Hans"),
        ("zh-HK", "yue", ""),
        ("sr", "sr-Latn", ""),
        ("sr-Latn", "sr", ""),
        ("sr-ME", "sr sr-Latn", "sr-Latn"),
        ("sr-Cyrl", "sr", "sr"),
        ("hr", "sr-Latn bs", ""),
        ("ar-EG", "ar arz", "ar"),
        ("de-x-formal", "de", "de"),
        ("auto", "en", ""),
        ("auto", "auto", "auto"),
    ],
)  # fmt: skip
def test_a_tag_finds_the_nearest_ones_of_its_language(asked: str, offered: str, found: str) -> None:
    assert " ".join(text for _, text in TagIndex(offered.split()).fits(asked)) == found


@pytest.mark.parametrize(
    ("codes", "tag_of"), [(NLLB_CODES, nllb), (M2M_CODES, m2m), (MBART50_CODES, mbart50)], ids=["nllb", "m2m", "mbart"]
)
def test_the_codes_of_a_family_find_its_languages(codes: Sequence[str], tag_of: Callable[[str], str]) -> None:
    index = TagIndex(map(tag_of, codes))
    assert {code: index.fits(code)[0][1] for code in codes} == {code: tag_of(code) for code in codes}
