"""TLS, tokens and metadata of the Python clients."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from dragoman_service.client import AsyncTranslationClient, Tls, Token, TranslationClient
from dragoman_service.client.admin import AdminClient
from dragoman_service.client.connection import ConnectionSettingsError, is_local
from dragoman_service.client.errors import ServerUnavailable
from support.certificates import Authority, Pair
from support.echo_metadata import Seen, echo_metadata

REMOTE = "translate.example:443"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server() -> Iterator[Seen]:
    with echo_metadata() as seen:
        yield seen


@pytest.fixture
def secure(authority: Authority) -> Iterator[Seen]:
    with echo_metadata(grpc.ssl_server_credentials([authority.issue().pem])) as seen:
        yield seen


def call_all(address: str, **settings: Any) -> int:
    """Make a call of every method of every client; returns how many."""
    with TranslationClient(address, **settings) as client:
        client.translate(["a"])
        list(client.translate_stream("a"))
        client.list_models()

    async def asynchronous() -> None:
        async with AsyncTranslationClient(address, **settings) as other:
            await other.translate(["a"])
            async for _ in other.translate_stream("a"):
                pass
            await other.list_models()

    asyncio.run(asynchronous())
    with AdminClient(address, **settings) as admin:
        admin.versions()
        admin.refresh()
        admin.load("m")
        admin.unload("m")
        admin.set_alias("m", "a", "1")
        admin.delete_alias("m", "a")
    return 12


def test_every_call_carries_token_and_metadata(server: Seen) -> None:
    count = call_all(server.address, token="secret", metadata=[("x-tenant", "one"), ("x-more", "a b")])
    assert len({method for method, _ in server.calls}) == 9
    assert server.values("authorization") == ["Bearer secret"] * count
    assert server.values("x-tenant") == ["one"] * count
    assert server.values("x-more") == ["a b"] * count


def test_without_them_nothing_is_sent(server: Seen) -> None:
    count = call_all(server.address)
    assert server.values("authorization") == [None] * count


def test_every_client_speaks_tls(secure: Seen, authority: Authority) -> None:
    count = call_all(secure.address, tls=Tls(ca=authority.file), token="secret")
    assert secure.values("authorization") == ["Bearer secret"] * count


VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")


@pytest.mark.parametrize("variable", VARIABLES)
def test_authorities_of_the_system(
    secure: Seen, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    folder, other = tmp_path / "certs", Authority(tmp_path, "Other CA")
    folder.mkdir()
    (folder / "0123abcd.0").write_bytes(authority.file.read_bytes())
    monkeypatch.delenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "no"))
    monkeypatch.setenv(variable, str(folder if variable == "SSL_CERT_DIR" else authority.file))
    with TranslationClient(secure.address, tls=True) as client:
        assert client.list_models() == []
    monkeypatch.delenv(variable)
    monkeypatch.setenv("SSL_CERT_FILE", str(other.file))
    with (
        TranslationClient(secure.address, tls=True) as client,
        pytest.raises(ServerUnavailable, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.list_models()


def test_the_name_in_the_certificate_is_checked(authority: Authority) -> None:
    pair = authority.issue(names=("DNS:translate.example",))
    with echo_metadata(grpc.ssl_server_credentials([pair.pem])) as seen:
        with TranslationClient(seen.address, tls=Tls(ca=authority.file)) as client, pytest.raises(ServerUnavailable):
            client.list_models()
        tls = Tls(ca=authority.file, server_name="translate.example")
        with TranslationClient(seen.address, tls=tls) as client:
            assert client.list_models() == []


def test_a_token_file_is_read_for_every_call(server: Seen, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    with TranslationClient(server.address, token=Token(file=file)) as client:
        client.list_models()
        file.write_text("other\n")
        client.list_models()
        file.unlink()
        client.list_models()
        client.list_models()
        file.write_text("last")
        client.list_models()
    assert server.values("authorization") == [f"Bearer {it}" for it in ("first", "other", "other", "other", "last")]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"token file {file}: cannot be read" in caplog.text


def test_a_token_stays_on_this_machine_without_tls(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret")
    settings: list[dict[str, Any]] = [
        {"token": "secret"},
        {"token": Token(file=file)},
        {"metadata": [("authorization", "Bearer secret")]},
    ]
    for each in settings:
        for kind in (TranslationClient, AdminClient):
            with pytest.raises(ConnectionSettingsError, match=f"connection without TLS to {REMOTE}") as caught:
                kind(REMOTE, **each)
            assert "secret" not in str(caught.value)
    TranslationClient(REMOTE, token=Token("secret", allow_insecure=True)).close()
    TranslationClient(REMOTE, token="secret", tls=True).close()
    TranslationClient(REMOTE, metadata=[("x-tenant", "one")]).close()


def test_a_token_for_this_machine_does_not_go_to_a_proxy(server: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    with echo_metadata() as proxy:
        for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        for name in ("grpc_proxy", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://{proxy.address}")
        with TranslationClient(f"localhost:{server.port}", token="secret") as client:
            client.list_models(deadline=10)
    assert server.values("authorization") == ["Bearer secret"]


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("localhost:1", True),
        ("127.0.0.1:1", True),
        ("127.8.8.8:1", True),
        ("[::1]:1", True),
        ("dns:///localhost:1", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:2", True),
        ("unix:/run/admin", True),
        ("0.0.0.0:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example:1", False),
        ("ipv4:127.0.0.1:1,10.0.0.1:2", False),
        ("dns://10.0.0.1/localhost:1", False),
        ("xds:///localhost:1", False),
        ("localhost", False),
    ],
)
def test_addresses_of_this_machine(address: str, local: bool) -> None:
    assert is_local(address) is local


def settings_with_faults(pair: Pair, other: Pair, tmp_path: Path) -> list[tuple[dict[str, Any], str]]:
    (tmp_path / "empty").touch()
    nothing = tmp_path / "nothing"
    return [
        ({"tls": Tls(ca=nothing)}, "CA file .*nothing: cannot be read: No such file or directory"),
        ({"tls": Tls(ca=pair.key)}, "CA file .*key: got no certificate in PEM format"),
        ({"tls": Tls(key=pair.key)}, "got a key without its certificate; allowed: both or neither"),
        ({"tls": Tls(cert=pair.cert)}, "got a certificate without its key; allowed: both"),
        ({"tls": Tls(cert=pair.cert, key=other.key)}, "they do not belong together"),
        ({"tls": Tls(cert=pair.cert, key=pair.cert)}, "certificate .*crt and key .*crt: "),
        ({"token": Token(file=nothing)}, "token file .*nothing: cannot be read: No such file"),
        ({"token": Token(file=tmp_path / "empty")}, "token file .*empty: got nothing"),
        ({"token": Token("a", file=nothing)}, "got a token and a file of one; allowed: one of them"),
        ({"token": "a\nb"}, "token: got other characters; allowed: printable ASCII without spaces"),
        ({"token": "tökén"}, "token: got other characters"),
        ({"metadata": [("X-Tenant", "a")]}, "metadata: got the key 'X-Tenant'; allowed: lower-case"),
        ({"metadata": [("x-bin", "a")]}, "metadata: got the key 'x-bin'"),
        ({"metadata": [("x", "a\n")]}, "metadata: got the value of 'x'; allowed: printable ASCII"),
        ({"metadata": [("authorization", "a")], "token": "b"}, "got 'authorization' beside a token"),
    ]


def test_faults_are_named(authority: Authority, tmp_path: Path) -> None:
    for settings, message in settings_with_faults(authority.issue(), authority.issue(), tmp_path):
        for kind in (TranslationClient, AdminClient):
            with pytest.raises(ValueError, match=message):
                kind("localhost:1", **settings)


def test_a_unix_socket_has_no_tls() -> None:
    with pytest.raises(ConnectionSettingsError, match="TLS: got the address unix:/run/admin; allowed: HOST:PORT"):
        AdminClient("unix:/run/admin", tls=True)


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(Token("secret"))
