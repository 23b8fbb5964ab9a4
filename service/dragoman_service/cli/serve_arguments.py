"""The arguments of `dragoman serve`, and their conversion to a ServiceConfig."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from dragoman_service.interfaces.names import INTERFACES
from dragoman_service.repository.call_caps import CallCaps
from dragoman_service.runtime.settings import ARENAS, ATTENTION_KERNELS, DEVICES, GpuOptions
from dragoman_service.server.document_settings import DocumentSettings
from dragoman_service.server.settings import ServiceConfig
from dragoman_service.translation.settings import RequestLimits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments; the defaults are those of ServiceConfig."""
    fallback = ServiceConfig.of(model_paths=(Path(),))
    parser.formatter_class = _HelpFormatter
    parser.add_argument(
        "models",
        nargs="*",
        type=Path,
        metavar="MODEL",
        help="folder of a model bundle; a request that names no model gets the first one for its languages",
    )
    _add_repository_arguments(parser.add_argument_group("model repository"), fallback)
    net = parser.add_argument_group("network")
    net.add_argument("--host", default=fallback.server.host, help="address to listen on; 0.0.0.0 is every address")
    net.add_argument("--port", type=int, default=fallback.server.port, help="port for gRPC; 0 takes a free one")
    net.add_argument(
        "--admin",
        default=fallback.server.admin,
        metavar="ADDRESS",
        help="address of the admin interface, HOST:PORT or unix:PATH; empty turns it off",
    )
    net.add_argument(
        "--client-header",
        default=fallback.server.client_header,
        metavar="KEY",
        help="metadata key that identifies the client of a call; set it only behind a proxy that you trust to set the "
        "key; empty: the certificate of the client does with --tls-client-ca, else its network address",
    )
    net.add_argument(
        "--metrics-port",
        type=int,
        default=fallback.server.metrics_port,
        help="port for Prometheus metrics; 0 takes a free one",
    )
    net.add_argument(
        "--metrics-host",
        default=fallback.server.metrics_host,
        metavar="HOST",
        help="address to listen on for metrics and health pages; empty: that of --host",
    )
    net.add_argument(
        "--interfaces",
        type=_names,
        default=fallback.server.interfaces,
        metavar="NAME,NAME,...",
        help=f"what is served too, of {', '.join(INTERFACES)}: interfaces of others, and the page for people at / of "
        "the HTTP port; empty: dragoman.v1 alone",
    )
    _add_http_arguments(parser.add_argument_group("HTTP"), fallback)
    _add_access_arguments(parser.add_argument_group("access"), fallback)
    _add_intake_arguments(parser.add_argument_group("limits on all callers together"), fallback)
    _add_tls_arguments(parser.add_argument_group("TLS"), fallback)
    _add_caps_arguments(parser.add_argument_group("limits on a call"), fallback.model.caps)
    _add_computing_arguments(parser.add_argument_group("computing"), fallback)
    _add_gpu_arguments(parser.add_argument_group("GPU"), fallback.model.gpu)
    _add_call_arguments(parser.add_argument_group("calls"), fallback)
    _add_stop_arguments(parser.add_argument_group("stopping"), fallback)
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="warning", help="what is logged"
    )


def config_of(args: argparse.Namespace) -> ServiceConfig:
    """The configuration that the arguments describe. Raises InvalidInput."""
    return ServiceConfig.of(
        model_paths=tuple(args.models),
        repository=args.repository,
        watch=args.watch,
        cache=args.cache,
        admin=args.admin,
        client_header=args.client_header,
        tokens=args.tokens,
        glossaries=args.glossaries,
        glossaries_writable=args.glossaries_writable,
        fronts=args.fronts,
        interfaces=args.interfaces,
        reflection=args.reflection,
        tls_cert=args.tls_cert,
        tls_key=args.tls_key,
        tls_client_ca=args.tls_client_ca,
        host=args.host,
        port=args.port,
        **_http_settings(args),
        metrics_port=args.metrics_port,
        metrics_host=args.metrics_host,
        max_connections=args.max_connections,
        max_connection_age=args.max_connection_age,
        max_connection_age_grace=args.max_connection_age_grace,
        max_calls=args.max_calls,
        max_message_mib=args.max_message_mib,
        message_memory_mib=args.message_memory_mib,
        call_memory_mib=args.call_memory_mib,
        max_beam_size=args.max_beam_size,
        max_hypotheses=args.max_hypotheses,
        max_length=args.max_length,
        max_call_work=args.max_call_work,
        default_deadline=args.default_deadline,
        max_deadline=args.max_deadline,
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
        max_client_rows=args.max_client_rows,
        max_queue=args.max_queue,
        max_queue_tokens=args.max_queue_tokens,
        default_beam_size=args.default_beam_size,
        grace=args.grace,
        lame_duck=args.lame_duck,
        step_timeout=args.step_timeout,
        write_timeout=args.write_timeout,
        stream_interval=args.stream_interval,
        limits=_request_limits(args),
    )


