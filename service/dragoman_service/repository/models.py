"""The models that a server has, and which of them a request means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dragoman_service.bundle.languages import Languages
from dragoman_service.bundle.manifest import STAND_INS, Generation, Score
from dragoman_service.bundle.private_copy import PrivateCopy
from dragoman_service.engine.engine import Connection, OnAnswers
from dragoman_service.engine.request import DecodingOptions, Normalisation
from dragoman_service.engine.stats import EngineStats
from dragoman_service.repository.call_caps import CallCaps

DEFAULT_BEAM_SIZE = 4
"""Beam size of requests for which neither the caller, nor the operator, nor the model has one."""


class TextDecoder(Protocol):
    """Turns token ids into text as they come; all the pieces put together are the text of all the ids."""

    def push(self, ids: Sequence[int]) -> str:
        """The text that is certain now, and was not before."""
        ...

    def flush(self) -> str:
        """The rest."""
        ...


class TextTokenizer(Protocol):
    """What the frontend asks of a tokenizer."""

    end_id: int
    unknown_id: int
    fallback_ids: frozenset[int]
    """Source ids of what the vocabulary lacks."""
    vocab_size: int
    """Number of target ids."""

    def encode(self, text: str) -> list[int]:
        """Token ids, without the end of the sentence."""
        ...

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """`encode`, and for each id the half-open span of its characters."""
        ...

    def encode_target(self, text: str) -> list[int]:
        """Token ids of the beginning of a translation."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        ...

    def decode_with_offsets(self, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
        """`decode`, and for each id the half-open span of its characters."""
        ...

    @property
    def source_overhead(self) -> int:
        """How many ids `source` adds to those of a text."""
        ...

    def source(self, ids: Sequence[int], source_language: str, target_language: str) -> tuple[int, ...]:
        """What a model reads to translate a text of these ids from a language into another."""
        ...

    def forced(self, target_language: str) -> tuple[int, ...]:
        """See `engine.request.Request.forced`."""
        ...

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The subword of each token id."""
        ...

    def texts(self) -> list[bytes]:
        """What each token id adds to a text, in bytes of UTF-8."""
        ...

    def stream_decoder(self) -> TextDecoder:
        """A decoder for one sentence."""
        ...


class ServedEngine(Protocol):
    """An engine that serves a model: of this process (`engine.Engine`), or of another one."""

    remote: bool
    """Whether it is in another process, which work in this one does not hold up, and which answers later."""

    @property
    def healthy(self) -> bool:
        """False once it cannot work any more, or while it hangs."""
        ...

    @property
    def idle(self) -> bool:
        """Whether no call uses it."""
        ...

    def connect(self, on_answers: OnAnswers) -> Connection:
        """See `engine.Engine.connect`."""
        ...

    def stats(self) -> EngineStats:
        """Current counts. Any thread may call it."""
        ...

    def close(self) -> None:
        """Refuse new calls, fail those that run, and stop."""
        ...


_USUAL = DecodingOptions()


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What the world is told about a model."""

    name: str
    version: str
    description: str
    languages: Languages
    precision: str
    device: str
    """Where it runs: cpu or cuda."""
    max_source_tokens: int
    """Of one sentence, its end included."""
    max_target_tokens: int
    """Of one sentence's translation, without its end."""
    max_candidates: int
    """Tokens that a step can propose for a row; only toy vocabularies have fewer than requests may need."""
    max_rows: int
    """Rows of its running batches, all lanes together."""
    lanes: int = 1
    """Running batches that have these rows, each as many as the others."""
    normalisation: Normalisation = Normalisation.GNMT
    """Length penalty of its scores."""
    scores: tuple[Score, ...] = ()
    licence: str = ""
    """Licence of the weights; empty: unknown."""
    stand_ins: tuple[str, ...] = STAND_INS
    """Words that it copies. They stand in a sentence for what its translation must keep."""
    alignments: bool = False
    """Whether its engine returns alignments for requests that ask for them."""
    generation: Generation = field(default_factory=Generation)
    """What requests get that leave an option unset, where the operator has not set it either."""
    caps: CallCaps = field(default_factory=CallCaps)
    """Limits of the operator."""

    @property
    def summary(self) -> str:
        """Name, version and languages, on one line."""
        return f"{self.name} {self.version} ({self.languages.summary})"

    @property
    def max_request_rows(self) -> int:
        """Rows of a lane: no request may need more."""
        return self.max_rows // self.lanes

    @property
    def max_beam_size(self) -> int:
        """Maximum beam size of a request."""
        return min(self.caps.max_beam_size, self.max_request_rows)

    @property
    def default_beam_size(self) -> int:
        """Beam size of requests that do not choose one: never more than a request may ask for."""
        return min(self.generation.beam_size or DEFAULT_BEAM_SIZE, self.max_beam_size)

    @property
    def default_length_penalty(self) -> float:
        """Length penalty of requests that do not choose one."""
        penalty = self.generation.length_penalty
        return _USUAL.length_penalty if penalty is None else penalty


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class ServedModel:
    """A model in service."""

    description: ModelDescription
    tokenizer: TextTokenizer
    engine: ServedEngine
    copy: PrivateCopy | None = None
    """The copy from which it was loaded, to which its bundle is compared; None if it is compared to nothing."""


@dataclass(frozen=True, slots=True)
class Route:
    """The model and the language pair that a request means."""

    model: ServedModel
    source_language: str
    target_language: str
