"""The Python clients. Imports the protocol, but no package of the server.

Begin with `client`, which has `TranslationClient` and `AsyncTranslationClient`.
"""

from __future__ import annotations

from dragoman_service.client.client import AsyncTranslationClient, TranslationClient
from dragoman_service.client.connection import Tls, Token
from dragoman_service.client.values import Hypothesis, LanguageCandidate, Model, Options, Sampling, Translation

__all__ = [
    "AsyncTranslationClient",
    "Hypothesis",
    "LanguageCandidate",
    "Model",
    "Options",
    "Sampling",
    "Tls",
    "Token",
    "Translation",
    "TranslationClient",
]
