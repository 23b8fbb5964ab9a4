"""The formats of texts."""

from __future__ import annotations

import enum
import re

from dragoman_service.text.characters import private_characters
from dragoman_service.text.markup.document import Document, Steps, at_once
from dragoman_service.text.markup.html import NO_RULES, HtmlRules, html_steps
from dragoman_service.text.markup.markdown import markdown_steps


class TextFormat(enum.Enum):
    """What a text is written in."""

    PLAIN = "plain"
    HTML = "html"
    MARKDOWN = "markdown"


_TAG = re.compile("<[^<>]*+>")


def without_tags(source: str, text_format: TextFormat) -> str:
    """The words of a text, for detecting its language."""
    return _TAG.sub(" ", source) if text_format is TextFormat.HTML else source


def document_steps(
    source: str, text_format: TextFormat, rules: HtmlRules = NO_RULES, others: frozenset[str] = frozenset()
) -> Steps[Document]:
    """Cut a text into blocks, in small steps.

    Args:
        source: The text.
        text_format: What it is written in.
        rules: What HTML is cut by.
        others: Private characters that may stand in translations (`private_characters`).
    """
    taken = private_characters(source) | others
    match text_format:
        case TextFormat.HTML:
            return (yield from html_steps(source, rules, taken=taken))
        case TextFormat.MARKDOWN:
            return (yield from markdown_steps(source, taken))
        case TextFormat.PLAIN:
            raise ValueError("a plain text is no document")


def document_of(source: str, text_format: TextFormat, rules: HtmlRules = NO_RULES) -> Document:
    """Do all steps of `document_steps` at once."""
    return at_once(document_steps(source, text_format, rules))