def _http_settings(args: argparse.Namespace) -> dict[str, Any]:
    names = ("http_port", "http_host", "http_origins", *(it.name for it in fields(DocumentSettings)))
    return {name: getattr(args, name) for name in names}


def _request_limits(args: argparse.Namespace) -> RequestLimits:
    return RequestLimits(
        max_texts=args.max_texts,
        max_characters=args.max_characters,
        max_sentences=args.max_sentences,
        window=args.window,
    )


def _add_http_arguments(http: argparse._ArgumentGroup, fallback: ServiceConfig) -> None:
    http.add_argument(
        "--http-port",
        type=int,
        default=fallback.server.http_port,
        metavar="PORT",
        help="port for HTTP; 0 takes a free one; without it, there is no HTTP",
    )
    http.add_argument(
        "--http-host",
        default=fallback.server.http_host,
        metavar="HOST",
        help="address to listen on for HTTP; empty: that of --host",
    )
    http.add_argument(
        "--http-origins",
        type=_names,
        default=fallback.server.http_origins,
        metavar="ORIGIN,ORIGIN,...",
        help="origins of websites whose pages may use the HTTP port, such as https://shop.example; * is every one; all "
        "may use LibreTranslate's routes",
    )
    documents = fallback.documents
    http.add_argument(
        "--document-folder",
        type=Path,
        metavar="FOLDER",
        default=documents.document_folder,
        help="folder of the documents that are being translated; default: a temporary one",
    )
    for name, kind, metavar, text in (
        ("document_ttl", float, "SECONDS", "time after which a translated document is removed"),
        ("document_timeout", float, "SECONDS", "time that the translation of a document may take, and wait"),
        ("max_document_mib", int, "MIB", "largest document, before and after its translation"),
        ("max_documents", int, "N", "documents that are kept, in all; one client can have half of them"),
    ):
        option = f"--{name.replace('_', '-')}"
        http.add_argument(option, type=kind, default=getattr(documents, name), metavar=metavar, help=text)


def _add_access_arguments(access: argparse._ArgumentGroup, fallback: ServiceConfig) -> None:
    access.add_argument(
        "--tokens",
        type=Path,
        default=fallback.server.tokens,
        metavar="FILE",
        help="file of `dragoman tokens`: only calls with one of its tokens are answered; a change needs no restart",
    )
    access.add_argument(
        "--reflection",
        action=argparse.BooleanOptionalAction,
        default=fallback.server.reflection,
        help="answer tools that ask for the server's interface",
    )


def _add_repository_arguments(repository: argparse._ArgumentGroup, fallback: ServiceConfig) -> None:
    repository.add_argument(
        "--repository",
        default=fallback.repository.repository,
        metavar="PATH|URL",
        help="folder of NAME/VERSION bundles, local or any URL that fsspec reads (s3://bucket/models needs s3fs)",
    )
    repository.add_argument(
        "--watch",
        type=float,
        default=fallback.repository.watch,
        help="seconds between two reads of the repository; 0: only at the start, and on request",
    )
    repository.add_argument(
        "--cache",
        type=Path,
        default=fallback.repository.cache,
        help="folder for copies of the bundles of a remote repository; . is ~/.cache/dragoman",
    )


