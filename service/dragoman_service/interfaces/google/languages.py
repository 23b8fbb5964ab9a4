"""DetectLanguage and GetSupportedLanguages: their messages from and to those of `dragoman.v1`."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman_protos.google import translation_v3_pb2 as pb
from dragoman_protos.v1 import translation_pb2 as v1
from dragoman_service.errors import InvalidInput
from dragoman_service.interfaces.google.common import check_labels, text_format
from dragoman_service.interfaces.google.names import check_detection_model, check_parent, model_selector
from dragoman_service.interfaces.models import chosen, languages_of
from dragoman_service.text.language_names import english_name
from dragoman_service.text.language_tags import parse_tag

DETECTION_FIELDS = {"texts[0]": "content", "texts": "content", "format": "mime_type"}
"""Field of `v1.DetectLanguageRequest` -> field of the caller."""
_UNDETERMINED = "und"


def detection_request(request: pb.DetectLanguageRequest) -> v1.DetectLanguageRequest:
    """Raises InvalidInput, which names the caller's field."""
    check_parent("parent", request.parent)
    check_labels(request.labels)
    check_detection_model(request.model)
    if not request.HasField("content"):
        raise InvalidInput("content", "", "a text")
    return v1.DetectLanguageRequest(texts=[request.content], format=text_format(request.mime_type))


def detection_reply(reply: v1.DetectLanguageResponse) -> pb.DetectLanguageResponse:
    """One language: the likeliest, or `und` for a text without letters."""
    (found,) = reply.detections
    if not found.candidates:
        return pb.DetectLanguageResponse(languages=[pb.DetectedLanguage(language_code=_UNDETERMINED)])
    best = found.candidates[0]
    return pb.DetectLanguageResponse(
        languages=[pb.DetectedLanguage(language_code=best.language, confidence=best.confidence)]
    )


def supported_languages(
    request: pb.GetSupportedLanguagesRequest, models: Sequence[v1.ModelInfo]
) -> pb.SupportedLanguages:
    """The languages of the models. Names for people are English. Raises InvalidInput and NotFound."""
    check_parent("parent", request.parent)
    shown_in = request.display_language_code
    if shown_in and parse_tag(shown_in) is None:
        raise InvalidInput("display_language_code", shown_in, "a language")
    languages = languages_of(chosen(models, model_selector(request.model)))
    return pb.SupportedLanguages(
        languages=[
            pb.SupportedLanguage(
                language_code=tag,
                display_name=english_name(tag) if shown_in else "",
                support_source=is_source,
                support_target=is_target,
            )
            for tag, (is_source, is_target) in languages.items()
        ]
    )
