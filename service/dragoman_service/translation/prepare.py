"""Pure functions that turn a text into requests, one per sentence, and the answers into a translated text."""

from __future__ import annotations

import secrets
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from dragoman_service.engine.biases import Bias
from dragoman_service.engine.request import DecodingOptions, Priority, Request
from dragoman_service.errors import InvalidInput
from dragoman_service.repository.models import ModelDescription, Route
from dragoman_service.text.segmenter import EncodedPiece, Piece, Splitting, pieces_of
from dragoman_service.text.terms import Glossary, Match
from dragoman_service.translation.alignment import content_of
from dragoman_service.translation.prefix import Prefix, PrefixText, make_prefix
from dragoman_service.translation.sentences import (
    GivenPiece,
    ProtectedPiece,
    TermPiece,
    copied,
    encoded,
    is_checked,
    is_plain,
    prefix_after,
)
from dragoman_service.translation.terms import terms_of, with_terms
from dragoman_service.translation.text_worker import Steps, run_inline
from dragoman_service.translation.warnings import TextWarning


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
    prefix: Prefix | None = None
    """The beginning of the translation of the first sentence."""
    warnings: tuple[TextWarning, ...] = ()
    """What was found in the text."""
    terms: tuple[Match, ...] = ()
    """The terms that it has, in order."""

    @property
    def sentences(self) -> tuple[EncodedPiece, ...]:
        """The pieces that the model translates."""
        return tuple(piece for piece in self.pieces if piece.tokens)

    @property
    def num_sentences(self) -> int:
        """Number of `sentences`."""
        return sum(bool(piece.tokens) for piece in self.pieces)


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
    if options.coverage_penalty and not model.alignments:
        raise InvalidInput("coverage_penalty", options.coverage_penalty, f"0: model {model.name} gives no alignments")
    # In the engine, too many candidates would fail the whole step, with the requests of other clients.
    if options.sampling is not None and options.sampling.top_k > model.max_candidates:
        raise InvalidInput("sampling.top_k", options.sampling.top_k, f"1 to {model.max_candidates}: it has few tokens")
    if options.beam_size > 1 and 2 * options.beam_size > model.max_candidates:
        raise InvalidInput("beam_size", options.beam_size, f"1 to {model.max_candidates // 2}: it has few tokens")


def prepare(
    text: str,
    prefix: str,
    route: Route,
    options: DecodingOptions,
    check: Callable[[EncodedPiece], None],
    glossaries: Sequence[Glossary] = (),
) -> PreparedText:
    """Do all steps of `prepare_steps` at once."""
    return run_inline(prepare_steps(text, PrefixText(prefix), route, options, check, glossaries=glossaries))


def prepare_steps(
    text: str,
    prefix: PrefixText,
    route: Route,
    options: DecodingOptions,
    check: Callable[[EncodedPiece], None],
    marked: Sequence[tuple[int, int]] = (),
    glossaries: Sequence[Glossary] = (),
    splitting: Splitting = Splitting.SENTENCES,
) -> Steps[PreparedText]:
    """Split a text into sentences within the limit of the model, and tokenise them, in a step for each piece.

    The terms of `glossaries` are kept spans, in whose place their translations are written.

    Neighbouring pieces that are copied are joined, so a text has at most one piece more than twice its sentences.
    `check` is called with each piece and may raise to stop the work. `marked` are the characters that the translation
    keeps beside those that are found. Raises InvalidInput for a prefix that is too long or has no sentence.
    """
    pieces: list[EncodedPiece] = []
    between: list[EncodedPiece] = []
    warnings = _Warnings()
    made, has_sentence = None, False
    terms = list(_outside(terms_of(text, glossaries), marked))
    kept = [*marked, *((term.start, term.end) for term in terms)]
    split = pieces_of(text, route.source_language, splitting=splitting, marked=kept)
    for piece, own_prefix in _encoded(with_terms(split, terms), route, warnings, prefix):
        check(piece)
        has_sentence |= bool(piece.tokens) or isinstance(piece, GivenPiece)
        if own_prefix.text:
            made = _prefix(own_prefix, piece, route, options)
        yield
        if not piece.tokens:
            between.append(piece)
            continue
        if between:
            pieces.append(_joined(between))
            between.clear()
        pieces.append(piece)
        warnings.go_on()
    if between:
        pieces.append(_joined(between))
    if prefix.text and not has_sentence:
        raise InvalidInput("target_prefix", prefix.text, "nothing, for a text in which there is nothing to translate")
    return PreparedText(tuple(pieces), made, tuple(warnings.found), tuple(terms))


class _Warnings:
    """The warnings of a text, a few for each of its sentences at most: equal ones with no sentence between are one."""

    def __init__(self) -> None:
        self.found: list[TextWarning] = []
        self._last: TextWarning | None = None

    def add(self, warning: TextWarning) -> None:
        """Add a warning, which comes after the others."""
        if self._last is not None and self._last.kind is warning.kind:
            warning = replace(self._last, end=warning.end)
            self.found.pop()
        self.found.append(warning)
        self._last = warning

    def go_on(self) -> None:
        """To be called after each sentence that is translated."""
        self._last = None


