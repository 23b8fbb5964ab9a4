"""TranslateText: its messages from and to those of `dragoman.v1`."""

from __future__ import annotations

from dragoman_protos.google import translation_v3_pb2 as pb
from dragoman_protos.v1 import translation_pb2 as v1
from dragoman_service.errors import InvalidInput
from dragoman_service.interfaces.glossaries import name_of
from dragoman_service.interfaces.google.common import check_labels, text_format
from dragoman_service.interfaces.google.names import check_parent, model_selector, resource

FIELDS = {
    "texts": "contents",
    "source_language": "source_language_code",
    "target_language": "target_language_code",
    "format": "mime_type",
    "glossary": "glossary_config.glossary",
}
"""Field of `v1.TranslateRequest` -> field of the caller."""


def request_of(request: pb.TranslateTextRequest) -> v1.TranslateRequest:
    """The request without its glossary. Raises InvalidInput, which names the caller's field."""
    check_parent("parent", request.parent)
    check_labels(request.labels)
    if not request.target_language_code:
        raise InvalidInput("target_language_code", "", "a language")
    if request.transliteration_config.enable_transliteration:
        raise InvalidInput("transliteration_config.enable_transliteration", True, "false: nothing is transliterated")
    return v1.TranslateRequest(
        texts=request.contents,
        model=model_selector(request.model),
        source_language=request.source_language_code,
        target_language=request.target_language_code,
        format=text_format(request.mime_type),
    )


def request_with_glossary(request: pb.TranslateTextRequest) -> v1.TranslateRequest | None:
    """The request with its glossary; None if it has none. Raises InvalidInput."""
    if not request.HasField("glossary_config"):
        return None
    config = request.glossary_config
    if config.contextual_translation_enabled:
        field = "glossary_config.contextual_translation_enabled"
        raise InvalidInput(field, True, "false: terms are not inflected")
    made = request_of(request)
    named = resource("glossary_config.glossary", config.glossary, "glossaries").id
    made.glossary = name_of(named, request.source_language_code, request.target_language_code)
    made.glossary_ignore_case = config.ignore_case
    return made


def reply_of(
    request: pb.TranslateTextRequest, reply: v1.TranslateResponse, with_glossary: v1.TranslateResponse | None
) -> pb.TranslateTextResponse:
    """The reply to a request, for its translations without and with a glossary."""
    return pb.TranslateTextResponse(
        translations=[_translation(request, each) for each in reply.translations],
        glossary_translations=[
            _translation(request, each, config=request.glossary_config) for each in with_glossary.translations
        ]
        if with_glossary
        else (),
    )


def _translation(
    request: pb.TranslateTextRequest,
    translation: v1.TextTranslation,
    config: pb.TranslateTextGlossaryConfig | None = None,
) -> pb.Translation:
    return pb.Translation(
        translated_text=translation.hypotheses[0].text,
        model=request.model,
        glossary_config=config,
        detected_language_code="" if request.source_language_code else translation.source_language,
    )
