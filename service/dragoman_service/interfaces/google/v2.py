"""Google Translation v2 (Basic), a service of HTTP: its fields from and to the messages of `dragoman.v1`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.errors import InvalidInput
from dragoman_service.interfaces.models import default_versions, languages_of
from dragoman_service.interfaces.values import text_of, texts_of
from dragoman_service.text.language_names import english_name

TRANSLATION_FIELDS = {"texts": "q", "source_language": "source", "target_language": "target"}
"""Field of `dragoman.v1` -> field of the caller."""
DETECTION_FIELDS = {"texts": "q"}
_FORMATS = {"html": pb.TEXT_FORMAT_HTML, "text": pb.TEXT_FORMAT_PLAIN}
_DEFAULT_MODELS = ("", "nmt", "base")
"""Google's own models: the default here."""
_UNDETERMINED = "und"


def translation_of(fields: Mapping[str, Any]) -> pb.TranslateRequest:
    """The request to translate. Raises InvalidInput."""
    text_format, model = text_of(fields, "format") or "html", text_of(fields, "model")
    if text_format not in _FORMATS:
        raise InvalidInput("format", text_format, "html (also without it) or text")
    target = text_of(fields, "target")
    if not target:
        raise InvalidInput("target", "", "a language")
    return pb.TranslateRequest(
        texts=texts_of(fields, "q"),
        model="" if model in _DEFAULT_MODELS else model,
        source_language=text_of(fields, "source"),
        target_language=target,
        format=_FORMATS[text_format],
    )


def translated(fields: Mapping[str, Any], reply: pb.TranslateResponse) -> dict[str, Any]:
    """The reply to a request to translate."""
    translations = []
    for each in reply.translations:
        found = {"translatedText": each.hypotheses[0].text}
        if not text_of(fields, "source"):
            found["detectedSourceLanguage"] = each.source_language or _UNDETERMINED
        if model := text_of(fields, "model"):
            found["model"] = model
        translations.append(found)
    return {"data": {"translations": translations}}


def detection_of(fields: Mapping[str, Any]) -> pb.DetectLanguageRequest:
    """The request to detect languages. Raises InvalidInput."""
    return pb.DetectLanguageRequest(texts=texts_of(fields, "q"))


def detected(reply: pb.DetectLanguageResponse) -> dict[str, Any]:
    """The reply to a request to detect languages: the likeliest one of each text."""
    return {"data": {"detections": [[_detection(each)] for each in reply.detections]}}


def languages(fields: Mapping[str, Any], models: Sequence[pb.ModelInfo]) -> dict[str, Any]:
    """The list of languages, with names if it is asked for in a language. Names are English."""
    has_names = bool(text_of(fields, "target"))
    listed = [
        {"language": tag, "name": english_name(tag)} if has_names else {"language": tag}
        for tag in languages_of(default_versions(models))
    ]
    return {"data": {"languages": listed}}


def _detection(found: pb.Detection) -> dict[str, Any]:
    best = found.candidates[0] if found.candidates else pb.LanguageCandidate(language=_UNDETERMINED)
    return {"language": best.language, "confidence": best.confidence, "isReliable": False}
