"""Dataclasses that the Python clients take and return, and their conversion to and from protobuf messages."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, fields

import grpc

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.client.errors import InvalidRequest


class FinishReason(enum.Enum):
    """Why a translation ended."""

    STOP = "stop"
    """The model produced the end of the sentence."""
    LENGTH = "length"
    """A sentence reached its `max_length` first: the translation is incomplete."""
    REPETITION = "repetition"
    """A sentence repeated itself without end and was stopped: the translation is incomplete."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Options of random sampling. None takes the server's default. See `Sampling` in translation.proto."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Term:
    """A phrase and its translation. See `Term` in translation.proto."""

    source: str
    target: str
    case_sensitive: bool = False


@dataclass(frozen=True, slots=True)
class AppliedTerm:
    """A term in a text and in its translation."""

    source: tuple[int, int]
    """Its characters in the source text, start and end."""
    target: tuple[int, int]
    """Its characters in the translation."""
    term: Term


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a request. None or empty takes the server's default. translation.proto describes each option."""

    model: str = ""
    source_language: str = ""
    target_language: str = ""
    beam_size: int | None = None
    num_hypotheses: int | None = None
    length_penalty: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    max_added_length: int | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    stop_repetition: bool | None = None
    patience: float | None = None
    coverage_penalty: float | None = None
    sampling: Sampling | None = None
    return_tokens: bool = False
    return_token_scores: bool = False
    return_sentences: bool = False
    return_alignments: bool = False
    priority: str = ""
    """`interactive`, which is the default, or `batch`."""
    format: str = "plain"
    """What the texts are written in: `plain`, `html` or `markdown`."""
    html_attributes: tuple[str, ...] = ()
    """Attributes of HTML whose values are translated, such as `alt`."""
    html_kept_elements: tuple[str, ...] = ()
    """Elements of HTML whose content is not translated, beside those that never are."""
    html_block_elements: tuple[str, ...] = ()
    """Elements of HTML that divide text, beside those that always do."""
    html_inline_elements: tuple[str, ...] = ()
    """Elements of HTML that do not divide text, although they would."""
    allow_pivot: bool = False
    """Whether two models may translate through a third language, if no model has the pair."""
    splitting: str = "sentences"
    """Where texts are split: at the ends of `sentences`, at those of `lines`, or nowhere (`none`)."""
    join_lines: bool = False
    """Whether the lines of each paragraph are joined before, as in wrapped text."""
    keep: tuple[str, ...] = ()
    """Phrases that stand in translations as they are."""
    terms: tuple[Term, ...] = ()
    """Phrases with their translations."""
    glossary: str = ""
    """Name of a glossary of the server."""
    glossary_ignore_case: bool = False
    """Whether its terms match in any case."""
    suppressed_words: tuple[str, ...] = ()
    """Words and phrases that no translation contains."""
    suppressed_tokens: tuple[str, ...] = ()
    """Tokens that no translation contains."""
    target_prefix_bias: float | None = None
    """How much target prefixes are preferred, if translations need not begin with them."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence that the model translated. See `Sentence` in translation.proto."""

    source: tuple[int, int]
    """Its characters in the source text, start and end."""
    target: tuple[int, int]
    """Its characters in the translation."""
    score: float
    token_scores: tuple[float, ...]
    """Empty unless `Options.return_token_scores` is set."""
    end_score: float
    """Log-probability of the end of the sentence."""
    finish_reason: FinishReason
    alignments: tuple[tuple[tuple[int, int], tuple[int, int]], ...]
    """Characters of words of the source text, and of the words of the translation that belong to them."""


@dataclass(frozen=True, slots=True)
class TranslationWarning:
    """What the caller should know about a translation. See `TranslationWarning` in translation.proto."""

    kind: str
    """Such as `NUMBER_MISSING`."""
    message: str
    source: tuple[int, int]
    """What it is about: characters of the source text, start and end."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One way to translate a text."""

    text: str
    score: float
    tokens: tuple[str, ...]
    """Empty unless `Options.return_tokens` is set."""
    token_scores: tuple[float, ...]
    """Empty unless `Options.return_token_scores` is set."""
    finish_reason: FinishReason
    applied_terms: tuple[AppliedTerm, ...] = ()
    """Which of `Options.terms` stand in it, in the order of the source text."""
    sentences: tuple[Sentence, ...] = ()
    """Empty unless `Options.return_sentences` or `Options.return_alignments` is set."""


