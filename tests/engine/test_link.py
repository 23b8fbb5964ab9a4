"""A link between an engine and a front when one end fails: nobody is left waiting, and no sender is blocked."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from dragoman_service.engine.biases import Preferred, Suppressed
from dragoman_service.engine.engine import MAX_CONNECTIONS, Engine
from dragoman_service.engine.link import EngineLink
from dragoman_service.engine.messages import Cancel, Expect, Lost, Open, Refused, Submit, Window
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
from dragoman_service.engine.restrictions import OnlyTokens
from dragoman_service.engine.wire import (
    FrameReader,
    Item,
    answer_of,
    frame,
    item_of_answer,
    item_of_message,
    message_of,
)
from dragoman_service.errors import InvalidInput, Overloaded
from support.fake_workers import FakeWorkers
from support.fronts import Front
from support.link_client import LinkClient, serve
from support.waiting import wait_until
from support.worlds import World

REQUEST = Request(
    7,
    (4, 5, 2),
    30,
    DecodingOptions(
        num_hypotheses=2,
        patience=1.5,
        coverage_penalty=0.25,
        max_added_length=7,
        max_length=30,
        sampling=Sampling(top_p=0.5, seed=2**63),
    ),
    (9, 9),
    12.5,
    stream=True,
    client="ipv6:[::1] \ud800",
    priority=Priority.BATCH,
    forced=(128_022, 9),
    normalisation=Normalisation.POWER,
    restrictions=(OnlyTokens((4, 5)),),
    alignments=True,
    content=(0, 1),
    biases=(Preferred(((7,), (8, 9)), 0.5), Suppressed({0: (4,), 2: (5,)}, {6: ((1, 2),)}, b"\0\1")),
)


def through(*items: Item) -> tuple[Item, ...]:
    (got,) = FrameReader().push(frame(items))
    return got


@pytest.mark.parametrize(
    "message",
    [
        Open(2**40, "shop", 64),
        Expect(1, 9, 12345, None),
        Expect(1, 9, 12345, 1e9),
        Submit(1, REQUEST),
        Submit(1, Request(8, (2,), 1)),
        Cancel(3),
    ],
)
def test_a_message_crosses_as_it_is(message: Open | Expect | Submit | Cancel) -> None:
    (item,) = through(item_of_message(5, message))
    assert item[1] == 5
    assert message_of(item) == message


def test_any_request_crosses_as_it_is() -> None:
    rng = random.Random(0)
    messages = [Submit(number, World().request(rng, number)) for number in range(500)]
    items = through(*(item_of_message(number, message) for number, message in enumerate(messages)))
    assert [message_of(item) for item in items] == messages
    assert len({(len(it.request.forced), it.request.normalisation) for it in messages}) == 6


@pytest.mark.parametrize(
    "answer",
    [
        Window(1, -1),
        Progress(4, (1, 2, 3)),
        Finished(
            4,
            (
                Hypothesis((1, 2), (-0.5, float("-inf")), -1.25, FinishReason.STOP),
                Hypothesis((), (), 0.1 + 0.2, FinishReason.LENGTH),
            ),
            Timings(0.1, 0.2, 0.3),
        ),
    ],
)
def test_an_answer_crosses_as_it_is(answer: Window | Progress | Finished) -> None:
    (item,) = through(item_of_answer(5, answer))
    assert item[1] == 5
    assert answer_of(item) == answer


def test_errors_cross_with_what_they_have() -> None:
    refused = answer_of(through(item_of_answer(5, Refused(1, Overloaded("full", 3.5))))[0])
    failed = answer_of(through(item_of_answer(5, Failed(1, InvalidInput("beam_size", 99, "1 to 16"))))[0])
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, Overloaded)
    assert refused.error.retry_after == 3.5
    assert isinstance(failed, Failed)
    assert str(failed.error) == "beam_size: got 99; allowed: 1 to 16"


def test_frames_come_in_any_pieces() -> None:
    data = b"".join(frame([(number, "x" * number)]) for number in range(50))
    for size in (1, 2, 3, 5, 64, len(data)):
        reader = FrameReader()
        got = [items for start in range(0, len(data), size) for items in reader.push(data[start : start + size])]
        assert got == [((number, "x" * number),) for number in range(50)]


def make_engine(workers: FakeWorkers | None = None) -> Engine:
    return Engine(workers or FakeWorkers(), max_queue=64, max_queue_tokens=10**6)


@contextmanager
def linked(engine: Engine) -> Iterator[tuple[socket.socket, EngineLink, list[EngineLink]]]:
    """The near end of a link to an engine, its far end, and the links that have ended."""
    near, far = socket.socketpair()
    closed: list[EngineLink] = []
    link = serve(engine, far, closed.append)
    try:
        yield near, link, closed
    finally:
        link.close()
        engine.close()


def front_of(near: socket.socket) -> Front:
    return Front(lambda on_answers: LinkClient(near, on_answers))


@pytest.mark.parametrize(
    "answer",
    [Progress(1, cast(tuple[int, ...], object())), Failed(1, ValueError(lambda: None))],
    ids=["frame", "pickle"],
)
def test_an_answer_that_cannot_be_sent_ends_the_link(
    answer: Progress | Failed, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    with linked(engine) as (near, _, closed):
        front = front_of(near)
        call = front.open()
        engine._calls[call].connection.deliver([answer])
        front.wait_for(lambda answer: isinstance(answer, Lost))
        wait_until(lambda: engine.idle and len(closed) == 1)
        assert "could not be sent" in caplog.text


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack("<I", 3) + b"\xff\xff\xff",
        struct.pack("<I", 5) + b"i\1\0\0\0",
        frame([(2, 7)]),
        frame([(99, 7, 1)]),
        frame([()]),
    ],
)
def test_what_cannot_be_read_costs_the_one_front(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine()
    with linked(engine) as (near, _, closed), linked(engine) as (other, _, _):
        bad, good = front_of(near), front_of(other)
        bad.open()
        near.sendall(sent)
        bad.wait_for(lambda answer: isinstance(answer, Lost))
        wait_until(lambda: engine.idle and len(closed) == 1)
        assert "could not be read" in caplog.text
        assert good.window(good.open()) > 0


def test_a_front_that_does_not_read_holds_up_nobody_and_misses_nothing_once_it_reads() -> None:
    engine = make_engine()
    with linked(engine) as (near, link, _), linked(engine) as (other, _, _):
        reader = FrameReader()
        first = next(item for items in reader.push(near.recv(65_536)) for item in items)[1]
        calls = [first + MAX_CONNECTIONS * number for number in range(1, 20_001)]
        sender = threading.Thread(
            target=lambda: [near.sendall(frame([item_of_message(7, Open(call, "x" * 200, 1))])) for call in calls]
        )
        sender.start()
        sender.join(30)
        assert not sender.is_alive(), "far more answers than the socket has room for, which nobody reads"
        front = front_of(other)
        assert front.window(front.open("another client")) > 0
        wait_until(lambda: bool(link._backlog))
        answered = 0
        while answered < len(calls):
            for items in reader.push(near.recv(65_536)):
                answered += sum(item[0] in (4, 5) for item in items)
        wait_until(lambda: not link._backlog)


def test_a_front_that_leaves_gives_its_permits_back() -> None:
    engine = make_engine(FakeWorkers(held=True))
    with linked(engine) as (near, _, closed):
        front = front_of(near)
        front.open()
        assert not engine.idle
        near.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: engine.idle and len(closed) == 1)
