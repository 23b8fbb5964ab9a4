"""A process of a server: the engine process or a front, as the supervisor starts it."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from prometheus_client import CollectorRegistry, disable_created_metrics

from dragoman_service.errors import DragomanError, EngineFailure
from dragoman_service.repository.models import ServedModel
from dragoman_service.repository.registry import ModelRegistry
from dragoman_service.repository.sharing import SharedRegistry
from dragoman_service.server.fronts.control import (
    Control,
    Idle,
    Message,
    Ready,
    Scrape,
    Scraped,
    Setup,
    Stop,
    Taken,
    Unable,
    read_setup,
    write,
)
from dragoman_service.server.fronts.merge import ENGINE, families_of
from dragoman_service.server.fronts.shared_quotas import AskedQuotas
from dragoman_service.server.metrics import Metrics
from dragoman_service.server.part import Part
from dragoman_service.server.server import Server
from dragoman_service.translation.remote import Mirror

_CONDITION_SECONDS = 0.5
"""Seconds between two reports of the condition of a process."""
_PR_SET_PDEATHSIG = 1
_OF_OPERATORS = (DragomanError, ModuleNotFoundError)
"""Errors that the message explains."""

_log = logging.getLogger(__name__)


def main(control: int, dial: int, set_up_logging: Callable[[str, str], None]) -> int:
    """Run a process.

    Args:
        control: Descriptor of the connection to the supervisor.
        dial: Descriptor over which fronts send ends of sockets to the engine process.
        set_up_logging: Is given the level and the name of the process.

    Returns:
        The exit status.
    """
    _die_with_supervisor()
    # The supervisor says when to stop: a terminal and systemd signal all processes of a server at once.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end = socket.socket(fileno=control)
    dialled = socket.socket(fileno=dial)
    try:
        setup = read_setup(end)
    except EOFError:
        return 1
    set_up_logging(setup.log_level, setup.name)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        if setup.name == ENGINE:
            return _run_engine(setup, end, dialled)
        asyncio.run(_Front(setup, dialled).run(end))
        return 0
    except Exception as error:
        if not isinstance(error, _OF_OPERATORS):
            _log.exception("the process failed")
        with suppress(OSError):
            write(end, Unable(error if isinstance(error, _OF_OPERATORS) else EngineFailure(repr(error))))
        return 1


def _die_with_supervisor() -> None:
    """Have the system kill this process when its supervisor ends. The closed connection ends it, too, if it can run."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class _Process:
    """What the engine process and the fronts have in common."""

    def __init__(self, setup: Setup, metrics: Metrics) -> None:
        self.setup = setup
        self.metrics = metrics
        self.stopping = asyncio.Event()
        self.control: Control

    async def attach(self, end: socket.socket) -> None:
        self.control = await Control.over(end, self.on_message, lambda: os._exit(1))

    def on_message(self, message: object) -> None:
        if isinstance(message, Stop):
            self.stopping.set()
        elif isinstance(message, Scrape):
            self.control.send(Scraped(message.number, families_of(self.metrics.registry)))

    async def serve(self, server: Server, ready: Ready, grace: float) -> None:
        """Serve until told to stop."""
        self.control.send(server.condition)
        self.control.send(ready)
        reporting = asyncio.create_task(self._report(server))
        await self.stopping.wait()
        await server.stop(grace)
        reporting.cancel()

    async def _report(self, server: Server) -> None:
        while True:
            self.control.send(server.condition)
            await asyncio.sleep(_CONDITION_SECONDS)


class _Front(_Process):
    def __init__(self, setup: Setup, dial: socket.socket) -> None:
        super().__init__(setup, Metrics(CollectorRegistry(), engines=False))
        self._dial = dial
        self._quotas = AskedQuotas(self._send)
        self._others_idle = asyncio.Event()

    def on_message(self, message: object) -> None:
        if isinstance(message, Taken):
            self._quotas.taken(message)
        elif isinstance(message, Idle):
            self._others_idle.set()
        else:
            super().on_message(message)

    def _send(self, message: Message) -> None:
        self.control.send(message)

    async def _wait_for_others(self) -> None:
        self.control.send(Idle())
        await self._others_idle.wait()

    async def run(self, end: socket.socket) -> None:
        await self.attach(end)
        registry = ModelRegistry()
        part = Part(alone=False, registry=registry, quotas=self._quotas, others_idle=self._wait_for_others)
        server = Server(self.setup.config, (), self.metrics, part)
        mirror = Mirror(registry, self.metrics, self._dial)
        following = asyncio.create_task(mirror.run())
        try:
            await mirror.ready.wait()
            await server.start()
            await self.serve(server, Ready(), self.setup.config.server.grace)
        finally:
            following.cancel()


class _Engines(_Process):
    def __init__(self, setup: Setup, metrics: Metrics, models: list[ServedModel], dial: socket.socket) -> None:
        super().__init__(setup, metrics)
        self._registry = SharedRegistry(models)
        self._dial = dial
        self.server = Server(setup.config, (), metrics, Part(answers=False, alone=False, registry=self._registry))

    async def run(self, end: socket.socket) -> None:
        await self.attach(end)
        await self.server.start()
        self._registry.start()
        threading.Thread(target=self._welcome, name="dragoman-dial", daemon=True).start()
        models = tuple(model.description.summary for model in self._registry.models)
        await self.serve(self.server, Ready(models), 0.0)
        self._registry.close()

    def _welcome(self) -> None:
        """Serve the fronts that dial."""
        while True:
            _, ends, _, _ = socket.recv_fds(self._dial, 64, 1)
            for descriptor in ends:
                try:
                    self._registry.join(socket.socket(fileno=descriptor))
                except Exception:
                    _log.exception("a front could not be connected")


def _run_engine(setup: Setup, end: socket.socket, dial: socket.socket) -> int:
    from dragoman_service.repository.loading import load_models  # noqa: PLC0415 - ONNX Runtime, which fronts do not need

    metrics = Metrics(CollectorRegistry())
    models = load_models(setup.config.model_paths, setup.config.model, metrics)
    try:
        busy = asyncio.run(_serve_engines(setup, metrics, models, end, dial))
    finally:
        for model in models:
            model.engine.close()
    if busy:  # a thread that loads a version cannot be stopped, and a normal exit would free what it uses
        logging.shutdown()
        sys.stderr.flush()
        os._exit(0)
    return 0


async def _serve_engines(
    setup: Setup, metrics: Metrics, models: list[ServedModel], end: socket.socket, dial: socket.socket
) -> bool:
    engines = _Engines(setup, metrics, models, dial)
    await engines.run(end)
    return engines.server.busy
