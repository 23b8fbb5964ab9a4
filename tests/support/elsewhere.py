"""A model in service whose engine is in another process and has fake workers."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.process import BaseProcess
from typing import cast

from dragoman_service.engine.engine import Connection, Engine
from dragoman_service.engine.link import EngineLink
from dragoman_service.engine.messages import Answer
from dragoman_service.repository.models import ServedModel
from support.fake_workers import FakeWorkers, served
from support.link_client import LinkClient, serve, wait_for_end


def _serve(end: socket.socket, held: bool, permits: int) -> None:
    model = served(FakeWorkers(held=held), permits)
    closed: list[EngineLink] = []
    wait_for_end([serve(cast(Engine, model.engine), end, closed.append)], closed)
    model.engine.close()


class Elsewhere:
    """The engine of another process, with the methods that a frontend uses."""

    remote = True

    def __init__(self, *, held: bool = False, permits: int = 1000) -> None:
        context = multiprocessing.get_context("spawn")
        self._near, far = socket.socketpair()
        self.process: BaseProcess = context.Process(target=_serve, args=(far, held, permits))
        self.process.start()
        far.close()
        self.connection: Connection | None = None

    def connect(self, on_answers: Callable[[Sequence[Answer]], None]) -> Connection:
        self.connection = LinkClient(self._near, on_answers)
        return self.connection

    def close(self) -> None:
        self._near.close()
        self.process.join(30)

    def model(self) -> ServedModel:
        here = served(FakeWorkers())
        here.engine.close()
        return replace(here, engine=cast(Engine, self))
