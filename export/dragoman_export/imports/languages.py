"""From the language codes of model families to BCP 47 tags (RFC 5646), and the families' lists of languages.

A tag is as short as it can be: the two-letter code where ISO 639-1 has one, and no script where the family has the
language in one script alone, or where it is the usual one.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterable

from dragoman_export.imports.imported import ImportOptions, Languages
from dragoman_export.imports.switches import listed
from dragoman_service.errors import InvalidInput
from dragoman_service.text.language_tags import TagIndex, language_of, parse_tag

NLLB_CODES = listed("""
    ace_Arab ace_Latn acm_Arab acq_Arab aeb_Arab afr_Latn ajp_Arab aka_Latn amh_Ethi apc_Arab arb_Arab ars_Arab
    ary_Arab arz_Arab asm_Beng ast_Latn awa_Deva ayr_Latn azb_Arab azj_Latn bak_Cyrl bam_Latn ban_Latn bel_Cyrl
    bem_Latn ben_Beng bho_Deva bjn_Arab bjn_Latn bod_Tibt bos_Latn bug_Latn bul_Cyrl cat_Latn ceb_Latn ces_Latn
    cjk_Latn ckb_Arab crh_Latn cym_Latn dan_Latn deu_Latn dik_Latn dyu_Latn dzo_Tibt ell_Grek eng_Latn epo_Latn
    est_Latn eus_Latn ewe_Latn fao_Latn pes_Arab fij_Latn fin_Latn fon_Latn fra_Latn fur_Latn fuv_Latn gla_Latn
    gle_Latn glg_Latn grn_Latn guj_Gujr hat_Latn hau_Latn heb_Hebr hin_Deva hne_Deva hrv_Latn hun_Latn hye_Armn
    ibo_Latn ilo_Latn ind_Latn isl_Latn ita_Latn jav_Latn jpn_Jpan kab_Latn kac_Latn kam_Latn kan_Knda kas_Arab
    kas_Deva kat_Geor knc_Arab knc_Latn kaz_Cyrl kbp_Latn kea_Latn khm_Khmr kik_Latn kin_Latn kir_Cyrl kmb_Latn
    kon_Latn kor_Hang kmr_Latn lao_Laoo lvs_Latn lij_Latn lim_Latn lin_Latn lit_Latn lmo_Latn ltg_Latn ltz_Latn
    lua_Latn lug_Latn luo_Latn lus_Latn mag_Deva mai_Deva mal_Mlym mar_Deva min_Latn mkd_Cyrl plt_Latn mlt_Latn
    mni_Beng khk_Cyrl mos_Latn mri_Latn zsm_Latn mya_Mymr nld_Latn nno_Latn nob_Latn npi_Deva nso_Latn nus_Latn
    nya_Latn oci_Latn gaz_Latn ory_Orya pag_Latn pan_Guru pap_Latn pol_Latn por_Latn prs_Arab pbt_Arab quy_Latn
    ron_Latn run_Latn rus_Cyrl sag_Latn san_Deva sat_Beng scn_Latn shn_Mymr sin_Sinh slk_Latn slv_Latn smo_Latn
    sna_Latn snd_Arab som_Latn sot_Latn spa_Latn als_Latn srd_Latn srp_Cyrl ssw_Latn sun_Latn swe_Latn swh_Latn
    szl_Latn tam_Taml tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi taq_Latn taq_Tfng tpi_Latn tsn_Latn
    tso_Latn tuk_Latn tum_Latn tur_Latn twi_Latn tzm_Tfng uig_Arab ukr_Cyrl umb_Latn urd_Arab uzn_Latn vec_Latn
    vie_Latn war_Latn wol_Latn xho_Latn ydd_Hebr yor_Latn yue_Hant zho_Hans zho_Hant zul_Latn
""")
"""The languages of NLLB-200 in the order of their ids, as its dictionary has them."""

M2M_CODES = listed("""
    af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi hr ht hu hy
    id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa pl ps pt ro ru
    sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh zu
""")
"""The languages of M2M100 in the order of their ids."""

WMT21_CODES = ("en", "ha", "is", "ja", "cs", "ru", "zh", "de")
"""The languages of Facebook's models of WMT 2021 in the order of their ids."""

MBART50_CODES = listed("""
    ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP
    nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN
    mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI
""")
"""The languages of mBART-50 in the order of their ids."""

_OPUS = re.compile(r"([a-z]{2,3})(?:[_-]([A-Za-z]{4}))?(?:[_-]([A-Za-z]{2}|[0-9]{3}))?")
_NLLB = re.compile(r"([a-z]{3})_([A-Z][a-z]{3})")
_MBART = re.compile(r"([a-z]{2})_[A-Z]{2}")
_M2M = re.compile(r"[a-z]{2,3}")
_NEAR = 2
"""Largest distance of a tag from the one that is asked for: one of them may name a region."""
_ARGOS = {"zt": "zh-Hant", "pb": "pt-BR"}
"""Codes that Argos made up."""


def _usual_scripts() -> dict[str, str]:
    """Language -> its script, of those that NLLB has in one alone."""
    scripts: dict[str, set[str]] = {}
    for code in NLLB_CODES:
        language, _, script = code.partition("_")
        scripts.setdefault(language_of(language), set()).add(script)
    return {language: found.pop() for language, found in scripts.items() if len(found) == 1}


