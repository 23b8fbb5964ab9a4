from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Splitting(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPLITTING_UNSPECIFIED: _ClassVar[Splitting]
    SPLITTING_SENTENCES: _ClassVar[Splitting]
    SPLITTING_LINES: _ClassVar[Splitting]
    SPLITTING_NONE: _ClassVar[Splitting]

class TextFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TEXT_FORMAT_UNSPECIFIED: _ClassVar[TextFormat]
    TEXT_FORMAT_PLAIN: _ClassVar[TextFormat]
    TEXT_FORMAT_HTML: _ClassVar[TextFormat]
    TEXT_FORMAT_MARKDOWN: _ClassVar[TextFormat]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BATCH: _ClassVar[Priority]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_REPETITION: _ClassVar[FinishReason]
SPLITTING_UNSPECIFIED: Splitting
SPLITTING_SENTENCES: Splitting
SPLITTING_LINES: Splitting
SPLITTING_NONE: Splitting
TEXT_FORMAT_UNSPECIFIED: TextFormat
TEXT_FORMAT_PLAIN: TextFormat
TEXT_FORMAT_HTML: TextFormat
TEXT_FORMAT_MARKDOWN: TextFormat
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BATCH: Priority
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOP: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_REPETITION: FinishReason

class TranslateRequest(_message.Message):
    __slots__ = ("texts", "model", "source_language", "target_language", "options", "target_prefixes", "return_tokens", "return_token_scores", "priority", "format", "html_attributes", "splitting", "join_lines", "terms", "glossary", "keep", "return_alignments", "allow_pivot", "return_sentences", "glossary_ignore_case", "suppressed_words", "suppressed_tokens", "target_prefix_bias", "html_kept_elements", "html_block_elements", "html_inline_elements")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TARGET_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    TARGET_PREFIXES_FIELD_NUMBER: _ClassVar[int]
    RETURN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RETURN_TOKEN_SCORES_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    HTML_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    SPLITTING_FIELD_NUMBER: _ClassVar[int]
    JOIN_LINES_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    GLOSSARY_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    RETURN_ALIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    ALLOW_PIVOT_FIELD_NUMBER: _ClassVar[int]
    RETURN_SENTENCES_FIELD_NUMBER: _ClassVar[int]
    GLOSSARY_IGNORE_CASE_FIELD_NUMBER: _ClassVar[int]
    SUPPRESSED_WORDS_FIELD_NUMBER: _ClassVar[int]
    SUPPRESSED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TARGET_PREFIX_BIAS_FIELD_NUMBER: _ClassVar[int]
    HTML_KEPT_ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    HTML_BLOCK_ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    HTML_INLINE_ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    model: str
    source_language: str
    target_language: str
    options: DecodingOptions
    target_prefixes: _containers.RepeatedScalarFieldContainer[str]
    return_tokens: bool
    return_token_scores: bool
    priority: Priority
    format: TextFormat
    html_attributes: _containers.RepeatedScalarFieldContainer[str]
    splitting: Splitting
    join_lines: bool
    terms: _containers.RepeatedCompositeFieldContainer[Term]
    glossary: str
    keep: _containers.RepeatedScalarFieldContainer[str]
    return_alignments: bool
    allow_pivot: bool
    return_sentences: bool
    glossary_ignore_case: bool
    suppressed_words: _containers.RepeatedScalarFieldContainer[str]
    suppressed_tokens: _containers.RepeatedScalarFieldContainer[str]
    target_prefix_bias: float
    html_kept_elements: _containers.RepeatedScalarFieldContainer[str]
    html_block_elements: _containers.RepeatedScalarFieldContainer[str]
    html_inline_elements: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., model: _Optional[str] = ..., source_language: _Optional[str] = ..., target_language: _Optional[str] = ..., options: _Optional[_Union[DecodingOptions, _Mapping]] = ..., target_prefixes: _Optional[_Iterable[str]] = ..., return_tokens: _Optional[bool] = ..., return_token_scores: _Optional[bool] = ..., priority: _Optional[_Union[Priority, str]] = ..., format: _Optional[_Union[TextFormat, str]] = ..., html_attributes: _Optional[_Iterable[str]] = ..., splitting: _Optional[_Union[Splitting, str]] = ..., join_lines: _Optional[bool] = ..., terms: _Optional[_Iterable[_Union[Term, _Mapping]]] = ..., glossary: _Optional[str] = ..., keep: _Optional[_Iterable[str]] = ..., return_alignments: _Optional[bool] = ..., allow_pivot: _Optional[bool] = ..., return_sentences: _Optional[bool] = ..., glossary_ignore_case: _Optional[bool] = ..., suppressed_words: _Optional[_Iterable[str]] = ..., suppressed_tokens: _Optional[_Iterable[str]] = ..., target_prefix_bias: _Optional[float] = ..., html_kept_elements: _Optional[_Iterable[str]] = ..., html_block_elements: _Optional[_Iterable[str]] = ..., html_inline_elements: _Optional[_Iterable[str]] = ...) -> None: ...

