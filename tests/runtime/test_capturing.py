"""Who uses a GPU together with others, and who has it alone."""

from __future__ import annotations

import random
import threading

import pytest

from dragoman_service.runtime.capturing import CaptureLock

PATIENCE = 30.0
"""Seconds after which a test gives up; only a broken lock comes near."""


class Visitor:
    """A thread that goes in, stays until it is let out, and notes both."""

    def __init__(self, lock: CaptureLock, log: list[str], name: str, *, alone: bool) -> None:
        self._enter = lock.alone if alone else lock.shared
        self._log = log
        self._name = name
        self.inside = threading.Event()
        self._out = threading.Event()
        self._thread = threading.Thread(target=self._visit, daemon=True)
        self._thread.start()

    def _visit(self) -> None:
        with self._enter():
            self._log.append(f"{self._name} in")
            self.inside.set()
            assert self._out.wait(PATIENCE)
            self._log.append(f"{self._name} out")

    def let_out(self) -> None:
        self._out.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@pytest.fixture
def lock() -> CaptureLock:
    return CaptureLock()


def waits(visitor: Visitor) -> bool:
    """Whether it does not come in for a moment: none is long enough to be sure, and a broken lock is found mostly."""
    return not visitor.inside.wait(0.02)


def test_users_come_in_together(lock: CaptureLock) -> None:
    visitors = [Visitor(lock, [], str(n), alone=False) for n in range(3)]
    assert all(visitor.inside.wait(PATIENCE) for visitor in visitors)
    for visitor in visitors:
        visitor.let_out()


def test_who_is_alone_comes_in_after_the_users_have_left(lock: CaptureLock) -> None:
    log: list[str] = []
    users = [Visitor(lock, log, "user", alone=False) for _ in range(2)]
    assert all(user.inside.wait(PATIENCE) for user in users)
    capture = Visitor(lock, log, "capture", alone=True)
    assert waits(capture)
    users[0].let_out()
    assert waits(capture)
    users[1].let_out()
    assert capture.inside.wait(PATIENCE)
    capture.let_out()
    assert log == ["user in"] * 2 + ["user out"] * 2 + ["capture in", "capture out"]


def test_new_users_wait_for_who_wants_to_be_alone(lock: CaptureLock) -> None:
    log: list[str] = []
    first = Visitor(lock, log, "first", alone=False)
    assert first.inside.wait(PATIENCE)
    capture = Visitor(lock, log, "capture", alone=True)
    assert waits(capture)
    late = Visitor(lock, log, "late", alone=False)
    assert waits(late)
    first.let_out()
    assert capture.inside.wait(PATIENCE)
    assert waits(late)
    capture.let_out()
    assert late.inside.wait(PATIENCE)
    late.let_out()
    assert log == [f"{name} {what}" for name in ("first", "capture", "late") for what in ("in", "out")]


def test_two_are_alone_one_after_the_other(lock: CaptureLock) -> None:
    log: list[str] = []
    one = Visitor(lock, log, "one", alone=True)
    assert one.inside.wait(PATIENCE)
    other = Visitor(lock, log, "other", alone=True)
    assert waits(other)
    one.let_out()
    assert other.inside.wait(PATIENCE)
    other.let_out()
    assert log == ["one in", "one out", "other in", "other out"]


@pytest.mark.parametrize("alone", [False, True])
def test_an_error_inside_lets_the_next_in(lock: CaptureLock, alone: bool) -> None:
    with pytest.raises(RuntimeError), lock.alone() if alone else lock.shared():
        raise RuntimeError
    for next_alone in (True, False, True):
        visitor = Visitor(lock, [], "next", alone=next_alone)
        assert visitor.inside.wait(PATIENCE)
        visitor.let_out()


def test_nobody_is_ever_beside_who_is_alone_and_everybody_comes_in(lock: CaptureLock) -> None:
    guard = threading.Lock()
    inside = {"users": 0, "alone": 0}
    problems: list[str] = []

    def change(kind: str, by: int) -> None:
        with guard:
            inside[kind] += by
            if inside["alone"] > 1 or (inside["alone"] and inside["users"]):
                problems.append(str(inside))

    def visit(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(200):
            kind = rng.choice(["users", "users", "alone"])
            with lock.alone() if kind == "alone" else lock.shared():
                change(kind, 1)
                change(kind, -1)

    threads = [threading.Thread(target=visit, args=(seed,), daemon=True) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    assert problems == []
