"""TLS and mutual TLS of a real server process, with stock gRPC clients and the command line."""

from __future__ import annotations

import datetime
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.client.admin import AdminClient
from dragoman_service.client.client import TranslationClient
from dragoman_service.client.connection import Tls
from support.certificates import DAY, Authority, Mounted, Pair, serial_at
from support.ports import free_ports
from support.repositories import add_version
from support.server_process import START_SECONDS, ServerProcess, run_dragoman, server_process
from support.traffic import ALONE, traffic, translations
from support.waiting import wait_until


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that neither side trusts."""
    return Authority(tmp_path_factory.mktemp("other"), "Other CA")


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle, authority: Authority) -> Iterator[ServerProcess]:
    with server_process([tiny_bundle.path], *authority.issue().options) as running:
        yield running


@pytest.fixture(scope="module")
def mutual(tiny_bundle: Bundle, authority: Authority) -> Iterator[ServerProcess]:
    options = (*authority.issue().options, "--tls-client-ca", str(authority.file))
    with server_process([tiny_bundle.path], *options) as running:
        yield running


def credentials(authority: Authority, pair: Pair | None = None) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(authority.file.read_bytes(), *(pair.pem if pair else (None, None)))


@contextmanager
def channel_to(address: str, made: grpc.ChannelCredentials | None) -> Iterator[grpc.Channel]:
    """A channel with a connection of its own."""
    options = [*ALONE, ("grpc.enable_http_proxy", 0)]
    channel = grpc.secure_channel(address, made, options) if made else grpc.insecure_channel(address, options)
    with channel:
        yield channel


def names(address: str, made: grpc.ChannelCredentials | None) -> list[str]:
    """The names of the models, asked for on a new connection."""
    with channel_to(address, made) as channel:
        stub = translation_pb2_grpc.TranslationStub(channel)
        return [model.name for model in stub.ListModels(pb.ListModelsRequest(), timeout=START_SECONDS).models]


def refusal(address: str, made: grpc.ChannelCredentials | None) -> str:
    """The details with which a new connection fails."""
    with pytest.raises(grpc.RpcError) as caught:
        names(address, made)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return str(caught.value.details())


def test_calls_streams_and_health_over_tls(server: ServerProcess, authority: Authority) -> None:
    expected = translations(server.address, 4, Tls(ca=authority.file))
    with traffic(server.address, expected, clients=2, credentials=credentials(authority)) as seen:
        seen.wait_for(2)
    assert not seen.problems
    with channel_to(server.address, credentials(authority)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=START_SECONDS)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert any(line.startswith("gRPC") and line.endswith(" (TLS)") for line in server.lines)


def test_plaintext_and_an_unknown_authority_are_refused(
    server: ServerProcess, authority: Authority, other: Authority
) -> None:
    refusal(server.address, None)
    assert "CERTIFICATE_VERIFY_FAILED" in refusal(server.address, credentials(other))
    assert names(server.address, credentials(authority)) == ["tiny"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize(("version", "accepted"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
def test_tls_is_1_2_or_newer(server: ServerProcess, authority: Authority, version: str, accepted: bool) -> None:
    context = ssl.create_default_context(cafile=str(authority.file))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else this side would refuse the old version
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.set_alpn_protocols(["h2"])
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        if accepted:
            assert context.wrap_socket(connection, server_hostname=host).version() == version.replace("_", ".")
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(connection, server_hostname=host)


def test_pages_have_no_tls(server: ServerProcess, authority: Authority) -> None:
    assert server.page("/ready") == (200, "ready\n")
    assert server.metrics_url.startswith("http://")


def test_mutual_tls(mutual: ServerProcess, authority: Authority, other: Authority) -> None:
    alice = authority.issue("alice", names=("DNS:alice",))
    assert names(mutual.address, credentials(authority, alice)) == ["tiny"]
    refusal(mutual.address, credentials(authority))
    refusal(mutual.address, credentials(authority, other.issue("mallory", names=())))
    refusal(mutual.address, credentials(authority, authority.issue("late", ends=-DAY / 24)))
    refusal(mutual.address, None)
    assert any(line.endswith(" (mutual TLS)") for line in mutual.lines)


def test_certificates_are_replaced_under_load(tiny_bundle: Bundle, authority: Authority, tmp_path: Path) -> None:
    """Pairs are exchanged as Kubernetes does, while calls run on old connections and on new ones."""
    first = authority.issue()
    mounted = Mounted(tmp_path / "tls", first)
    serials, problems, stop = {first.serial}, [], threading.Event()

    def reconnect(address: str) -> None:
        while not stop.wait(0.01):
            try:
                serials.add(serial_at(address, authority))
                assert names(address, credentials(authority)) == ["tiny"]
            except Exception as error:
                problems.append(repr(error))

    with server_process([tiny_bundle.path], *mounted.pair.options, "--log-level", "info") as server:
        expected = translations(server.address, 10, Tls(ca=authority.file))
        thread = threading.Thread(target=reconnect, args=(server.address,))
        thread.start()
        try:
            with traffic(server.address, expected, clients=4, credentials=credentials(authority)) as seen:
                pairs = [authority.issue() for _ in range(5)]
                for pair in pairs:
                    mounted.replace(pair)
                    wait_until(lambda pair=pair: serial_at(server.address, authority) == pair.serial)  # type: ignore[misc]
                    seen.wait_for(3)
                assert server.metrics()["dragoman_tls_certificate_expiry_timestamp_seconds"] == int(pairs[-1].ends)
        finally:
            stop.set()
            thread.join(START_SECONDS)
        print(f"{len(pairs)} certificates replaced, {seen}")
    assert not problems
    assert not seen.problems
    assert serials == {first.serial, *(pair.serial for pair in pairs)}
    assert not [line for line in server.errors if "WARNING" in line]


def test_a_bad_pair_is_kept_out(tiny_bundle: Bundle, authority: Authority, tmp_path: Path) -> None:
    """The files are replaced one after the other, and each state of them but the last is wrong."""
    first, second = authority.issue(), authority.issue()
    late = authority.issue(ends=-DAY / 24)
    cert, key = tmp_path / "own.crt", tmp_path / "own.key"

    def write(certificate: Pair, private: Pair) -> None:
        shutil.copy(certificate.cert, cert)
        shutil.copy(private.key, key)

    def warnings() -> list[str]:
        return [line for line in server.errors if "WARNING" in line]

    write(first, first)
    options = ("--tls-cert", str(cert), "--tls-key", str(key))
    with server_process([tiny_bundle.path], *options) as server:
        write(second, first)
        wait_until(lambda: len(warnings()) == 1, lambda: server.errors)
        assert "--tls-key" in warnings()[0]
        assert f"{key}: the key does not belong to the certificate in --tls-cert {cert}" in warnings()[0]
        write(late, late)
        wait_until(lambda: len(warnings()) == 2, lambda: server.errors)
        assert f"{cert}: the certificate expired on " in warnings()[1]
        key.unlink()
        wait_until(lambda: len(warnings()) == 3, lambda: server.errors)
        assert f"{key}: cannot be read: No such file or directory" in warnings()[2]
        assert serial_at(server.address, authority) == first.serial
        assert names(server.address, credentials(authority)) == ["tiny"]
        assert server.metrics()["dragoman_tls_certificate_expiry_timestamp_seconds"] == int(first.ends)
        write(second, second)
        wait_until(lambda: serial_at(server.address, authority) == second.serial)
        assert len(warnings()) == 3, "a warning was repeated"


def test_authorities_of_clients_are_replaced(
    tiny_bundle: Bundle, authority: Authority, other: Authority, tmp_path: Path
) -> None:
    accepted = tmp_path / "clients.pem"
    shutil.copy(authority.file, accepted)
    old, new = authority.issue("old"), other.issue("new")
    options = (*authority.issue().options, "--tls-client-ca", str(accepted))
    with server_process([tiny_bundle.path], *options) as server:
        assert names(server.address, credentials(authority, old)) == ["tiny"]
        refusal(server.address, credentials(authority, new))
        shutil.copy(other.file, accepted)

        def taken() -> bool:
            try:
                return names(server.address, credentials(authority, new)) == ["tiny"]
            except grpc.RpcError:
                return False

        wait_until(taken)
        refusal(server.address, credentials(authority, old))


def test_the_admin_interface(tiny_bundle: Bundle, authority: Authority, tmp_path: Path) -> None:
    add_version(tmp_path / "models", tiny_bundle.path, "tiny", "1")
    (port,) = free_ports(1)
    address, operator = f"localhost:{port}", authority.issue("operator", names=())
    options = ("--repository", str(tmp_path / "models"), "--admin", f"127.0.0.1:{port}", *authority.issue().options)
    with server_process([], *options, "--tls-client-ca", str(authority.file)) as server:
        tls = Tls(ca=authority.file, cert=operator.cert, key=operator.key)
        with AdminClient(address, deadline=START_SECONDS, tls=tls) as client:
            assert [version.state for version in client.versions()] == ["serving"]
        command = ("models", "status", "--admin", address)
        given = ("--tls-ca", authority.file, *operator.options)
        assert run_dragoman(*command, *given).stdout == "tiny 1 serving (default)\n"
        assert run_dragoman("models", *given, *command[1:]).stdout == "tiny 1 serving (default)\n"
        assert "it may want a certificate" in run_dragoman(*command, "--tls-ca", authority.file).stderr
        assert "the server speaks TLS: add --tls" in run_dragoman(*command).stderr
        assert f"admin    127.0.0.1:{port} (mutual TLS)" in server.lines


def test_a_unix_socket_has_no_tls(
    tiny_bundle: Bundle, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_version(tmp_path / "models", tiny_bundle.path, "tiny", "1")
    admin = f"unix:{tmp_path}/admin"
    options = ("--repository", str(tmp_path / "models"), "--admin", admin, *authority.issue().options)
    with server_process([], *options) as server:
        monkeypatch.setenv("DRAGOMAN_TLS_CA", str(authority.file))  # for the callers of the public port
        assert run_dragoman("models", "status", "--admin", admin).stdout == "tiny 1 serving (default)\n"
        done = run_dragoman("models", "status", "--admin", admin, "--tls")
        assert (done.returncode, done.stdout) == (2, "")
        assert f"TLS: got the address {admin}; allowed: HOST:PORT" in done.stderr
        assert f"admin    {admin}" in server.lines


def test_commands_take_tls_from_the_environment(
    mutual: ServerProcess, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alice = authority.issue("alice")
    port = mutual.address.rpartition(":")[2]
    values = {"SERVER": f"localhost:{port}", "TLS_CA": authority.file, "TLS_CERT": alice.cert, "TLS_KEY": alice.key}
    for name, value in values.items():
        monkeypatch.setenv(f"DRAGOMAN_{name}", str(value))
    (tmp_path / "token").write_text("secret\n")
    monkeypatch.setenv("DRAGOMAN_TOKEN_FILE", str(tmp_path / "token"))
    done = run_dragoman("translate", "--max-length", "5", "The cat.")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert run_dragoman("models").stdout.startswith("tiny 1 ")
    wrong = run_dragoman("models", "--tls-ca", alice.cert)
    assert (wrong.returncode, wrong.stdout) == (1, ""), "the option beats the variable"
    assert "the certificate of the server is not accepted" in wrong.stderr


@pytest.mark.parametrize(
    ("case", "parts"),
    [
        ("missing", ("--tls-cert: ", "/nothing.crt: cannot be read: No such file or directory")),
        ("no certificate", ("--tls-cert: ", ".key: is no certificate in PEM format")),
        ("no key", ("--tls-key: ", ".crt: is no private key in PEM format")),
        ("mismatched", ("--tls-key: ", ".key: the key does not belong to the certificate in --tls-cert ")),
        ("expired", ("--tls-cert: ", ".crt: the certificate expired on ", " UTC")),
        ("too early", ("--tls-cert: ", ".crt: the certificate is not valid before ", " UTC")),
        ("no key at all", ("tls_key: got ''; allowed: a file if tls_cert is one",)),
        ("authority alone", ("tls_client_ca: got ", "allowed: nothing without tls_cert and tls_key")),
        ("no authority", ("--tls-client-ca: ", ".key: is no certificate in PEM format")),
    ],
)
def test_what_a_server_does_not_start_with(
    tiny_bundle: Bundle, authority: Authority, case: str, parts: tuple[str, ...]
) -> None:
    good, another = authority.issue(), authority.issue()
    expired, early = authority.issue(ends=-DAY / 24), authority.issue(starts=DAY)
    options: dict[str, tuple[object, ...]] = {
        "missing": ("--tls-cert", good.cert.parent / "nothing.crt", "--tls-key", good.key),
        "no certificate": ("--tls-cert", good.key, "--tls-key", good.key),
        "no key": ("--tls-cert", good.cert, "--tls-key", good.cert),
        "mismatched": ("--tls-cert", good.cert, "--tls-key", another.key),
        "expired": expired.options,
        "too early": early.options,
        "no key at all": ("--tls-cert", good.cert),
        "authority alone": ("--tls-client-ca", authority.file),
        "no authority": (*good.options, "--tls-client-ca", good.key),
    }
    arguments = map(str, ("--port", "0", "--metrics-port", "0", *options[case]))
    done = run_dragoman("serve", tiny_bundle.path, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert all(part in done.stderr for part in parts), done.stderr


def test_a_python_client_with_mutual_tls(mutual: ServerProcess, authority: Authority) -> None:
    alice = authority.issue("alice")
    with TranslationClient(mutual.address, tls=Tls(ca=authority.file, cert=alice.cert, key=alice.key)) as client:
        assert [model.name for model in client.list_models(deadline=START_SECONDS)] == ["tiny"]


def test_a_certificate_that_ends_soon_is_told_at_the_start(tiny_bundle: Bundle, authority: Authority) -> None:
    soon = authority.issue(starts=-40 * DAY, ends=datetime.timedelta(days=3))
    with server_process([tiny_bundle.path], *soon.options) as server:
        wait_until(lambda: any(f"{soon.cert}: the certificate expires on " in line for line in server.errors))