class Term(_message.Message):
    __slots__ = ("source", "target", "case_sensitive")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CASE_SENSITIVE_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    case_sensitive: bool
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ..., case_sensitive: _Optional[bool] = ...) -> None: ...

class TranslateResponse(_message.Message):
    __slots__ = ("translations", "model", "version")
    TRANSLATIONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    translations: _containers.RepeatedCompositeFieldContainer[TextTranslation]
    model: str
    version: str
    def __init__(self, translations: _Optional[_Iterable[_Union[TextTranslation, _Mapping]]] = ..., model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class TranslateStreamRequest(_message.Message):
    __slots__ = ("text", "model", "source_language", "target_language", "options", "target_prefix", "return_tokens", "return_token_scores", "priority", "format", "html_attributes", "splitting", "join_lines", "terms", "glossary", "keep", "return_alignments", "allow_pivot", "return_sentences", "glossary_ignore_case", "suppressed_words", "suppressed_tokens", "target_prefix_bias", "html_kept_elements", "html_block_elements", "html_inline_elements")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TARGET_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    TARGET_PREFIX_FIELD_NUMBER: _ClassVar[int]
    RETURN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RETURN_TOKEN_SCORES_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    HTML_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    SPLITTING_FIELD_NUMBER: _ClassVar[int]
    JOIN_LINES_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    GLOSSARY_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    RETURN_ALIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    ALLOW_PIVOT_FIELD_NUMBER: _ClassVar[int]
    RETURN_SENTENCES_FIELD_NUMBER: _ClassVar[int]
    GLOSSARY_IGNORE_CASE_FIELD_NUMBER: _ClassVar[int]
    SUPPRESSED_WORDS_FIELD_NUMBER: _ClassVar[int]
    SUPPRESSED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TARGET_PREFIX_BIAS_FIELD_NUMBER: _ClassVar[int]
    HTML_KEPT_ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    HTML_BLOCK_ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    HTML_INLINE_ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    text: str
    model: str
    source_language: str
    target_language: str
    options: DecodingOptions
    target_prefix: str
    return_tokens: bool
    return_token_scores: bool
    priority: Priority
    format: TextFormat
    html_attributes: _containers.RepeatedScalarFieldContainer[str]
    splitting: Splitting
    join_lines: bool
    terms: _containers.RepeatedCompositeFieldContainer[Term]
    glossary: str
    keep: _containers.RepeatedScalarFieldContainer[str]
    return_alignments: bool
    allow_pivot: bool
    return_sentences: bool
    glossary_ignore_case: bool
    suppressed_words: _containers.RepeatedScalarFieldContainer[str]
    suppressed_tokens: _containers.RepeatedScalarFieldContainer[str]
    target_prefix_bias: float
    html_kept_elements: _containers.RepeatedScalarFieldContainer[str]
    html_block_elements: _containers.RepeatedScalarFieldContainer[str]
    html_inline_elements: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, text: _Optional[str] = ..., model: _Optional[str] = ..., source_language: _Optional[str] = ..., target_language: _Optional[str] = ..., options: _Optional[_Union[DecodingOptions, _Mapping]] = ..., target_prefix: _Optional[str] = ..., return_tokens: _Optional[bool] = ..., return_token_scores: _Optional[bool] = ..., priority: _Optional[_Union[Priority, str]] = ..., format: _Optional[_Union[TextFormat, str]] = ..., html_attributes: _Optional[_Iterable[str]] = ..., splitting: _Optional[_Union[Splitting, str]] = ..., join_lines: _Optional[bool] = ..., terms: _Optional[_Iterable[_Union[Term, _Mapping]]] = ..., glossary: _Optional[str] = ..., keep: _Optional[_Iterable[str]] = ..., return_alignments: _Optional[bool] = ..., allow_pivot: _Optional[bool] = ..., return_sentences: _Optional[bool] = ..., glossary_ignore_case: _Optional[bool] = ..., suppressed_words: _Optional[_Iterable[str]] = ..., suppressed_tokens: _Optional[_Iterable[str]] = ..., target_prefix_bias: _Optional[float] = ..., html_kept_elements: _Optional[_Iterable[str]] = ..., html_block_elements: _Optional[_Iterable[str]] = ..., html_inline_elements: _Optional[_Iterable[str]] = ...) -> None: ...

