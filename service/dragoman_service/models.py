"""The models that a server has, and which of them a request means."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dragoman_service.errors import InvalidInput, NotFound
from dragoman_service.manifest import Score
from dragoman_service.permits import Permits
from dragoman_service.request import Event, Request


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

    def encode(self, text: str) -> list[int]:
        """Token ids, without the end of the sentence."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        ...

    @property
    def source_overhead(self) -> int:
        """How many ids `source` adds to those of a text."""
        ...

    def source(self, ids: Sequence[int], target_language: str) -> tuple[int, ...]:
        """What a model reads to translate a text of these ids into a language."""
        ...

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The subword of each token id."""
        ...

    def stream_decoder(self) -> TextDecoder:
        """A decoder for one sentence."""
        ...


class RequestEngine(Protocol):
    """What the frontend and the server ask of an engine: one `engine.Engine`, or `lanes.Lanes` of them."""

    @property
    def healthy(self) -> bool:
        """False once it cannot work any more."""
        ...

    def submit(self, request: Request, on_events: Callable[[Sequence[Event]], None]) -> None:
        """Take a request; `on_events` is called on another thread, at last with Finished or Failed.

        What a step decides about requests with an equal `on_events` comes in one call.
        """
        ...

    def cancel(self, request_id: int) -> None:
        """Give a request up; nothing happens if it has ended."""
        ...

    def close(self) -> None:
        """Fail what is left, and stop."""
        ...


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What the world is told about a model."""

    name: str
    version: str
    description: str
    language_pairs: tuple[tuple[str, str], ...]
    """(source, target), lower case."""
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
    scores: tuple[Score, ...] = ()

    @property
    def max_request_rows(self) -> int:
        """Rows of a lane: no request may need more."""
        return self.max_rows // self.lanes


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model in service."""

    description: ModelDescription
    tokenizer: TextTokenizer
    engine: RequestEngine
    permits: Permits
    """One for each sentence in the engine."""
    request_ids: Iterator[int] = field(default_factory=itertools.count)


@dataclass(frozen=True, slots=True)
class Route:
    """The model and the language pair that a request means."""

    model: ServedModel
    source_language: str
    target_language: str


class ModelRegistry:
    """The models of a server, the default first."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        check_names([model.description.name for model in models])
        self.models = tuple(models)

    def route(self, name: str, source_language: str, target_language: str) -> Route:
        """Find what a request means; empty names leave the choice to us, if there is no doubt.

        Raises NotFound, which lists what there is, or InvalidInput if several language pairs fit.
        """
        models = self._named(name)
        wanted = (source_language.lower(), target_language.lower())
        for model in models:
            pairs = [pair for pair in model.description.language_pairs if _fits(pair, wanted)]
            if len(pairs) > 1:
                field = "target_language" if source_language else "source_language"
                raise InvalidInput(field, "", f"one of the languages of {_shown(pairs)}")
            if pairs:
                return Route(model, *pairs[0])
        there = "; ".join(f"{m.description.name}: {_shown(m.description.language_pairs)}" for m in models)
        asked = f"{source_language or 'any'} to {target_language or 'any'}"
        raise NotFound(f"no language pair {asked}; there are: {there}")

    def _named(self, name: str) -> Sequence[ServedModel]:
        if not name:
            return self.models
        found = [model for model in self.models if model.description.name == name]
        if not found:
            there = ", ".join(model.description.name for model in self.models)
            raise NotFound(f"no model {name[:80]!r}; there are: {there}")
        return found


def check_names(names: Sequence[str]) -> None:
    """Raise InvalidInput if two models of a server have one name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInput("models", twice, "each name once; serve one version of a model at a time")


def _fits(pair: tuple[str, str], wanted: tuple[str, str]) -> bool:
    return all(not want or want == have.lower() for have, want in zip(pair, wanted, strict=True))


def _shown(pairs: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{source} to {target}" for source, target in pairs)
