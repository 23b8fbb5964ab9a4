"""The server process: gRPC with health and reflection, metrics on their own port, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from wsgiref.simple_server import WSGIServer

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.config import ServiceConfig
from dragoman_service.errors import DragomanError
from dragoman_service.frontend import Frontend
from dragoman_service.metrics import Metrics
from dragoman_service.models import ModelRegistry, ServedModel
from dragoman_service.servicer import SERVICE_NAME, TranslationServicer

MAX_REQUEST_BYTES = 16 * 2**20
_OPTIONS = (
    # Without this a second server on the same port would silently take half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    # A caller whose machine vanished says nothing: only a ping without an answer tells, within 40 seconds.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Callers may ping as often, without being taken for abusive.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)
_REPLY_SECONDS = 5.0
"""What replies already made may take to be sent, at the end; a health watch, which has no end, takes all of it."""
_HEALTH_NAMES = ("", SERVICE_NAME)
_HEALTH_PERIOD = 0.5
"""Seconds between looks at the engines' health."""

_log = logging.getLogger(__name__)


class StartupError(DragomanError):
    """The server cannot start; the message says what to change."""

    reason = "startup"


class Server:
    """Serves models that are loaded already; `start`, then `stop`, on one event loop."""

    def __init__(self, config: ServiceConfig, models: Sequence[ServedModel], metrics: Metrics) -> None:
        self._config = config
        self._registry = ModelRegistry(models)
        self._metrics = metrics
        self._health = health.aio.HealthServicer()
        self._watch: asyncio.Task[None] | None = None
        self._metrics_server: WSGIServer | None = None
        self.port = 0
        """The port of gRPC, once started."""
        self.metrics_port = 0
        """The port of the metrics, once started."""

    async def start(self) -> None:
        """Listen. Raises StartupError if an address cannot be had."""
        config = self._config
        # Everything of asyncio is made here, on the loop it belongs to.
        self._frontend = Frontend(self._registry, config.limits)
        self._server = grpc.aio.server(options=_OPTIONS)
        servicer = TranslationServicer(self._frontend, self._metrics, config.default_beam_size, config.write_timeout)
        translation_pb2_grpc.add_TranslationServicer_to_server(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        try:
            self.port = self._server.add_insecure_port(address(config.host, config.port))
        except RuntimeError as error:
            raise StartupError(f"port {config.port} on {config.host} cannot be had: {error}") from None
        try:
            self._metrics_server, _ = start_http_server(
                config.metrics_port, config.host, registry=self._metrics.registry
            )
        except OSError as error:
            raise StartupError(f"metrics port {config.metrics_port} on {config.host}: {error.strerror}") from None
        self.metrics_port = self._metrics_server.server_port
        await self._server.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        self._watch = asyncio.create_task(self._watch_engines())

    async def stop(self, grace: float) -> None:
        """Refuse new calls, give those that run `grace` seconds, then end everything."""
        started = time.monotonic()
        if self._watch is not None:
            self._watch.cancel()
        await self._health.enter_graceful_shutdown()
        # Health and refusals must still be answered while calls run: gRPC itself stops last.
        self._frontend.stop_accepting()
        if not await self._frontend.wait_idle(grace):
            _log.warning("calls were still running after %.1f s and are given up", grace)
        left = max(0.0, grace - (time.monotonic() - started))
        await self._server.stop(min(_REPLY_SECONDS, left))
        for model in self._registry.models:
            await asyncio.to_thread(model.engine.close)
        self._frontend.close()
        if self._metrics_server is not None:
            await asyncio.to_thread(self._metrics_server.shutdown)
            self._metrics_server.server_close()

    async def _watch_engines(self) -> None:
        while all(model.engine.healthy for model in self._registry.models):
            await asyncio.sleep(_HEALTH_PERIOD)
        _log.error("an engine is dead: the server reports NOT_SERVING")
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def _set_health(self, status: int) -> None:
        for name in _HEALTH_NAMES:
            await self._health.set(name, status)


async def serve_until_signal(server: Server, grace: float, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, then stop in order; a second signal ends the process at once."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def on_signal(number: int) -> None:
        if asked.is_set():
            os._exit(128 + number)
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    await server.start()
    on_ready()
    await asked.wait()
    await server.stop(grace)


def check_free(name: str, host: str, port: int) -> None:
    """Raise StartupError if nobody could listen there: better before the models are loaded than after."""
    if port == 0:
        return
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise StartupError(f"--host: {host!r} is no address of this machine: {error.strerror}") from None
    with socket.socket(family, kind) as probe:
        with suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            hint = "choose another, or 0 for any free one"
            raise StartupError(f"{name}: port {port} on {host} cannot be had: {error.strerror}; {hint}") from None


def address(host: str, port: int) -> str:
    """As gRPC and URLs write it, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
