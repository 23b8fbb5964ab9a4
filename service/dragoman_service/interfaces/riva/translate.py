"""TranslateText: its messages from and to those of `dragoman.v1`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dragoman_protos.riva import nmt_pb2 as pb
from dragoman_protos.v1 import translation_pb2 as v1
from dragoman_service.errors import InvalidInput

FIELDS = {
    "terms": "dnt_phrases",
    "keep": "dnt_phrases",
    "options.max_added_length": "max_len_variation",
}
"""Field of `v1.TranslateRequest` -> field of the caller. Other fields have the same names."""
_CUSTOM = "##"
"""Between a phrase and what is written in its place."""
_MODEL_END = ":"
"""After the name of a model, where `languages` lists it with one of its languages."""
_LARGEST_VARIATION = 1_000_000
_MARKED = re.compile("<dnt>([^<>]*+)</dnt>")
_TAG = re.compile("</?dnt>")


@dataclass(frozen=True, slots=True)
class Phrases:
    """What is not translated."""

    keep: tuple[str, ...]
    """Phrases that stay as they are."""
    terms: Mapping[str, str]
    """Phrase -> what is written in its place."""


def request_of(request: pb.TranslateTextRequest) -> v1.TranslateRequest:
    """Raises InvalidInput, which names the caller's field."""
    if not request.target_language:
        raise InvalidInput("target_language", "", "a language")
    phrases = phrases_of(request.dnt_phrases)
    texts, marked = unmarked(request.texts)
    options = v1.DecodingOptions()
    if request.max_len_variation:
        options.max_added_length = variation_of(request.max_len_variation)
    return v1.TranslateRequest(
        texts=texts,
        model=request.model.partition(_MODEL_END)[0],
        source_language=request.source_language,
        target_language=request.target_language,
        options=options,
        keep=dict.fromkeys((*phrases.keep, *(it for it in marked if it not in phrases.terms))),
        terms=[v1.Term(source=source, target=target, case_sensitive=True) for source, target in phrases.terms.items()],
    )


def reply_of(request: pb.TranslateTextRequest, reply: v1.TranslateResponse) -> pb.TranslateTextResponse:
    """The reply, with the caller's id and spelling of the language."""
    return pb.TranslateTextResponse(
        translations=[
            pb.Translation(text=each.hypotheses[0].text, language=request.target_language)
            for each in reply.translations
        ],
        id=request.id if request.HasField("id") else None,
    )


def phrases_of(elements: Sequence[str]) -> Phrases:
    """The phrases of `dnt_phrases`: an element is one phrase, or PHRASE##CUSTOM for another text in its place.

    The client of Riva joins phrases with custom texts to one element, with commas between them: an element is cut at
    its commas if every part has "##". Raises InvalidInput for an empty phrase.
    """
    keep: dict[str, None] = {}
    terms: dict[str, str] = {}
    for index, element in enumerate(elements):
        parts = element.split(",")
        for part in parts if all(_CUSTOM in part for part in parts) else [element]:
            phrase, _, custom = (text.strip() for text in part.partition(_CUSTOM))
            if not phrase:
                raise InvalidInput(f"dnt_phrases[{index}]", element, "PHRASE or PHRASE##CUSTOM")
            if custom:
                terms[phrase] = custom
            else:
                keep[phrase] = None
    return Phrases(tuple(it for it in keep if it not in terms), terms)


def unmarked(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """Texts without their <dnt> tags, and the phrases that stand between such tags.

    As in Riva, tags with white space at their insides, or without a partner, mark nothing.
    """
    phrases: dict[str, None] = {}
    plain = []
    for text in texts:
        found = [match[1] for match in _MARKED.finditer(text)]
        phrases |= dict.fromkeys(it for it in found if it and it == it.strip() and any(map(str.isalnum, it)))
        plain.append(_TAG.sub("", text))
    return plain, list(phrases)


def variation_of(text: str) -> int:
    """How many tokens a translation may have beyond its source. Raises InvalidInput for what is no number."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10) or int(text) > _LARGEST_VARIATION:
        raise InvalidInput("max_len_variation", text, f"a whole number from 0 to {_LARGEST_VARIATION}")
    return int(text)
