"""Whatever bytes arrive, in whatever frames: the server answers with a status that fits, and goes on as before."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import grpc
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given, settings

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.bundle.bundle import Bundle
from faults.damage import damaged
from faults.wire import REQUESTS, SERVICE, Reply, messages, parsed, send, unharmed, unknown_fields
from support.server_process import ServerProcess, server_process

OK = grpc.StatusCode.OK
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED

MAX_REQUEST_BYTES = 4 * 2**20
AT_ONCE = 20
"""Calls side by side: some are then still running when others are refused."""


def rounds(usual: int, many: int) -> pytest.MarkDecorator:
    """So many inputs in every run of the tests, and many in the slow ones."""
    return pytest.mark.parametrize("rounds", [usual, pytest.param(many, marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle) -> Iterator[ServerProcess]:
    with server_process([tiny_bundle.path], "--max-rows", "16") as running:
        yield running


@pytest.fixture(scope="module")
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.address, options) as channel:
        yield channel


def check(method: str, data: bytes, reply: Reply) -> str:
    """A message has an answer of its type or an error that says what is wrong with it; other bytes have such an error.

    Returns the name of the status.
    """
    message = parsed(method, data)
    assert reply.code in ((OK, INVALID, NOT_FOUND) if message else (INVALID,)), (method, data, reply)
    if reply.code is OK:
        check_answer(method, message, reply.messages)
    else:
        assert reply.reason
        assert reply.request_id
        assert bool(reply.fields) == (reply.code is INVALID), (method, data, reply)
    return reply.code.name if message else f"{reply.code.name}, no message"


def check_answer(method: str, message: Message | None, answers: Sequence[bytes]) -> None:
    """There is a translation, or a list of languages, for each text."""
    if isinstance(message, pb.TranslateRequest):
        (answer,) = answers
        assert len(pb.TranslateResponse.FromString(answer).translations) == len(message.texts)
    elif isinstance(message, pb.DetectLanguageRequest):
        (answer,) = answers
        assert len(pb.DetectLanguageResponse.FromString(answer).detections) == len(message.texts)
    elif isinstance(message, pb.ScoreRequest):
        (answer,) = answers
        assert len(pb.ScoreResponse.FromString(answer).scores) == len(message.texts)
    elif method == "TranslateStream":
        *chunks, result = map(pb.TranslateStreamResponse.FromString, answers)
        best = result.result.translation.hypotheses[0]
        assert "".join(chunk.chunk for chunk in chunks) == best.text


def send_all(server: ServerProcess, channel: grpc.Channel, method: str, payloads: Sequence[bytes]) -> None:
    with unharmed(server) as tried:
        for start in range(0, len(payloads), AT_ONCE):
            some = payloads[start : start + AT_ONCE]
            for data, reply in zip(some, send(channel, SERVICE + method, some), strict=True):
                tried[check(method, data, reply)] += 1


@rounds(200, 5_000)
@pytest.mark.parametrize("method", REQUESTS)
def test_random_bytes_are_invalid_or_a_message(
    server: ServerProcess, channel: grpc.Channel, method: str, rounds: int
) -> None:
    rng = random.Random(f"bytes of {method}")
    lengths = (0, 1, 2, 3, 4, 6, 8, 12, 20, 50, 1000)
    send_all(server, channel, method, [rng.randbytes(rng.choice(lengths)) for _ in range(rounds)])


GOOD = {
    "Translate": pb.TranslateRequest(
        texts=["The cat sees a dog.", "A house 漢字\nred"],
        model="tiny",
        source_language="en",
        target_language="de",
        target_prefixes=["der", ""],
        return_tokens=True,
        return_token_scores=True,
        options=pb.DecodingOptions(beam_size=2, length_penalty=0.7, max_length=9, repetition_penalty=1.1),
    ),
    "TranslateStream": pb.TranslateStreamRequest(
        text="The cat sees a dog. It runs.",
        target_prefix="der",
        options=pb.DecodingOptions(max_length=9, sampling=pb.Sampling(temperature=0.9, top_k=5, top_p=0.9, seed=3)),
    ),
    "ListModels": pb.ListModelsRequest(),
    "DetectLanguage": pb.DetectLanguageRequest(texts=["The cat sees a dog.", "漢字"], languages=["en", "ja"]),
    "Score": pb.ScoreRequest(texts=["The cat sees a dog.", "A"], translations=["der Hund", "B"], return_tokens=True),
}


@rounds(300, 10_000)
@pytest.mark.parametrize("method", ["Translate", "TranslateStream", "DetectLanguage", "Score"])
def test_a_damaged_message_is_invalid_or_another_message(
    server: ServerProcess, channel: grpc.Channel, method: str, rounds: int
) -> None:
    rng = random.Random(f"damage to {method}")
    good = GOOD[method].SerializeToString()
    send_all(server, channel, method, [damaged(good, rng) for _ in range(rounds)])


@rounds(30, 500)
@pytest.mark.parametrize("method", REQUESTS)
def test_unknown_fields_change_nothing(server: ServerProcess, channel: grpc.Channel, method: str, rounds: int) -> None:
    rng = random.Random(f"unknown fields of {method}")
    good = GOOD[method].SerializeToString()
    send_all(server, channel, method, [good + unknown_fields(rng) for _ in range(rounds)])


@rounds(300, 5_000)
@pytest.mark.parametrize("method", ["Translate", "TranslateStream", "DetectLanguage", "Score"])
def test_any_values_of_the_fields_have_an_answer_or_a_named_field(
    server: ServerProcess, channel: grpc.Channel, method: str, rounds: int
) -> None:
    with unharmed(server) as tried:
        # Without shrinking: a call that hangs takes its time, every time.
        @settings(
            max_examples=rounds,
            phases=[Phase.generate],
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(messages(REQUESTS[method].DESCRIPTOR))
        def try_one(message: Message) -> None:
            data = message.SerializeToString()
            (reply,) = send(channel, SERVICE + method, [data])
            tried[check(method, data, reply)] += 1

        try_one()
        assert tried["OK"] > rounds // 30, "too few of the messages were good ones"


@pytest.mark.parametrize(
    ("texts", "code"),
    [
        (["a"] * 1024, OK),
        (["a"] * 1025, INVALID),
        ([""] * 1024, OK),
        ([""] * 300_000, INVALID),
        (["\n" * 100_000], OK),
        (["a\n" * 20_001], INVALID),
        (["\0" * 100_001], INVALID),
        (["a"] * (MAX_REQUEST_BYTES // 3 - 10), INVALID),
        (["a" * MAX_REQUEST_BYTES], EXHAUSTED),
    ],
    ids=lambda value: f"{len(value)} texts of {len(value[0])}" if isinstance(value, list) else value.name,
)
def test_the_size_of_a_request_is_bounded(
    server: ServerProcess, channel: grpc.Channel, texts: list[str], code: grpc.StatusCode
) -> None:
    data = pb.TranslateRequest(texts=texts, options=pb.DecodingOptions(beam_size=1, max_length=1)).SerializeToString()
    with unharmed(server):
        (reply,) = send(channel, SERVICE + "Translate", [data])
        assert reply.code is code


@pytest.mark.parametrize(
    "path",
    [
        SERVICE, SERVICE + "translate", SERVICE + "Translate/", SERVICE + "Translate%00", SERVICE + "Nothing",
        "/dragoman.v1/Translate", "/dragoman.v2.Translation/Translate", "/../Translate", "/", "//", "/x", "/é漢",
        "/" + "x" * 1000,
    ],
)  # fmt: skip
def test_a_method_that_does_not_exist_is_unimplemented(server: ServerProcess, channel: grpc.Channel, path: str) -> None:
    rng = random.Random(path)
    with unharmed(server):
        replies = send(channel, path, [rng.randbytes(rng.randrange(100)) for _ in range(5)])
        assert {reply.code for reply in replies} == {UNIMPLEMENTED}
