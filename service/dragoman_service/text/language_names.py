"""Names of languages in English (CLDR), for people."""

from __future__ import annotations

from dragoman_service.text.language_tags import parse_tag


def _named(text: str) -> dict[str, str]:
    return dict(pair.strip().split(":") for pair in text.split(","))


_LANGUAGES = _named("""
    aa:Afar, ab:Abkhazian, ace:Acehnese, acm:Mesopotamian Arabic, acq:Ta'izzi-Adeni Arabic, ae:Avestan,
    aeb:Tunisian Arabic, af:Afrikaans, ajp:South Levantine Arabic, ak:Akan, am:Amharic, an:Aragonese,
    apc:Levantine Arabic, ar:Arabic, ars:Najdi Arabic, ary:Moroccan Arabic, arz:Egyptian Arabic, as:Assamese,
    ast:Asturian, av:Avaric, awa:Awadhi, ay:Aymara, az:Azerbaijani, azb:South Azerbaijani, ba:Bashkir,
    ban:Balinese, be:Belarusian, bem:Bemba, bg:Bulgarian, bho:Bhojpuri, bi:Bislama, bjn:Banjar, bm:Bambara,
    bn:Bangla, bo:Tibetan, br:Breton, bs:Bosnian, bug:Buginese, ca:Catalan, ce:Chechen, ceb:Cebuano,
    ch:Chamorro, ckb:Central Kurdish, co:Corsican, cr:Cree, crh:Crimean Tatar, cs:Czech, cu:Church Slavic,
    cv:Chuvash, cy:Welsh, da:Danish, de:German, dv:Divehi, dyu:Dyula, dz:Dzongkha, ee:Ewe, el:Greek, en:English,
    eo:Esperanto, es:Spanish, et:Estonian, eu:Basque, ext:Extremaduran, fa:Persian, ff:Fula, fi:Finnish,
    fil:Filipino, fj:Fijian, fo:Faroese, fon:Fon, fr:French, fur:Friulian, fy:Western Frisian, ga:Irish,
    gd:Scottish Gaelic, gl:Galician, gn:Guarani, gom:Goan Konkani, grc:Ancient Greek, gu:Gujarati, gv:Manx,
    ha:Hausa, he:Hebrew, hi:Hindi, hne:Chhattisgarhi, ho:Hiri Motu, hr:Croatian, ht:Haitian Creole,
    hu:Hungarian, hy:Armenian, hz:Herero, ia:Interlingua, id:Indonesian, ie:Interlingue, ig:Igbo, ii:Sichuan Yi,
    ik:Inupiaq, ilo:Iloko, io:Ido, is:Icelandic, it:Italian, iu:Inuktitut, ja:Japanese, jv:Javanese,
    ka:Georgian, kab:Kabyle, kac:Kachin, kam:Kamba, kea:Kabuverdianu, kg:Kongo, ki:Kikuyu, kj:Kuanyama,
    kk:Kazakh, kl:Kalaallisut, km:Khmer, kmb:Kimbundu, kn:Kannada, ko:Korean, kr:Kanuri, ks:Kashmiri,
    ku:Kurdish, kv:Komi, kw:Cornish, ky:Kyrgyz, la:Latin, lb:Luxembourgish, lg:Ganda, li:Limburgish,
    lij:Ligurian, lmo:Lombard, ln:Lingala, lo:Lao, lt:Lithuanian, ltg:Latgalian, lu:Luba-Katanga,
    lua:Luba-Lulua, luo:Luo, lus:Mizo, lv:Latvian, mag:Magahi, mai:Maithili, mg:Malagasy, mh:Marshallese,
    mi:Māori, min:Minangkabau, mk:Macedonian, ml:Malayalam, mn:Mongolian, mni:Manipuri, mos:Mossi, mr:Marathi,
    ms:Malay, mt:Maltese, my:Burmese, na:Nauru, nb:Norwegian Bokmål, nd:North Ndebele, ne:Nepali, ng:Ndonga,
    nl:Dutch, nn:Norwegian Nynorsk, no:Norwegian, nr:South Ndebele, nso:Northern Sotho, nus:Nuer, nv:Navajo,
    ny:Nyanja, oc:Occitan, oj:Ojibwa, om:Oromo, or:Odia, os:Ossetic, pa:Punjabi, pag:Pangasinan, pap:Papiamento,
    pcm:Nigerian Pidgin, pi:Pali, pl:Polish, prs:Dari, ps:Pashto, pt:Portuguese, qu:Quechua, rm:Romansh,
    rn:Rundi, ro:Romanian, ru:Russian, rw:Kinyarwanda, sa:Sanskrit, sat:Santali, sc:Sardinian, scn:Sicilian,
    sd:Sindhi, sdh:Southern Kurdish, se:Northern Sami, sg:Sango, sh:Serbo-Croatian, shn:Shan, si:Sinhala,
    sk:Slovak, sl:Slovenian, sm:Samoan, sn:Shona, so:Somali, sq:Albanian, sr:Serbian, ss:Swati,
    st:Southern Sotho, su:Sundanese, sv:Swedish, sw:Swahili, szl:Silesian, ta:Tamil, taq:Tamasheq, te:Telugu,
    tg:Tajik, th:Thai, ti:Tigrinya, tk:Turkmen, tl:Tagalog, tn:Tswana, to:Tongan, tpi:Tok Pisin, tr:Turkish,
    ts:Tsonga, tt:Tatar, tum:Tumbuka, tw:Twi, ty:Tahitian, tzm:Central Atlas Tamazight, ug:Uyghur, uk:Ukrainian,
    umb:Umbundu, ur:Urdu, uz:Uzbek, ve:Venda, vec:Venetian, vi:Vietnamese, vo:Volapük, wa:Walloon, war:Waray,
    wo:Wolof, wuu:Wu Chinese, xh:Xhosa, yi:Yiddish, yo:Yoruba, yue:Cantonese, za:Zhuang, zh:Chinese, zu:Zulu
""")
_SCRIPTS = _named("""
    Arab:Arabic, Armn:Armenian, Avst:Avestan, Beng:Bangla, Cans:Unified Canadian Aboriginal Syllabics,
    Cyrl:Cyrillic, Deva:Devanagari, Ethi:Ethiopic, Geor:Georgian, Grek:Greek, Gujr:Gujarati, Guru:Gurmukhi,
    Hans:Simplified, Hant:Traditional, Hebr:Hebrew, Jpan:Japanese, Khmr:Khmer, Knda:Kannada, Kore:Korean,
    Laoo:Lao, Latn:Latin, Mlym:Malayalam, Mong:Mongolian, Mymr:Myanmar, Olck:Ol Chiki, Orya:Odia, Sinh:Sinhala,
    Taml:Tamil, Telu:Telugu, Tfng:Tifinagh, Thaa:Thaana, Thai:Thai, Tibt:Tibetan, Yiii:Yi
""")
_REGIONS = _named("""
    AC:Ascension Island, AD:Andorra, AE:United Arab Emirates, AF:Afghanistan, AG:Antigua & Barbuda, AI:Anguilla,
    AL:Albania, AM:Armenia, AO:Angola, AQ:Antarctica, AR:Argentina, AS:American Samoa, AT:Austria, AU:Australia,
    AW:Aruba, AX:Åland Islands, AZ:Azerbaijan, BA:Bosnia & Herzegovina, BB:Barbados, BD:Bangladesh, BE:Belgium,
    BF:Burkina Faso, BG:Bulgaria, BH:Bahrain, BI:Burundi, BJ:Benin, BL:St. Barthélemy, BM:Bermuda, BN:Brunei,
    BO:Bolivia, BQ:Caribbean Netherlands, BR:Brazil, BS:Bahamas, BT:Bhutan, BV:Bouvet Island, BW:Botswana,
    BY:Belarus, BZ:Belize, CA:Canada, CC:Cocos (Keeling) Islands, CD:Congo - Kinshasa,
    CF:Central African Republic, CG:Congo - Brazzaville, CH:Switzerland, CI:Côte d’Ivoire, CK:Cook Islands,
    CL:Chile, CM:Cameroon, CN:China, CO:Colombia, CP:Clipperton Island, CQ:Sark, CR:Costa Rica, CU:Cuba,
    CV:Cape Verde, CW:Curaçao, CX:Christmas Island, CY:Cyprus, CZ:Czechia, DE:Germany, DG:Diego Garcia,
    DJ:Djibouti, DK:Denmark, DM:Dominica, DO:Dominican Republic, DZ:Algeria, EA:Ceuta & Melilla, EC:Ecuador,
    EE:Estonia, EG:Egypt, EH:Western Sahara, ER:Eritrea, ES:Spain, ET:Ethiopia, FI:Finland, FJ:Fiji,
    FK:Falkland Islands, FM:Micronesia, FO:Faroe Islands, FR:France, GA:Gabon, GB:United Kingdom, GD:Grenada,
    GE:Georgia, GF:French Guiana, GG:Guernsey, GH:Ghana, GI:Gibraltar, GL:Greenland, GM:Gambia, GN:Guinea,
    GP:Guadeloupe, GQ:Equatorial Guinea, GR:Greece, GS:South Georgia & South Sandwich Islands, GT:Guatemala,
    GU:Guam, GW:Guinea-Bissau, GY:Guyana, HK:Hong Kong SAR China, HM:Heard Island & McDonald Islands,
    HN:Honduras, HR:Croatia, HT:Haiti, HU:Hungary, IC:Canary Islands, ID:Indonesia, IE:Ireland, IL:Israel,
    IM:Isle of Man, IN:India, IO:British Indian Ocean Territory, IQ:Iraq, IR:Iran, IS:Iceland, IT:Italy,
    JE:Jersey, JM:Jamaica, JO:Jordan, JP:Japan, KE:Kenya, KG:Kyrgyzstan, KH:Cambodia, KI:Kiribati, KM:Comoros,
    KN:St. Kitts & Nevis, KP:North Korea, KR:South Korea, KW:Kuwait, KY:Cayman Islands, KZ:Kazakhstan, LA:Laos,
    LB:Lebanon, LC:St. Lucia, LI:Liechtenstein, LK:Sri Lanka, LR:Liberia, LS:Lesotho, LT:Lithuania,
    LU:Luxembourg, LV:Latvia, LY:Libya, MA:Morocco, MC:Monaco, MD:Moldova, ME:Montenegro, MF:St. Martin,
    MG:Madagascar, MH:Marshall Islands, MK:North Macedonia, ML:Mali, MM:Myanmar (Burma), MN:Mongolia,
    MO:Macao SAR China, MP:Northern Mariana Islands, MQ:Martinique, MR:Mauritania, MS:Montserrat, MT:Malta,
    MU:Mauritius, MV:Maldives, MW:Malawi, MX:Mexico, MY:Malaysia, MZ:Mozambique, NA:Namibia, NC:New Caledonia,
    NE:Niger, NF:Norfolk Island, NG:Nigeria, NI:Nicaragua, NL:Netherlands, NO:Norway, NP:Nepal, NR:Nauru,
    NU:Niue, NZ:New Zealand, OM:Oman, PA:Panama, PE:Peru, PF:French Polynesia, PG:Papua New Guinea,
    PH:Philippines, PK:Pakistan, PL:Poland, PM:St. Pierre & Miquelon, PN:Pitcairn Islands, PR:Puerto Rico,
    PS:Palestinian Territories, PT:Portugal, PW:Palau, PY:Paraguay, QA:Qatar, RE:Réunion, RO:Romania, RS:Serbia,
    RU:Russia, RW:Rwanda, SA:Saudi Arabia, SB:Solomon Islands, SC:Seychelles, SD:Sudan, SE:Sweden, SG:Singapore,
    SI:Slovenia, SJ:Svalbard & Jan Mayen, SK:Slovakia, SL:Sierra Leone, SM:San Marino, SN:Senegal, SO:Somalia,
    SR:Suriname, SS:South Sudan, ST:São Tomé & Príncipe, SV:El Salvador, SX:Sint Maarten, SY:Syria, SZ:Eswatini,
    TA:Tristan da Cunha, TC:Turks & Caicos Islands, TD:Chad, TF:French Southern and Antarctic Lands, TG:Togo,
    TH:Thailand, TJ:Tajikistan, TK:Tokelau, TL:Timor-Leste, TM:Turkmenistan, TN:Tunisia, TO:Tonga, TR:Türkiye,
    TT:Trinidad & Tobago, TV:Tuvalu, TW:Taiwan, TZ:Tanzania, UA:Ukraine, UG:Uganda, UM:U.S. Outlying Islands,
    US:United States, UY:Uruguay, UZ:Uzbekistan, VA:Vatican City, VC:St. Vincent & Grenadines, VE:Venezuela,
    VG:British Virgin Islands, VI:U.S. Virgin Islands, VN:Vietnam, VU:Vanuatu, WF:Wallis & Futuna, WS:Samoa,
    XK:Kosovo, YE:Yemen, YT:Mayotte, ZA:South Africa, ZM:Zambia, ZW:Zimbabwe
""")


def english_name(tag: str) -> str:
    """The name of a language: "Portuguese (Brazil)" for pt-BR. What is not known is returned as it is."""
    parsed = parse_tag(tag)
    if parsed is None:
        return tag
    name = _LANGUAGES.get(parsed.language, parsed.language)
    more = [_SCRIPTS.get(parsed.script, parsed.script), _REGIONS.get(parsed.region, parsed.region)]
    shown = ", ".join(part for part in more if part)
    return f"{name} ({shown})" if shown else name