class TranslateStreamResponse(_message.Message):
    __slots__ = ("chunk", "result")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    chunk: str
    result: TranslateStreamResult
    def __init__(self, chunk: _Optional[str] = ..., result: _Optional[_Union[TranslateStreamResult, _Mapping]] = ...) -> None: ...

class TranslateStreamResult(_message.Message):
    __slots__ = ("translation", "model", "version")
    TRANSLATION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    translation: TextTranslation
    model: str
    version: str
    def __init__(self, translation: _Optional[_Union[TextTranslation, _Mapping]] = ..., model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class DecodingOptions(_message.Message):
    __slots__ = ("beam_size", "num_hypotheses", "length_penalty", "min_length", "max_length", "repetition_penalty", "no_repeat_ngram_size", "sampling", "stop_repetition", "patience", "max_added_length", "coverage_penalty")
    BEAM_SIZE_FIELD_NUMBER: _ClassVar[int]
    NUM_HYPOTHESES_FIELD_NUMBER: _ClassVar[int]
    LENGTH_PENALTY_FIELD_NUMBER: _ClassVar[int]
    MIN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    NO_REPEAT_NGRAM_SIZE_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    STOP_REPETITION_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_FIELD_NUMBER: _ClassVar[int]
    MAX_ADDED_LENGTH_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    beam_size: int
    num_hypotheses: int
    length_penalty: float
    min_length: int
    max_length: int
    repetition_penalty: float
    no_repeat_ngram_size: int
    sampling: Sampling
    stop_repetition: bool
    patience: float
    max_added_length: int
    coverage_penalty: float
    def __init__(self, beam_size: _Optional[int] = ..., num_hypotheses: _Optional[int] = ..., length_penalty: _Optional[float] = ..., min_length: _Optional[int] = ..., max_length: _Optional[int] = ..., repetition_penalty: _Optional[float] = ..., no_repeat_ngram_size: _Optional[int] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., stop_repetition: _Optional[bool] = ..., patience: _Optional[float] = ..., max_added_length: _Optional[int] = ..., coverage_penalty: _Optional[float] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("temperature", "top_k", "top_p", "seed")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_k: int
    top_p: float
    seed: int
    def __init__(self, temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class TextTranslation(_message.Message):
    __slots__ = ("hypotheses", "finish_reason", "timings", "source_tokens", "target_tokens", "sentences", "warnings", "source_language", "target_language", "detected", "detection_confidence", "models")
    HYPOTHESES_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TARGET_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SENTENCES_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TARGET_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    DETECTED_FIELD_NUMBER: _ClassVar[int]
    DETECTION_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    hypotheses: _containers.RepeatedCompositeFieldContainer[Hypothesis]
    finish_reason: FinishReason
    timings: Timings
    source_tokens: int
    target_tokens: int
    sentences: int
    warnings: _containers.RepeatedCompositeFieldContainer[TranslationWarning]
    source_language: str
    target_language: str
    detected: bool
    detection_confidence: float
    models: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, hypotheses: _Optional[_Iterable[_Union[Hypothesis, _Mapping]]] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., source_tokens: _Optional[int] = ..., target_tokens: _Optional[int] = ..., sentences: _Optional[int] = ..., warnings: _Optional[_Iterable[_Union[TranslationWarning, _Mapping]]] = ..., source_language: _Optional[str] = ..., target_language: _Optional[str] = ..., detected: _Optional[bool] = ..., detection_confidence: _Optional[float] = ..., models: _Optional[_Iterable[str]] = ...) -> None: ...

class TranslationWarning(_message.Message):
    __slots__ = ("kind", "source", "message")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[TranslationWarning.Kind]
        SOURCE_NOT_READABLE: _ClassVar[TranslationWarning.Kind]
        SPANS_IN_PARTS: _ClassVar[TranslationWarning.Kind]
        NUMBER_MISSING: _ClassVar[TranslationWarning.Kind]
        REPETITION: _ClassVar[TranslationWarning.Kind]
        EMPTY: _ClassVar[TranslationWarning.Kind]
        TERM_MISSING: _ClassVar[TranslationWarning.Kind]
    KIND_UNSPECIFIED: TranslationWarning.Kind
    SOURCE_NOT_READABLE: TranslationWarning.Kind
    SPANS_IN_PARTS: TranslationWarning.Kind
    NUMBER_MISSING: TranslationWarning.Kind
    REPETITION: TranslationWarning.Kind
    EMPTY: TranslationWarning.Kind
    TERM_MISSING: TranslationWarning.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    kind: TranslationWarning.Kind
    source: Range
    message: str
    def __init__(self, kind: _Optional[_Union[TranslationWarning.Kind, str]] = ..., source: _Optional[_Union[Range, _Mapping]] = ..., message: _Optional[str] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class Hypothesis(_message.Message):
    __slots__ = ("text", "score", "tokens", "token_scores", "finish_reason", "sentences", "applied_terms")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_SCORES_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    SENTENCES_FIELD_NUMBER: _ClassVar[int]
    APPLIED_TERMS_FIELD_NUMBER: _ClassVar[int]
    text: str
    score: float
    tokens: _containers.RepeatedScalarFieldContainer[str]
    token_scores: _containers.RepeatedScalarFieldContainer[float]
    finish_reason: FinishReason
    sentences: _containers.RepeatedCompositeFieldContainer[Sentence]
    applied_terms: _containers.RepeatedCompositeFieldContainer[AppliedTerm]
    def __init__(self, text: _Optional[str] = ..., score: _Optional[float] = ..., tokens: _Optional[_Iterable[str]] = ..., token_scores: _Optional[_Iterable[float]] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., sentences: _Optional[_Iterable[_Union[Sentence, _Mapping]]] = ..., applied_terms: _Optional[_Iterable[_Union[AppliedTerm, _Mapping]]] = ...) -> None: ...

class AppliedTerm(_message.Message):
    __slots__ = ("source", "target", "term")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    source: Range
    target: Range
    term: Term
    def __init__(self, source: _Optional[_Union[Range, _Mapping]] = ..., target: _Optional[_Union[Range, _Mapping]] = ..., term: _Optional[_Union[Term, _Mapping]] = ...) -> None: ...

class Sentence(_message.Message):
    __slots__ = ("source", "target", "score", "token_scores", "end_score", "finish_reason", "alignments")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_SCORES_FIELD_NUMBER: _ClassVar[int]
    END_SCORE_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    ALIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    source: Range
    target: Range
    score: float
    token_scores: _containers.RepeatedScalarFieldContainer[float]
    end_score: float
    finish_reason: FinishReason
    alignments: _containers.RepeatedCompositeFieldContainer[Alignment]
    def __init__(self, source: _Optional[_Union[Range, _Mapping]] = ..., target: _Optional[_Union[Range, _Mapping]] = ..., score: _Optional[float] = ..., token_scores: _Optional[_Iterable[float]] = ..., end_score: _Optional[float] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., alignments: _Optional[_Iterable[_Union[Alignment, _Mapping]]] = ...) -> None: ...

class Alignment(_message.Message):
    __slots__ = ("source", "target")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    source: Range
    target: Range
    def __init__(self, source: _Optional[_Union[Range, _Mapping]] = ..., target: _Optional[_Union[Range, _Mapping]] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queue_seconds", "encode_seconds", "decode_seconds")
    QUEUE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ENCODE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DECODE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    queue_seconds: float
    encode_seconds: float
    decode_seconds: float
    def __init__(self, queue_seconds: _Optional[float] = ..., encode_seconds: _Optional[float] = ..., decode_seconds: _Optional[float] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "version", "description", "language_pairs", "precision", "limits", "scores", "aliases", "is_default", "source_languages", "target_languages", "licence", "default_options", "length_normalisation", "glossaries")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_PAIRS_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    TARGET_LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    LENGTH_NORMALISATION_FIELD_NUMBER: _ClassVar[int]
    GLOSSARIES_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    description: str
    language_pairs: _containers.RepeatedCompositeFieldContainer[LanguagePair]
    precision: str
    limits: ModelLimits
    scores: _containers.RepeatedCompositeFieldContainer[Score]
    aliases: _containers.RepeatedScalarFieldContainer[str]
    is_default: bool
    source_languages: _containers.RepeatedScalarFieldContainer[str]
    target_languages: _containers.RepeatedScalarFieldContainer[str]
    licence: str
    default_options: DecodingOptions
    length_normalisation: str
    glossaries: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., description: _Optional[str] = ..., language_pairs: _Optional[_Iterable[_Union[LanguagePair, _Mapping]]] = ..., precision: _Optional[str] = ..., limits: _Optional[_Union[ModelLimits, _Mapping]] = ..., scores: _Optional[_Iterable[_Union[Score, _Mapping]]] = ..., aliases: _Optional[_Iterable[str]] = ..., is_default: _Optional[bool] = ..., source_languages: _Optional[_Iterable[str]] = ..., target_languages: _Optional[_Iterable[str]] = ..., licence: _Optional[str] = ..., default_options: _Optional[_Union[DecodingOptions, _Mapping]] = ..., length_normalisation: _Optional[str] = ..., glossaries: _Optional[_Iterable[str]] = ...) -> None: ...

class LanguagePair(_message.Message):
    __slots__ = ("source_language", "target_language")
    SOURCE_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TARGET_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    source_language: str
    target_language: str
    def __init__(self, source_language: _Optional[str] = ..., target_language: _Optional[str] = ...) -> None: ...

class ModelLimits(_message.Message):
    __slots__ = ("max_source_tokens", "max_target_tokens", "max_texts", "max_characters", "max_beam_size", "max_sentences")
    MAX_SOURCE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TARGET_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TEXTS_FIELD_NUMBER: _ClassVar[int]
    MAX_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    MAX_BEAM_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_SENTENCES_FIELD_NUMBER: _ClassVar[int]
    max_source_tokens: int
    max_target_tokens: int
    max_texts: int
    max_characters: int
    max_beam_size: int
    max_sentences: int
    def __init__(self, max_source_tokens: _Optional[int] = ..., max_target_tokens: _Optional[int] = ..., max_texts: _Optional[int] = ..., max_characters: _Optional[int] = ..., max_beam_size: _Optional[int] = ..., max_sentences: _Optional[int] = ...) -> None: ...

class Score(_message.Message):
    __slots__ = ("test_set", "metric", "value", "signature")
    TEST_SET_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    test_set: str
    metric: str
    value: float
    signature: str
    def __init__(self, test_set: _Optional[str] = ..., metric: _Optional[str] = ..., value: _Optional[float] = ..., signature: _Optional[str] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("texts", "translations", "model", "source_language", "target_language", "priority", "return_tokens")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    TRANSLATIONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TARGET_LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    RETURN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    translations: _containers.RepeatedScalarFieldContainer[str]
    model: str
    source_language: str
    target_language: str
    priority: Priority
    return_tokens: bool
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., translations: _Optional[_Iterable[str]] = ..., model: _Optional[str] = ..., source_language: _Optional[str] = ..., target_language: _Optional[str] = ..., priority: _Optional[_Union[Priority, str]] = ..., return_tokens: _Optional[bool] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("scores",)
    SCORES_FIELD_NUMBER: _ClassVar[int]
    scores: _containers.RepeatedCompositeFieldContainer[ScoredTranslation]
    def __init__(self, scores: _Optional[_Iterable[_Union[ScoredTranslation, _Mapping]]] = ...) -> None: ...

class ScoredTranslation(_message.Message):
    __slots__ = ("log_probability", "score", "tokens", "token_scores", "end_score", "model")
    LOG_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_SCORES_FIELD_NUMBER: _ClassVar[int]
    END_SCORE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    log_probability: float
    score: float
    tokens: _containers.RepeatedScalarFieldContainer[str]
    token_scores: _containers.RepeatedScalarFieldContainer[float]
    end_score: float
    model: str
    def __init__(self, log_probability: _Optional[float] = ..., score: _Optional[float] = ..., tokens: _Optional[_Iterable[str]] = ..., token_scores: _Optional[_Iterable[float]] = ..., end_score: _Optional[float] = ..., model: _Optional[str] = ...) -> None: ...

class DetectLanguageRequest(_message.Message):
    __slots__ = ("texts", "languages", "format")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    languages: _containers.RepeatedScalarFieldContainer[str]
    format: TextFormat
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., languages: _Optional[_Iterable[str]] = ..., format: _Optional[_Union[TextFormat, str]] = ...) -> None: ...

class DetectLanguageResponse(_message.Message):
    __slots__ = ("detections",)
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    detections: _containers.RepeatedCompositeFieldContainer[Detection]
    def __init__(self, detections: _Optional[_Iterable[_Union[Detection, _Mapping]]] = ...) -> None: ...

class Detection(_message.Message):
    __slots__ = ("candidates",)
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    candidates: _containers.RepeatedCompositeFieldContainer[LanguageCandidate]
    def __init__(self, candidates: _Optional[_Iterable[_Union[LanguageCandidate, _Mapping]]] = ...) -> None: ...

class LanguageCandidate(_message.Message):
    __slots__ = ("language", "confidence")
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    language: str
    confidence: float
    def __init__(self, language: _Optional[str] = ..., confidence: _Optional[float] = ...) -> None: ...
