"""`dragoman serve`: from arguments to a ServiceConfig to a running server."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from dragoman_service.config import ARENAS, ATTENTION_KERNELS, DEVICES, GpuOptions, RequestLimits, ServiceConfig


class ServeCommand:
    """Serve translation models over gRPC until SIGTERM or Ctrl-C.

    A MODEL is the folder of a model bundle, as `dragoman export` writes it. The addresses are printed once the server
    is ready. On SIGTERM or Ctrl-C it takes no new calls, finishes those that run, and ends with status 0; a second
    signal ends it at once.

      dragoman serve deploy/models/en-de/1
      dragoman serve deploy/models/en-de/1 --host 0.0.0.0 --threads 4
    """

    help = "serve translation models over gRPC"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments; the defaults are those of ServiceConfig."""
        fallback = ServiceConfig(model_paths=(Path(),))
        parser.formatter_class = _HelpFormatter
        parser.add_argument(
            "models",
            nargs="+",
            type=Path,
            metavar="MODEL",
            help="folder of a model bundle; where a request names no model, the first that fits is used",
        )
        net = parser.add_argument_group("network")
        net.add_argument("--host", default=fallback.host, help="address to listen on; 0.0.0.0 is every address")
        net.add_argument("--port", type=int, default=fallback.port, help="port for gRPC; 0 takes a free one")
        net.add_argument(
            "--metrics-port",
            type=int,
            default=fallback.metrics_port,
            help="port for Prometheus metrics; 0 takes a free one",
        )
        work = parser.add_argument_group("computing")
        work.add_argument(
            "--device",
            choices=DEVICES,
            default=fallback.device,
            help="where the models run; auto is the GPU for fp16 bundles, where there is one",
        )
        work.add_argument(
            "--threads", type=int, default=fallback.threads, help="threads for each model; 0 is one for each core"
        )
        work.add_argument(
            "--lanes",
            type=int,
            default=fallback.lanes,
            help="batches of each model that run side by side; 0 is one for each thread, up to 4",
        )
        work.add_argument(
            "--max-rows",
            type=int,
            default=fallback.max_rows,
            help="rows decoded side by side, in all lanes; a sentence takes as many as its beam size",
        )
        _add_gpu_arguments(parser.add_argument_group("GPU"), fallback.gpu)
        _add_call_arguments(parser.add_argument_group("calls"), fallback)
        parser.add_argument(
            "--log-level", choices=("debug", "info", "warning", "error"), default="warning", help="what is logged"
        )

    def run(self, args: argparse.Namespace) -> int:
        """Serve."""
        config = ServiceConfig(
            model_paths=tuple(args.models),
            host=args.host,
            port=args.port,
            metrics_port=args.metrics_port,
            device=args.device,
            gpu=GpuOptions(
                memory_limit=args.gpu_memory,
                arena=args.gpu_arena,
                attention=args.gpu_attention,
                graph_rows=args.gpu_graph_rows,
                graphs=args.gpu_graphs,
                steps=args.gpu_steps,
            ),
            threads=args.threads,
            lanes=args.lanes,
            max_rows=args.max_rows,
            max_queue=args.max_queue,
            default_beam_size=args.default_beam_size,
            grace=args.grace,
            write_timeout=args.write_timeout,
            stream_interval=args.stream_interval,
            limits=RequestLimits(
                max_texts=args.max_texts,
                max_characters=args.max_characters,
                max_sentences=args.max_sentences,
                window=args.window,
            ),
        )
        logging.basicConfig(level=args.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        # gRPC's core writes its own account of a busy port to stderr; ours says it in words.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        return _serve(config)


def _add_gpu_arguments(gpu: argparse._ArgumentGroup, fallback: GpuOptions) -> None:
    gpu.add_argument(
        "--gpu-memory",
        type=int,
        default=fallback.memory_limit,
        metavar="MIB",
        help="memory that ONNX Runtime may take for each graph of a model; 0 is all there is",
    )
    gpu.add_argument("--gpu-arena", choices=ARENAS, default=fallback.arena, help="by how much that memory grows")
    gpu.add_argument(
        "--gpu-attention", choices=ATTENTION_KERNELS, default=fallback.attention, help="kernels of attention"
    )
    gpu.add_argument(
        "--gpu-graphs",
        action=argparse.BooleanOptionalAction,
        default=fallback.graphs,
        help="capture decoder steps as CUDA graphs",
    )
    gpu.add_argument(
        "--gpu-graph-rows",
        type=_numbers,
        default=fallback.graph_rows,
        metavar="N,N,...",
        help="numbers of rows to capture steps for; empty is 1, 2, 4, 8 and so on",
    )
    gpu.add_argument(
        "--gpu-steps",
        type=int,
        default=fallback.steps,
        help="steps between two looks at the results, where all is greedy and nobody streams",
    )


def _numbers(text: str) -> tuple[int, ...]:
    """Of a list with commas. Raises ValueError, of which argparse makes a message."""
    return tuple(int(number) for number in text.split(",") if number.strip())


_numbers.__name__ = "list of numbers"  # what argparse calls it


def _add_call_arguments(calls: argparse._ArgumentGroup, fallback: ServiceConfig) -> None:
    calls.add_argument(
        "--default-beam-size",
        type=int,
        default=fallback.default_beam_size,
        help="beam size of requests that do not choose one; 1 is the fastest",
    )
    calls.add_argument(
        "--max-queue",
        type=int,
        default=fallback.max_queue,
        help="sentences waiting or running for each model; more are refused",
    )
    calls.add_argument("--max-texts", type=int, default=fallback.limits.max_texts, help="texts in one call")
    calls.add_argument(
        "--max-characters", type=int, default=fallback.limits.max_characters, help="characters in one text"
    )
    calls.add_argument("--max-sentences", type=int, default=fallback.limits.max_sentences, help="sentences in one call")
    calls.add_argument(
        "--window",
        type=int,
        default=fallback.limits.window,
        help="sentences of one call that are worked on at once",
    )
    calls.add_argument(
        "--grace", type=float, default=fallback.grace, help="seconds that running calls are given to end at a stop"
    )
    calls.add_argument(
        "--write-timeout",
        type=float,
        default=fallback.write_timeout,
        help="seconds that a stream waits for its reader before it is given up",
    )
    calls.add_argument(
        "--stream-interval",
        type=float,
        default=fallback.stream_interval,
        help="seconds between two pieces of a stream, at least",
    )


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the paragraphs of the description, and adds the defaults to the help of each option."""


def _serve(config: ServiceConfig) -> int:
    import asyncio  # noqa: PLC0415 - what follows takes a second to import: not for `--help`

    from prometheus_client import CollectorRegistry, disable_created_metrics  # noqa: PLC0415

    from dragoman_service.loading import load_models  # noqa: PLC0415
    from dragoman_service.metrics import Metrics  # noqa: PLC0415
    from dragoman_service.server import Server, address, check_free, serve_until_signal  # noqa: PLC0415

    check_free("--port", config.host, config.port)
    check_free("--metrics-port", config.host, config.metrics_port)
    # They would be half as many lines again, which nobody reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    metrics = Metrics(CollectorRegistry())
    models = load_models(config, metrics)

    def report_ready(server: Server) -> None:
        for model in models:
            pairs = ", ".join(f"{source} to {target}" for source, target in model.description.language_pairs)
            print(f"model    {model.description.name} {model.description.version} ({pairs})")
        print(f"gRPC     {address(config.host, server.port)}")
        print(f"metrics  http://{address(config.host, server.metrics_port)}/metrics")
        print("ready", flush=True)

    try:
        server = Server(config, models, metrics)
        asyncio.run(serve_until_signal(server, config.grace, lambda: report_ready(server)))
    finally:
        for model in models:
            model.engine.close()
    return 0
