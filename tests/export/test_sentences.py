"""The files of built-in sentences: complete, clean, and each in its own script and alphabet."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path

import pytest

from dragoman_export import sentences
from dragoman_export.sentences import BUILT_IN, CALIBRATION, GOLDEN, SCRIPTS, built_in_language

FOLDER = Path(sentences.__file__).with_name("builtin")
LINES = 64

# The first words of the Unicode names of a script's letters.
NAMES = {
    "Arab": ("ARABIC ",), "Cyrl": ("CYRILLIC ",), "Deva": ("DEVANAGARI ",), "Grek": ("GREEK ",), "Hans": ("CJK ",),
    "Hant": ("CJK ",), "Hebr": ("HEBREW ",), "Jpan": ("CJK ", "HIRAGANA ", "KATAKANA"), "Kore": ("HANGUL ",),
    "Latn": ("LATIN ",), "Taml": ("TAMIL ",), "Thai": ("THAI ",),
}  # fmt: skip
# What stays Latin in every language.
FOREIGN = {"C", "Esc", "GB", "MB", "com", "example", "info", "pdf", "report", "www"}
# All letters of a language beside a to z, small; alphabets tell languages of one script apart.
VIETNAMESE = "àáâãèéêìíòóôõùúýăđĩũơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ"
LETTERS = {
    "ar": "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىي",
    "bg": "абвгдежзийклмнопрстуфхцчшщъьюяѝ",
    "ca": "àçèéíïòóúü",
    "cs": "áéíóúýčďěňřšťůž",
    "da": "æøåé",
    "de": "äöüß",
    "en": "",
    "es": "áéíñóúü",
    "et": "äöõüšž",
    "fa": "ءآئابتثجحخدذرزسشصضطظعغفقلمنهوپچژکگیأؤ",
    "fi": "äöå",
    "fr": "àâæçèéêëîïôùûüÿœ",
    "hr": "čćđšž",
    "hu": "áéíóöúüőű",
    "id": "é",
    "it": "àèéìòù",
    "lt": "ąčęėįšųūž",
    "lv": "āčēģīķļņšūž",
    "ms": "",
    "nb": "æøåéòô",
    "nl": "éëïóöü",
    "pl": "óąćęłńśźż",
    "pt": "àáâãçéêíóôõúü",
    "ro": "âîășț",
    "ru": "абвгдежзийклмнопрстуфхцчшщъыьэюяё",
    "sk": "áäéíóôúýčďĺľňŕšťž",
    "sl": "čšž",
    "sr": "абвгдежзиклмнопрстуфхцчшђјљњћџ",
    "sv": "äöåé",
    "sw": "",
    "tl": "ñ",
    "tr": "âçîöüğışiû",
    "uk": "абвгдежзийклмнопрстуфхцчшщьюяєіїґ",
    "ur": "ءآؤئابتثجحخدذرزسشصضطظعغفقلمنوٹپچڈڑژکگںھہیے",
    "vi": VIETNAMESE,
}
LANGUAGES = sorted(SCRIPTS)
DIGESTS = {"de": "968a42a0", "en": "28645fc4", "fr": "eaa1411a", "ko": "f90b09d8"}


def letters(text: str) -> set[str]:
    return {char for char in text if char.isalpha()}


def test_each_language_has_its_file_and_no_other() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{language}.txt" for language in SCRIPTS}
    assert list(BUILT_IN) == list(CALIBRATION) == list(SCRIPTS) == LANGUAGES
    assert len(BUILT_IN) == len(LANGUAGES)
    assert "eo" not in BUILT_IN
    assert BUILT_IN.get("../../README") is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_file_is_clean(language: str) -> None:
    text = (FOLDER / f"{language}.txt").read_bytes().decode()
    lines = text.split("\n")
    assert lines.pop() == ""
    assert tuple(lines) == CALIBRATION[language]
    assert len(lines) == len(set(lines)) == LINES
    assert tuple(lines[:GOLDEN]) == BUILT_IN[language]
    assert unicodedata.normalize("NFC", text) == text
    assert all(line == line.strip() and "  " not in line for line in lines)
    # Control and format characters; Persian joins parts of words with U+200C.
    hidden = {char for line in lines for char in line if unicodedata.category(char) in ("Cc", "Cf", "Co", "Cn", "Cs")}
    assert hidden == ({"\u200c"} if language == "fa" else set())
    assert not re.search("[\u00a0\u202f\"']", text), "plain spaces and typographic quotes"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_file_is_in_its_script(language: str) -> None:
    text = "\n".join(CALIBRATION[language])
    script = SCRIPTS[language]
    if script != "Latn":
        # Every Latin word, so that a Latin letter in a word of another script shows.
        assert set(re.findall("[A-Za-z]+", text)) <= FOREIGN
        text = re.sub("[A-Za-z]", "", text)
    assert all(unicodedata.name(char).startswith(NAMES[script]) for char in letters(text))
    assert all(letters(line) for line in text.split("\n"))


@pytest.mark.parametrize("language", sorted(LETTERS))
def test_a_file_has_the_letters_of_its_language_only(language: str) -> None:
    small = "".join(CALIBRATION[language]).replace("İ", "i").lower()
    assert {char for char in letters(small) if not char.isascii()} <= set(LETTERS[language])


@pytest.mark.parametrize(("language", "charset", "other"), [("zh", "gb2312", "zh-Hant"), ("zh-Hant", "big5", "zh")])
def test_chinese_is_simplified_or_traditional(language: str, charset: str, other: str) -> None:
    """Each of these character sets has the characters of one way of writing only."""
    "".join(letters("".join(CALIBRATION[language]))).encode(charset)
    with pytest.raises(UnicodeEncodeError):
        "".join(letters("".join(CALIBRATION[other]))).encode(charset)


def test_lines_of_all_languages_are_translations_of_each_other() -> None:
    anchors = {20: "64", 36: "1234567", 37: "1998", 46: "report.pdf", 49: "info@example.com", 58: "1887", 61: "25"}
    for language, lines in CALIBRATION.items():
        for number, anchor in anchors.items():
            line = "".join(str(unicodedata.digit(char, char)) for char in lines[number - 1])
            assert anchor in line, (language, number)
        questions = [number for number, line in enumerate(lines, start=1) if line.endswith(("?", "？", "؟", ";"))]
        if language not in ("ja", "th"):  # they need no question mark
            assert set(questions) >= {3, 7, 12, 27, 30, 32, 57}, language


def test_no_language_has_the_sentences_of_another() -> None:
    """Short answers may be the same in related languages."""
    files = {language: set(lines) for language, lines in CALIBRATION.items()}
    for language, lines in files.items():
        for other in files.keys() - {language}:
            assert len(lines & files[other]) < LINES // 8, (language, other)


def test_golden_sentences_of_exports_so_far_stay_in_place() -> None:
    """A change is allowed, but changes the golden sentences of every model of the language that is exported anew."""
    digests = {
        language: hashlib.sha256("\n".join(BUILT_IN[language]).encode()).hexdigest()[:8]
        for language in ("de", "en", "fr", "ko")
    }
    assert digests == DIGESTS


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("en", "en"), ("de-AT", "de"), ("pt-BR", "pt"), ("de-Latn-DE", "de"), ("de-1996", "de"),
        ("zh", "zh"), ("zh-CN", "zh"), ("zh-Hans", "zh"), ("zh-Hans-TW", "zh"), ("cmn-Hans", "zh"),
        ("zh-TW", "zh-Hant"), ("zh-Hant", "zh-Hant"), ("zh-Hant-CN", "zh-Hant"), ("zh-hk", "zh-Hant"),
        ("cmn-Hant", "zh-Hant"), ("zh-Latn", None), ("sr-Cyrl", "sr"), ("sr-Latn", None), ("hi-Latn", None),
        ("no", "nb"), ("nn", None), ("fil", "tl"), ("pes-Arab", "fa"), ("eo", None), ("", None),
    ],
)  # fmt: skip
def test_the_language_of_a_tag(tag: str, language: str | None) -> None:
    assert built_in_language(tag) == language
