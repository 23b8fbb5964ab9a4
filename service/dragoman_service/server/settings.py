"""All settings of a server: its own, and those of the packages below."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dragoman_service.engine.settings import EngineSettings
from dragoman_service.errors import InvalidInput
from dragoman_service.interfaces.names import INTERFACES, check_interfaces
from dragoman_service.repository.call_caps import CallCaps
from dragoman_service.repository.settings import ModelSettings, RepositorySettings
from dragoman_service.server.document_settings import DocumentSettings
from dragoman_service.server.intake import IntakeSettings
from dragoman_service.translation.settings import RequestLimits

_ORIGIN = re.compile(r"https?://[^/\s,]+")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Addresses of a server, and its time limits."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every address of the machine."""
    port: int = 50051
    """Port for gRPC; 0 takes a free one."""
    http_port: int | None = None
    """Port for HTTP; 0 takes a free one; None: there is none."""
    http_host: str = ""
    """Address to listen on for HTTP; empty: that of `host`."""
    http_origins: tuple[str, ...] = ()
    """Origins of the websites whose pages may use the routes of HTTP, such as https://shop.example; `*`: all. Routes of
    LibreTranslate may be used by all."""
    metrics_port: int = 9090
    """Port for Prometheus metrics; 0 takes a free one."""
    metrics_host: str = ""
    """Address to listen on for the metrics and health pages; empty: that of `host`."""
    admin: str = ""
    """Address of the admin interface, HOST:PORT or unix:PATH; empty turns it off."""
    tls_cert: str = ""
    """PEM file of the server's certificate; empty: the server speaks no TLS."""
    tls_key: str = ""
    """PEM file of the key of `tls_cert`."""
    tls_client_ca: str = ""
    """PEM file of the authorities that clients need a certificate of; empty: clients need none."""
    client_header: str = ""
    """Metadata key that identifies the client of a call, for the fair queue; empty: its certificate does with
    `tls_client_ca`, else its network address."""
    tokens: Path | None = None
    """File of the tokens that may call; None: everyone may."""
    glossaries: Path | None = None
    """Folder of the named glossaries (`translation.glossaries`); None: there are none."""
    glossaries_writable: bool = False
    """Whether calls may make, change and delete glossaries; with tokens, they need the scope `glossaries`."""
    fronts: int = 0
    """Processes that have the calls and their texts, beside one that has the engines; 0: one process has all."""
    interfaces: tuple[str, ...] = INTERFACES
    """What is served beside `dragoman.v1`: interfaces of others, and the page for people at `/` of the HTTP port."""
    reflection: bool = True
    """Whether tools may ask the server for its interface."""
    grace: float = 30.0
    """Seconds that running calls have to end after SIGTERM."""
    lame_duck: float = 0.0
    """Seconds after SIGTERM in which the server reports that it is not ready and still takes calls, so that load
    balancers notice; `grace` begins after it."""
    write_timeout: float = 30.0
    """Seconds that a stream waits for its reader to take a piece. Then it is cancelled, and its rows are freed."""
    max_connections: int = 1024
    """Maximum number of connections to the gRPC port, and to the HTTP port; further ones are closed."""
    max_connection_age: float = 0.0
    """Seconds after which a connection is asked to close, so that clients connect again and load spreads over new
    servers; 0: never. Running calls have `max_connection_age_grace` seconds to end."""
    max_connection_age_grace: float = 60.0
    """See `max_connection_age`."""

    def __post_init__(self) -> None:
        _port("port", self.port)
        _port("metrics_port", self.metrics_port)
        if self.port and self.port == self.metrics_port and self.pages_host == self.host:
            raise InvalidInput("metrics_port", self.metrics_port, "a port other than that of gRPC")
        self._check_http()
        if bool(self.tls_cert) != bool(self.tls_key):
            raise InvalidInput("tls_key", self.tls_key, "a file if tls_cert is one, and nothing without tls_cert")
        if self.tls_client_ca and not self.tls_cert:
            raise InvalidInput("tls_client_ca", self.tls_client_ca, "nothing without tls_cert and tls_key")
        if self.admin and not self.admin.startswith("unix"):  # gRPC would take the lowest 16 bits of a larger port
            host, _, port = self.admin.rpartition(":")
            if not host or not (port.isascii() and port.isdigit() and int(port) <= 65_535):
                raise InvalidInput("admin", self.admin, "HOST:PORT with a port of 0 to 65535, or unix:PATH")
        if self.glossaries_writable and self.glossaries is None:
            raise InvalidInput("glossaries_writable", True, "with glossaries, the folder")
        check_interfaces(self.interfaces)
        for name, most, unit in (("fronts", 64, ""), ("grace", 86_400, " seconds"), ("lame_duck", 3_600, " seconds")):
            if not 0 <= getattr(self, name) <= most:
                raise InvalidInput(name, getattr(self, name), f"0 to {most}{unit}")
        if not 0 < self.write_timeout <= 86_400:
            raise InvalidInput("write_timeout", self.write_timeout, "above 0, at most 86400 seconds")
        if not 1 <= self.max_connections <= 1_000_000:
            raise InvalidInput("max_connections", self.max_connections, "1 to 1000000")
        if not (self.max_connection_age == 0 or 1 <= self.max_connection_age <= 864_000):
            raise InvalidInput("max_connection_age", self.max_connection_age, "0 (never), or 1 to 864000 seconds")
        if not 0 < self.max_connection_age_grace <= 86_400:
            allowed = "above 0, at most 86400 seconds"
            raise InvalidInput("max_connection_age_grace", self.max_connection_age_grace, allowed)

    def _check_http(self) -> None:
        port = self.http_port or 0
        _port("http_port", port)
        others = ((self.host, self.port), (self.pages_host, self.metrics_port))
        if port and (self.address_of_http, port) in others:
            raise InvalidInput("http_port", port, "a port other than those of gRPC and the metrics")
        for origin in self.http_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise InvalidInput("http_origins", origin, "*, or origins such as https://shop.example:8443")

    @property
    def address_of_http(self) -> str:
        """Address to listen on for HTTP."""
        return self.http_host or self.host

    @property
    def tls(self) -> str:
        """What is printed after an address with TLS."""
        return (" (mutual TLS)" if self.tls_client_ca else " (TLS)") if self.tls_cert else ""

    @property
    def pages_host(self) -> str:
        """Address of the metrics and health pages."""
        return self.metrics_host or self.host


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """All settings of a server, by the package that they belong to."""

    model_paths: tuple[Path, ...] = ()
    """Folders of the bundles to serve. A request that names no model gets the first one with its language pair."""
    server: ServerSettings = field(default_factory=ServerSettings)
    limits: RequestLimits = field(default_factory=RequestLimits)
    intake: IntakeSettings = field(default_factory=IntakeSettings)
    repository: RepositorySettings = field(default_factory=RepositorySettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    documents: DocumentSettings = field(default_factory=DocumentSettings)

    @classmethod
    def of(cls, **settings: Any) -> ServiceConfig:
        """Build the configuration from flat settings such as `port` and `max_rows`. Others have their defaults.

        Raises:
            InvalidInput: a value that is not allowed, or an unknown setting.
        """
        groups = {
            kind: _pop_fields(settings, kind)
            for kind in (ServerSettings, IntakeSettings, RepositorySettings, EngineSettings, CallCaps, DocumentSettings)
        }
        limits = settings.pop("limits", RequestLimits())
        paths = settings.pop("model_paths", ())
        engine, caps = EngineSettings(**groups[EngineSettings]), CallCaps(**groups[CallCaps])
        model = ModelSettings(**_pop_fields(settings, ModelSettings), engine=engine, caps=caps)
        if settings:
            raise InvalidInput(min(settings), settings[min(settings)], "a setting of a server")
        server, repository = ServerSettings(**groups[ServerSettings]), RepositorySettings(**groups[RepositorySettings])
        intake, documents = IntakeSettings(**groups[IntakeSettings]), DocumentSettings(**groups[DocumentSettings])
        return cls(paths, server, limits, intake, repository, model, documents)

    def __post_init__(self) -> None:
        if not self.model_paths and not self.repository.repository:
            raise InvalidInput("model_paths", self.model_paths, "a folder of a model bundle, or a repository")


def _pop_fields(settings: dict[str, Any], kind: type[Any]) -> dict[str, Any]:
    """Remove the fields of the dataclass `kind` from `settings`, and return them."""
    return {it.name: settings.pop(it.name) for it in fields(kind) if it.name in settings}


def _port(name: str, value: int) -> None:
    if not 0 <= value <= 65_535:
        raise InvalidInput(name, value, "0 to 65535")
