"""The process that an operator starts: it starts the engine process and the fronts, and replaces those that end.

It has the port, which all fronts listen on; the page of metrics and health; the quotas; and the order of the stop. It
has no call, no text and no model, so there is little that can end it. What it starts does not outlive it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, disable_created_metrics
from prometheus_client.core import Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from dragoman_service.errors import InvalidInput
from dragoman_service.server.fronts.control import (
    Control,
    Family,
    Idle,
    Keep,
    Ready,
    Returned,
    Scrape,
    Scraped,
    Setup,
    Stop,
    Take,
    Unable,
    write_setup,
)
from dragoman_service.server.fronts.merge import ENGINE, Pages, families_of
from dragoman_service.server.fronts.shared_quotas import QuotaDesk
from dragoman_service.server.http.documents.spool import spool_folder
from dragoman_service.server.http_pages import Condition, PagesServer
from dragoman_service.server.intake import IntakeSettings
from dragoman_service.server.server import StartupError, announce, open_pages, serve_until_signal
from dragoman_service.server.settings import ServiceConfig

_SUPERVISOR = "supervisor"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
"""Seconds before a process is started again, the first time and at most."""
_STEADY_SECONDS = 60.0
"""Seconds after which the end of a process counts as the first one."""
_SILENT_SECONDS = 10.0
"""Seconds without a word after which a process counts as hanging. A front is then killed and replaced. The engine
process is only reported, because a step may be long; whoever watches `/live` restarts the server."""
_SCRAPE_SECONDS = 2.0
"""Seconds that a process has to tell its metrics; else those of its last answer are shown."""
_END_SECONDS = 30.0
"""Seconds that a process has to end beyond what its settings allow, before it is killed."""

_log = logging.getLogger(__name__)


def parts_of(config: ServiceConfig, port: int, http_port: int | None) -> dict[str, ServiceConfig]:
    """The configurations of the processes, by name. Raises InvalidInput for limits that cannot be divided."""
    count = config.server.fronts
    server = replace(config.server, port=port, http_port=http_port, fronts=0)
    engine = replace(config, server=replace(server, port=0, http_port=None, metrics_port=0, lame_duck=0.0))
    front = replace(
        config,
        model_paths=(Path(),),  # they have their models from the engine process
        repository=type(config.repository)(),
        server=replace(
            server, admin="", metrics_port=0, max_connections=max(1, config.server.max_connections // count)
        ),
        intake=_share(config.intake, count),
    )
    return {ENGINE: engine, **{f"front {number}": front for number in range(1, count + 1)}}


def _share(intake: IntakeSettings, count: int) -> IntakeSettings:
    """The limits of one of `count` fronts: together they have no more than one process would. Raises InvalidInput."""
    for name, least in (("message_memory_mib", 2 * intake.max_message_mib), ("call_memory_mib", 16)):
        if getattr(intake, name) // count < least:
            raise InvalidInput(name, getattr(intake, name), f"{least * count} or more with {count} fronts")
    return replace(
        intake,
        max_calls=max(1, intake.max_calls // count),
        message_memory_mib=intake.message_memory_mib // count,
        call_memory_mib=intake.call_memory_mib // count,
    )


def reserve(host: str, port: int, kind_of_port: str = "") -> socket.socket:
    """Take a port for the fronts, without listening. `kind_of_port` as for `check_free`. Raises StartupError."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise StartupError(f"--{kind_of_port}host: {host!r} is no address of this machine: {error.strerror}") from None
    # Without SO_REUSEADDR, nobody who does not share the port can have it even before the fronts listen. With it, what
    # the connections of an earlier server have left behind does not stand in the way.
    for reuse in (0, 1):
        reserved = socket.socket(family, kind)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            reserved.bind(where)
            return reserved
        except OSError as error:
            reserved.close()
            problem = error.strerror
    raise StartupError(
        f"--{kind_of_port}port: port {port} on {host} cannot be had: {problem}; choose another, or 0 for any free one"
    )


def process_restarts(registry: CollectorRegistry) -> Counter:
    """The metric that counts the ends of processes; every series exists from the start."""
    restarts = Counter(
        "dragoman_process_restarts", "Processes of this server that ended and were replaced.", ["process"],
        registry=registry,
    )  # fmt: skip
    for kind in (ENGINE, "front"):
        restarts.labels(kind)
    return restarts


class _Part:
    """One of the processes, and those that replace it."""

    def __init__(self, name: str, config: ServiceConfig) -> None:
        self.name = name
        self.config = config
        self.process: asyncio.subprocess.Process | None = None
        self.control: Control | None = None
        self.ready = False
        self.idle = False
        """Whether it has no calls any more, at the end."""
        self.told = Ready()
        self.condition = Condition()
        self.heard = 0.0
        self.problem: Exception | None = None
        """Why it could not start."""
        self.scrapes: dict[int, asyncio.Future[tuple[Family, ...]]] = {}


