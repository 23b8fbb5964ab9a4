"""The server process: gRPC with health and reflection, metrics on their own port, and an orderly end."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from dragoman_protos.admin.v1 import admin_pb2_grpc
from dragoman_protos.v1 import glossaries_pb2_grpc, translation_pb2_grpc
from dragoman_service.errors import DragomanError
from dragoman_service.interfaces.backend import Backend
from dragoman_service.interfaces.catalogue import grpc_interfaces
from dragoman_service.repository.models import ServedModel
from dragoman_service.repository.registry import ModelRegistry
from dragoman_service.repository.repository import Repository
from dragoman_service.repository.rollout import Rollout
from dragoman_service.server.access.gate import Gate
from dragoman_service.server.access.quotas import LocalQuotas
from dragoman_service.server.access.tokens import ADMIN, TRANSLATE
from dragoman_service.server.access.warnings import warn_of_plain_text
from dragoman_service.server.admin_servicer import ADMIN_API, ADMIN_SERVICE_NAME, AdminServicer
from dragoman_service.server.bundle_watch import BundleWatch
from dragoman_service.server.call_lifecycle import Answering
from dragoman_service.server.channel_options import ADMIN_INTAKE, admin_options, public_options
from dragoman_service.server.glossary_servicer import GLOSSARIES_SERVICE_NAME, GlossaryServicer
from dragoman_service.server.http_pages import Condition, PagesServer
from dragoman_service.server.intake import Intake, IntakeSettings
from dragoman_service.server.methods import ClientOf, ForeignMethods, Identify, Methods
from dragoman_service.server.metrics import Metrics
from dragoman_service.server.part import WHOLE, Part
from dragoman_service.server.reflection import add_reflection
from dragoman_service.server.servicer import API, SERVICE_NAME, TranslationServicer, client_of
from dragoman_service.server.settings import ServerSettings, ServiceConfig
from dragoman_service.translation.frontend import Frontend
from dragoman_service.translation.glossaries import GlossaryFolder
from dragoman_service.translation.glossary_files import MAX_ENTRIES
from dragoman_service.translation.settings import RequestLimits

if TYPE_CHECKING:
    from dragoman_service.server.http.connections import Listener
    from dragoman_service.server.http.documents.jobs import DocumentJobs
    from dragoman_service.server.tls import ServerTls

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

    def __init__(
        self, config: ServiceConfig, models: Sequence[ServedModel], metrics: Metrics, part: Part = WHOLE
    ) -> None:
        self._config = config
        self._part = part
        self._settings = config.server
        self.registry = ModelRegistry(models) if part.registry is None else part.registry
        """What serves, at this moment."""
        self._metrics = metrics
        self._rollout = _make_rollout(config, self.registry, metrics) if config.repository.repository else None
        self._gate = Gate(config.server.tokens, metrics, part.quotas or LocalQuotas()) if config.server.tokens else None
        self._following: asyncio.Task[None] | None = None
        self._health = health.aio.HealthServicer()
        self._tls: ServerTls | None = None
        self._admin: grpc.aio.Server | None = None
        self._admin_lock: int | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._pages: PagesServer | None = None
        self._http: Listener | None = None
        self._documents: DocumentJobs | None = None
        self._folders = ExitStack()
        self.condition = Condition(not_ready="starting")
        """State of this process, for load balancers and supervisors."""
        self.port = 0
        """The port of gRPC, once started."""
        self.http_port = 0
        """The port of HTTP, once started."""
        self.metrics_port = 0
        """The port of the metrics, once started."""

    async def start(self) -> None:
        """Load what the repository has, and listen. Raises StartupError if an address cannot be had, and
        CertificateError.
        """
        config = self._settings
        self._tls = _make_tls(config, self._metrics)
        if self._part.alone or not self._part.answers:  # one process of several says it
            warn_of_plain_text(config)
        self._admin_lock = _lock_socket(config.admin)
        if self._rollout:
            await self._rollout.refresh()
        # Everything of asyncio is made here, on the loop it belongs to.
        self._frontend = Frontend(
            self.registry, self._config.limits, GlossaryFolder(config.glossaries, writable=config.glossaries_writable)
        )
        self._listen(config.port)
        if self._part.alone:
            self._pages = open_pages(config, self._metrics.registry, lambda: self.condition)
            self.metrics_port = self._pages.port
        if config.admin:
            # File permissions say who may use the file of a socket. An abstract socket has none.
            gate = None if config.admin.startswith("unix:") else self._gate
            self._admin = await _start_admin(config, AdminServicer(self._rollout), self._metrics, gate, self._tls)
        if self._gate is not None:
            # Not among `_tasks`: a token that is revoked while calls are still taken must stop working.
            self._following = asyncio.create_task(self._gate.follow())
        await self._server.start()
        await self._look()
        self._tasks.append(asyncio.create_task(self._watch_engines()))
        self._tasks.append(asyncio.create_task(BundleWatch(self.registry, self._metrics.show_changed_files).run()))
        if self._tls:
            self._tasks.append(asyncio.create_task(self._tls.watch()))
        watch = self._config.repository.watch
        if self._rollout and watch:
            self._tasks.append(asyncio.create_task(self._rollout.watch(watch)))

    def _listen(self, port: int) -> None:
        """Make the gRPC server, and take its port. Raises StartupError."""
        config = self._settings
        self._server = grpc.aio.server(
            options=public_options(config, self._config.intake, shares_port=not self._part.alone)
        )
        servicer, glossaries = TranslationServicer(self._frontend, config), GlossaryServicer(self._frontend)
        clients = partial(client_of, header=config.client_header, mutual_tls=bool(config.tls_client_ca))
        public_intake, identify = Intake(self._config.intake), _identify(self._gate, TRANSLATE, clients)

        def methods_of(api: str) -> Methods:
            return Methods(self._server, self._metrics, api, public_intake, identify, _most_values(self._config.limits))

        own = methods_of(API)
        translation_pb2_grpc.add_TranslationServicer_to_server(servicer, own)
        glossaries_pb2_grpc.add_GlossariesServicer_to_server(glossaries, own)
        backend, interfaces = Backend(servicer, glossaries), grpc_interfaces(config.interfaces)
        for interface in interfaces:
            interface.add(backend, methods_of(interface.api))
        intake = Intake(_for_others(self._config.intake))
        others = ForeignMethods(self._server, self._metrics, intake, clients)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, others)  # type: ignore[arg-type]
        if config.reflection:
            asked_by = self._gate.client_of if self._gate else clients
            methods_of_reflection = ForeignMethods(self._server, self._metrics, intake, asked_by)
            others_served = (name for interface in interfaces for name in interface.services)
            add_reflection(
                methods_of_reflection, (SERVICE_NAME, GLOSSARIES_SERVICE_NAME, *others_served, health.SERVICE_NAME)
            )
        if not self._part.answers:
            return
        try:
            self.port = _add_port(self._server, address(config.host, port), self._tls)
        except RuntimeError as error:
            raise StartupError(f"port {port} on {config.host} cannot be had: {error}") from None
        if config.http_port is not None:
            self._listen_for_http(backend, public_intake, identify, clients)

    def _listen_for_http(self, backend: Backend, intake: Intake, identify: Identify, clients: ClientOf) -> None:
        """Open the HTTP server. Raises StartupError, and FolderUnusable."""
        from dragoman_service.server.http.documents.jobs import DocumentJobs  # noqa: PLC0415 - needs the extra `http`
        from dragoman_service.server.http.documents.spool import Spool, spool_folder  # noqa: PLC0415
        from dragoman_service.server.http.documents.translation import Services  # noqa: PLC0415
        from dragoman_service.server.http.endpoint import Service  # noqa: PLC0415
        from dragoman_service.server.http.server import open_http  # noqa: PLC0415

        config, documents = self._settings, self._config.documents
        folder = self._folders.enter_context(spool_folder(documents.document_folder))
        services = Services(backend, self._metrics, intake, identify, self._config.limits)
        self._documents = DocumentJobs(services, Spool(folder), documents)
        service = Service(
            backend=backend,
            metrics=self._metrics,
            intake=intake,
            identify=identify,
            client_of=clients,
            max_bytes=self._config.intake.max_message_mib << 20,
            limits=self._config.limits,
            repeated=_most_values(self._config.limits),
            has_tokens=self._gate is not None,
            problem=lambda: self.condition.not_ready,
            metrics_port=self._metrics_port_beside_http,
            write_seconds=config.write_timeout,
            documents=self._documents,
        )
        tls = self._tls.context if self._tls else None
        try:
            self._http = open_http(config, service, tls, shares_port=not self._part.alone)
        except OSError as error:
            where = f"HTTP port {config.http_port} on {config.address_of_http}"
            raise StartupError(f"{where} cannot be had: {error.strerror}") from None
        self.http_port = self._http.port

    def _metrics_port_beside_http(self) -> int:
        config = self._settings
        known = self.metrics_port or config.metrics_port  # of several processes, another one has it
        return known if config.pages_host == config.address_of_http else 0

    async def stop(self, grace: float) -> None:
        """Say that we go, and for `lame_duck` seconds serve whoever has not heard; then refuse new calls, give those
        that run `grace` seconds, and end everything.
        """
        for task in self._tasks:
            task.cancel()
        self.condition = Condition(not_ready="shutting down", not_alive=self.condition.not_alive)
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self._settings.lame_duck)
        started = time.monotonic()
        # Health and refusals must still be answered while calls run: gRPC itself stops last.
        self._frontend.stop_accepting()
        if self._documents is not None:
            await self._documents.stop(grace)
        if not await self._frontend.wait_idle(grace - (time.monotonic() - started)):
            _log.warning("calls were still running after %.1f s and are given up", grace)
        elif self._part.others_idle is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._part.others_idle(), grace - (time.monotonic() - started))
        left = max(0.0, grace - (time.monotonic() - started))
        stopping = [self._server.stop(min(_REPLY_SECONDS, left))]
        if self._http is not None:
            stopping.append(self._http.stop(min(_REPLY_SECONDS, left)))
        await asyncio.gather(*stopping)
        if self._following is not None:
            self._following.cancel()
        if self._admin is not None:
            await self._admin.stop(0)  # removes the socket, so the lock is let go of after it
        if self._admin_lock is not None:
            os.close(self._admin_lock)
            self._admin_lock = None
        if self._rollout:
            await self._rollout.close(max(_REPLY_SECONDS, grace - (time.monotonic() - started)))
        for model in self.registry.models:
            await asyncio.to_thread(model.engine.close)
        self._frontend.close()
        self._folders.close()
        if self._pages is not None:
            await asyncio.to_thread(self._pages.close)

    @property
    def busy(self) -> bool:
        """Whether a version is being loaded or closed, which nothing can stop."""
        return self._rollout is not None and self._rollout.busy

    async def _watch_engines(self) -> None:
        while True:
            await asyncio.sleep(_HEALTH_PERIOD)
            try:
                await self._look()
            except Exception:
                _log.exception("looking after the server failed")

    async def _look(self) -> None:
        """Say how the engines are, if it has changed."""
        sick = [model.description.name for model in self.registry.models if not model.engine.healthy]
        broken = f"an engine is dead or hangs: {', '.join(sick)}" if sick else ""
        problem = broken or ("" if self.registry.entries else "no model is in service")
        condition = Condition(not_ready=problem, not_alive=broken)
        if condition == self.condition:
            return
        self.condition = condition
        if problem:
            _log.error("%s: the server reports NOT_SERVING", problem)
        status = health_pb2.HealthCheckResponse
        for name in _HEALTH_NAMES:
            await self._health.set(name, status.NOT_SERVING if problem else status.SERVING)


def _most_values(limits: RequestLimits) -> dict[str, int]:
    """Maximum number of values of repeated fields, by the names that these have in the messages of all interfaces."""
    texts = ("texts", "target_prefixes", "translations", "contents")
    terms = ("terms", "keep", "dnt_phrases")
    return dict.fromkeys(texts, limits.max_texts) | dict.fromkeys(terms, limits.max_terms) | {"entries": MAX_ENTRIES}


def _make_rollout(config: ServiceConfig, registry: ModelRegistry, metrics: Metrics) -> Rollout:
    from dragoman_service.repository import loading  # noqa: PLC0415 - ONNX Runtime, which a front does not need

    settings = config.repository
    cache = settings.cache if settings.cache != Path() else Path.home() / ".cache" / "dragoman"
    load = partial(loading.load_version, settings=config.model, observer=metrics)
    return Rollout(Repository(settings.repository, cache), registry, load, metrics)


def _lock_socket(where: str) -> int | None:
    """Lock the path of a Unix socket against other servers; None for another address. Raises StartupError.

    gRPC replaces any socket at the path, that of a running server too. The system lets go of the lock of a server that
    dies, so what it left behind is replaced. The file of the lock stays: it could not be removed without a race.
    """
    if not where.startswith("unix:"):
        return None
    path = os.fsdecode(unquote_to_bytes(where.removeprefix("unix:").removeprefix("//")))
    if not path or "\0" in path:  # without a path, Linux makes up an address that every user can reach
        raise StartupError(f"--admin: got {where!r}; allowed: unix:PATH, with a path")
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StartupError(f"--admin: {where} cannot be had: {path}.lock: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = _answers(path)
    except BlockingIOError:
        taken = True
    if taken:
        os.close(lock)
        raise StartupError(f"--admin: {where} cannot be had: another server answers at {path}; choose another path")
    return lock


def _answers(path: str) -> bool:
    """Whether somebody listens on the Unix socket, who need not know of the lock."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (BlockingIOError, TimeoutError):  # its queue is full
            return True
        except OSError:
            return False
        return True


