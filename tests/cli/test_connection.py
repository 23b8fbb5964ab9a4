"""TLS and tokens of the commands: options, environment, and what a person sees of a mistake."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from dragoman_service.cli.main import main
from support.certificates import DAY, Authority
from support.echo_metadata import Seen, echo_metadata

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server() -> Iterator[Seen]:
    with echo_metadata() as seen:
        yield seen


def run(*arguments: str) -> int:
    """The exit status, however the command ends."""
    try:
        return main(arguments)
    except SystemExit as end:
        return int(end.code or 0)


def assert_one_message(capsys: Capture, *parts: str) -> None:
    """What a person sees of a mistake: words, not a traceback."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert all(part in captured.err for part in parts), captured.err


@pytest.fixture
def token_files(tmp_path: Path) -> tuple[str, str]:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"token-{name}\n")
    return str(tmp_path / "one"), str(tmp_path / "two")


def test_tokens_from_options_and_environment(
    server: Seen, token_files: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    one, two = token_files
    monkeypatch.setenv("DRAGOMAN_SERVER", server.address)
    assert run("models") == 0
    monkeypatch.setenv("DRAGOMAN_TOKEN", "value")
    assert run("models") == 0
    assert run("models", "--token-file", two) == 0
    assert run("models", "--token-file", "") == 0
    monkeypatch.setenv("DRAGOMAN_TOKEN_FILE", one)
    assert run("models") == 2
    assert_one_message(capsys, "DRAGOMAN_TOKEN and DRAGOMAN_TOKEN_FILE: got both; allowed: one of them")
    monkeypatch.delenv("DRAGOMAN_TOKEN")
    assert run("models") == 0
    assert run("translate", "a") == 0
    expected = [None, "Bearer value", "Bearer token-two", None, *["Bearer token-one"] * 3]
    assert server.values("authorization") == expected
    assert [method for method, _ in server.calls][-2:] == ["ListModels", "Translate"]


@pytest.mark.parametrize("action", [("status",), ("refresh",), ("load", "m"), ("unalias", "m@a")])
def test_options_stand_before_or_after_an_action(
    server: Seen, token_files: tuple[str, str], action: tuple[str, ...]
) -> None:
    one, two = token_files
    given = ("--admin", server.address)
    assert run("models", *action, *given, "--token-file", one) == 0
    assert run("models", "--token-file", two, *action, *given) == 0
    assert server.values("authorization") == ["Bearer token-one", "Bearer token-two"]


def test_a_token_to_another_machine_needs_tls_or_a_permission(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("DRAGOMAN_TOKEN", "secret")
    assert run("models", "--server", "translate.invalid:1") == 2
    assert_one_message(capsys, "connection without TLS to translate.invalid:1", "--tls", "--allow-insecure-token")
    assert run("models", "--server", "translate.invalid:1", "--allow-insecure-token") == 1
    assert_one_message(capsys, "no server at translate.invalid:1")


def test_tls_from_options_and_environment(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    with echo_metadata(grpc.ssl_server_credentials([authority.issue().pem])) as seen:
        ca = ("--tls-ca", str(authority.file))
        monkeypatch.setenv("DRAGOMAN_SERVER", seen.address)
        assert run("models", *ca) == 0
        assert run("models", "--tls", *ca) == 0
        monkeypatch.setenv("DRAGOMAN_TLS_CA", str(authority.file))
        assert run("models") == 0
        assert run("translate", "a") == 0
        assert run("models", "status", "--admin", seen.address) == 0
        capsys.readouterr()
        assert run("models", "--no-tls") == 1
        assert_one_message(capsys, "the server speaks TLS: add --tls, or --tls-ca FILE")
        assert run("models", "--no-tls", *ca) == 2
        assert_one_message(capsys, "--no-tls: allowed: without the other options of TLS")
        assert run("models", "--tls-ca", "") == 1
        assert_one_message(capsys, "the server speaks TLS: add --tls, or --tls-ca FILE")
        monkeypatch.setenv("DRAGOMAN_TLS", "0")
        assert run("models") == 1
        monkeypatch.setenv("DRAGOMAN_TLS", "yes")
        assert run("models") == 2
        assert "DRAGOMAN_TLS: got 'yes'; allowed: 0 or 1" in capsys.readouterr().err
        monkeypatch.delenv("DRAGOMAN_TLS_CA")
        monkeypatch.setenv("DRAGOMAN_TLS", "1")
        monkeypatch.delenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", raising=False)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        assert run("models") == 0
        capsys.readouterr()
        monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(Authority(tmp_path, "Other CA").file))
        assert run("models") == 1
        assert_one_message(capsys, "the certificate of the server is not accepted")


def test_bad_files_of_tls_are_named(authority: Authority, tmp_path: Path, capsys: Capture) -> None:
    pair = authority.issue()
    assert run("models", "--tls-ca", str(tmp_path / "nothing")) == 2
    assert_one_message(capsys, f"CA file {tmp_path}/nothing: cannot be read: No such file or directory")
    assert run("translate", "a", "--tls-cert", str(pair.cert)) == 2
    assert_one_message(capsys, "TLS: got a certificate without its key; allowed: both or neither")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize(
    "case", ["authority", "expired", "name", "no client certificate", "client certificate", "plain"]
)
def test_what_a_person_sees_when_tls_fails(
    authority: Authority, tmp_path: Path, capsys: Capture, case: str, host: str
) -> None:
    other = Authority(tmp_path, "Other CA")
    pair = {
        "expired": authority.issue(ends=-DAY / 24),
        "name": authority.issue(names=("DNS:translate.example",)),
    }.get(case, authority.issue())
    mutual = "client" in case
    credentials = grpc.ssl_server_credentials([pair.pem], authority.file.read_bytes() if mutual else None, mutual)
    mallory = other.issue("mallory")
    options = {
        "authority": ("--tls-ca", str(other.file)),
        "client certificate": ("--tls-ca", str(authority.file), *mallory.options),
    }.get(case, ("--tls-ca", str(authority.file)))
    message = {
        "authority": "the certificate of the server is not accepted: unable to get local issuer certificate",
        "expired": "the certificate of the server is not accepted: certificate has expired",
        "name": "the certificate of the server is not accepted: ",
        "no client certificate": "it may want a certificate (--tls-cert and --tls-key)",
        "client certificate": "the server does not accept --tls-cert: it has expired, or its authority is unknown",
        "plain": "the server speaks no TLS: leave out the options of TLS, or add --no-tls",
    }[case]
    with echo_metadata(None if case == "plain" else credentials) as seen:
        for command in (("translate", "a"), ("models",)):
            assert run(*command, "--server", f"{host}:{seen.port}", *options) == 1
            assert_one_message(capsys, f"dragoman: {host}:{seen.port}: ", message)
        assert run("models", *options, "status", "--admin", f"{host}:{seen.port}") == 1
        assert_one_message(capsys, f"dragoman: {host}:{seen.port}: ", message)
        assert seen.calls == []


@pytest.mark.parametrize("tls", [True, False])
def test_nobody_listens(authority: Authority, capsys: Capture, tls: bool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert run("models", "--server", address, *(("--tls-ca", str(authority.file)) if tls else ())) == 1
    assert_one_message(capsys, f"no server at {address} (", "Connection refused", "Start one with: dragoman serve")


@pytest.mark.parametrize("command", ["translate", "models", "evaluate", "distill", "back-translate"])
def test_help_names_the_variables(command: str, capsys: Capture) -> None:
    assert run(command, "--help") == 0
    text = capsys.readouterr().out
    names = ("TLS", "TLS_CA", "TLS_CERT", "TLS_KEY", "TOKEN", "TOKEN_FILE")
    assert all(f"DRAGOMAN_{name}" in text for name in names)
    assert "an option beats its environment variable" in text


def test_a_bad_server_in_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("DRAGOMAN_SERVER", "nowhere")
    assert run("models") == 2
    assert_one_message(capsys, "--server: got 'nowhere'; allowed: HOST:PORT")
    assert "DRAGOMAN_SERVER" in os.environ
