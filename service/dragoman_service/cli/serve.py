"""`dragoman serve`: turns arguments into a ServiceConfig and runs a server with it."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from functools import partial

from dragoman_service.cli.log_format import LogFormatter
from dragoman_service.cli.serve_arguments import add_arguments, config_of
from dragoman_service.server.settings import ServiceConfig

GRPC_LOGGER = "grpc._cython.cygrpc"
part_command = (sys.executable, "-m", "dragoman_service.cli.part")
"""Starts a process of a server that has several."""


class ServeCommand:
    """Serve translation models over gRPC until SIGTERM or Ctrl-C.

    A MODEL is the folder of a model bundle, as `dragoman export` writes it. A repository is a folder of NAME/VERSION
    bundles, which can be loaded and unloaded while the server runs. The server prints its addresses once it is ready.
    On SIGTERM or Ctrl-C it takes no new calls, finishes those that run, and ends with status 0. A second signal ends it
    at once.

      dragoman serve deploy/models/en-de/1
      dragoman serve deploy/models/en-de/1 --host 0.0.0.0 --threads 4
      dragoman serve --repository models --admin unix:/run/dragoman.sock
    """

    help = "serve translation models over gRPC"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        add_arguments(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Serve."""
        config = config_of(args)
        set_up_logging(args.log_level)
        return _serve(config)


def set_up_logging(level: str, process: str = "") -> None:
    """Log on standard error; `process` is the name of one of several processes."""
    handler = logging.StreamHandler()
    named = f"[{process}] " if process else ""
    handler.setFormatter(LogFormatter(f"%(asctime)s %(levelname)s {named}%(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger(GRPC_LOGGER).addFilter(_is_worth_logging)


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Drop what gRPC logs of callers who do nothing to the server.

    Its traceback about a caller that disconnects while the end of its call is sent is dropped below DEBUG. What it logs
    of metadata that is no text is always dropped: it has all of the metadata, which may be a token.
    """
    if str(record.msg).startswith("Invalid encoding"):
        return False
    kind = record.exc_info[0] if record.exc_info else None
    caller_left = kind is not None and kind.__name__ == "ExecuteBatchError"
    return not caller_left or logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


def _serve(config: ServiceConfig) -> int:
    import asyncio  # noqa: PLC0415 - these imports take a second, which `--help` need not wait for

    from prometheus_client import CollectorRegistry, disable_created_metrics  # noqa: PLC0415

    from dragoman_service.server.access.token_file import load  # noqa: PLC0415
    from dragoman_service.server.metrics import Metrics  # noqa: PLC0415
    from dragoman_service.server.server import (  # noqa: PLC0415
        Server,
        announce,
        check_certificates,
        check_free,
        serve_until_signal,
    )

    if config.server.tokens is not None:
        load(config.server.tokens)  # a mistake in it is told before the models are loaded
    check_free("", config.server.host, config.server.port)
    if config.server.http_port is not None:
        importlib.import_module("uvicorn")  # that it is missing is told before the models are loaded, too
        check_free("http-", config.server.address_of_http, config.server.http_port)
    check_free("metrics-", config.server.pages_host, config.server.metrics_port)
    check_certificates(config.server)
    if config.server.fronts:
        from dragoman_service.server.fronts.supervisor import supervise  # noqa: PLC0415

        return supervise(config, part_command, logging.getLevelName(logging.root.level))

    from dragoman_service.repository.loading import load_models  # noqa: PLC0415

    # The `_created` series would add half as many lines again to the metrics page.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    metrics = Metrics(CollectorRegistry())
    models = load_models(config.model_paths, config.model, metrics)

    try:
        server = Server(config, models, metrics)

        def on_ready() -> None:
            summaries = [model.description.summary for model in server.registry.models]
            announce(config.server, summaries, server.port, server.http_port, server.metrics_port)

        asyncio.run(serve_until_signal(server.start(), partial(server.stop, config.server.grace), on_ready))
    finally:
        for model in models:
            model.engine.close()
    if server.busy:  # a thread that loads a version cannot be stopped, and a normal exit would free what it uses
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
    return 0
