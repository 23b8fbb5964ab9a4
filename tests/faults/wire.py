"""Calls of raw bytes, random messages of any type, and what must hold of a server after it was sent them."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from hypothesis import strategies as st

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from support.server_process import ServerProcess

SERVICE = "/dragoman.v1.Translation/"
REQUESTS: dict[str, type[Message]] = {
    "Translate": pb.TranslateRequest,
    "TranslateStream": pb.TranslateStreamRequest,
    "ListModels": pb.ListModelsRequest,
    "DetectLanguage": pb.DetectLanguageRequest,
    "Score": pb.ScoreRequest,
}
PATIENCE = 30.0
"""Seconds that an answer may take; a call without one by then hangs."""

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=30) | st.sampled_from(
    [
        "",
        "a cat.",
        "A\u00a0. B",
        "The cat sees a dog. It runs.\n\nOld",
        "\0",
        "e\u0301\u200d",
        "\u202eabc",
        "\ufeff",
        "😀 yes",
        "漢字。" * 9,
    ]
)
SENSIBLE: dict[str, st.SearchStrategy[Any]] = {
    "texts": st.lists(TEXTS, min_size=1, max_size=3),
    "target_prefixes": st.sampled_from([[], ["der"]]),
    "translations": st.lists(TEXTS, min_size=1, max_size=3),
    "languages": st.lists(st.sampled_from(["en", "de_DE", "zho_Hant", "zh-CN"]), max_size=3),
    "priority": st.integers(0, 2),
    "format": st.integers(0, 3),
    "splitting": st.integers(0, 3),
    "html_attributes": st.sampled_from([[], ["title"]]),
    "html_kept_elements": st.sampled_from([[], ["b"]]),
    "html_block_elements": st.sampled_from([[], ["x-line"]]),
    "html_inline_elements": st.sampled_from([[], ["li"]]),
    "glossary": st.just(""),
    "keep": st.lists(st.sampled_from(["cat", "Old", "😀"]), max_size=2),
    "terms": st.lists(
        st.builds(pb.Term, source=st.sampled_from(["cat", "dog.", "A"]), target=st.sampled_from(["Katze", "B"])),
        max_size=2,
    ),
    "model": st.sampled_from(["", "tiny"]),
    "source_language": st.sampled_from(["", "en"]),
    "target_language": st.sampled_from(["", "de"]),
    "beam_size": st.integers(1, 4),
    "num_hypotheses": st.integers(1, 2),
    "length_penalty": st.floats(0, 5),
    "patience": st.floats(1, 10),
    "coverage_penalty": st.floats(0, 10),
    "target_prefix_bias": st.floats(0, 100),
    "suppressed_words": st.lists(st.sampled_from(["Haus", "die Katze", "a", "😀"]), max_size=3),
    "suppressed_tokens": st.lists(st.sampled_from(["▁die", "s", "<unk>", "<0xF0>"]), max_size=2),
    "min_length": st.integers(0, 3),
    "max_length": st.integers(3, 8),
    "max_added_length": st.integers(0, 20),
    "repetition_penalty": st.floats(1, 10),
    "no_repeat_ngram_size": st.integers(0, 16),
    "temperature": st.floats(0.01, 100),
    "top_k": st.integers(1, 256),
    "top_p": st.floats(0.01, 1),
    "seed": st.integers(0, 2**64 - 1),
}
"""By name of the field: values that a server of the tiny model takes. Without them hardly a message would get far."""

ALWAYS = ("text", "texts")
Sensible: TypeAlias = Mapping[str, st.SearchStrategy[Any]]
Always: TypeAlias = Sequence[str]

_INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}


@dataclass(frozen=True)
class Reply:
    """What came of a call."""

    code: grpc.StatusCode
    messages: tuple[bytes, ...]
    reason: str
    """As in `google.rpc.ErrorInfo`; empty if there is none."""
    fields: tuple[str, ...]
    """As in `google.rpc.BadRequest`."""
    request_id: str


def send(channel: grpc.Channel, path: str, payloads: Iterable[bytes]) -> list[Reply]:
    """Send bytes to a method, all at once, and wait for all replies. A unary reply is a stream of one message."""
    method = channel.unary_stream(path, request_serializer=None, response_deserializer=None)
    return [_reply(call) for call in [method(payload, timeout=PATIENCE) for payload in payloads]]


def _reply(call: Any) -> Reply:
    messages: list[bytes] = []
    with suppress(grpc.RpcError):  # the call itself knows how it ended
        messages.extend(call)
    trailers = dict(call.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    fields = tuple(violation.field for violation in bad.field_violations)
    return Reply(call.code(), tuple(messages), info.reason, fields, trailers.get("x-request-id", ""))


@contextmanager
def unharmed(server: ServerProcess) -> Iterator[Counter[str]]:
    """Around everything that is sent; what the counter has is printed.

    Afterwards the server is alive, has nothing to do, translates a sentence into the very same as before, and has
    written no traceback.
    """
    before, tried = canary(server), Counter[str]()
    written = len(server.errors)
    yield tried
    print(f"{sum(tried.values())} inputs:", dict(tried.most_common()))
    assert server.process.poll() is None, server.errors[-20:]
    server.wait_until_free()
    server.wait_for_metrics(lambda metrics: metrics["dragoman_requests_running"] == 0)
    assert canary(server) == before
    own = tracebacks(server.errors[written:])
    assert not own, "\n\n".join(own[:5])


def tracebacks(lines: list[str]) -> list[str]:
    """The tracebacks in a log, but for gRPC's own about headers that are no text, which nobody can keep it from."""
    text = "".join(lines)
    return [
        part
        for part in text.split("Traceback")[1:]
        if "dragoman_service/" in part or "UnicodeDecodeError: " not in part
    ]


