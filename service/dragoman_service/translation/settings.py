"""Limits of one call."""

from __future__ import annotations

from dataclasses import dataclass

from dragoman_service.errors import at_least


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of one call."""

    max_texts: int = 1024
    """Maximum number of texts in one call."""
    max_characters: int = 100_000
    """Maximum number of characters (Unicode code points) in one text."""
    max_sentences: int = 20_000
    """Maximum number of sentences in one call, over all its texts."""
    max_terms: int = 1000
    """Maximum number of terms, and of phrases to keep, of one call."""
    max_term_places: int = 20_000
    """Maximum number of places in all texts of one call at which terms are found."""
    window: int = 64
    """Maximum number of sentences of one call in the engine, so that a call with thousands cannot fill the queue."""

    def __post_init__(self) -> None:
        at_least("max_texts", self.max_texts, 1)
        at_least("max_characters", self.max_characters, 1)
        at_least("max_sentences", self.max_sentences, 1)
        at_least("max_terms", self.max_terms, 0)
        at_least("max_term_places", self.max_term_places, 1)
        at_least("window", self.window, 1)
