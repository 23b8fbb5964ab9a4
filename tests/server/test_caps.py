"""Limits of the operator on what a call may ask for."""

from __future__ import annotations

import time
from typing import Any

import grpc
import pytest

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.errors import InvalidInput
from dragoman_service.repository.call_caps import CallCaps
from support.fake_workers import FakeWorkers, served
from support.server_thread import refusal, serving


def call(
    caps: CallCaps, texts: list[str], timeout: float | None = None, **options: Any
) -> tuple[pb.TranslateResponse, FakeWorkers]:
    workers = FakeWorkers()
    with serving([served(workers, caps=caps)]) as server, grpc.insecure_channel(server.address) as channel:
        stub = translation_pb2_grpc.TranslationStub(channel)
        request = pb.TranslateRequest(texts=texts, options=pb.DecodingOptions(**options))
        return stub.Translate(request, timeout=timeout), workers


@pytest.mark.parametrize(
    ("caps", "options", "message"),
    [
        (CallCaps(max_beam_size=3), {"beam_size": 4}, "beam_size: got 4; allowed: 1 to 3, the limit of this server"),
        (CallCaps(max_hypotheses=2), {"num_hypotheses": 3}, "num_hypotheses: got 3; allowed: 1 to 2"),
        (
            CallCaps(max_call_work=20),
            {"beam_size": 2},
            "texts: got '12 source tokens, each 2 times'; allowed: 20 in all",
        ),
    ],
)
def test_what_is_above_a_limit_is_refused_with_its_name(caps: CallCaps, options: dict[str, Any], message: str) -> None:
    error = refusal(lambda: call(caps, ["abcde", "fghij"], **options))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in error.details()


@pytest.mark.parametrize(
    ("caps", "options"),
    [
        (CallCaps(max_beam_size=3), {"beam_size": 3}),
        (CallCaps(max_hypotheses=2), {"num_hypotheses": 2}),
        (CallCaps(max_call_work=24), {"beam_size": 2}),
    ],
)
def test_what_is_at_a_limit_is_translated(caps: CallCaps, options: dict[str, Any]) -> None:
    reply, _ = call(caps, ["abcde", "fghij"], **options)
    assert [each.hypotheses[0].text for each in reply.translations] == ["ABCDE", "FGHIJ"]


def test_the_default_beam_is_within_the_limit() -> None:
    _, workers = call(CallCaps(max_beam_size=2), ["a"])
    assert workers.submitted[0].options.beam_size == 2


@pytest.mark.parametrize(
    ("caps", "timeout", "expected"),
    [
        (CallCaps(), None, None),
        (CallCaps(default_deadline=50), None, 50),
        (CallCaps(default_deadline=50), 20.0, 20),
        (CallCaps(default_deadline=50), 90.0, 90),
        (CallCaps(max_deadline=40), None, 40),
        (CallCaps(max_deadline=40), 90.0, 40),
        (CallCaps(default_deadline=10, max_deadline=40), None, 10),
        (CallCaps(default_deadline=10, max_deadline=40), 20.0, 20),
    ],
)
def test_deadlines(caps: CallCaps, timeout: float | None, expected: float | None) -> None:
    _, workers = call(caps, ["a"], timeout)
    deadline = workers.submitted[0].deadline
    if expected is None:
        assert deadline is None
    else:
        assert deadline is not None
        assert expected - 10 < deadline - time.monotonic() < expected + 1


def test_the_limits_of_a_model_are_listed() -> None:
    caps = CallCaps(max_beam_size=5)
    with serving([served(FakeWorkers(), caps=caps)]) as server, grpc.insecure_channel(server.address) as channel:
        reply = translation_pb2_grpc.TranslationStub(channel).ListModels(pb.ListModelsRequest())
    assert reply.models[0].limits.max_beam_size == 5


@pytest.mark.parametrize(
    "caps",
    [
        {"max_beam_size": 0},
        {"max_beam_size": 17},
        {"max_hypotheses": 0},
        {"max_length": -1},
        {"max_call_work": -1},
        {"default_deadline": -1.0},
        {"max_deadline": float("nan")},
        {"default_deadline": 20.0, "max_deadline": 10.0},
    ],
)
def test_limits_that_are_not_allowed_are_named(caps: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(caps))):
        CallCaps(**caps)
