"""How many random cases the laws and the fuzzers try."""

from __future__ import annotations

import os

import pytest

TEXTS = 100
"""Texts of a call."""
_CASES = int(os.environ.get("DRAGOMAN_CASES", "80000"))


def slow_calls(variants: int) -> object:
    """The parameter of a slow test: calls of `TEXTS` texts, so that all variants together have so many cases."""
    return pytest.param(_CASES // (TEXTS * variants), marks=[pytest.mark.slow, pytest.mark.timeout(3600)])


def cases(usual: int) -> int:
    """Number of cases of a fuzzer: `usual`, or what DRAGOMAN_CASES says."""
    return int(os.environ.get("DRAGOMAN_CASES", usual))