def _for_others(settings: IntakeSettings) -> IntakeSettings:
    """Limits on calls to health and reflection, which have their own: a flood of other calls must not stop them."""
    return replace(settings, max_calls=256, message_memory_mib=2 * settings.max_message_mib, call_memory_mib=64)


def _identify(gate: Gate | None, scope: str, client_of: ClientOf) -> Identify:
    """By its token if there is a gate, which needs this scope; else by `client_of`."""

    def by_token(call: Answering) -> None:
        assert gate is not None
        gate.identify(call, scope)

    def by_address(call: Answering) -> None:
        call.client = client_of(call.context)

    return by_address if gate is None else by_token


async def _start_admin(
    config: ServerSettings, servicer: AdminServicer, metrics: Metrics, gate: Gate | None, tls: ServerTls | None
) -> grpc.aio.Server:
    server = grpc.aio.server(options=admin_options())
    intake = Intake(ADMIN_INTAKE)
    methods = Methods(server, metrics, ADMIN_API, intake, _identify(gate, ADMIN, lambda context: "admin"))
    admin_pb2_grpc.add_ModelAdminServicer_to_server(servicer, methods)
    if config.reflection:
        asked_by = gate.client_of if gate else lambda context: "admin"
        add_reflection(ForeignMethods(server, metrics, intake, asked_by), (ADMIN_SERVICE_NAME,))
    try:
        _add_port(server, config.admin, tls)
    except RuntimeError as error:
        raise StartupError(f"--admin: {config.admin} cannot be had: {error}") from None
    await server.start()
    return server