@dataclass(frozen=True, slots=True)
class Translation:
    """The translation of one text."""

    hypotheses: tuple[Hypothesis, ...]
    """Best first."""
    finish_reason: FinishReason
    """That of the best hypothesis."""
    queue_seconds: float
    encode_seconds: float
    decode_seconds: float
    source_tokens: int
    target_tokens: int
    sentences: int
    model: str
    """The model that translated, the last one if there were two. Empty: the text was copied."""
    version: str
    source_language: str = ""
    """As the request spells it, else as the model does. Empty: a text without letters, or an older server."""
    target_language: str = ""
    detected: bool = False
    """Whether the source language was detected."""
    models: tuple[str, ...] = ()
    """NAME@VERSION of all models that translated, in order."""
    warnings: tuple[TranslationWarning, ...] = ()
    """About the best hypothesis, in the order of the text."""

    @property
    def text(self) -> str:
        """Text of the best hypothesis."""
        return self.hypotheses[0].text

    @property
    def is_cut(self) -> bool:
        """Whether it is incomplete: see `finish_reason`."""
        return self.finish_reason is not FinishReason.STOP

    @property
    def score(self) -> float:
        """Score of the best hypothesis."""
        return self.hypotheses[0].score


@dataclass(frozen=True, slots=True)
class ScoredTranslation:
    """How likely a model finds a translation. See `ScoredTranslation` in translation.proto."""

    log_probability: float
    """Natural logarithm, with the end of the sentence."""
    score: float
    """After the length penalty, as that of a hypothesis."""
    tokens: tuple[str, ...]
    token_scores: tuple[float, ...]
    end_score: float
    model: str
    """NAME@VERSION."""


@dataclass(frozen=True, slots=True)
class LanguageCandidate:
    """A language that a text may be in."""

    language: str
    confidence: float
    """0 to 1: how likely it is, among the languages that are possible."""


@dataclass(frozen=True, slots=True)
class Score:
    """A score of a model on a test set."""

    test_set: str
    metric: str
    value: float
    signature: str


@dataclass(frozen=True, slots=True)
class Model:
    """A model that a server has."""

    name: str
    version: str
    description: str
    language_pairs: tuple[tuple[str, str], ...]
    """(source, target). A model of many languages has `source_languages` and `target_languages` instead; `translates`
    considers both."""
    precision: str
    max_source_tokens: int
    max_target_tokens: int
    max_texts: int
    max_characters: int
    max_beam_size: int
    scores: tuple[Score, ...]
    aliases: tuple[str, ...] = ()
    """Other names for this version: NAME@ALIAS."""
    is_default: bool = True
    """Whether the name alone means this version."""
    source_languages: tuple[str, ...] = ()
    """Languages that the model translates into every one of `target_languages` but themselves."""
    target_languages: tuple[str, ...] = ()
    licence: str = ""
    """Licence of the model; empty: unknown."""
    default_beam_size: int | None = None
    """Beam size of requests that do not choose one. None: the server is an older one, which does not say."""
    default_length_penalty: float | None = None
    length_normalisation: str = "gnmt"
    """How a length penalty applies; see `DecodingOptions` in translation.proto."""

    def translates(self, source: str, target: str) -> bool:
        """Whether the model translates from one language into the other. Upper and lower case are the same."""
        low = (source.lower(), target.lower())
        if low in {(one.lower(), other.lower()) for one, other in self.language_pairs}:
            return True
        sides = zip(low, (self.source_languages, self.target_languages), strict=True)
        return low[0] != low[1] and all(tag in map(str.lower, tags) for tag, tags in sides)


def utf8(field: str, value: str) -> bytes:
    """Convert the value of a field. Raises InvalidRequest for a lone surrogate, which UTF-8 cannot have."""
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        got = f"a lone surrogate, {value[error.start]!r}, as character {error.start + 1}"
        message = f"{field}: got {got}; allowed: Unicode text without lone surrogates"
        raise InvalidRequest(message, grpc.StatusCode.INVALID_ARGUMENT, field=field) from None


def translate_request(texts: Sequence[str], prefixes: Sequence[str], options: Options) -> pb.TranslateRequest:
    """Convert to a request for many texts, which `utf8` accepts. Raises InvalidRequest."""
    _check_strings(options)
    return pb.TranslateRequest(
        texts=texts,
        model=options.model,
        source_language=options.source_language,
        target_language=options.target_language,
        options=_decoding(options),
        target_prefixes=prefixes if any(prefixes) else (),
        return_tokens=options.return_tokens,
        return_token_scores=options.return_token_scores,
        return_sentences=options.return_sentences,
        return_alignments=options.return_alignments,
        priority=_priority(options.priority),
        format=_format(options.format),
        splitting=_splitting(options.splitting),
        join_lines=options.join_lines,
        html_attributes=options.html_attributes,
        html_kept_elements=options.html_kept_elements,
        html_block_elements=options.html_block_elements,
        html_inline_elements=options.html_inline_elements,
        allow_pivot=options.allow_pivot,
        keep=options.keep,
        terms=_terms(options),
        glossary=options.glossary,
        glossary_ignore_case=options.glossary_ignore_case,
        suppressed_words=options.suppressed_words,
        suppressed_tokens=options.suppressed_tokens,
        target_prefix_bias=options.target_prefix_bias,
    )


