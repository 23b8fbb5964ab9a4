"""A gRPC server in this process, for tests that need the protocol but no separate process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from dragoman_service.repository.models import ServedModel
from dragoman_service.server.metrics import Metrics
from dragoman_service.server.server import Server
from dragoman_service.server.settings import ServiceConfig
from support.server_process import page
from support.waiting import PATIENCE


@dataclass
class ServerThread:
    """A server whose event loop runs on another thread."""

    server: Server
    metrics: Metrics
    loop: asyncio.AbstractEventLoop

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    @property
    def url(self) -> str:
        """Of the HTTP server."""
        return f"http://127.0.0.1:{self.server.http_port}"

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric, 0 if it was never set."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def page(self, path: str) -> tuple[int, str]:
        """Status and text of a page on the metrics port."""
        return page(f"http://127.0.0.1:{self.server.metrics_port}{path}")

    def stop(self, grace: float) -> None:
        """Stop as on SIGTERM."""
        asyncio.run_coroutine_threadsafe(self.server.stop(grace), self.loop).result(grace + PATIENCE)


@contextmanager
def serving(models: Sequence[ServedModel], **config: Any) -> Iterator[ServerThread]:
    """Serve models on free ports; `config` are fields of ServiceConfig."""
    metrics = Metrics(CollectorRegistry())
    settings = ServiceConfig.of(**{"model_paths": (Path("unused"),), "port": 0, "metrics_port": 0, **config})
    for model in models:
        metrics.watch(model.description, model.engine)
    server = Server(settings, models, metrics)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    running = ServerThread(server, metrics, loop)
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(PATIENCE)
    try:
        yield running
    finally:
        running.stop(0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


def refusal(act: Callable[[], object]) -> grpc.RpcError:
    """Make a call that must fail; returns its error."""
    with pytest.raises(grpc.RpcError) as caught:
        act()
    return caught.value
