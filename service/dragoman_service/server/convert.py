"""Conversion between the protobuf messages of the interface and the service's own values. Fills in defaults."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager

from google.protobuf.message import Message

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.engine.request import (
    MAX_BEAM_SIZE,
    DecodingOptions,
    FinishReason,
    Hypothesis,
    Priority,
    Sampling,
)
from dragoman_service.errors import InvalidInput
from dragoman_service.repository.models import ModelDescription, TextTokenizer
from dragoman_service.text.detection import Candidate
from dragoman_service.text.markup.formats import TextFormat
from dragoman_service.text.markup.html import ELEMENT, MAX_ELEMENTS, TRANSLATED_ATTRIBUTES, HtmlRules
from dragoman_service.text.segmenter import Splitting
from dragoman_service.text.terms import Term
from dragoman_service.translation.assembly import SentenceHypothesis, TextHypothesis, TextResult
from dragoman_service.translation.dispatch import Way
from dragoman_service.translation.settings import RequestLimits
from dragoman_service.translation.terms import AppliedTerm
from dragoman_service.translation.warnings import TextWarning, WarningKind

_PRIORITIES: dict[int, Priority] = {
    pb.PRIORITY_UNSPECIFIED: Priority.INTERACTIVE,
    pb.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    pb.PRIORITY_BATCH: Priority.BATCH,
}
_FORMATS: dict[int, TextFormat] = {
    pb.TEXT_FORMAT_UNSPECIFIED: TextFormat.PLAIN,
    pb.TEXT_FORMAT_PLAIN: TextFormat.PLAIN,
    pb.TEXT_FORMAT_HTML: TextFormat.HTML,
    pb.TEXT_FORMAT_MARKDOWN: TextFormat.MARKDOWN,
}
_SPLITTINGS: dict[int, Splitting] = {
    pb.SPLITTING_UNSPECIFIED: Splitting.SENTENCES,
    pb.SPLITTING_SENTENCES: Splitting.SENTENCES,
    pb.SPLITTING_LINES: Splitting.LINES,
    pb.SPLITTING_NONE: Splitting.NONE,
}
_FINISH_REASONS = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.REPETITION: pb.FINISH_REASON_REPETITION,
}

_WARNINGS = {
    WarningKind.SOURCE_NOT_READABLE: pb.TranslationWarning.SOURCE_NOT_READABLE,
    WarningKind.SPANS_IN_PARTS: pb.TranslationWarning.SPANS_IN_PARTS,
    WarningKind.NUMBER_MISSING: pb.TranslationWarning.NUMBER_MISSING,
    WarningKind.REPETITION: pb.TranslationWarning.REPETITION,
    WarningKind.TERM_MISSING: pb.TranslationWarning.TERM_MISSING,
    WarningKind.EMPTY: pb.TranslationWarning.EMPTY,
}
_MOST_CANDIDATES = 5
"""Maximum number of languages that are returned for a text."""


_OTHER_NAMES = {
    "texts": "text", "target_prefixes": "target_prefix", "text": "texts", "target_prefix": "target_prefixes"
}  # fmt: skip
"""Fields of one of the two requests that are called otherwise in the other."""


@contextmanager
def field_paths(message: Message) -> Iterator[None]:
    """Errors inside name their fields by their paths in `message`, as `google.rpc.BadRequest` has them."""
    try:
        yield
    except InvalidInput as error:
        error.rename(_path(error.field, message.DESCRIPTOR.fields_by_name))
        raise


def _path(field: str, fields: Container[str]) -> str:
    name = re.split(r"[.\[]", field, maxsplit=1)[0]
    if name in fields:
        return field
    if name in pb.DecodingOptions.DESCRIPTOR.fields_by_name:
        return f"options.{field}"
    return _OTHER_NAMES.get(name, field)


def decoding_options(message: pb.DecodingOptions, model: ModelDescription) -> DecodingOptions:
    """Convert the options. An unset field takes its default, which may be that of the model. Raises InvalidInput."""
    given = {field.name: value for field, value in message.ListFields() if field.name != "sampling"}
    sampling = None
    if message.HasField("sampling"):
        sampling = Sampling(**{field.name: value for field, value in message.sampling.ListFields()})
    if "beam_size" not in given:
        # The default beam size must not contradict a request for sampling or for n translations.
        given["beam_size"] = 1 if sampling else _beam_for(given.get("num_hypotheses", 1), model.default_beam_size)
    given.setdefault("length_penalty", model.default_length_penalty)
    given.setdefault("stop_repetition", True)
    return DecodingOptions(**given, sampling=sampling)


def first_options(message: pb.DecodingOptions, model: ModelDescription) -> DecodingOptions:
    """The options of the first of two models: its defaults, and the beam size of the request. Raises InvalidInput."""
    own = pb.DecodingOptions()
    if message.HasField("beam_size"):
        own.beam_size = message.beam_size
    return decoding_options(own, model)


def text_translation(result: TextResult, way: Way, *, tokens: bool, token_scores: bool) -> pb.TextTranslation:
    """Convert one translation, with tokens and their scores if wanted."""
    best = result.hypotheses[0]
    return pb.TextTranslation(
        hypotheses=[_hypothesis(hypothesis, way.tokenizer, tokens, token_scores) for hypothesis in result.hypotheses],
        finish_reason=_FINISH_REASONS[best.finish_reason],
        timings=pb.Timings(
            queue_seconds=result.timings.queue,
            encode_seconds=result.timings.encode,
            decode_seconds=result.timings.decode,
        ),
        source_tokens=result.source_tokens,
        target_tokens=len(best.tokens),
        sentences=result.sentences,
        warnings=[_warning(warning) for warning in result.warnings],
        source_language=way.source_language,
        target_language=way.target_language,
        detected=way.detected,
        detection_confidence=way.confidence,
        models=[f"{route.model.description.name}@{route.model.description.version}" for route in way.routes],
    )


def scored(hypothesis: Hypothesis, way: Way, *, tokens: bool) -> pb.ScoredTranslation:
    """Convert a translation that was scored."""
    model = way.routes[-1].model
    return pb.ScoredTranslation(
        log_probability=sum(hypothesis.token_scores) + hypothesis.end_score,
        score=hypothesis.score,
        tokens=model.tokenizer.pieces(hypothesis.tokens) if tokens else (),
        token_scores=hypothesis.token_scores,
        end_score=hypothesis.end_score,
        model=f"{model.description.name}@{model.description.version}",
    )


def detection(candidates: Sequence[Candidate]) -> pb.Detection:
    """Convert what is known of the language of one text."""
    return pb.Detection(
        candidates=[
            pb.LanguageCandidate(language=candidate.language, confidence=candidate.confidence)
            for candidate in candidates[:_MOST_CANDIDATES]
        ]
    )


def terms_of(messages: Iterable[pb.Term]) -> tuple[Term, ...]:
    """Convert terms."""
    return tuple(Term(message.source, message.target, message.case_sensitive) for message in messages)


def priority_of(value: int) -> Priority:
    """Convert a priority. Raises InvalidInput for one that this server does not know."""
    if value not in _PRIORITIES:
        raise InvalidInput("priority", value, ", ".join(pb.Priority.keys()))
    return _PRIORITIES[value]


def format_of(value: int) -> TextFormat:
    """Convert a format. Raises InvalidInput for one that this server does not know."""
    if value not in _FORMATS:
        raise InvalidInput("format", value, ", ".join(pb.TextFormat.keys()))
    return _FORMATS[value]


def splitting_of(value: int) -> Splitting:
    """Convert a splitting. Raises InvalidInput for one that this server does not know."""
    if value not in _SPLITTINGS:
        raise InvalidInput("splitting", value, ", ".join(pb.Splitting.keys()))
    return _SPLITTINGS[value]


def html_rules_of(request: pb.TranslateRequest | pb.TranslateStreamRequest) -> HtmlRules:
    """What HTML is cut by. Raises InvalidInput."""
    for index, name in enumerate(request.html_attributes):
        if name.lower() not in TRANSLATED_ATTRIBUTES:
            raise InvalidInput(f"html_attributes[{index}]", name, ", ".join(TRANSLATED_ATTRIBUTES))
    rules = HtmlRules(
        attributes=frozenset(map(str.lower, request.html_attributes)),
        kept=_elements("html_kept_elements", request.html_kept_elements),
        blocks=_elements("html_block_elements", request.html_block_elements),
        inline=_elements("html_inline_elements", request.html_inline_elements),
    )
    if both := sorted(rules.blocks & rules.inline):
        raise InvalidInput("html_inline_elements", both[0], "elements that html_block_elements does not have")
    return rules


def _elements(field: str, names: Sequence[str]) -> frozenset[str]:
    """Names of elements in lower case. Raises InvalidInput."""
    if len(names) > MAX_ELEMENTS:
        raise InvalidInput(field, f"{len(names)} of them", f"at most {MAX_ELEMENTS}")
    for index, name in enumerate(names):
        if not ELEMENT.fullmatch(name):
            raise InvalidInput(f"{field}[{index}]", name, "the name of an element, such as p")
    return frozenset(map(str.lower, names))


def model_info(
    model: ModelDescription,
    limits: RequestLimits,
    aliases: Sequence[str],
    *,
    is_default: bool,
    glossaries: Sequence[tuple[str, str]] = (),
) -> pb.ModelInfo:
    """Describe a version of a model. `glossaries`: names, and "SOURCE-TARGET" of each, of all languages."""
    return pb.ModelInfo(
        name=model.name,
        version=model.version,
        description=model.description,
        language_pairs=[
            pb.LanguagePair(source_language=source, target_language=target) for source, target in model.languages.pairs
        ],
        source_languages=model.languages.sources,
        target_languages=model.languages.targets,
        precision=model.precision,
        limits=pb.ModelLimits(
            max_source_tokens=model.max_source_tokens,
            max_target_tokens=model.max_target_tokens,
            max_texts=limits.max_texts,
            max_characters=limits.max_characters,
            max_sentences=limits.max_sentences,
            max_beam_size=min(MAX_BEAM_SIZE, model.max_beam_size),
        ),
        scores=[
            pb.Score(test_set=score.test_set, metric=score.metric, value=score.value, signature=score.signature)
            for score in model.scores
        ],
        aliases=aliases,
        is_default=is_default,
        licence=model.licence,
        default_options=pb.DecodingOptions(
            beam_size=model.default_beam_size, length_penalty=model.default_length_penalty
        ),
        length_normalisation=model.generation.normalisation,
        glossaries=[f"{name}.{pair}" for name, pair in glossaries if _translates(model, pair)],
    )


def _translates(model: ModelDescription, pair: str) -> bool:
    """Whether a model translates "SOURCE-TARGET". Codes of languages may have hyphens too."""
    parts = pair.split("-")
    sides = [("-".join(parts[:cut]), "-".join(parts[cut:])) for cut in range(1, len(parts))]
    return any(side in model.languages.matching(*side) for side in sides)


def _beam_for(num_hypotheses: int, default_beam_size: int) -> int:
    return min(MAX_BEAM_SIZE, max(num_hypotheses, default_beam_size))


def _hypothesis(
    hypothesis: TextHypothesis, tokenizer: TextTokenizer | None, tokens: bool, token_scores: bool
) -> pb.Hypothesis:
    return pb.Hypothesis(
        text=hypothesis.text,
        score=hypothesis.score,
        tokens=tokenizer.pieces(hypothesis.tokens) if tokens and tokenizer else (),
        token_scores=hypothesis.token_scores if token_scores else (),
        finish_reason=_FINISH_REASONS[hypothesis.finish_reason],
        sentences=[_sentence(sentence, token_scores) for sentence in hypothesis.sentences],
        applied_terms=[_applied_term(term) for term in hypothesis.terms],
    )


def _applied_term(applied: AppliedTerm) -> pb.AppliedTerm:
    term = applied.term
    return pb.AppliedTerm(
        source=_range(*applied.source),
        target=_range(*applied.target),
        term=pb.Term(source=term.source, target=term.target, case_sensitive=term.case_sensitive),
    )


def _sentence(sentence: SentenceHypothesis, token_scores: bool) -> pb.Sentence:
    found = sentence.hypothesis
    return pb.Sentence(
        source=_range(*sentence.source),
        target=_range(*sentence.target),
        score=found.score,
        token_scores=found.token_scores if token_scores else (),
        end_score=found.end_score,
        finish_reason=_FINISH_REASONS[found.finish_reason],
        alignments=[
            pb.Alignment(source=_range(*source), target=_range(*target)) for source, target in sentence.alignment
        ],
    )


def _warning(warning: TextWarning) -> pb.TranslationWarning:
    return pb.TranslationWarning(
        kind=_WARNINGS[warning.kind],
        source=_range(warning.start, warning.end),
        message=warning.message,
    )


def _range(start: int, end: int) -> pb.Range:
    return pb.Range(start=start, end=end)
