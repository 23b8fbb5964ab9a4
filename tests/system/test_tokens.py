"""A real server with a file of tokens that changes while it runs, and stock clients."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.bundle.bundle import Bundle
from support.certificates import Authority
from support.ports import free_ports
from support.repositories import add_version
from support.server_process import START_SECONDS, ServerProcess, run_dragoman, server_process
from support.tokens import add_token, bearer, revoke_token
from support.waiting import wait_until

Stub = translation_pb2_grpc.TranslationStub
REQUEST = pb.TranslateRequest(texts=["A cat."], options=pb.DecodingOptions(beam_size=1, max_length=8))


def code_of(stub: Stub, token: str) -> str:
    """How a call ends."""
    try:
        stub.Translate(REQUEST, metadata=bearer(token), timeout=START_SECONDS)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


@dataclass
class Traffic:
    """Calls with one token, one after the other, and how they ended."""

    ends: Counter[str] = field(default_factory=Counter)


@contextmanager
def traffic(server: ServerProcess, token: str) -> Iterator[Traffic]:
    seen = Traffic()
    stop = threading.Event()

    def call() -> None:
        with grpc.insecure_channel(server.address) as channel:
            while not stop.is_set():
                seen.ends[code_of(Stub(channel), token)] += 1

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_as_an_operator_types_it(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    created = run_dragoman("tokens", "create", "shop", "--requests-per-minute", "2", "--file", path)
    assert created.returncode == 0, created.stderr
    token = created.stdout.strip()
    with server_process([bundle], "--tokens", str(path)) as server, grpc.insecure_channel(server.address) as channel:
        stub = Stub(channel)
        assert [code_of(stub, it) for it in (token, token, token)] == ["OK", "OK", "RESOURCE_EXHAUSTED"]
        assert code_of(stub, "wrong") == "UNAUTHENTICATED"
        assert run_dragoman("tokens", "revoke", "shop", "--file", path).returncode == 0
        wait_until(lambda: code_of(stub, token) == "UNAUTHENTICATED")
        assert not server.errors


def test_tokens_come_and_go_under_load(bundle: Path, tmp_path: Path) -> None:
    """Tokens that stay are never refused; those that go are soon refused; a damaged file changes nothing."""
    path = tmp_path / "tokens.json"
    steady = add_token(path, "steady")
    with server_process([bundle], "--tokens", str(path)) as server, grpc.insecure_channel(server.address) as channel:
        stub = Stub(channel)
        waits: list[float] = []
        with traffic(server, steady) as seen:
            for round_number in range(8):
                other = add_token(path, f"other-{round_number}")
                wait_until(lambda other=other: code_of(stub, other) == "OK")  # type: ignore[misc]
                good = path.read_bytes()
                path.write_bytes(good[: len(good) // 2])
                server.wait_for_metrics(lambda metrics: metrics["dragoman_token_file_damaged"] == 1)
                assert code_of(stub, other) == "OK"
                path.write_bytes(good)
                server.wait_for_metrics(lambda metrics: metrics["dragoman_token_file_damaged"] == 0)
                revoke_token(path, f"other-{round_number}")
                began = time.monotonic()
                wait_until(lambda other=other: code_of(stub, other) == "UNAUTHENTICATED")  # type: ignore[misc]
                waits.append(time.monotonic() - began)
        print(f"8 tokens made and revoked: {dict(seen.ends)}; refused {max(waits):.2f} s after that at the latest")
        assert set(seen.ends) == {"OK"}
        assert max(waits) < 30
        said = ["the tokens stay as they were" in line for line in server.errors if "[front" not in line]
        assert sum(said) == 8
        page = server.page("/metrics")[1]
        assert page.count("dragoman_token_requests_total{") == 1
        text = page + "".join(server.errors)
        assert steady[21:] not in text
        assert path.read_text().split('"sha256": "')[1][:64] not in text


def test_a_mounted_secret_is_followed(bundle: Path, tmp_path: Path) -> None:
    """As the kubelet updates a secret: a new folder, and a link that is replaced."""
    tokens = []
    for version in range(3):
        (tmp_path / f"..{version}").mkdir()
        tokens.append(add_token(tmp_path / f"..{version}" / "tokens.json", f"v{version}"))
    (tmp_path / "..data").symlink_to("..0")
    (tmp_path / "tokens.json").symlink_to("..data/tokens.json")
    options = ("--tokens", str(tmp_path / "tokens.json"))
    with server_process([bundle], *options) as server, grpc.insecure_channel(server.address) as channel:
        stub = Stub(channel)
        for version, token in enumerate(tokens):
            (tmp_path / "..new").symlink_to(f"..{version}")
            os.replace(tmp_path / "..new", tmp_path / "..data")
            wait_until(lambda token=token: code_of(stub, token) == "OK")  # type: ignore[misc]
            assert [code_of(stub, it) == "OK" for it in tokens] == [it == token for it in tokens]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_plain_text_is_warned_of(bundle: Path, tmp_path: Path, host: str) -> None:
    add_token(tmp_path / "tokens.json", "shop")
    options = ("--tokens", str(tmp_path / "tokens.json"), "--host", host)
    with server_process([bundle], *options) as server:
        server.page("/metrics")
    warnings = [line for line in server.errors if "tokens are sent without encryption" in line]
    assert len(warnings) == (host == "0.0.0.0")


def test_a_token_that_is_revoked_while_the_server_stops(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token, other = add_token(path, "shop"), add_token(path, "other")
    options = ("--tokens", str(path), "--lame-duck", "600")
    with server_process([bundle], *options) as server, grpc.insecure_channel(server.address) as channel:
        server.process.terminate()
        wait_until(lambda: server.page("/ready")[0] == 503)
        revoke_token(path, "shop")
        wait_until(lambda: code_of(Stub(channel), token) == "UNAUTHENTICATED")
        assert code_of(Stub(channel), other) == "OK"


def test_our_clients_with_tls_and_tokens(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """As an operator types it: translations and the admin interface on TCP, with a file of the token."""
    add_version(tmp_path / "models", tiny_bundle.path, "tiny", "1")
    authority, path = Authority(tmp_path), tmp_path / "tokens.json"
    for name, scope in (("shop", "translate"), ("boss", "admin")):
        (tmp_path / name).write_text(add_token(path, name, scopes=(scope,)) + "\n")
    admin = f"localhost:{free_ports(1)[0]}"
    options = ("--repository", str(tmp_path / "models"), "--admin", admin, "--tokens", str(path))
    with server_process([], "--host", "0.0.0.0", *options, *authority.issue().options) as server:
        address = f"localhost:{server.address.rpartition(':')[2]}"
        tls = ("--tls-ca", authority.file)

        def outcome(*command: str | Path) -> str:
            done = run_dragoman(*command, *tls)
            return done.stdout + done.stderr

        translate = ("translate", "--server", address, "A cat.", "--token-file")
        status = ("models", "status", "--admin", admin, "--token-file")
        assert run_dragoman(*translate, tmp_path / "shop", *tls).returncode == 0
        assert outcome(*status, tmp_path / "boss") == "tiny 1 serving (default)\n"
        assert "token boss has no scope translate" in outcome(*translate, tmp_path / "boss")
        assert "token shop has no scope admin" in outcome(*status, tmp_path / "shop")
        assert "no token; allowed: metadata" in outcome(*translate[:-1])
        assert "no token; allowed: metadata" in outcome(*status[:-1])
        assert not [line for line in server.errors if "encryption" in line]
