"""A client in its own process, which can be stopped or disconnected. It prints `connected` and keeps its connection.

    python tests/support/caller.py ADDRESS idle
    python tests/support/caller.py ADDRESS stream

`idle` has made one call and makes no more. `stream` is within a long streaming call that it does not read.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.client.values import Options, stream_request

LONG_TEXT = " ".join(f"The cat number {number} reads a book." for number in range(2500))
SLOW = Options(beam_size=1, min_length=60, max_length=60)
"""Options for the long text that give megabytes of messages with any model."""
SMALL_WINDOW = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
"""Channel options that limit unread data to 1 KiB, so that the server soon has to wait before it can write."""


@contextmanager
def caller(address: str, what: str) -> Iterator[subprocess.Popen[str]]:
    """Run the client; yields its process once it is connected."""
    command = [sys.executable, __file__, address, what]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "connected\n"
            yield process
        finally:
            process.kill()


def main() -> None:
    """Run from the command line."""
    address, what = sys.argv[1:]
    with grpc.insecure_channel(address, SMALL_WINDOW) as channel:
        stub = translation_pb2_grpc.TranslationStub(channel)
        stub.ListModels(pb.ListModelsRequest())
        stream = stub.TranslateStream(stream_request(LONG_TEXT, "", SLOW)) if what == "stream" else None
        if stream is not None:
            next(stream)
        print("connected", flush=True)
        while True:
            time.sleep(1)


if __name__ == "__main__":
    main()