def canary(server: ServerProcess) -> bytes:
    """A translation, all but the time that it took."""
    request = pb.TranslateRequest(texts=["The cat sees a dog. It runs."], return_tokens=True, return_token_scores=True)
    request.options.num_hypotheses = 3
    request.options.max_length = 12
    with grpc.insecure_channel(server.address) as channel:
        response = translation_pb2_grpc.TranslationStub(channel).Translate(
            request, timeout=PATIENCE, wait_for_ready=True
        )
    response.translations[0].ClearField("timings")
    return bytes(response.SerializeToString(deterministic=True))


def parsed(method: str, data: bytes) -> Message | None:
    """The message, if it is one."""
    try:
        return REQUESTS[method].FromString(data)
    except DecodeError:
        return None


def messages(
    descriptor: Descriptor, sensible: Sensible = SENSIBLE, always: Always = ALWAYS
) -> st.SearchStrategy[Message]:
    """Messages of a type whose fields are left out, sensible, or anything at all that the type of the field allows.

    The fields of `always`, such as texts, are never left out, but may be empty: most messages would be refused for that
    alone.
    """
    kind: type[Message] = GetMessageClass(descriptor)
    fields = {field.name: _values(field, sensible, always) for field in descriptor.fields}
    given_ones = {name: fields.pop(name) for name in always if name in fields}
    return st.fixed_dictionaries(given_ones, optional=fields).map(lambda given: kind(**given))


def _values(field: FieldDescriptor, sensible: Sensible, always: Always) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return sensible[field.name] | st.dictionaries(TEXTS, TEXTS, max_size=3)
    if field.message_type is not None:
        one: st.SearchStrategy[Any] = messages(field.message_type, sensible, always)
    elif field.type in _INTEGERS:
        least, most = _INTEGERS[field.type]
        one = st.integers(-2, 300).map(lambda n: max(least, n)) | st.integers(least, most)
    elif field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        one = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324, 1e308])
    elif field.type == FieldDescriptor.TYPE_BOOL:
        one = st.booleans()
    else:
        one = TEXTS
    anything = st.lists(one, max_size=4) if field.is_repeated else one
    good = sensible.get(field.name)
    # Several times as often: with a dozen fields at random, one is wrong nearly always.
    return anything if good is None else st.integers(0, 7).flatmap(lambda n: good if n else anything)


def unknown_fields(rng: random.Random) -> bytes:
    """Fields that no version of a message has, of any wire type, groups in groups among them."""
    number = rng.choice((19, 100, 18_999, 536_870_911))
    wire_type = rng.choice((0, 1, 2, 3, 5))
    tag = _varint(number << 3 | wire_type)
    if wire_type == 3:
        depth = rng.choice((1, 50, 5_000))
        return tag * depth + _varint(number << 3 | 4) * depth
    return tag + {0: _varint(rng.getrandbits(64)), 1: rng.randbytes(8), 2: b"\x05" + rng.randbytes(5)}.get(
        wire_type, rng.randbytes(4)
    )


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])
