"""The law of identity: with a model that returns its input, every text is its own translation, byte for byte."""

from __future__ import annotations

import random

import pytest

from dragoman_service.bundle.languages import Languages
from dragoman_service.engine.request import DecodingOptions
from support.cases import TEXTS, slow_calls
from support.fake_workers import served
from support.texts import random_text

from .test_protection import STAND_INS, all_translated, echo, workers

TURKISH = Languages((("en", "tr"),))
"""Sentences in capitals are not translated in small letters, which would not be the identity for all letters."""


@pytest.mark.parametrize("calls", [5, slow_calls(2)])
@pytest.mark.parametrize("stand_ins", [STAND_INS, ("XXA", "XXB", "XXC", "XXD", "XXE", "XXF")])
def test_a_text_translated_into_itself_is_itself(stand_ins: tuple[str, ...], calls: int) -> None:
    rng = random.Random(f"identity {stand_ins}")
    limits = {"max_source_tokens": 60, "max_target_tokens": 200}
    for _ in range(calls):
        fake = served(workers(echo), stand_ins=stand_ins, languages=TURKISH, **limits)
        texts = [random_text(rng) for _ in range(TEXTS)]
        for text, result in zip(texts, all_translated(fake, texts, DecodingOptions()), strict=True):
            assert result.hypotheses[0].text == text
