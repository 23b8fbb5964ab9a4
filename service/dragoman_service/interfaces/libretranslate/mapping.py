"""Between the fields of LibreTranslate's requests and replies and the messages of `dragoman.v1`.

Source of the interface: https://docs.libretranslate.com and measurements with its clients. Errors have its words, which
clients look at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.errors import InvalidInput, visible
from dragoman_service.interfaces.offered import Offered
from dragoman_service.interfaces.wording import Worded
from dragoman_service.text.language_names import english_name
from dragoman_service.text.language_tags import canonical

AUTO = "auto"
_FORMATS = {"text": pb.TEXT_FORMAT_PLAIN, "html": pb.TEXT_FORMAT_HTML}
_OWN_TAGS = {"zh": "zh-Hans"}
"""Canonical tag -> the one that clients expect."""
_UNDETECTED = "en"
"""What is said of a text without letters, with a confidence of 0."""


@dataclass(frozen=True, slots=True)
class Translation:
    """A request to translate, and what its reply has to have."""

    request: pb.TranslateRequest
    is_list: bool
    """Whether texts came as a list, and translations are returned as one."""
    is_auto: bool
    """Whether the detected languages are returned."""
    has_alternatives: bool
    """Whether further translations are returned."""


def translation_of(fields: Mapping[str, Any], most_characters: int) -> Translation:
    """The request to translate. `most_characters` is the limit of each text. Raises InvalidInput."""
    texts, is_list = _texts(fields, most_characters)
    source, target = (_required(fields, name) for name in ("source", "target"))
    alternatives = _count(fields, "alternatives")
    text_format = fields.get("format") or "text"
    if not isinstance(text_format, str) or text_format not in _FORMATS:
        raise Worded("format", f"{visible(str(text_format))} format is not supported")
    request = pb.TranslateRequest(
        texts=texts,
        source_language="" if source == AUTO else source,
        target_language=target,
        format=_FORMATS[text_format],
    )
    if alternatives:
        request.options.num_hypotheses = alternatives + 1
    return Translation(request, is_list, source == AUTO, bool(alternatives))


def missing_detection(asked: Translation, reply: pb.TranslateResponse) -> pb.DetectLanguageRequest | None:
    """What tells how likely the languages of the texts are, if that is wanted and the reply does not: None if it does.

    A language that is the only possible one is not detected by a translation.
    """
    if not asked.is_auto or all(it.detected for it in reply.translations):
        return None
    return pb.DetectLanguageRequest(texts=asked.request.texts, format=asked.request.format)


def reply_of(
    asked: Translation, reply: pb.TranslateResponse, detections: Sequence[pb.Detection] = ()
) -> dict[str, Any]:
    """The reply to a request to translate. `detections`: of its texts, if `missing_detection` asks for them."""
    found = reply.translations
    content: dict[str, Any] = {"translatedText": [it.hypotheses[0].text for it in found]}
    if asked.is_auto:
        content["detectedLanguage"] = [
            _detected(it, detection)
            for it, detection in zip(found, detections or [pb.Detection()] * len(found), strict=True)
        ]
    if asked.has_alternatives:
        content["alternatives"] = [_alternatives(it) for it in found]
    return content if asked.is_list else {name: values[0] for name, values in content.items()}


def unchanged(asked: Translation) -> dict[str, Any]:
    """The reply to a request to translate from a language into itself."""
    same = (pb.TextTranslation(hypotheses=[pb.Hypothesis(text=text)]) for text in asked.request.texts)
    return reply_of(asked, pb.TranslateResponse(translations=same))


def detection_of(fields: Mapping[str, Any], most_characters: int) -> pb.DetectLanguageRequest:
    """The request to detect a language. Raises InvalidInput."""
    texts, is_list = _texts(fields, most_characters)
    if is_list:
        raise Worded("q", "Invalid request: q is a list; allowed: one text")
    return pb.DetectLanguageRequest(texts=texts)


def detected_of(reply: pb.DetectLanguageResponse) -> list[dict[str, Any]]:
    """The reply to a request to detect a language: the likeliest first."""
    found = [_language(it.language, it.confidence) for it in reply.detections[0].candidates]
    return found or [_language(_UNDETECTED, 0.0)]


def languages_of(models: Sequence[pb.ModelInfo]) -> list[dict[str, Any]]:
    """The list of languages."""
    offered = Offered(models)
    return [
        {
            "code": code_of(tag),
            "name": english_name(tag),
            "targets": [code_of(it) for it in offered.targets.get(tag, ())],
        }
        for tag in offered.languages
    ]


def refusal_of(asked: Translation, models: Sequence[pb.ModelInfo]) -> InvalidInput | None:
    """Why no model fits a request; None if it is from a language of theirs into itself."""
    offered = Offered(models)
    request = asked.request
    for field, tag in (("source", request.source_language), ("target", request.target_language)):
        if tag and offered.find(tag) is None:
            return Worded(field, f"{visible(tag)} is not supported")
    source, target = offered.find(request.source_language), offered.find(request.target_language)
    if source == target:
        return None
    from_language = f"{english_name(source)} ({code_of(source)})" if source else "any language"
    into = f"{english_name(target or '')} ({code_of(target or '')})"
    return Worded("target", f"{into} is not available as a target language from {from_language}")


def code_of(tag: str) -> str:
    """A language tag as clients expect it."""
    known = canonical(tag)
    return _OWN_TAGS.get(known, known)


def _texts(fields: Mapping[str, Any], most_characters: int) -> tuple[list[str], bool]:
    value = fields.get("q")
    if not value:
        raise _missing("q")
    texts = value if isinstance(value, list) else [value]
    for text in texts:
        if not isinstance(text, str):
            raise Worded("q", "Invalid request: q has a value that is no text")
        if len(text) > most_characters:
            raise Worded("q", f"Invalid request: request ({len(text)}) exceeds text limit ({most_characters})")
    return texts, isinstance(value, list)


def _required(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not value:
        raise _missing(name)
    if not isinstance(value, str):
        raise Worded(name, f"Invalid request: {name} is no text")
    return value


def _missing(name: str) -> Worded:
    return Worded(name, f"Invalid request: missing {name} parameter")


def _count(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name) or 0
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if type(value) is not int or not 0 <= value < 1_000:
        raise Worded(name, f"Invalid request: {name} must be a number from 0 to 999")
    return value


def _alternatives(found: pb.TextTranslation) -> list[str]:
    texts = dict.fromkeys(it.text for it in found.hypotheses)
    return list(texts)[1:]


def _detected(found: pb.TextTranslation, detection: pb.Detection) -> dict[str, Any]:
    """The language from which a text was translated, and how likely it is among those of the models."""
    if not found.source_language:
        return _language(_UNDETECTED, 0.0)
    likely = {canonical(it.language): it.confidence for it in detection.candidates}
    confidence = found.detection_confidence if found.detected else likely.get(canonical(found.source_language), 0.0)
    return _language(found.source_language, confidence)


def _language(tag: str, confidence: float) -> dict[str, Any]:
    # An integer: a client could not read "95.0".
    return {"confidence": round(100 * confidence), "language": code_of(tag)}