def _add_intake_arguments(intake: argparse._ArgumentGroup, fallback: ServiceConfig) -> None:
    intake.add_argument(
        "--max-connections",
        type=int,
        default=fallback.server.max_connections,
        help="connections to each of the ports for gRPC and HTTP; further ones are closed",
    )
    intake.add_argument(
        "--max-connection-age",
        type=float,
        default=fallback.server.max_connection_age,
        metavar="SECONDS",
        help="age at which a connection is asked to close, so that load spreads over new servers; 0: never",
    )
    intake.add_argument(
        "--max-connection-age-grace",
        type=float,
        default=fallback.server.max_connection_age_grace,
        metavar="SECONDS",
        help="time that running calls of such a connection have to end",
    )
    intake.add_argument(
        "--max-calls",
        type=int,
        default=fallback.intake.max_calls,
        help="calls at a time; one client can have four fifths of them",
    )
    intake.add_argument(
        "--max-message-mib",
        type=int,
        default=fallback.intake.max_message_mib,
        metavar="MIB",
        help="size of a request, after decompression",
    )
    intake.add_argument(
        "--message-memory-mib",
        type=int,
        default=fallback.intake.message_memory_mib,
        metavar="MIB",
        help="memory for requests that are arriving; half of it is for slow ones",
    )
    intake.add_argument(
        "--call-memory-mib",
        type=int,
        default=fallback.intake.call_memory_mib,
        metavar="MIB",
        help="memory for the texts and translations of all calls, as the server estimates it",
    )


def _add_tls_arguments(tls: argparse._ArgumentGroup, fallback: ServiceConfig) -> None:
    tls.description = (
        "For gRPC, HTTP, and for --admin at HOST:PORT. The files are read again when they change. "
        "A unix: socket and the metrics port have no TLS."
    )
    tls.add_argument(
        "--tls-cert",
        default=fallback.server.tls_cert,
        metavar="FILE",
        help="certificate of the server in PEM, with those between it and its authority; empty: no TLS",
    )
    tls.add_argument("--tls-key", default=fallback.server.tls_key, metavar="FILE", help="its key in PEM")
    tls.add_argument(
        "--tls-client-ca",
        default=fallback.server.tls_client_ca,
        metavar="FILE",
        help="mutual TLS: authorities in PEM, one of which must have issued the certificate of every client",
    )


def _add_caps_arguments(caps: argparse._ArgumentGroup, fallback: CallCaps) -> None:
    for name, text in (
        ("max_beam_size", "beam size that a call may ask for"),
        ("max_hypotheses", "translations of a text that a call may ask for"),
        ("max_length", "target tokens of a sentence; 0: what the model allows"),
        ("max_call_work", "source tokens of a call times its beam size; 0: no limit"),
    ):
        caps.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(fallback, name), help=text)
    for name, text in (
        ("default_deadline", "time of a call without a deadline; 0: no limit"),
        ("max_deadline", "longest time of a call, also of one with a later deadline; 0: no limit"),
    ):
        option = f"--{name.replace('_', '-')}"
        caps.add_argument(option, type=float, default=getattr(fallback, name), metavar="SECONDS", help=text)


def _add_computing_arguments(work: argparse._ArgumentGroup, fallback: ServiceConfig) -> None:
    work.add_argument(
        "--device",
        choices=DEVICES,
        default=fallback.model.device,
        help="where the models run; auto is the GPU for fp16 bundles, where there is one",
    )
    work.add_argument(
        "--threads",
        type=int,
        default=fallback.model.engine.threads,
        help="threads for each model; 0 is one for each core",
    )
    work.add_argument(
        "--fronts",
        type=int,
        default=fallback.server.fronts,
        help="processes for calls and their texts, beside one for the models; 0 is one process for all",
    )
    work.add_argument(
        "--lanes",
        type=int,
        default=fallback.model.engine.lanes,
        help="batches of each model that run in parallel; 0 is one for each thread, up to 4",
    )
    work.add_argument(
        "--max-rows",
        type=int,
        default=fallback.model.engine.max_rows,
        help="rows decoded at once, in all lanes together; a sentence takes as many rows as its beam size",
    )
    work.add_argument(
        "--max-client-rows",
        type=int,
        default=fallback.model.engine.max_client_rows,
        help="rows of one client while others are served; 0 is a quarter of --max-rows on a CPU, all on a GPU",
    )


