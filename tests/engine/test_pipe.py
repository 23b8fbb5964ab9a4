"""A pipe between a front and an engine when one end fails: nobody is left waiting, and no sender is blocked."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe

import pytest

from dragoman_service.engine import engine as engine_module
from dragoman_service.engine import pipe
from dragoman_service.engine.engine import Engine
from dragoman_service.engine.messages import Answer, Lost, Open, Window
from dragoman_service.engine.stats import EngineStats
from dragoman_service.errors import EngineFailure
from support.fake_workers import FakeWorkers
from support.fronts import Front
from support.waiting import wait_until

LOST = "the connection to the engine's process is lost"


class Sabotaged(FakeWorkers):
    """Workers whose counts or health cannot be read."""

    def stats(self) -> EngineStats:
        raise KeyError("counts")


def make_engine(workers: FakeWorkers | None = None) -> Engine:
    return Engine(workers or FakeWorkers(), max_queue=64, max_queue_tokens=10**6)


@contextmanager
def served(engine: Engine) -> Iterator[tuple[Pipe, threading.Thread]]:
    """The near end of a pipe to an engine, and the thread that serves it."""
    near, far = multiprocessing.Pipe()
    thread = threading.Thread(target=pipe.serve, args=(engine, far), daemon=True)
    thread.start()
    try:
        yield near, thread
    finally:
        engine.close()


def front_of(near: Pipe) -> Front:
    return Front(lambda on_answers: pipe.connect(near, on_answers))


def lost(front: Front) -> str:
    return str(front.wait_for(lambda answer: isinstance(answer, Lost)).error)


def silent_engine() -> tuple[Front, Pipe]:
    """A front whose engine said hello, and nothing more; and the far end of the pipe."""
    near, far = multiprocessing.Pipe()
    far.send(0)
    return front_of(near), far


def test_an_engine_whose_counts_cannot_be_read_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    with served(make_engine(Sabotaged())) as (near, thread):
        front = front_of(near)
        assert lost(front) == LOST
        assert not front.connection.healthy
        thread.join(30)
        assert not thread.is_alive()
        assert "could not be sent" in caplog.text


def test_an_answer_that_cannot_be_pickled_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine()
    with served(engine) as (near, _):
        front = front_of(near)
        call = front.open()
        connection = engine._calls[call].connection
        connection.deliver([lambda: None])  # type: ignore[list-item]
        assert lost(front) == LOST
        wait_until(lambda: engine.idle)
        assert "could not be sent" in caplog.text


@pytest.mark.parametrize("sent", [b"no pickle", b"\x80\x05cno_such_module\nname\n.", b"\x80\x05K\x01."])
def test_what_a_front_cannot_read_ends_the_connection(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    front, far = silent_engine()
    far.send_bytes(sent)
    assert lost(front) == LOST
    assert not front.connection.healthy
    assert "could not be read" in caplog.text


@pytest.mark.parametrize("sent", [b"no pickle", b"\x80\x05K\x01.", b"\x80\x05](K\x01e."])
def test_what_an_engine_cannot_read_costs_the_one_front(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine()
    with served(engine) as (near, thread), served(engine) as (other, _):
        bad, good = front_of(near), front_of(other)
        bad.open()
        near.send_bytes(sent)
        assert lost(bad) == LOST
        thread.join(30)
        assert "could not be read" in caplog.text
        wait_until(lambda: engine.idle)
        assert good.window(good.open()) > 0


def test_a_silent_engine_blocks_nobody_and_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe, "SILENT_SECONDS", 0.2)
    front, far = silent_engine()
    sent = threading.Thread(target=lambda: [front.connection.send(Open(n, "x" * 1000, 1)) for n in range(5000)])
    sent.start()
    sent.join(30)
    assert not sent.is_alive(), "nobody reads, and yet the sender is not held up"
    wait_until(lambda: not front.connection.healthy)
    closing = threading.Thread(target=front.connection.close)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()
    with pytest.raises((EOFError, OSError)):
        _read_all(far)


def _read_all(end: Pipe) -> None:
    while True:
        end.recv()


def test_health_is_that_of_the_engine() -> None:
    workers = FakeWorkers()
    with served(make_engine(workers)) as (near, _):
        front = front_of(near)
        time.sleep(2 * pipe.STATS_SECONDS)
        assert front.connection.healthy
        workers.healthy = False
        wait_until(lambda: not front.connection.healthy)


def test_a_closed_connection_says_nothing_more_and_leaves_its_descriptor_to_others() -> None:
    engine = make_engine(FakeWorkers(held=True))
    with served(engine) as (near, thread):
        front = front_of(near)
        call = front.open()
        front.expect(call, 1)
        front.submit(call, 0)
        descriptor = near.fileno()
        front.connection.close()
        count = len(front.answers)
        thread.join(30)
        assert not thread.is_alive()
        read, write = os.pipe()
        os.dup2(read, descriptor)
        os.write(write, b"for whoever has the descriptor now")
        time.sleep(0.05)
        assert os.read(descriptor, 100) == b"for whoever has the descriptor now"
        for each in {read, write, descriptor}:
            os.close(each)
        wait_until(lambda: engine.idle)
        assert len(front.answers) == count


def test_one_connection_too_many_is_refused_and_not_left_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MAX_CONNECTIONS", 1)
    engine = make_engine()
    with served(engine) as (near, _), served(engine) as (other, thread):
        front = front_of(near)
        assert front.window(front.open()) > 0
        thread.join(30)
        with pytest.raises(EngineFailure, match=LOST):
            pipe.connect(other, lambda answers: None)


def test_a_front_that_does_not_read_does_not_hold_up_the_engine() -> None:
    engine = make_engine()
    with served(engine) as (near, thread), served(engine) as (other, _):
        first: int = near.recv()
        # Far more answers than a pipe has room for, which nobody reads.
        for start in range(0, 20_000, 1000):
            near.send([Open(first + engine_module.MAX_CONNECTIONS * (start + n), "x" * 200, 1) for n in range(1, 1000)])
        front = front_of(other)
        answers: list[Answer] = []
        wait_until(lambda: bool(answers) or _opened(front, answers))
        near.close()
        thread.join(30)
        assert not thread.is_alive()


def _opened(front: Front, answers: list[Answer]) -> bool:
    call = front.open("another client")
    answers += [it for it in front.answers if isinstance(it, Window) and it.call == call]
    return bool(answers)


def test_a_connection_may_be_closed_twice() -> None:
    engine = make_engine()
    with served(engine) as (near, _):
        front = front_of(near)
        front.connection.close()
        front.connection.close()
