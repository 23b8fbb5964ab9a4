"""How many random cases the slow laws try."""

from __future__ import annotations

import os

import pytest

TEXTS = 100
"""Texts of a call."""
_CASES = int(os.environ.get("DRAGOMAN_CASES", "80000"))


def slow_calls(variants: int) -> object:
    """The parameter of a slow test: calls of `TEXTS` texts, so that all variants together have so many cases."""
    return pytest.param(_CASES // (TEXTS * variants), marks=[pytest.mark.slow, pytest.mark.timeout(3600)])
