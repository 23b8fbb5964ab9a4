from __future__ import annotations

import unicodedata

import pytest

from dragoman_service.text.scripts import SCRIPTS, script_share


@pytest.mark.parametrize(
    ("text", "language", "share"),
    [
        ("Straße", "de", 1.0),
        ("Straße", "de-AT", 1.0),
        ("Straße", "de_Latn", 1.0),
        ("漢字漢字", "en", 0.0),
        ("привет", "ru", 1.0),
        ("привет", "de", 0.0),
        ("hello", "ru", 0.0),
        ("abпр", "en", 0.5),
        ("日本の", "ja", 1.0),
        ("12 %", "he", 1.0),
        ("สวัสดี", "th", 1.0),
        ("გამარჯობა", "ka", 1.0),
        ("Բարեւ", "hy", 1.0),
        ("வணக்கம்", "ta", 1.0),
        ("Добар дан", "sr", 1.0),
        ("Dobar dan", "sr", 1.0),
        ("good morning", "th", 0.0),
    ],
)
def test_script_share(text: str, language: str, share: float) -> None:
    assert script_share(text, language) == share


@pytest.mark.parametrize("text", ["ᏏᏲ", "hello", "привет"])
def test_of_an_unknown_language_nothing_is_wrong(text: str) -> None:
    assert "chr" not in SCRIPTS
    assert script_share(text, "chr") == 1.0


def test_every_script_is_one_that_unicode_has() -> None:
    """A name with a typing error would drop all text of its language."""
    names = {unicodedata.name(chr(code), "").split(" ", 1)[0] for code in range(0x10000) if chr(code).isalpha()}
    assert {script for scripts in SCRIPTS.values() for script in scripts} <= names
