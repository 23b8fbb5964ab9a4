"""`dragoman serve`: from arguments to a ServiceConfig to a running server."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from dragoman_service.cli.serve_arguments import add_arguments, config_of
from dragoman_service.server.settings import ServiceConfig

GRPC_LOGGER = "grpc._cython.cygrpc"


class ServeCommand:
    """Serve translation models over gRPC until SIGTERM or Ctrl-C.

    A MODEL is the folder of a model bundle, as `dragoman export` writes it. A repository has many, as NAME/VERSION,
    which go into service and out of it while the server runs. The addresses are printed once it is ready. On SIGTERM or
    Ctrl-C it takes no new calls, finishes those that run, and ends with status 0; a second signal ends it at once.

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
        logging.basicConfig(level=args.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger(GRPC_LOGGER).addFilter(_is_news)
        # gRPC's core writes its own account of a busy port to stderr; ours says it in words.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        return _serve(config)


def _is_news(record: logging.LogRecord) -> bool:
    """gRPC calls it an error, with a traceback, if a caller leaves in the very moment in which a call's end is sent."""
    kind = record.exc_info[0] if record.exc_info else None
    caller_left = kind is not None and kind.__name__ == "ExecuteBatchError"
    return not caller_left or logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


def _serve(config: ServiceConfig) -> int:
    import asyncio  # noqa: PLC0415 - what follows takes a second to import: not for `--help`

    from prometheus_client import CollectorRegistry, disable_created_metrics  # noqa: PLC0415

    from dragoman_service.repository.loading import load_models  # noqa: PLC0415
    from dragoman_service.server.metrics import Metrics  # noqa: PLC0415
    from dragoman_service.server.server import Server, address, check_free, serve_until_signal  # noqa: PLC0415

    check_free("--port", config.server.host, config.server.port)
    check_free("--metrics-port", config.server.host, config.server.metrics_port)
    # They would be half as many lines again, which nobody reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    metrics = Metrics(CollectorRegistry())
    models = load_models(config.model_paths, config.model, metrics)

    def report_ready(server: Server) -> None:
        for model in server.registry.models:
            pairs = ", ".join(f"{source} to {target}" for source, target in model.description.language_pairs)
            print(f"model    {model.description.name} {model.description.version} ({pairs})")
        print(f"gRPC     {address(config.server.host, server.port)}")
        if config.server.admin:
            print(f"admin    {config.server.admin}")
        print(f"metrics  http://{address(config.server.host, server.metrics_port)}/metrics")
        print("ready", flush=True)

    try:
        server = Server(config, models, metrics)
        asyncio.run(serve_until_signal(server, config.server.grace, lambda: report_ready(server)))
    finally:
        for model in models:
            model.engine.close()
    if server.busy:  # a thread loads a version, and cannot be stopped: what the process would tidy up may be its own
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
    return 0