_USUAL_SCRIPTS = _usual_scripts()


def nllb(code: str) -> str:
    """The tag of a code of NLLB-200, such as `eng_Latn` (en) or `zho_Hans` (zh-Hans)."""
    match = _matched(_NLLB, code, "a code of NLLB such as eng_Latn")
    return _tag(match[1], match[2])


def m2m(code: str) -> str:
    """The tag of a code of M2M100, SMaLL-100 or WMT21, which are those of ISO 639-1 or 639-3 but for one."""
    _matched(_M2M, code, "a code of M2M100 such as en or ceb")
    return "nso" if code == "ns" else code


def mbart50(code: str) -> str:
    """The tag of a code of mBART-50, such as `en_XX`. Its regions, one to a language, are left out."""
    return _matched(_MBART, code, "a code of mBART-50 such as en_XX")[1]


def of_fairseq(codes: Iterable[str]) -> Callable[[str], str]:
    """The function from codes of NLLB or mBART-50 to tags, as the codes show."""
    return nllb if all(map(_NLLB.fullmatch, codes)) else mbart50


def opus(code: str) -> str:
    """The tag of a code of OPUS-MT: `deu` or `de`, `cmn_Hans`, `pt_br`, `srp_Latn`."""
    match = _matched(_OPUS, code, "a code of OPUS-MT such as deu, cmn_Hans or pt_br")
    return _tag(*match.groups())


def argos(code: str) -> str:
    """The tag of a code of Argos Translate."""
    return _ARGOS.get(code) or opus(code)


def own_codes(
    wanted: Iterable[str], known: Collection[str], tag_of: Callable[[str], str], field: str
) -> tuple[str, ...]:
    """The model's own codes for languages that a user names: by these codes, or by any tag of the same meaning.

    Args:
        wanted: What the user names, in any case.
        known: The model's own codes.
        tag_of: Own code -> tag.
        field: The name of the option, for messages.

    Raises:
        InvalidInput: the model has no such language.
    """
    by_name, by_tag = {code.lower(): code for code in known}, dict[str, str]()
    for code in known:
        with contextlib.suppress(InvalidInput):  # of a group of languages, which is named by its code alone
            by_tag.setdefault(tag_of(code), code)
    index, found = TagIndex(by_tag), dict[str, None]()
    for it in wanted:
        codes = [by_name[it.lower()]] if it.lower() in by_name else []
        codes += [by_tag[tag] for distance, tag in index.fits(it) if distance <= _NEAR]
        if not codes:
            raise InvalidInput(field, it, f"languages of the model: {', '.join(known)}")
        found[codes[0]] = None
    return tuple(found)


def contradictions(said: Languages, options: ImportOptions) -> list[str]:
    """Notes on languages that the user names, where the checkpoint says others. Codes are those of OPUS-MT or tags."""
    return [
        f"The checkpoint says that it translates {side} {', '.join(own)}; {', '.join(given)} counts, as {option} says."
        for side, option, own, given in (
            ("from", "--source", said.sources, options.sources),
            ("to", "--target", said.targets, options.targets),
        )
        if own and not {*map(_primary, given)} <= {*map(_primary, own)}
    ]


def _primary(code: str) -> str:
    """The language of a code, without script and region; of what is no code, all of it."""
    match = _OPUS.fullmatch(code)
    return language_of(match[1]) if match else code.lower()


def opus_or_tag(code: str) -> str:
    """The tag of a code of OPUS-MT, or of what users write for a language, mostly tags such as pt-BR.

    Raises:
        InvalidInput: it is neither.
    """
    if _OPUS.fullmatch(code.replace("-", "_")):
        return opus(code.replace("-", "_"))
    tag = parse_tag(code)
    if tag is None:
        raise InvalidInput("language code", code, "a tag such as de or pt-BR, or a code of OPUS-MT such as deu")
    return str(tag)


def by_tag(codes: Iterable[str], tag_of: Callable[[str], str]) -> dict[str, str]:
    """Tag -> code, the form that the setting `languages` of a tokenizer has.

    OPUS-MT has models with two codes for one language, such as `crh` and `crh_Latn`. The code that says less gets the
    short tag, and the other one keeps its script.

    Raises:
        InvalidInput: a code that is not one of the family's, or two codes of one tag.
    """
    found: dict[str, str] = {}
    for code in sorted(codes, key=len):
        tag = tag_of(code)
        if tag in found and (match := _OPUS.fullmatch(code)) and match[2]:
            tag = _tag(*match.groups(), drop_usual=False)
        if tag in found:
            raise InvalidInput("language code", code, f"one code for each language; {found[tag]} is {tag} too")
        found[tag] = code
    return found


def _tag(language: str, script: str | None = None, region: str | None = None, *, drop_usual: bool = True) -> str:
    parts = [language_of(language)]
    if script and not (drop_usual and _USUAL_SCRIPTS.get(parts[0]) == script.title()):
        parts.append(script.title())
    if region:
        parts.append(region.upper())
    return "-".join(parts)


def _matched(pattern: re.Pattern[str], code: str, allowed: str) -> re.Match[str]:
    match = pattern.fullmatch(code)
    if match is None:
        raise InvalidInput("language code", code, allowed)
    return match