def _joined(copied: Sequence[EncodedPiece]) -> EncodedPiece:
    """Neighbouring pieces that are copied, as one."""
    text, output = ("".join(parts) for parts in zip(*((it.text, it.output) for it in copied), strict=True))
    return EncodedPiece(text, (), replacement=None if output == text else output)


def _prefix(prefix: PrefixText, sentence: EncodedPiece, route: Route, options: DecodingOptions) -> Prefix:
    """The prefix of a sentence. Raises InvalidInput if it is too long."""
    protected = sentence.protected if isinstance(sentence, ProtectedPiece) else None
    made = make_prefix(prefix.text, route.model.tokenizer, protected, required=prefix.required)
    longest = max_length(options, route.model.description, len(sentence.tokens))
    if not leaves_room(made, sentence, route, options):
        allowed = f"fewer tokens than max_length, which is {longest}; this has {made.length}"
        raise InvalidInput("target_prefix", prefix.text, allowed)
    return made


def _outside(terms: Sequence[Match], marked: Sequence[tuple[int, int]]) -> Iterator[Match]:
    """The terms that have no character of the ranges, which are in order and do not overlap."""
    ends = [end for _, end in marked]
    for term in terms:
        following = bisect_right(ends, term.start)
        if following == len(marked) or marked[following][0] >= term.end:
            yield term


def max_length(options: DecodingOptions, model: ModelDescription, source_tokens: int) -> int:
    """Maximum number of target tokens of a sentence of so many tokens, without the ends of the sentences."""
    most = model.max_target_tokens if options.max_length is None else options.max_length
    return most if options.max_added_length is None else min(most, source_tokens + options.max_added_length)


def leaves_room(prefix: Prefix, piece: EncodedPiece, route: Route, options: DecodingOptions) -> bool:
    """Whether the translation of a piece may be longer than its prefix."""
    return prefix.length < max_length(options, route.model.description, len(piece.tokens))


@dataclass(frozen=True, slots=True)
class RequestMaker:
    """Makes the requests of a call."""

    route: Route
    options: DecodingOptions
    sender: Sender
    new_id: Callable[[], int]
    stream: bool = False
    """Whether the events of sentences without kept spans are wanted as they come."""
    alignments: bool = False
    biases: tuple[Bias, ...] = ()
    """See `Request.biases`."""
    prefix_bias: float | None = None
    """Of prefixes that are preferred (`Preferred.bias`); None if prefixes are given."""

    def of_text(self, prepared: PreparedText) -> Iterator[Request]:
        """Yield the requests of the sentences of a text, in order."""
        for index, sentence in enumerate(prepared.sentences):
            yield self.of(sentence, prepared.prefix if index == 0 else None)

    def of(self, piece: EncodedPiece, prefix: Prefix | None = None) -> Request:
        """The request of a sentence, or a part of one."""
        route, model, tokenizer = self.route, self.route.model.description, self.route.model.tokenizer
        options = (_for_protected if is_checked(piece) else _for_sentences)(self.options)
        given, biases = prefix, self.biases
        if prefix and self.prefix_bias is not None:
            given, biases = None, (*biases, prefix.preferred(self.prefix_bias))
        return Request(
            id=self.new_id(),
            source=tokenizer.source(piece.tokens, route.source_language, route.target_language),
            max_length=max_length(options, model, len(piece.tokens)),
            options=_with_seed(options),
            target_prefix=given.tokens if given else (),
            deadline=self.sender.deadline,
            stream=self.stream and is_plain(piece),
            client=self.sender.client,
            priority=self.sender.priority,
            forced=tokenizer.forced(route.target_language),
            normalisation=model.normalisation,
            restrictions=given.restrictions if given else (),
            alignments=self.alignments or bool(options.coverage_penalty) or isinstance(piece, TermPiece),
            content=content_of(piece, route) if options.coverage_penalty else (),
            biases=biases,
        )


@lru_cache(maxsize=1024)
def _for_sentences(options: DecodingOptions) -> DecodingOptions:
    """Models end now and then before the first word. A sentence with a letter always has a translation."""
    return replace(options, never_empty=True)


@lru_cache(maxsize=1024)
def _for_protected(options: DecodingOptions) -> DecodingOptions:
    """Of the hypotheses of a beam, the best that keep the spans are chosen."""
    of_sentences = _for_sentences(options)
    return of_sentences if options.sampling else replace(of_sentences, num_hypotheses=options.beam_size)


def _with_seed(options: DecodingOptions) -> DecodingOptions:
    """Add a random seed to options that sample without one. It is called for each sentence."""
    sampling = options.sampling
    if sampling is None or sampling.seed is not None:
        return options
    return replace(options, sampling=replace(sampling, seed=secrets.randbits(64)))


def _encoded(
    pieces: Iterable[Piece], route: Route, warnings: _Warnings, prefix: PrefixText
) -> Iterator[tuple[EncodedPiece, PrefixText]]:
    """Encode pieces, which may be cut further. Each comes with its prefix, which only the first sentence has."""
    for piece in pieces:
        if piece.translatable:
            found = encoded(piece, route, warnings.add, prefix)
        else:
            found = iter((copied(piece.text, piece.spans),))
        for it in found:
            yield it, prefix if it.tokens else PrefixText()
            prefix = prefix_after(it, prefix)