def score_request(texts: Sequence[str], translations: Sequence[str], options: Options) -> pb.ScoreRequest:
    """Convert to a request for the scores of translations. Raises InvalidRequest."""
    _check_strings(options)
    for name, given in (("texts", texts), ("translations", translations)):
        for index, text in enumerate(given):
            utf8(f"{name}[{index}]", text)
    return pb.ScoreRequest(
        texts=texts,
        translations=translations,
        model=options.model,
        source_language=options.source_language,
        target_language=options.target_language,
        priority=_priority(options.priority),
        return_tokens=options.return_tokens,
    )


def stream_request(text: str, prefix: str, options: Options) -> pb.TranslateStreamRequest:
    """Convert to a request for one text whose translation is streamed. Raises InvalidRequest."""
    _check_strings(options)
    utf8("text", text)
    utf8("target_prefix", prefix)
    return pb.TranslateStreamRequest(
        text=text,
        model=options.model,
        source_language=options.source_language,
        target_language=options.target_language,
        options=_decoding(options),
        target_prefix=prefix,
        return_tokens=options.return_tokens,
        return_token_scores=options.return_token_scores,
        return_sentences=options.return_sentences,
        return_alignments=options.return_alignments,
        priority=_priority(options.priority),
        format=_format(options.format),
        splitting=_splitting(options.splitting),
        join_lines=options.join_lines,
        html_attributes=options.html_attributes,
        html_kept_elements=options.html_kept_elements,
        html_block_elements=options.html_block_elements,
        html_inline_elements=options.html_inline_elements,
        allow_pivot=options.allow_pivot,
        keep=options.keep,
        terms=_terms(options),
        glossary=options.glossary,
        glossary_ignore_case=options.glossary_ignore_case,
        suppressed_words=options.suppressed_words,
        suppressed_tokens=options.suppressed_tokens,
        target_prefix_bias=options.target_prefix_bias,
    )


def translations(response: pb.TranslateResponse) -> list[Translation]:
    """Convert the translations of a reply."""
    return [_translation(message, response.model, response.version) for message in response.translations]


def stream_item(response: pb.TranslateStreamResponse) -> str | Translation:
    """Convert one message of a stream: a piece of text, or the result."""
    if response.HasField("result"):
        result = response.result
        return _translation(result.translation, result.model, result.version)
    return response.chunk


def scores(response: pb.ScoreResponse) -> list[ScoredTranslation]:
    """Convert the scores of translations."""
    return [
        ScoredTranslation(
            it.log_probability, it.score, tuple(it.tokens), tuple(it.token_scores), it.end_score, it.model
        )
        for it in response.scores
    ]


def detections(response: pb.DetectLanguageResponse) -> list[list[LanguageCandidate]]:
    """Convert the languages that each text may be in."""
    return [
        [LanguageCandidate(candidate.language, candidate.confidence) for candidate in detection.candidates]
        for detection in response.detections
    ]


def models(response: pb.ListModelsResponse) -> list[Model]:
    """Convert the list of models."""
    return [_model(info) for info in response.models]


def _check_strings(options: Options) -> None:
    for field in ("model", "source_language", "target_language", "glossary"):
        utf8(field, getattr(options, field))
    for field in ("keep", "suppressed_words", "suppressed_tokens"):
        for index, phrase in enumerate(getattr(options, field)):
            utf8(f"{field}[{index}]", phrase)
    for index, term in enumerate(options.terms):
        utf8(f"terms[{index}].source", term.source)
        utf8(f"terms[{index}].target", term.target)


def _terms(options: Options) -> list[pb.Term]:
    return [
        pb.Term(source=term.source, target=term.target, case_sensitive=term.case_sensitive) for term in options.terms
    ]


def _applied_term(message: pb.AppliedTerm) -> AppliedTerm:
    term = message.term
    return AppliedTerm(
        source=(message.source.start, message.source.end),
        target=(message.target.start, message.target.end),
        term=Term(term.source, term.target, term.case_sensitive),
    )


def _decoding(options: Options) -> pb.DecodingOptions:
    names = [field.name for field in pb.DecodingOptions.DESCRIPTOR.fields if field.name != "sampling"]
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    message = pb.DecodingOptions(**given)
    if options.sampling is not None:
        sampling = options.sampling
        drawn = {f.name: value for f in fields(sampling) if (value := getattr(sampling, f.name)) is not None}
        message.sampling.CopyFrom(pb.Sampling(**drawn))  # an empty message also asks for sampling
    return message