def _add_gpu_arguments(gpu: argparse._ArgumentGroup, fallback: GpuOptions) -> None:
    gpu.add_argument(
        "--gpu-memory",
        type=int,
        default=fallback.memory_limit,
        metavar="MIB",
        help="memory that ONNX Runtime may take for each graph of a model; 0 is no limit",
    )
    gpu.add_argument("--gpu-arena", choices=ARENAS, default=fallback.arena, help="how that memory grows")
    gpu.add_argument("--gpu-attention", choices=ATTENTION_KERNELS, default=fallback.attention, help="attention kernels")
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
        help="batch sizes, in rows, whose steps are captured; empty is 1, 2, 4, 8 and so on up to --max-rows",
    )
    gpu.add_argument(
        "--gpu-steps",
        type=int,
        default=fallback.steps,
        help="steps run before their results are read, when every request is greedy and none is streamed",
    )


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers of a comma-separated list. Raises ValueError, which argparse turns into a message."""
    return tuple(int(number) for number in text.split(",") if number.strip())


def _names(text: str) -> tuple[str, ...]:
    """The names of a comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


_numbers.__name__ = "list of numbers"  # argparse shows this name in its message


def _add_call_arguments(calls: argparse._ArgumentGroup, fallback: ServiceConfig) -> None:
    calls.add_argument(
        "--default-beam-size",
        type=int,
        default=fallback.model.default_beam_size,
        help="beam size of requests that do not choose one; 1 is the fastest (default: that of each model, or 4)",
    )
    calls.add_argument(
        "--max-queue",
        type=int,
        default=fallback.model.engine.max_queue,
        help="sentences waiting or running for each model; more are refused",
    )
    calls.add_argument(
        "--max-queue-tokens",
        type=int,
        default=fallback.model.engine.max_queue_tokens,
        help="source tokens waiting or running for each model; calls beyond them are refused",
    )
    calls.add_argument("--max-texts", type=int, default=fallback.limits.max_texts, help="texts in one call")
    calls.add_argument(
        "--max-characters", type=int, default=fallback.limits.max_characters, help="characters in one text"
    )
    calls.add_argument("--max-sentences", type=int, default=fallback.limits.max_sentences, help="sentences in one call")
    calls.add_argument(
        "--glossaries",
        type=Path,
        metavar="FOLDER",
        default=fallback.server.glossaries,
        help="folder of glossaries NAME.en-de.tsv that calls may name; a change of a file needs no restart",
    )
    calls.add_argument(
        "--glossaries-writable",
        action=argparse.BooleanOptionalAction,
        default=fallback.server.glossaries_writable,
        help="let calls make, change and delete glossaries in that folder; tokens need the scope glossaries for it",
    )
    calls.add_argument(
        "--window",
        type=int,
        default=fallback.limits.window,
        help="sentences of one call that are in the engine at once",
    )
    calls.add_argument(
        "--write-timeout",
        type=float,
        default=fallback.server.write_timeout,
        help="seconds that a stream waits for its reader before it is cancelled",
    )
    calls.add_argument(
        "--stream-interval",
        type=float,
        default=fallback.model.engine.stream_interval,
        help="least seconds between two pieces of a stream",
    )


def _add_stop_arguments(stop: argparse._ArgumentGroup, fallback: ServiceConfig) -> None:
    stop.add_argument(
        "--grace",
        type=float,
        default=fallback.server.grace,
        help="seconds that running calls have to end when the server stops",
    )
    stop.add_argument(
        "--lame-duck",
        type=float,
        default=fallback.server.lame_duck,
        help="seconds at a stop in which the server reports NOT_SERVING and still takes calls; --grace begins after it",
    )
    stop.add_argument(
        "--step-timeout",
        type=float,
        default=fallback.model.engine.step_timeout,
        help="seconds of one step after which the engine counts as hanging",
    )


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the paragraphs of the description and adds the default to the help of each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)
