"""Throughput of the interfaces of a server, beside that of `dragoman.v1` over gRPC.

    python bench/interfaces.py --data DATA

The same server answers all of them. 32 clients, threads of one process with a connection each, translate the same
sentences, one a call, with the default search. The interfaces take turns. Calls over HTTP keep their connections.
The time of the clients counts too, as both cores are theirs and the server's.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import grpc

from bench.measure.common import interleaved, print_header, print_table, progress, ratio
from bench.measure.servers import dragoman_command, server_process
from bench.peers.artifacts import find_artifacts
from bench.peers.sentences import add_sentence_options, sentences_for
from dragoman_protos.google import translation_v3_pb2 as google
from dragoman_protos.google import translation_v3_pb2_grpc
from dragoman_protos.riva import nmt_pb2 as riva
from dragoman_protos.riva import nmt_pb2_grpc
from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc

CLIENTS = 32
_ALONE = (("grpc.use_local_subchannel_pool", 1),)

Translate = Callable[[str], object]
Connect = Callable[[], Translate]


def own(address: str) -> Translate:
    """A client of dragoman.v1 over gRPC."""
    stub = translation_pb2_grpc.TranslationStub(grpc.insecure_channel(address, _ALONE))
    return lambda text: stub.Translate(pb.TranslateRequest(texts=[text]))


def google_v3(address: str) -> Translate:
    """A client of Google's gRPC interface."""
    stub = translation_v3_pb2_grpc.TranslationServiceStub(grpc.insecure_channel(address, _ALONE))
    fields = {
        "parent": "projects/p",
        "mime_type": "text/plain",
        "source_language_code": "en",
        "target_language_code": "de",
    }
    return lambda text: stub.TranslateText(google.TranslateTextRequest(contents=[text], **fields))


def riva_nmt(address: str) -> Translate:
    """A client of Riva."""
    stub = nmt_pb2_grpc.RivaTranslationStub(grpc.insecure_channel(address, _ALONE))
    fields = {"source_language": "en", "target_language": "de"}
    return lambda text: stub.TranslateText(riva.TranslateTextRequest(texts=[text], **fields))


def over_http(address: str, path: str, body: Callable[[str], Any]) -> Translate:
    """A client over HTTP, which sends JSON."""
    connection = http.client.HTTPConnection(address)

    def translate(text: str) -> None:
        connection.request("POST", path, json.dumps(body(text)), {"content-type": "application/json"})
        reply = connection.getresponse()
        content = json.loads(reply.read())
        if reply.status != 200:
            raise SystemExit(f"{path}: {content}")

    return translate


def interfaces(address: str, http_address: str) -> dict[str, Connect]:
    """The interfaces, and how a client of each is made."""
    pair = {"source": "en", "target": "de"}
    bodies: dict[str, tuple[str, Callable[[str], Any]]] = {
        "dragoman.v1 as JSON": ("/v1/translate", lambda text: {"texts": [text]}),
        "LibreTranslate": ("/translate", lambda text: {"q": text, **pair}),
        "Google v2": ("/language/translate/v2", lambda text: {"q": text, "format": "text", **pair}),
        "Google v3, REST": (
            "/v3/projects/p:translateText",
            lambda text: {
                "contents": [text],
                "mimeType": "text/plain",
                "sourceLanguageCode": "en",
                "targetLanguageCode": "de",
            },
        ),
        "DeepL": ("/v2/translate", lambda text: {"text": [text], "source_lang": "EN", "target_lang": "DE"}),
    }
    found: dict[str, Connect] = {
        "dragoman.v1": lambda: own(address),
        "Google v3": lambda: google_v3(address),
        "Riva": lambda: riva_nmt(address),
    }
    for name, (path, body) in bodies.items():
        found[name] = lambda path=path, body=body: over_http(http_address, path, body)  # type: ignore[misc]
    return found


def run(clients: Sequence[Translate], sentences: Sequence[str]) -> None:
    """Translate all sentences, each client the next one."""
    todo: queue.SimpleQueue[str] = queue.SimpleQueue()
    for sentence in sentences:
        todo.put(sentence)

    def work(translate: Translate) -> None:
        while True:
            try:
                text = todo.get_nowait()
            except queue.Empty:
                return
            translate(text)

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def argument_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sentence_options(parser, 512)
    parser.add_argument("--model", default="bundled", help="see models.py (default: bundled)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of timing (default: 5)")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "dragoman-bench")
    return parser


def main() -> None:
    """Measure, and print the table."""
    args = argument_parser().parse_args()
    artifacts = find_artifacts(args.model, "int8", args.cache)
    sentences = sentences_for(args, artifacts)
    print_header("Interfaces", {"sentences": len(sentences), "clients": CLIENTS, "rounds": args.rounds})
    http_port = str(20_000 + os.getpid() % 20_000)
    with server_process(dragoman_command(artifacts.bundle, "--http-port", http_port)) as server:
        clients = {
            name: [connect() for _ in range(CLIENTS)]
            for name, connect in interfaces(server.address, f"127.0.0.1:{http_port}").items()
        }
        progress(f"{', '.join(clients)}")
        timings = interleaved(
            {name: lambda made=made: run(made, sentences) for name, made in clients.items()},  # type: ignore[misc]
            args.rounds,
        )
    first = timings["dragoman.v1"]
    rows = [
        [name, f"{len(sentences) / timing.median:,.0f}", f"{1 / ratio(timing, first):.3f}"]
        for name, timing in timings.items()
    ]
    print_table(["interface", "sentences/s", "of dragoman.v1"], rows)


if __name__ == "__main__":
    main()
