"""Between the fields of DeepL's requests and replies and the messages of `dragoman.v1`.

Source of the interface: https://developers.deepl.com and measurements with its client for Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.errors import InvalidInput, visible
from dragoman_service.interfaces.glossaries import name_of
from dragoman_service.interfaces.offered import Offered
from dragoman_service.interfaces.values import text_of, texts_of
from dragoman_service.interfaces.wording import Worded
from dragoman_service.text.language_names import english_name
from dragoman_service.text.language_tags import canonical

FIELDS = {
    "texts": "text",
    "source_language": "source_lang",
    "target_language": "target_lang",
    "glossary": "glossary_id",
    "html_kept_elements": "ignore_tags",
    "html_block_elements": "splitting_tags",
    "html_inline_elements": "non_splitting_tags",
}
"""Field of `dragoman.v1` -> field of the caller."""
_FORMATS = {"": pb.TEXT_FORMAT_PLAIN, "html": pb.TEXT_FORMAT_HTML}
_SPLITTINGS = {
    "": pb.SPLITTING_SENTENCES, "1": pb.SPLITTING_SENTENCES, "nonewlines": pb.SPLITTING_SENTENCES,
    "0": pb.SPLITTING_NONE,
}  # fmt: skip
_FORMALITIES = ("", "default", "prefer_more", "prefer_less")
_NOT_SERVED = ("style_id", "custom_instructions", "translation_memory_id")
"""Fields that would change the translation. Others that are not read, such as `context`, are hints."""
_OF_TAGS = ("ignore_tags", "splitting_tags", "non_splitting_tags")
_FALSE: tuple[object, ...] = (False, "0", "false")
_UNDETECTED = "EN"
"""What is said of a text without letters."""
_CHARACTER_LIMIT = 10**12
"""What is said of a limit that is none."""


def translation_of(fields: Mapping[str, Any]) -> pb.TranslateRequest:
    """The request to translate. Raises InvalidInput."""
    for name in _NOT_SERVED:
        if fields.get(name):
            raise InvalidInput(name, fields[name], "nothing: this server does not have it")
    _choice(fields, "formality", _FORMALITIES, "default, prefer_more or prefer_less: no model here has formality")
    text_format = _FORMATS[_choice(fields, "tag_handling", _FORMATS, "html, or nothing for plain text")]
    for name in _OF_TAGS if text_format != pb.TEXT_FORMAT_HTML else ():
        if fields.get(name):
            raise InvalidInput(name, fields[name], "nothing without tag_handling=html")
    if fields.get("outline_detection") in _FALSE:
        raise InvalidInput("outline_detection", fields["outline_detection"], "true: HTML says itself what divides text")
    splitting = _choice(fields, "split_sentences", _SPLITTINGS, "0, 1 or nonewlines")
    target = text_of(fields, "target_lang")
    if not target:
        raise Worded("target_lang", "Value for 'target_lang' is missing.")
    return pb.TranslateRequest(
        texts=texts_of(fields, "text"),
        source_language=text_of(fields, "source_lang"),
        target_language=target,
        format=text_format,
        splitting=_SPLITTINGS[splitting],
        join_lines=splitting == "nonewlines" and text_format == pb.TEXT_FORMAT_PLAIN,
        glossary=_glossary(fields),
        html_kept_elements=_tags(fields, "ignore_tags"),
        html_block_elements=_tags(fields, "splitting_tags"),
        html_inline_elements=_tags(fields, "non_splitting_tags"),
    )


def _tags(fields: Mapping[str, Any], name: str) -> list[str]:
    """Names of tags, which come as a list, or with commas between them. Raises InvalidInput."""
    lists = texts_of(fields, name) if fields.get(name) else []
    return [tag.strip() for each in lists for tag in each.split(",") if tag.strip()]


def _glossary(fields: Mapping[str, Any]) -> str:
    """The name of the glossary. Raises InvalidInput."""
    wanted = text_of(fields, "glossary_id")
    if "glossary_ids" in fields:
        ids = texts_of(fields, "glossary_ids")
        if wanted or len(ids) > 1:
            raise InvalidInput("glossary_ids", ", ".join(ids), "one glossary, and no glossary_id beside it")
        wanted = "".join(ids)
    return name_of(wanted, text_of(fields, "source_lang"), text_of(fields, "target_lang"))


def translated(request: pb.TranslateRequest, reply: pb.TranslateResponse) -> dict[str, Any]:
    """The reply to a request to translate."""
    translations = [
        {
            "detected_source_language": _language(each.source_language),
            "text": each.hypotheses[0].text,
            "billed_characters": len(text),
        }
        for text, each in zip(request.texts, reply.translations, strict=True)
    ]
    return {"translations": translations}


def languages(fields: Mapping[str, Any], models: Sequence[pb.ModelInfo]) -> list[dict[str, Any]]:
    """The list of the languages that are translated from, or into. Raises InvalidInput."""
    kind = _choice(fields, "type", ("", "source", "target"), "source or target")
    offered = Offered(models)
    targets = {target for each in offered.targets.values() for target in each}
    listed = sorted(targets) if kind == "target" else sorted(offered.targets)
    named = ({"language": tag.upper(), "name": english_name(tag)} for tag in listed)
    return [{**it, "supports_formality": False} for it in named] if kind == "target" else list(named)


def usage() -> dict[str, Any]:
    """What has been used. It is not counted."""
    return {"character_count": 0, "character_limit": _CHARACTER_LIMIT}


def refusal_of(request: pb.TranslateRequest, models: Sequence[pb.ModelInfo]) -> InvalidInput:
    """Why no model fits a request."""
    offered = Offered(models)
    source, target = request.source_language, request.target_language
    if source and offered.find(source) not in offered.targets:
        return Worded("source_lang", f"Value for 'source_lang' not supported: {visible(source)}")
    return Worded("target_lang", f"Value for 'target_lang' not supported: {visible(target)}")


def _language(tag: str) -> str:
    """The language of a tag, without script and region."""
    return canonical(tag).partition("-")[0].upper() if tag else _UNDETECTED


def _choice(fields: Mapping[str, Any], name: str, choices: Sequence[str] | Mapping[str, Any], allowed: str) -> str:
    value = text_of(fields, name)
    if value not in choices:
        raise InvalidInput(name, value, allowed)
    return value
