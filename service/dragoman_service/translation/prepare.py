"""From a text to the requests of its sentences, and from their answers back to a text. Pure functions."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from dragoman_service.engine.request import DecodingOptions, Finished, FinishReason, Priority, Request, Timings
from dragoman_service.errors import InvalidInput
from dragoman_service.repository.models import ModelDescription, Route, TextTokenizer
from dragoman_service.text.capitals import in_capitals, in_small_letters
from dragoman_service.text.segmenter import EncodedPiece, encode_to_fit, segment


@dataclass(frozen=True, slots=True)
class Sender:
    """Who wants a translation, and how urgently."""

    client: str = ""
    """A name that the calls of one client share; those who wait share the work."""
    priority: Priority = Priority.INTERACTIVE
    deadline: float | None = None
    """When the answer stops being of use, in seconds of the engine's clock."""


@dataclass(frozen=True, slots=True)
class PreparedText:
    """A text, cut into sentences and what stands between them."""

    pieces: tuple[EncodedPiece, ...]
    prefix: tuple[int, ...]
    """Target tokens that the translation of the first sentence must begin with."""

    @property
    def sentences(self) -> tuple[EncodedPiece, ...]:
        """The pieces that the model translates."""
        return tuple(piece for piece in self.pieces if piece.tokens)

    @property
    def num_sentences(self) -> int:
        """How many `sentences` are."""
        return sum(bool(piece.tokens) for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class TextHypothesis:
    """One way to translate a text."""

    text: str
    score: float
    """Sum of the sentences' scores."""
    tokens: tuple[int, ...]
    """Target token ids of all sentences, without their ends."""
    token_scores: tuple[float, ...]
    finish_reason: FinishReason
    """LENGTH if any sentence was cut."""


@dataclass(frozen=True, slots=True)
class TextResult:
    """The translation of one text."""

    hypotheses: tuple[TextHypothesis, ...]
    """Best first; the i-th joins the i-th of each sentence."""
    timings: Timings
    """Of several sentences, which run side by side, the longest of each."""
    source_tokens: int
    """The ends of sentences included."""
    sentences: int


def check_options(options: DecodingOptions, model: ModelDescription) -> None:
    """Refuse what this model cannot do. Raises InvalidInput."""
    most = model.max_target_tokens
    if options.max_length is not None and options.max_length > most:
        raise InvalidInput("max_length", options.max_length, f"1 to {most}, the limit of model {model.name}")
    if options.min_length > most:
        raise InvalidInput("min_length", options.min_length, f"0 to {most}, the limit of model {model.name}")
    if options.num_rows > model.max_request_rows:
        field = "num_hypotheses" if options.sampling else "beam_size"
        raise InvalidInput(field, options.num_rows, f"1 to {model.max_request_rows}, the rows of this server's batch")
    # In the engine this would fail the whole step, and with it the requests of others.
    if options.sampling is not None and options.sampling.top_k > model.max_candidates:
        raise InvalidInput("sampling.top_k", options.sampling.top_k, f"1 to {model.max_candidates}: it has few tokens")
    if options.beam_size > 1 and 2 * options.beam_size > model.max_candidates:
        raise InvalidInput("beam_size", options.beam_size, f"1 to {model.max_candidates // 2}: it has few tokens")


def prepare(
    text: str, prefix: str, route: Route, options: DecodingOptions, check: Callable[[EncodedPiece], None]
) -> PreparedText:
    """Split into sentences that the model can take, and tokenise.

    `check` is called with each piece, and stops the work by raising. Raises InvalidInput.
    """
    tokenizer, model = route.model.tokenizer, route.model.description
    prefix_tokens = tuple(tokenizer.encode(prefix)) if prefix else ()
    longest = max_length(options, model)
    if len(prefix_tokens) >= longest:
        allowed = f"fewer tokens than max_length, which is {longest}; this has {len(prefix_tokens)}"
        raise InvalidInput("target_prefix", prefix, allowed)
    pieces = []
    for piece in _encoded(text, route, with_prefix=bool(prefix)):
        check(piece)
        pieces.append(piece)
    if prefix_tokens and not any(piece.tokens for piece in pieces):
        raise InvalidInput("target_prefix", prefix, "nothing, for a text in which there is nothing to translate")
    return PreparedText(tuple(pieces), prefix_tokens)


def max_length(options: DecodingOptions, model: ModelDescription) -> int:
    """Target tokens that a sentence may have."""
    return model.max_target_tokens if options.max_length is None else options.max_length


def requests(
    prepared: PreparedText,
    route: Route,
    options: DecodingOptions,
    sender: Sender,
    new_id: Callable[[], int],
    *,
    stream: bool,
) -> Iterator[Request]:
    """The requests of a text's sentences, in order."""
    for index, sentence in enumerate(prepared.sentences):
        yield Request(
            id=new_id(),
            source=route.model.tokenizer.source(sentence.tokens, route.target_language),
            max_length=max_length(options, route.model.description),
            options=_with_seed(options),
            target_prefix=prepared.prefix if index == 0 else (),
            deadline=sender.deadline,
            stream=stream,
            client=sender.client,
            priority=sender.priority,
        )


def _with_seed(options: DecodingOptions) -> DecodingOptions:
    """Where tokens are drawn at random and the caller gave no seed, every sentence has one of its own."""
    sampling = options.sampling
    if sampling is None or sampling.seed is not None:
        return options
    return replace(options, sampling=replace(sampling, seed=secrets.randbits(64)))


def assemble(
    prepared: PreparedText, finished: Sequence[Finished], tokenizer: TextTokenizer, num_hypotheses: int
) -> TextResult:
    """Put the translated sentences back where they stood in the text."""
    count = min((len(answer.hypotheses) for answer in finished), default=num_hypotheses)
    timings = [answer.timings for answer in finished] or [Timings()]
    return TextResult(
        hypotheses=tuple(_hypothesis(prepared, finished, tokenizer, rank) for rank in range(count)),
        timings=Timings(
            queue=max(timing.queue for timing in timings),
            encode=max(timing.encode for timing in timings),
            decode=max(timing.decode for timing in timings),
        ),
        source_tokens=sum(len(sentence.tokens) + 1 for sentence in prepared.sentences),
        sentences=len(finished),
    )


def _hypothesis(
    prepared: PreparedText, finished: Sequence[Finished], tokenizer: TextTokenizer, rank: int
) -> TextHypothesis:
    chosen = [answer.hypotheses[rank] for answer in finished]
    translations = iter(chosen)
    cut = any(hypothesis.finish_reason is FinishReason.LENGTH for hypothesis in chosen)
    return TextHypothesis(
        text="".join(
            piece.written(tokenizer.decode(next(translations).tokens)) if piece.tokens else piece.text
            for piece in prepared.pieces
        ),
        score=sum(hypothesis.score for hypothesis in chosen),
        tokens=tuple(chain.from_iterable(hypothesis.tokens for hypothesis in chosen)),
        token_scores=tuple(chain.from_iterable(hypothesis.token_scores for hypothesis in chosen)),
        finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP,
    )


def _encoded(text: str, route: Route, *, with_prefix: bool) -> Iterator[EncodedPiece]:
    """Cut a text into encoded pieces.

    A sentence in capitals is translated in small letters, and its translation is put in capitals. The first sentence is
    left as it is if its translation has a prefix, because the prefix must not change.
    """
    tokenizer = route.model.tokenizer
    limit = route.model.description.max_source_tokens - tokenizer.source_overhead
    for piece in segment(text, route.source_language):
        if not piece.translatable:
            yield EncodedPiece(piece.text, ())
            continue
        if with_prefix or not in_capitals(piece.text, route.source_language, route.target_language):
            yield from encode_to_fit(piece.text, tokenizer.encode, limit)
        else:
            for part in encode_to_fit(piece.text, lambda part: tokenizer.encode(in_small_letters(part)), limit):
                yield replace(part, capitals=bool(part.tokens))
        with_prefix = False