class Supervisor:
    """Starts the processes of a server, and looks after them. Lives on one event loop, on the main thread."""

    def __init__(self, config: ServiceConfig, command: Sequence[str], log_level: str) -> None:
        """`command` starts a process; two descriptors follow as arguments: see `child.main`. Raises FolderUnusable."""
        self._folders = ExitStack()
        if config.server.http_port is not None:
            folder = self._folders.enter_context(spool_folder(config.documents.document_folder))
            config = replace(config, documents=replace(config.documents, document_folder=folder))
        self._config = config
        self._command = tuple(command)
        self._log_level = log_level
        http_port = config.server.http_port
        self._reserved = reserve(config.server.host, config.server.port)
        self.port: int = self._reserved.getsockname()[1]
        """The port of gRPC."""
        self._reserved_http = None if http_port is None else reserve(config.server.address_of_http, http_port, "http-")
        self.http_port: int = self._reserved_http.getsockname()[1] if self._reserved_http else 0
        """The port of HTTP; 0 without one."""
        self.loop = asyncio.get_running_loop()
        self.metrics_port = 0
        """The port of the metrics, once started."""
        # Fronts send ends of sockets through it, whichever engine process there is at the time.
        self._front_end, self._engine_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._front_end.setblocking(False)
        self._parts = {
            name: _Part(name, its) for name, its in parts_of(config, self.port, self.http_port or None).items()
        }
        self._quotas = QuotaDesk()
        self._pages_of = Pages([_SUPERVISOR, *self._parts])
        self._own = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._own)
        self._restarts = process_restarts(self._own)
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._keeping: dict[str, asyncio.Task[None]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._pages: PagesServer | None = None
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Start all processes, and wait until they serve. Raises what the first that cannot start raised."""
        for name, part in self._parts.items():
            self._keeping[name] = asyncio.create_task(self._keep(part))
        while not all(part.ready for part in self._parts.values()):
            self._changed.clear()
            await self._changed.wait()
            for part in self._parts.values():
                if part.problem is not None:
                    raise part.problem
        registry = CollectorRegistry()
        registry.register(_Page(self))
        self._pages = open_pages(self._config.server, registry, self._condition)
        self.metrics_port = self._pages.port
        self._watching = asyncio.create_task(self._watch_fronts())

    @property
    def models(self) -> Sequence[str]:
        """A summary of each model."""
        return self._parts[ENGINE].told.models

    async def _watch_fronts(self) -> None:
        """Kill fronts that hang. Rounds are counted instead of seconds, so that a pause of the machine kills none."""
        silent: dict[str, int] = {}
        last: dict[str, float] = {}
        while True:
            await asyncio.sleep(1)
            for name, part in self._parts.items():
                if name == ENGINE or not part.ready or part.process is None:
                    continue
                silent[name] = silent.get(name, 0) + 1 if last.get(name) == part.heard else 0
                last[name] = part.heard
                if silent[name] >= _SILENT_SECONDS:
                    _log.error("the %s process has said nothing for %g s and is killed", name, _SILENT_SECONDS)
                    part.process.kill()
                    silent[name] = 0

    async def stop(self) -> None:
        """Stop the fronts in order, then the engine process."""
        self._stopping.set()
        if self._watching is not None:
            self._watching.cancel()
        server = self._config.server
        fronts = [part for part in self._parts.values() if part.name != ENGINE]
        await self._end(fronts, server.lame_duck + server.grace + _END_SECONDS)
        await self._end([self._parts[ENGINE]], _END_SECONDS)
        self._folders.close()
        if self._pages is not None:
            await asyncio.to_thread(self._pages.close)

    def kill(self) -> None:
        """End all processes at once."""
        self._stopping.set()
        self._folders.close()
        for part in self._parts.values():
            if part.process is not None and part.process.returncode is None:
                part.process.kill()

    async def _end(self, parts: Sequence[_Part], seconds: float) -> None:
        for part in parts:
            if part.control is not None:
                part.control.send(Stop())
            else:  # it has ended, and would be started again after a pause
                self._keeping[part.name].cancel()
        tasks = [self._keeping[part.name] for part in parts]
        _, late = await asyncio.wait(tasks, timeout=seconds)
        if late:
            _log.error("processes do not end and are killed")
            for part in parts:
                if part.process is not None and part.process.returncode is None:
                    part.process.kill()
            await asyncio.wait(tasks)

    async def _keep(self, part: _Part) -> None:
        """Run a process, and replace it when it ends."""
        pause = 0.0
        while not self._stopping.is_set():
            started = time.monotonic()
            was_ready, how = await self._run(part)
            if self._stopping.is_set():
                return
            if not was_ready and self._pages is None and part.problem is not None:
                return  # of the first start, which has failed
            self._restarts.labels(part.name.split()[0]).inc()
            steady = time.monotonic() - started >= _STEADY_SECONDS
            pause = _FIRST_PAUSE if steady or not pause else min(2 * pause, _LONGEST_PAUSE)
            why = f": {part.problem}" if part.problem else ""
            _log.error("the %s process has ended (%s)%s; it is started again in %.1f s", part.name, how, why, pause)
            part.problem = None
            await asyncio.sleep(pause)

    async def _run(self, part: _Part) -> tuple[bool, str]:
        """Run a process to its end. Returns whether it served, and how it ended."""
        mine, its = socket.socketpair()
        dial = self._engine_end if part.name == ENGINE else self._front_end
        with its:
            descriptors = (its.fileno(), dial.fileno())
            # Started by the main thread: the system kills a process when the thread that started it ends.
            process = part.process = await asyncio.create_subprocess_exec(
                *self._command, *map(str, descriptors), stdin=subprocess.DEVNULL, stdout=2, pass_fds=descriptors
            )
        write_setup(mine, Setup(part.name, part.config, self._log_level))
        control = part.control = await Control.over(mine, partial(self._on_message, part), lambda: None)
        if self._stopping.is_set():
            control.send(Stop())
        status = await process.wait()
        await asyncio.sleep(0)  # what it said last is read
        how = f"signal {-status}" if status < 0 else f"status {status}"
        was_ready, part.ready, part.control = part.ready, False, None
        if not was_ready and part.problem is None:
            part.problem = StartupError(f"the {part.name} process ended ({how}) before it was ready")
        control.close()
        for scrape in part.scrapes.values():
            if not scrape.done():
                scrape.cancel()
        part.scrapes.clear()
        self._quotas.gone(part.name)
        if self._stopping.is_set():
            self._tell_if_idle()
        self._pages_of.gone(part.name)
        self._changed.set()
        return was_ready, how

    def _on_message(self, part: _Part, message: object) -> None:
        part.heard = time.monotonic()
        if isinstance(message, Take):
            if part.control is not None:
                part.control.send(self._quotas.take(part.name, message))
        elif isinstance(message, Returned):
            self._quotas.returned(part.name, message)
        elif isinstance(message, Condition):
            part.condition = message
        elif isinstance(message, Scraped):
            answer = part.scrapes.pop(message.number, None)
            if answer is not None and not answer.done():
                answer.set_result(message.families)
        elif isinstance(message, Keep):
            self._quotas.keep(part.name, message)
        elif isinstance(message, Ready):
            part.ready, part.told, part.problem = True, message, None
            self._changed.set()
        elif isinstance(message, Unable):
            part.problem = message.error
        elif isinstance(message, Idle):
            part.idle = True
            self._tell_if_idle()

    def _tell_if_idle(self) -> None:
        """Let the fronts end, once none has calls."""
        fronts = [part for part in self._parts.values() if part.name != ENGINE and part.control is not None]
        if all(part.idle for part in fronts):
            for part in fronts:
                if part.control is not None:
                    part.control.send(Idle())

    def _condition(self) -> Condition:
        """State of the server. Any thread may ask."""
        if self._stopping.is_set():
            return Condition(not_ready="shutting down")
        engine = self._parts[ENGINE]
        if not engine.ready:
            return Condition(not_ready="the engine process is being started again")
        if time.monotonic() - engine.heard >= _SILENT_SECONDS:
            problem = f"the engine process has said nothing for {_SILENT_SECONDS:g} s"
            return Condition(not_ready=problem, not_alive=problem)
        if engine.condition.not_ready:
            return engine.condition
        if not any(part.ready and not part.condition.not_ready for part in self._parts.values() if part is not engine):
            return Condition(not_ready="no front process is ready")
        return Condition()

    async def scrape(self) -> list[Metric]:
        """The metrics of all processes."""
        self._pages_of.take_in(_SUPERVISOR, families_of(self._own))
        running = [part for part in self._parts.values() if part.ready]
        await asyncio.gather(*map(self._scrape, running))
        return list(self._pages_of.metrics())

    async def _scrape(self, part: _Part) -> None:
        number = next(self._numbers)
        if part.control is None:
            return
        answer = part.scrapes[number] = self.loop.create_future()
        part.control.send(Scrape(number))
        await asyncio.wait((answer,), timeout=_SCRAPE_SECONDS)
        part.scrapes.pop(number, None)
        if answer.done() and not answer.cancelled() and part.ready:
            self._pages_of.take_in(part.name, answer.result())


class _Page(Collector):
    """The metrics of all processes, for the thread that serves the page."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def describe(self) -> Iterator[Metric]:
        """Declare no names, so that registration does not call `collect`."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Ask all processes."""
        asked = asyncio.run_coroutine_threadsafe(self._supervisor.scrape(), self._supervisor.loop)
        return iter(asked.result(2 * _SCRAPE_SECONDS))


async def _supervise(config: ServiceConfig, command: Sequence[str], log_level: str) -> None:
    supervisor = Supervisor(config, command, log_level)

    def on_ready() -> None:
        announce(config.server, supervisor.models, supervisor.port, supervisor.http_port, supervisor.metrics_port)

    try:
        await serve_until_signal(supervisor.start(), supervisor.stop, on_ready)
    finally:
        supervisor.kill()


def supervise(config: ServiceConfig, command: Sequence[str], log_level: str) -> int:
    """Run a server of several processes until SIGTERM or SIGINT. Returns the exit status. Raises StartupError."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    asyncio.run(_supervise(config, command, log_level))
    return 0
