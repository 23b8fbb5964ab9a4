from __future__ import annotations

import re

import pytest

from dragoman_export.imports.languages import (
    M2M_CODES,
    MBART50_CODES,
    NLLB_CODES,
    argos,
    by_tag,
    m2m,
    mbart50,
    nllb,
    opus,
)
from dragoman_service.errors import InvalidInput


@pytest.mark.parametrize(
    ("code", "tag"),
    [
        ("eng_Latn", "en"),
        ("deu_Latn", "de"),
        ("zho_Hans", "zh-Hans"),
        ("zho_Hant", "zh-Hant"),
        ("yue_Hant", "yue"),
        ("arb_Arab", "ar"),
        ("arz_Arab", "arz"),
        ("pes_Arab", "fa"),
        ("prs_Arab", "prs"),
        ("ace_Arab", "ace-Arab"),
        ("knc_Latn", "kr-Latn"),
        ("nob_Latn", "nb"),
        ("srp_Cyrl", "sr"),
        ("twi_Latn", "tw"),
        ("nso_Latn", "nso"),
    ],
)
def test_codes_of_nllb(code: str, tag: str) -> None:
    assert nllb(code) == tag


@pytest.mark.parametrize(
    ("code", "tag"),
    [
        ("deu", "de"),
        ("de", "de"),
        ("cmn_Hans", "zh-Hans"),
        ("cmn", "zh"),
        ("pt_br", "pt-BR"),
        ("es_419", "es-419"),
        ("srp_Latn", "sr-Latn"),
        ("srp_Cyrl", "sr"),
        ("zho_Hant_tw", "zh-Hant-TW"),
        ("zh_TW", "zh-TW"),
        ("nor", "no"),
        ("hsb", "hsb"),
        ("jpn_Hira", "ja-Hira"),
    ],
)
def test_codes_of_opus(code: str, tag: str) -> None:
    assert opus(code) == tag


def test_codes_of_the_other_families() -> None:
    assert [m2m(code) for code in ("en", "ceb", "ns", "zh")] == ["en", "ceb", "nso", "zh"]
    assert [mbart50(code) for code in ("en_XX", "zh_CN", "pt_XX")] == ["en", "zh", "pt"]
    assert [argos(code) for code in ("en", "zt", "pb", "pt_br")] == ["en", "zh-Hant", "pt-BR", "pt-BR"]


@pytest.mark.parametrize(
    ("codes", "tag_of", "count"), [(NLLB_CODES, nllb, 202), (M2M_CODES, m2m, 100), (MBART50_CODES, mbart50, 52)]
)
def test_every_language_of_a_family_has_a_tag_of_its_own(codes, tag_of, count) -> None:  # type: ignore[no-untyped-def]
    found = by_tag(codes, tag_of)
    assert len(found) == len(set(codes)) == count
    assert all(re.fullmatch(r"[a-z]{2,3}(-[A-Z][a-z]{3})?", tag) for tag in found)


def test_the_lists_are_in_the_order_of_the_ids() -> None:
    assert [NLLB_CODES.index(code) for code in ("ace_Arab", "deu_Latn", "eng_Latn", "zul_Latn")] == [0, 41, 46, 201]
    assert (M2M_CODES.index("af"), M2M_CODES.index("en"), M2M_CODES.index("zu")) == (0, 18, 99)
    assert (MBART50_CODES.index("ar_AR"), MBART50_CODES.index("en_XX"), MBART50_CODES.index("sl_SI")) == (0, 3, 51)


def test_of_two_codes_for_a_language_the_longer_one_keeps_its_script() -> None:
    assert by_tag(["crh_Latn", "crh", "kaz_Cyrl"], opus) == {"crh": "crh", "kk": "kaz_Cyrl", "crh-Latn": "crh_Latn"}
    with pytest.raises(InvalidInput, match="got 'deu'; allowed: one code for each language; de is de too"):
        by_tag(["deu", "de"], opus)


@pytest.mark.parametrize(
    ("tag_of", "code"),
    [(nllb, "en"), (nllb, "eng_latn"), (m2m, "en_XX"), (mbart50, "en"), (opus, "ROMANCE"), (opus, ""), (argos, "x")],
)
def test_what_is_no_code_is_refused(tag_of, code: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput, match=f"language code: got '{code}'"):
        tag_of(code)
