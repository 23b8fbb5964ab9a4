"""Whatever stands in the metadata `authorization`: only a token is let in, and no token is shown."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.bundle.bundle import Bundle
from faults.http2 import DATA, END_HEADERS, END_STREAM, HEADERS, HELLO, call_headers, frame, message, say
from support.server_process import ServerProcess, server_process
from support.tokens import add_token

TRANSLATE = "/dragoman.v1.Translation/Translate"
GOOD = message(pb.TranslateRequest(texts=["A cat."]).SerializeToString())
ROUNDS = 300


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens") / "tokens.json"


@pytest.fixture(scope="module")
def token(path: Path) -> str:
    return add_token(path, "shop")


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle, path: Path, token: str) -> Iterator[ServerProcess]:
    with server_process([tiny_bundle.path], "--tokens", str(path), "--log-level", "debug") as running:
        yield running


def heard(server: ServerProcess, *values: bytes, key: bytes = b"authorization") -> bytes:
    """What the server answers to a call with these entries."""
    headers = frame(HEADERS, END_HEADERS, 1, call_headers(TRANSLATE, *((key, value) for value in values)))
    return say(server.address, HELLO + headers + frame(DATA, END_STREAM, 1, GOOD), patience=5)


def test_a_caller_without_a_token_is_refused_before_its_message(server: ServerProcess, token: str) -> None:
    def begun(*more: tuple[bytes, bytes]) -> bytes:
        call = HELLO + frame(HEADERS, END_HEADERS, 1, call_headers(TRANSLATE, *more))
        return say(server.address, call, patience=2)

    assert b"grpc-status\x0216" in begun((b"authorization", b"Bearer x"))
    assert b"grpc-status" not in begun((b"authorization", f"Bearer {token}".encode()))


def is_answered(answer: bytes) -> bool:
    return b"grpc-status\x010" in answer


def test_a_token_is_let_in(server: ServerProcess, token: str) -> None:
    """Else the tests here would prove nothing."""
    assert is_answered(heard(server, f"Bearer {token}".encode()))


@pytest.mark.parametrize("value", ["none", "empty", "several", "huge", "odd", "binary key", "upper"])
def test_odd_entries(server: ServerProcess, token: str, value: str) -> None:
    good = f"Bearer {token}".encode()
    answer = {
        "none": lambda: heard(server),
        "empty": lambda: heard(server, b""),
        "several": lambda: heard(server, b"Bearer x", good),
        "huge": lambda: heard(server, good + b"a" * 4_000),
        "odd": lambda: heard(server, good + b"\xff\xfe"),
        "binary key": lambda: heard(server, good, key=b"authorization-bin"),
        "upper": lambda: heard(server, good, key=b"Authorization"),
    }[value]()
    assert not is_answered(answer)
    assert token.encode()[21:] not in answer


def test_random_entries(server: ServerProcess, token: str) -> None:
    rng = random.Random(7)
    good = f"Bearer {token}".encode()
    refused = 0
    for _ in range(ROUNDS):
        values = [mutated(rng, good) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        answer = heard(server, *values)
        assert is_answered(answer) <= (set(values) == {good})
        assert token.encode()[21:] not in answer
        refused += b"grpc-status" in answer
    print(f"{ROUNDS} calls with random entries, of which {refused} got a status")
    assert refused > ROUNDS / 2
    assert is_answered(heard(server, good))


def mutated(rng: random.Random, good: bytes) -> bytes:
    """The entry with some bytes changed, removed, repeated, or others in its place."""
    data = bytearray(good)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        change = rng.randrange(4)
        if change == 0:
            data[place : place + 1] = rng.randbytes(1)
        elif change == 1:
            data[place:place] = rng.randbytes(rng.randint(1, 20))
        elif change == 2:
            del data[place : place + rng.randint(1, 10)]
        else:
            data[place:place] = data[: rng.randint(0, 200)]
    return bytes(data)


def test_the_log_has_no_token(server: ServerProcess, token: str, path: Path) -> None:
    """The last test of this file: the log of all of the above, at its most talkative."""
    assert any("ended with UNAUTHENTICATED" in line for line in server.errors)
    text = "".join(server.errors) + server.page("/metrics")[1]
    assert token[21:] not in text
    assert token[:20] not in text
    assert path.read_text().split('"sha256": "')[1][:64] not in text