def _priority(name: str) -> pb.Priority:
    priorities = {"": pb.PRIORITY_UNSPECIFIED, "interactive": pb.PRIORITY_INTERACTIVE, "batch": pb.PRIORITY_BATCH}
    if name not in priorities:
        raise ValueError(f"priority: got {name!r}; allowed: interactive, batch")
    return priorities[name]


def _splitting(name: str) -> pb.Splitting:
    splittings = {
        "sentences": pb.SPLITTING_UNSPECIFIED,
        "lines": pb.SPLITTING_LINES,
        "none": pb.SPLITTING_NONE,
    }
    if name not in splittings:
        raise ValueError(f"splitting: got {name!r}; allowed: {', '.join(splittings)}")
    return splittings[name]


def _format(name: str) -> pb.TextFormat:
    formats = {"plain": pb.TEXT_FORMAT_UNSPECIFIED, "html": pb.TEXT_FORMAT_HTML, "markdown": pb.TEXT_FORMAT_MARKDOWN}
    if name not in formats:
        raise ValueError(f"format: got {name!r}; allowed: {', '.join(formats)}")
    return formats[name]


def _translation(message: pb.TextTranslation, model: str, version: str) -> Translation:
    """Convert a translation. `model` and `version` are those of the reply: an older server says no others."""
    if message.models:
        model, _, version = message.models[-1].partition("@")
    elif message.detected:  # a text that was copied
        model = version = ""
    return Translation(
        hypotheses=tuple(
            Hypothesis(
                text=hypothesis.text,
                score=hypothesis.score,
                tokens=tuple(hypothesis.tokens),
                token_scores=tuple(hypothesis.token_scores),
                finish_reason=_finish_reason(hypothesis.finish_reason),
                applied_terms=tuple(map(_applied_term, hypothesis.applied_terms)),
                sentences=tuple(map(_sentence, hypothesis.sentences)),
            )
            for hypothesis in message.hypotheses
        ),
        finish_reason=_finish_reason(message.finish_reason),
        queue_seconds=message.timings.queue_seconds,
        encode_seconds=message.timings.encode_seconds,
        decode_seconds=message.timings.decode_seconds,
        source_tokens=message.source_tokens,
        target_tokens=message.target_tokens,
        sentences=message.sentences,
        model=model,
        version=version,
        source_language=message.source_language,
        target_language=message.target_language,
        detected=message.detected,
        models=tuple(message.models),
        warnings=tuple(map(_warning, message.warnings)),
    )


def _sentence(message: pb.Sentence) -> Sentence:
    return Sentence(
        source=_range(message.source),
        target=_range(message.target),
        score=message.score,
        token_scores=tuple(message.token_scores),
        end_score=message.end_score,
        finish_reason=_finish_reason(message.finish_reason),
        alignments=tuple((_range(it.source), _range(it.target)) for it in message.alignments),
    )


def _warning(message: pb.TranslationWarning) -> TranslationWarning:
    known = message.kind in pb.TranslationWarning.Kind.values()
    kind = pb.TranslationWarning.Kind.Name(message.kind) if known else str(message.kind)  # of a newer server
    return TranslationWarning(kind, message.message, _range(message.source))


def _range(message: pb.Range) -> tuple[int, int]:
    return message.start, message.end


_FINISH_REASONS: dict[int, FinishReason] = {
    pb.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    pb.FINISH_REASON_REPETITION: FinishReason.REPETITION,
}


def _finish_reason(value: int) -> FinishReason:
    return _FINISH_REASONS.get(value, FinishReason.STOP)


def _model(info: pb.ModelInfo) -> Model:
    return Model(
        name=info.name,
        version=info.version,
        description=info.description,
        language_pairs=tuple((pair.source_language, pair.target_language) for pair in info.language_pairs),
        precision=info.precision,
        max_source_tokens=info.limits.max_source_tokens,
        max_target_tokens=info.limits.max_target_tokens,
        max_texts=info.limits.max_texts,
        max_characters=info.limits.max_characters,
        max_beam_size=info.limits.max_beam_size,
        scores=tuple(
            Score(test_set=score.test_set, metric=score.metric, value=score.value, signature=score.signature)
            for score in info.scores
        ),
        aliases=tuple(info.aliases),
        is_default=info.is_default,
        source_languages=tuple(info.source_languages),
        target_languages=tuple(info.target_languages),
        licence=info.licence,
        default_beam_size=info.default_options.beam_size if info.HasField("default_options") else None,
        default_length_penalty=info.default_options.length_penalty if info.HasField("default_options") else None,
        length_normalisation=info.length_normalisation or "gnmt",
    )