async def serve_until_signal(
    start: Coroutine[Any, Any, None], stop: Callable[[], Awaitable[None]], on_ready: Callable[[], None]
) -> None:
    """Start, serve until SIGTERM or SIGINT, then stop in order; a second signal ends the process at once."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def on_signal(number: int) -> None:
        if asked.is_set():
            os._exit(128 + number)
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    starting, stopping = asyncio.create_task(start), asyncio.create_task(asked.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():  # a repository may take minutes to load; nobody has been served yet
        starting.cancel()
        _log.warning("stopped while starting")
        return
    starting.result()
    on_ready()
    await stopping
    await stop()


def announce(settings: ServerSettings, models: Iterable[str], port: int, http_port: int, metrics_port: int) -> None:
    """Print the models and the addresses of a server that is ready."""
    for model in models:
        print(f"model    {model}")
    print(f"gRPC     {address(settings.host, port)}{settings.tls}")
    if settings.http_port is not None:
        scheme = "https" if settings.tls_cert else "http"
        print(f"HTTP     {scheme}://{address(settings.address_of_http, http_port)}{settings.tls}")
    if settings.admin:
        print(f"admin    {settings.admin}{'' if settings.admin.startswith('unix:') else settings.tls}")
    print(f"metrics  http://{address(settings.pages_host, metrics_port)}/metrics")
    print("ready", flush=True)


def open_pages(
    settings: ServerSettings, registry: CollectorRegistry, condition: Callable[[], Condition]
) -> PagesServer:
    """Serve the pages. Raises StartupError if their address cannot be had."""
    host, port = settings.pages_host, settings.metrics_port
    try:
        return PagesServer(host, port, registry, condition)
    except OSError as error:
        raise StartupError(f"metrics port {port} on {host}: {error.strerror}") from None


def check_certificates(settings: ServerSettings) -> None:
    """Raise CertificateError if TLS cannot work: better before the models are loaded than after."""
    if settings.tls_cert:
        from dragoman_service.server.tls import Certificates, TlsFiles  # noqa: PLC0415 - as below

        Certificates.read(TlsFiles.of(settings), time.time())


def _make_tls(settings: ServerSettings, metrics: Metrics) -> ServerTls | None:
    """Raises CertificateError."""
    if not settings.tls_cert:
        return None
    from dragoman_service.server.tls import ServerTls, TlsFiles  # noqa: PLC0415 - imports cryptography: slow, large

    return ServerTls(TlsFiles.of(settings), metrics)


def _add_port(server: grpc.aio.Server, where: str, tls: ServerTls | None) -> int:
    """Listen at an address, with TLS unless it is a Unix socket. Returns the port. Raises RuntimeError."""
    if tls is None or where.startswith("unix:"):
        return server.add_insecure_port(where)
    return server.add_secure_port(where, tls.credentials())


def check_free(kind_of_port: str, host: str, port: int) -> None:
    """Raise StartupError if nobody could listen there: better before the models are loaded than after.

    `kind_of_port` is the prefix of the options that name host and port: empty, or "metrics-".
    """
    if port == 0:
        return
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise StartupError(f"--{kind_of_port}host: {host!r} is no address of this machine: {error.strerror}") from None
    with socket.socket(family, kind) as probe:
        with suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            hint = "choose another, or 0 for any free one"
            raise StartupError(
                f"--{kind_of_port}port: port {port} on {host} cannot be had: {error.strerror}; {hint}"
            ) from None


def address(host: str, port: int) -> str:
    """As gRPC and URLs write it, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
