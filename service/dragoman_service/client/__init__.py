"""The Python clients. Imports the protocol, but no package of the server.

Begin with `client`, which has `TranslationClient` and `AsyncTranslationClient`.
"""

from __future__ import annotations

from dragoman_service.client.client import AsyncTranslationClient, TranslationClient
from dragoman_service.client.connection import Tls, Token
from dragoman_service.client.values import (
    AppliedTerm,
    Hypothesis,
    LanguageCandidate,
    Model,
    Options,
    Sampling,
    Sentence,
    Term,
    Translation,
    TranslationWarning,
)

__all__ = [
    "AppliedTerm",
    "AsyncTranslationClient",
    "Hypothesis",
    "LanguageCandidate",
    "Model",
    "Options",
    "Sampling",
    "Sentence",
    "Term",
    "Tls",
    "Token",
    "Translation",
    "TranslationClient",
    "TranslationWarning",
]
