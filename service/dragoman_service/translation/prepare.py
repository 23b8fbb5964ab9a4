"""Pure functions that turn a text into requests, one per sentence, and the answers into a translated text."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from dragoman_service.engine.request import DecodingOptions, Finished, FinishReason, Priority, Request, Timings
from dragoman_service.errors import InvalidInput
from dragoman_service.repository.models import ModelDescription, Route, TextTokenizer
from dragoman_service.text.capitals import in_capitals, in_small_letters
from dragoman_service.text.segmenter import EncodedPiece, encode_to_fit, pieces_of
from dragoman_service.translation.text_worker import Steps, run_inline


@dataclass(frozen=True, slots=True)
class Sender:
    """Client, priority and deadline of a call."""

    client: str = ""
    """Name shared by all calls of one client. Waiting clients share the work fairly."""
    priority: Priority = Priority.INTERACTIVE
    deadline: float | None = None
    """Deadline in seconds of the engine's clock; None: no deadline."""


@dataclass(frozen=True, slots=True)
class PreparedText:
    """A text, cut into sentences and the text between them."""

    pieces: tuple[EncodedPiece, ...]
    prefix: tuple[int, ...]
    """Target tokens that the translation of the first sentence must begin with."""

    @property
    def sentences(self) -> tuple[EncodedPiece, ...]:
        """The pieces that the model translates."""
        return tuple(piece for piece in self.pieces if piece.tokens)

    @property
    def num_sentences(self) -> int:
        """Number of `sentences`."""
        return sum(bool(piece.tokens) for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class TextHypothesis:
    """One translation of a text."""

    text: str
    score: float
    """Sum of the scores of the sentences."""
    tokens: tuple[int, ...]
    """Target token ids of all sentences, without the ends of sentences."""
    token_scores: tuple[float, ...]
    finish_reason: FinishReason
    """LENGTH if any sentence was cut."""


@dataclass(frozen=True, slots=True)
class TextResult:
    """The translation of one text."""

    hypotheses: tuple[TextHypothesis, ...]
    """Best first. The i-th consists of the i-th hypothesis of each sentence."""
    timings: Timings
    """The maximum over all sentences of each time."""
    source_tokens: int
    """Source tokens of all sentences, with one end for each sentence."""
    sentences: int


def check_options(options: DecodingOptions, model: ModelDescription) -> None:
    """Raise InvalidInput for options that this model does not support."""
    most = model.max_target_tokens
    if options.max_length is not None and options.max_length > most:
        raise InvalidInput("max_length", options.max_length, f"1 to {most}, the limit of model {model.name}")
    if options.min_length > most:
        raise InvalidInput("min_length", options.min_length, f"0 to {most}, the limit of model {model.name}")
    if options.beam_size > model.max_beam_size:
        raise InvalidInput("beam_size", options.beam_size, f"1 to {model.max_beam_size}, the limit of this server")
    if options.num_hypotheses > model.caps.max_hypotheses:
        allowed = f"1 to {model.caps.max_hypotheses}, the limit of this server"
        raise InvalidInput("num_hypotheses", options.num_hypotheses, allowed)
    if options.num_rows > model.max_request_rows:
        field = "num_hypotheses" if options.sampling else "beam_size"
        raise InvalidInput(field, options.num_rows, f"1 to {model.max_request_rows}, the rows of this server's batch")
    # In the engine, too many candidates would fail the whole step, with the requests of other clients.
    if options.sampling is not None and options.sampling.top_k > model.max_candidates:
        raise InvalidInput("sampling.top_k", options.sampling.top_k, f"1 to {model.max_candidates}: it has few tokens")
    if options.beam_size > 1 and 2 * options.beam_size > model.max_candidates:
        raise InvalidInput("beam_size", options.beam_size, f"1 to {model.max_candidates // 2}: it has few tokens")


def prepare(
    text: str, prefix: str, route: Route, options: DecodingOptions, check: Callable[[EncodedPiece], None]
) -> PreparedText:
    """Do all steps of `prepare_steps` at once."""
    return run_inline(prepare_steps(text, prefix, route, options, check))


def prepare_steps(
    text: str, prefix: str, route: Route, options: DecodingOptions, check: Callable[[EncodedPiece], None]
) -> Steps[PreparedText]:
    """Split a text into sentences within the limit of the model, and tokenise them, in a step for each piece.

    Neighbouring pieces that are copied are joined, so a text has at most one piece more than twice its sentences.
    `check` is called with each piece and may raise to stop the work. Raises InvalidInput for a prefix that is too long
    or has no sentence.
    """
    tokenizer, model = route.model.tokenizer, route.model.description
    prefix_tokens = tuple(tokenizer.encode_target(prefix)) if prefix else ()
    longest = max_length(options, model)
    if len(prefix_tokens) >= longest:
        allowed = f"fewer tokens than max_length, which is {longest}; this has {len(prefix_tokens)}"
        raise InvalidInput("target_prefix", prefix, allowed)
    pieces: list[EncodedPiece] = []
    copied: list[str] = []
    for piece in _encoded(text, route, with_prefix=bool(prefix)):
        check(piece)
        yield
        if not piece.tokens:
            copied.append(piece.text)
            continue
        if copied:
            pieces.append(EncodedPiece("".join(copied), ()))
            copied.clear()
        pieces.append(piece)
    if copied:
        pieces.append(EncodedPiece("".join(copied), ()))
    if prefix_tokens and not any(piece.tokens for piece in pieces):
        raise InvalidInput("target_prefix", prefix, "nothing, for a text in which there is nothing to translate")
    return PreparedText(tuple(pieces), prefix_tokens)


def max_length(options: DecodingOptions, model: ModelDescription) -> int:
    """Maximum number of target tokens of a sentence."""
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
    """Yield the requests of the sentences of a text, in order."""
    tokenizer, model = route.model.tokenizer, route.model.description
    forced = tokenizer.forced(route.target_language)
    for index, sentence in enumerate(prepared.sentences):
        yield Request(
            id=new_id(),
            source=tokenizer.source(sentence.tokens, route.source_language, route.target_language),
            max_length=max_length(options, model),
            options=_with_seed(options),
            target_prefix=prepared.prefix if index == 0 else (),
            deadline=sender.deadline,
            stream=stream,
            client=sender.client,
            priority=sender.priority,
            forced=forced,
            normalisation=model.normalisation,
        )


def _with_seed(options: DecodingOptions) -> DecodingOptions:
    """Add a random seed to options that sample without one. It is called for each sentence."""
    sampling = options.sampling
    if sampling is None or sampling.seed is not None:
        return options
    return replace(options, sampling=replace(sampling, seed=secrets.randbits(64)))


def assemble(
    prepared: PreparedText, finished: Sequence[Finished], tokenizer: TextTokenizer, num_hypotheses: int
) -> TextResult:
    """Do all steps of `assemble_steps` at once."""
    return run_inline(assemble_steps(prepared, finished, tokenizer, num_hypotheses))


def assemble_steps(
    prepared: PreparedText, finished: Sequence[Finished], tokenizer: TextTokenizer, num_hypotheses: int
) -> Steps[TextResult]:
    """Put the translations of the sentences into the text, in the places of the sentences; a step for each sentence."""
    count = min((len(answer.hypotheses) for answer in finished), default=num_hypotheses)
    timings = [answer.timings for answer in finished] or [Timings()]
    hypotheses = []
    for rank in range(count):
        hypotheses.append((yield from _hypothesis(prepared, finished, tokenizer, rank)))
    return TextResult(
        hypotheses=tuple(hypotheses),
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
) -> Steps[TextHypothesis]:
    chosen = [answer.hypotheses[rank] for answer in finished]
    translations = iter(chosen)
    cut = any(hypothesis.finish_reason is FinishReason.LENGTH for hypothesis in chosen)
    parts: list[str] = []
    for piece in prepared.pieces:
        parts.append(piece.written(tokenizer.decode(next(translations).tokens)) if piece.tokens else piece.text)
        yield
    return TextHypothesis(
        text="".join(parts),
        score=sum(hypothesis.score for hypothesis in chosen),
        tokens=tuple(chain.from_iterable(hypothesis.tokens for hypothesis in chosen)),
        token_scores=tuple(chain.from_iterable(hypothesis.token_scores for hypothesis in chosen)),
        finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP,
    )


def _encoded(text: str, route: Route, *, with_prefix: bool) -> Iterator[EncodedPiece]:
    """Cut a text into encoded pieces.

    A sentence in capitals is translated in small letters, and its translation is changed to capitals. This is not done
    with the first sentence if its translation has a forced prefix, because that must not change.
    """
    tokenizer = route.model.tokenizer
    limit = route.model.description.max_source_tokens - tokenizer.source_overhead
    for piece in pieces_of(text, route.source_language):
        if not piece.translatable:
            yield EncodedPiece(piece.text, ())
            continue
        if with_prefix or not in_capitals(piece.text, route.source_language, route.target_language, piece.spans):
            yield from encode_to_fit(piece.text, tokenizer.encode, limit, piece.spans)
        else:
            for part in encode_to_fit(
                piece.text, lambda part: tokenizer.encode(in_small_letters(part)), limit, piece.spans
            ):
                yield replace(part, capitals=bool(part.tokens))
        with_prefix = False
