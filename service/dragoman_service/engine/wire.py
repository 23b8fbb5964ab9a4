"""Messages and answers as bytes, between the process of the engines and the front processes.

A frame is its length, four bytes, and a tuple of items in the format of `marshal`. An item is a tuple: a kind, the
number of a model, and the fields of a message. Both ends run the same interpreter and trust each other. `marshal` takes
a fifth of the time of pickled dataclasses; what it cannot write, such as errors and snapshots, is pickled inside it.

Deadlines cross as they are: `time.monotonic` is CLOCK_MONOTONIC on Linux, which all processes of a machine share.
"""

from __future__ import annotations

import functools
import marshal
import pickle
import struct
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from dragoman_service.engine.biases import Bias
from dragoman_service.engine.messages import Answer, Cancel, Expect, Message, Open, Refused, Submit, Window
from dragoman_service.engine.request import (
    DecodingOptions,
    Failed,
    Finished,
    FinishReason,
    Hypothesis,
    Normalisation,
    Priority,
    Progress,
    Request,
    Sampling,
    Timings,
)

OPEN, EXPECT, SUBMIT, CANCEL, WINDOW, REFUSED, PROGRESS, FINISHED, FAILED = range(9)
ACKNOWLEDGED, SNAPSHOT, HEALTH, FORGOTTEN = range(9, 13)
"""Kinds of items that are not of a model: a front has taken in a snapshot, with its number; a snapshot, with its number
and pickled; the health of models; the number of a model of which nothing more will be heard."""

Item: TypeAlias = tuple[Any, ...]

_LENGTH = struct.Struct("<I")
_VERSION = 2
"""Of `marshal`: later ones look for objects that occur twice."""


def frame(items: Sequence[Item]) -> bytes:
    """The bytes of items. Raises ValueError for a value that `marshal` cannot write."""
    data = marshal.dumps(tuple(items), _VERSION)
    return _LENGTH.pack(len(data)) + data


class FrameReader:
    """Puts the frames of a stream of bytes together."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def push(self, data: bytes) -> Iterator[tuple[Item, ...]]:
        """Add bytes; yields the items of each frame that they complete. Raises ValueError or EOFError for others."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= _LENGTH.size:
                end = start + _LENGTH.size + _LENGTH.unpack_from(buffer, start)[0]
                if len(buffer) < end:
                    break
                items = marshal.loads(memoryview(buffer)[start + _LENGTH.size : end].tobytes())
                start = end
                yield items
        finally:
            del buffer[:start]


def item_of_message(model: int, message: Message) -> Item:
    """The item of a message to the engine of a model."""
    if isinstance(message, Submit):
        request = message.request
        return (
            SUBMIT, model, message.call, request.id, request.source, request.max_length, _fields_of(request.options),
            request.target_prefix, request.deadline, request.stream, request.client,
            request.priority is Priority.BATCH, request.forced, request.normalisation.value,
            request.restrictions and pickle.dumps(request.restrictions), request.alignments,
            request.content, request.biases and pickle.dumps(request.biases),
        )  # fmt: skip
    if isinstance(message, Open):
        return (OPEN, model, *message)
    if isinstance(message, Expect):
        return (EXPECT, model, *message)
    return (CANCEL, model, message.call)


def message_of(item: Item) -> Message:
    """The message of an item."""
    kind = item[0]
    if kind == SUBMIT:
        (
            _, _, call, id_, source, max_length, options, prefix, deadline, stream, client, is_batch, forced, form,
            restrictions, alignments, content, biases,
        ) = item  # fmt: skip
        priority = Priority.BATCH if is_batch else Priority.INTERACTIVE
        request = Request(
            id_, source, max_length, _options_of(options), prefix, deadline, stream, client, priority, forced,
            Normalisation(form), restrictions and pickle.loads(restrictions), alignments,
            content, biases and _biases_of(biases),
        )  # fmt: skip
        return Submit(call, request)
    if kind == OPEN:
        return Open(*item[2:])
    if kind == EXPECT:
        return Expect(*item[2:])
    if kind == CANCEL:
        return Cancel(item[2])
    raise ValueError(f"an item of kind {kind!r} is no message")


def item_of_answer(model: int, answer: Answer) -> Item:
    """The item of an answer of the engine of a model."""
    if isinstance(answer, Finished):
        hypotheses = tuple(
            (it.tokens, it.token_scores, it.score, it.finish_reason.value, it.end_score, it.alignment)
            for it in answer.hypotheses
        )
        timings = answer.timings
        return (FINISHED, model, answer.request_id, hypotheses, (timings.queue, timings.encode, timings.decode))
    if isinstance(answer, Progress):
        return (PROGRESS, model, answer.request_id, answer.tokens)
    if isinstance(answer, Window):
        return (WINDOW, model, *answer)
    if isinstance(answer, Failed):
        return (FAILED, model, answer.request_id, pickle.dumps(answer.error))
    if isinstance(answer, Refused):
        return (REFUSED, model, answer.call, pickle.dumps(answer.error))
    raise ValueError(f"{type(answer).__name__} is not sent")


def answer_of(item: Item) -> Answer:
    """The answer of an item."""
    kind = item[0]
    if kind == FINISHED:
        _, _, request_id, found, timings = item
        hypotheses = tuple(
            Hypothesis(tokens, scores, score, FinishReason(reason), end_score, alignment)
            for tokens, scores, score, reason, end_score, alignment in found
        )
        return Finished(request_id, hypotheses, Timings(*timings))
    if kind == PROGRESS:
        return Progress(item[2], item[3])
    if kind == WINDOW:
        return Window(item[2], item[3])
    if kind == FAILED:
        return Failed(item[2], pickle.loads(item[3]))
    if kind == REFUSED:
        return Refused(item[2], pickle.loads(item[3]))
    raise ValueError(f"an item of kind {kind!r} is no answer")


@functools.lru_cache(maxsize=64)
def _biases_of(data: bytes) -> tuple[Bias, ...]:
    """Most requests of a call have the same ones, which may be large."""
    biases: tuple[Bias, ...] = pickle.loads(data)
    return biases


@functools.lru_cache(maxsize=1024)
def _fields_of(options: DecodingOptions) -> Item:
    sampling = options.sampling
    return (
        options.beam_size, options.num_hypotheses, options.length_penalty, options.patience, options.coverage_penalty,
        options.min_length, options.max_length, options.max_added_length, options.repetition_penalty,
        options.no_repeat_ngram_size, options.stop_repetition, options.never_empty,
        sampling and (sampling.temperature, sampling.top_k, sampling.top_p, sampling.seed),
    )  # fmt: skip


@functools.lru_cache(maxsize=1024)
def _options_of(fields: Item) -> DecodingOptions:
    sampling = fields[-1]
    return DecodingOptions(*fields[:-1], *([Sampling(*sampling)] if sampling else ()))
