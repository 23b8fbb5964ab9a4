"""Limits on calls before any work is done: their number, the memory of their messages, and the time to send them.

gRPC tells the handler of a call about it before the message has arrived, and keeps the message outside of Python until
the handler reads it. From then on it takes as many bytes as the caller sends. So a handler reads only while it holds a
place, and the places are few.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import grpc

from dragoman_service.errors import InvalidInput, Overloaded, TooSlow
from dragoman_service.server.shares import Shares

QUICK_SECONDS = 0.5
"""Seconds in which a message should arrive."""
CROWDED_SECONDS = 0.05
"""Seconds in which it should arrive while others wait for a place. Most have arrived before they are read."""
READ_SECONDS = 30.0
"""Seconds in which a message must arrive."""
BYTES_PER_SECOND = 4 * 2**20
"""Rate at which each place takes long messages. gRPC joins their parts on the event loop, for milliseconds each."""
LOOKAHEAD_BYTES = 65_536
"""Bytes of a message that gRPC takes before it is read."""
BYTES_PER_BYTE = 16
"""Bytes of memory for each byte of a message: itself, its strings, which take up to four times as much, its sentences
and their tokens."""
CALL_BYTES = 4_096
"""Bytes of memory of any call."""


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """Limits on what all callers together can cost before and while their calls are processed."""

    max_calls: int = 2_048
    """Maximum number of calls at a time, in all; one client can have four fifths of them."""
    max_message_mib: int = 4
    """Maximum size of a request in MiB, after decompression."""
    message_memory_mib: int = 64
    """Memory for requests that are arriving, in MiB: half for slow ones."""
    call_memory_mib: int = 256
    """Memory for the texts and translations of all calls, in MiB, as the server estimates it."""

    def __post_init__(self) -> None:
        for name, least, most in (
            ("max_calls", 1, 100_000), ("max_message_mib", 1, 64), ("message_memory_mib", 2, 65_536),
            ("call_memory_mib", 16, 1_048_576),
        ):  # fmt: skip
            if not least <= getattr(self, name) <= most:
                raise InvalidInput(name, getattr(self, name), f"{least} to {most}")
        if self.message_memory_mib < 2 * self.max_message_mib:
            raise InvalidInput("message_memory_mib", self.message_memory_mib, "twice max_message_mib, or more")


class CallMemory:
    """The memory that a call has been granted; see `Intake.admit`."""

    __slots__ = ("_shares", "amount", "client")

    def __init__(self, shares: Shares, client: str) -> None:
        self._shares = shares
        self.client = client
        self.amount = 0

    def add(self, amount: int) -> None:
        """Grant `amount` more bytes. Raises Overloaded if the client may not have them."""
        if not self._shares.take(self.client, amount):
            mib = self._shares.capacity >> 20
            raise Overloaded(f"all calls together need more than {mib} MiB of memory; send smaller calls, or later")
        self.amount += amount

    def give_back(self, amount: int) -> None:
        """Give bytes back that were granted."""
        self._shares.give_back(self.client, amount)
        self.amount -= amount


class Intake:
    """Admits calls, and reads their messages. For one event loop."""

    def __init__(self, settings: IntakeSettings) -> None:
        self._settings = settings
        self._calls = Shares(settings.max_calls)
        self._memory = Shares(settings.call_memory_mib << 20)
        places = settings.message_memory_mib // settings.max_message_mib
        self._quick = Places(places - places // 2)
        self._slow = Shares(places // 2)

    def admit(self, client: str) -> CallMemory:
        """Count a call, and its memory, until the current task has ended.

        A handler has ended when it has returned its reply. gRPC then sends this reply on the task of the handler, and
        waits without limit for a caller that lets no bytes in. Raises Overloaded if the client has too many calls.
        """
        if not self._calls.take(client, 1):
            raise Overloaded(f"too many calls at a time: {self._settings.max_calls} in all, and the rest is for others")
        memory = CallMemory(self._memory, client)
        try:
            memory.add(CALL_BYTES)
        except BaseException:
            self._calls.give_back(client, 1)
            raise
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: self._end(memory))
        return memory

    def _end(self, memory: CallMemory) -> None:
        memory.give_back(memory.amount)
        self._calls.give_back(memory.client, 1)

    async def read(self, context: Any, memory: CallMemory) -> bytes | None:
        """Read the next message of a call; None if there is none.

        Raises:
            Overloaded: the message took longer than `QUICK_SECONDS` or `CROWDED_SECONDS`, and too many others do; or
                its processing needs more memory than there is.
            TooSlow: the message took longer than `READ_SECONDS`.
        """
        client = memory.client
        await self._quick.take(client)
        reading = _Reading(self._quick, self._slow, client)
        data = None
        try:
            data = await context.read()
        except asyncio.CancelledError:
            if reading.error is None:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            raise reading.error from None
        finally:
            reading.end(len(data) if isinstance(data, bytes) else 0)
        if data is grpc.aio.EOF:
            return None
        memory.add(BYTES_PER_BYTE * len(data))
        message: bytes = data
        return message


class _Reading:
    """A message that arrives. It holds a quick place at first, later a slow one; without one, it is given up."""

    __slots__ = ("_client", "_is_slow", "_loop", "_quick", "_slow", "_started", "_task", "_timer", "error")

    def __init__(self, quick: Places, slow: Shares, client: str) -> None:
        self._quick, self._slow, self._client = quick, slow, client
        self._is_slow = False
        self._task = asyncio.current_task()
        self.error: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._timer = self._loop.call_later(CROWDED_SECONDS, self._look)

    def _look(self) -> None:
        if self._quick.is_crowded or self._loop.time() - self._started >= QUICK_SECONDS:
            self._slow_down()
        else:
            self._timer = self._loop.call_later(CROWDED_SECONDS, self._look)

    def _slow_down(self) -> None:
        if not self._slow.take(self._client, 1):
            self._fail(Overloaded("the request arrives slowly, and too many others do", retry_after=READ_SECONDS / 2))
            return
        self._quick.give_back(self._client)
        self._is_slow = True
        allowed = f"to arrive within {READ_SECONDS:g} s"
        late = TooSlow("request", "a message that did not arrive", allowed)
        self._timer = self._loop.call_later(self._started + READ_SECONDS - self._loop.time(), self._fail, late)

    def _fail(self, error: Exception) -> None:
        self.error = error
        assert self._task is not None
        self._task.cancel()

    def end(self, size: int) -> None:
        """Give the place back. After a long message of `size` bytes, it is kept for a while."""
        self._timer.cancel()
        if size > LOOKAHEAD_BYTES:
            self._loop.call_later(size / BYTES_PER_SECOND, self._give_back)
        else:
            self._give_back()

    def _give_back(self) -> None:
        if self._is_slow:
            self._slow.give_back(self._client, 1)
        else:
            self._quick.give_back(self._client)


class Places:
    """Places for which clients wait in turn. A client with many waiting calls gets as many places as one with few.

    Of the calls of a client, the newest is served first. In a crowd, the oldest have been given up by their callers, or
    will be, and callers behind one address do not wait for a crowd of others there.
    """

    def __init__(self, count: int) -> None:
        self._shares = Shares(count)
        self._waiting: OrderedDict[str, list[asyncio.Future[None]]] = OrderedDict()  # in the order of turns

    @property
    def is_crowded(self) -> bool:
        """Whether a call waits for a place."""
        return bool(self._waiting)

    async def take(self, client: str) -> None:
        """Take a place, after a wait if none is free."""
        if not self._waiting and self._shares.take(client, 1):
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, []).append(turn)
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.give_back(client)
            elif turn in (turns := self._waiting.get(client, [])):
                turns.remove(turn)
                if not turns:
                    del self._waiting[client]
            raise

    def give_back(self, client: str) -> None:
        """Give a place back."""
        self._shares.give_back(client, 1)
        if self._waiting:
            self._serve()

    def _serve(self) -> None:
        """Give free places to those whose turn it is."""
        refused = 0
        while refused < len(self._waiting):
            client, turns = next(iter(self._waiting.items()))
            while turns and turns[-1].cancelled():
                turns.pop()
            if turns and self._shares.take(client, 1):
                turns.pop().set_result(None)
                refused = 0
            elif turns:
                refused += 1
            if turns:
                self._waiting.move_to_end(client)
            else:
                del self._waiting[client]
