"""The Python clients. Beside the server's rooms: needs the protocol alone.

Begin with `client`, which has `TranslationClient` and `AsyncTranslationClient`.
"""

from __future__ import annotations

from dragoman_service.client.client import AsyncTranslationClient, TranslationClient
from dragoman_service.client.values import Hypothesis, Model, Options, Sampling, Translation

__all__ = ["AsyncTranslationClient", "Hypothesis", "Model", "Options", "Sampling", "Translation", "TranslationClient"]
