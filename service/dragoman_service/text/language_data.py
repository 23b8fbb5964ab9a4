"""Tables of ISO 639, the IANA registry of subtags and CLDR that language tags need."""

from __future__ import annotations


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in text.split())


TWO_LETTERS = _pairs("""
    aar:aa abk:ab afr:af aka:ak amh:am ara:ar arg:an asm:as ava:av ave:ae aym:ay aze:az bak:ba bam:bm bel:be ben:bn
    bis:bi bod:bo bos:bs bre:br bul:bg cat:ca ces:cs cha:ch che:ce chu:cu chv:cv cor:kw cos:co cre:cr cym:cy dan:da
    deu:de div:dv dzo:dz ell:el eng:en epo:eo est:et eus:eu ewe:ee fao:fo fas:fa fij:fj fin:fi fra:fr fry:fy ful:ff
    gla:gd gle:ga glg:gl glv:gv grn:gn guj:gu hat:ht hau:ha hbs:sh heb:he her:hz hin:hi hmo:ho hrv:hr hun:hu hye:hy
    ibo:ig ido:io iii:ii iku:iu ile:ie ina:ia ind:id ipk:ik isl:is ita:it jav:jv jpn:ja kal:kl kan:kn kas:ks kat:ka
    kau:kr kaz:kk khm:km kik:ki kin:rw kir:ky kom:kv kon:kg kor:ko kua:kj kur:ku lao:lo lat:la lav:lv lim:li lin:ln
    lit:lt ltz:lb lub:lu lug:lg mah:mh mal:ml mar:mr mkd:mk mlg:mg mlt:mt mon:mn mri:mi msa:ms mya:my nau:na nav:nv
    nbl:nr nde:nd ndo:ng nep:ne nld:nl nno:nn nob:nb nor:no nya:ny oci:oc oji:oj ori:or orm:om oss:os pan:pa pli:pi
    pol:pl por:pt pus:ps que:qu roh:rm ron:ro run:rn rus:ru sag:sg san:sa sin:si slk:sk slv:sl sme:se smo:sm sna:sn
    snd:sd som:so sot:st spa:es sqi:sq srd:sc srp:sr ssw:ss sun:su swa:sw swe:sv tah:ty tam:ta tat:tt tel:te tgk:tg
    tgl:tl tha:th tir:ti ton:to tsn:tn tso:ts tuk:tk tur:tr twi:tw uig:ug ukr:uk urd:ur uzb:uz ven:ve vie:vi vol:vo
    wln:wa wol:wo xho:xh yid:yi yor:yo zha:za zho:zh zul:zu
""")
"""ISO 639-3 -> ISO 639-1, all of it (https://iso639-3.sil.org)."""

BIBLIOGRAPHIC = _pairs("""
    alb:sq arm:hy baq:eu bur:my chi:zh cze:cs dut:nl fre:fr geo:ka ger:de gre:el ice:is mac:mk mao:mi may:ms per:fa
    rum:ro slo:sk tib:bo wel:cy
""")
"""ISO 639-2/B -> ISO 639-1, of the languages that have another code there than in ISO 639-3."""

MACROLANGUAGES = _pairs("""
    als:sq arb:ar ayr:ay azj:az cmn:zh ekk:et gaz:om gug:gn khk:mn kmr:ku knc:kr lvs:lv npi:ne ory:or pbt:ps pes:fa
    plt:mg swh:sw uzn:uz ydd:yi zsm:ms
""")
"""ISO 639-3 -> the tag of the macrolanguage whose name people use for this member, the one that is most spoken."""

REPLACED = _pairs("""
    in:id iw:he ji:yi jw:jv mo:ro sh:sr-Latn no-bok:nb no-nyn:nn zh-min-nan:nan zh-chs:zh-Hans zh-cht:zh-Hant
    pb:pt-BR zt:zh-Hant ns:nso sat-beng:sat
""")
"""Tag in lower case -> the one to use instead: deprecated ones of the IANA registry, those of .NET for Chinese, those
that Argos Translate and M2M100 made up, and the one of NLLB that names a wrong script."""

REPLACED_REGIONS = _pairs("BU:MM DD:DE FX:FR SU:RU TP:TL UK:GB YD:YE YU:RS ZR:CD")
"""Region -> the one to use instead."""

SAME_LANGUAGE = {"nb": "no", "fil": "tl"}
"""Language -> another one that is used for the same. Both stay valid tags."""

OTHER_SCRIPTS = {
    language: script
    for script, languages in {
        "Arab": "acm acq aeb ajp apc ar ars ary arz azb ckb fa ks prs ps sd sdh ug ur",
        "Armn": "hy",
        "Avst": "ae",
        "Beng": "as bn mni",
        "Cans": "cr iu",
        "Cyrl": "ab av ba be bg ce cu cv kk kv ky mk mn os ru sr tg tt uk",
        "Deva": "awa bho gom hi hne mag mai mr ne sa",
        "Ethi": "am ti",
        "Geor": "ka",
        "Grek": "el grc",
        "Gujr": "gu",
        "Guru": "pa",
        "Hans": "wuu zh",
        "Hant": "yue",
        "Hebr": "he yi",
        "Jpan": "ja",
        "Khmr": "km",
        "Knda": "kn",
        "Kore": "ko",
        "Laoo": "lo",
        "Mlym": "ml",
        "Mymr": "my shn",
        "Olck": "sat",
        "Orya": "or",
        "Sinh": "si",
        "Taml": "ta",
        "Telu": "te",
        "Tfng": "tzm",
        "Thaa": "dv",
        "Thai": "th",
        "Tibt": "bo dz",
        "Yiii": "ii",
    }.items()
    for language in languages.split()
}
"""Language -> the script in which it is usually written, of those for which that is not Latin (CLDR)."""

SCRIPTS_OF_REGIONS = {
    ("az", "IR"): "Arab",
    ("kk", "CN"): "Arab",
    ("ky", "CN"): "Arab",
    ("mn", "CN"): "Mong",
    ("pa", "PK"): "Arab",
    ("sr", "ME"): "Latn",
    ("tg", "PK"): "Arab",
    ("uz", "AF"): "Arab",
    ("yue", "CN"): "Hans",
    ("zh", "HK"): "Hant",
    ("zh", "MO"): "Hant",
    ("zh", "TW"): "Hant",
}
"""(language, region) -> the script used there, where it is not the usual one of the language (CLDR)."""

SEVERAL_SCRIPTS = frozenset(
    ("ace", "az", "bjn", "bs", "ha", "kr", "ks", "ku", "mn", "pa", "sd", "sr", "taq", "uz", "yue", "zh")
)
"""Languages that are written in more than one script, so that a tag keeps even the usual one."""
