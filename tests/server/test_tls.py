"""Certificates of the server: what is taken, what is refused, what the log says; tests/system has connections."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from prometheus_client import CollectorRegistry

from dragoman_service.client.client import TranslationClient
from dragoman_service.client.connection import Tls
from dragoman_service.server.metrics import Metrics
from dragoman_service.server.tls import CertificateError, ServerTls, TlsFiles
from support.certificates import DAY, Authority, Pair
from support.fake_workers import FakeWorkers, served
from support.server_thread import ServerThread, serving

METRIC = "dragoman_tls_certificate_expiry_timestamp_seconds"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@dataclass
class World:
    """A clock, the files of a certificate, and what looks after them."""

    now: float
    files: TlsFiles
    metrics: Metrics
    tls: ServerTls

    def write(self, pair: Pair) -> None:
        shutil.copy(pair.cert, self.files.cert)
        shutil.copy(pair.key, self.files.key)

    def ends(self, certificate: str = "server") -> float | None:
        return self.metrics.registry.get_sample_value(METRIC, {"certificate": certificate})


def world(folder: Path, pair: Pair, client_ca: Path | None = None) -> World:
    made = World.__new__(World)
    made.now = time.time()
    made.files = TlsFiles(folder / "tls.crt", folder / "tls.key", client_ca)
    made.write(pair)
    made.metrics = Metrics(CollectorRegistry())
    made.tls = ServerTls(made.files, made.metrics, lambda: made.now)
    return made


def test_warnings_once_a_day_from_a_week_before_the_end(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair, day = authority.issue(ends=60 * DAY), DAY.total_seconds()
    watched = world(tmp_path, pair)
    warned = []
    for hours in range(24 * 62):
        watched.now = pair.ends - 60 * day + hours * 3600
        caplog.clear()
        watched.tls.check()
        if caplog.records:
            warned.append((hours // 24, caplog.messages))
    assert [days for days, _ in warned] == [53, 54, 55, 56, 57, 58, 59, 60, 61]
    assert all(len(messages) == 1 for _, messages in warned)
    assert f"--tls-cert: {watched.files.cert}: the certificate expires on " in warned[0][1][0]
    assert "expired: clients refuse it" in warned[-1][1][0]
    assert watched.ends() == pair.ends


def test_a_certificate_of_a_day_is_not_warned_of_when_it_is_new(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue(starts=-DAY / 24, ends=DAY)
    watched = world(tmp_path, pair)
    watched.tls.check()
    assert not caplog.records
    watched.now = pair.ends - 3600
    watched.tls.check()
    assert len(caplog.records) == 1


def test_a_certificate_of_tomorrow_is_taken_tomorrow(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first, second = authority.issue(), authority.issue(starts=DAY, ends=90 * DAY)
    watched = world(tmp_path, first)
    watched.now += 1
    watched.write(second)
    for _ in range(3):
        watched.tls.check()
    assert watched.tls.current.serial == first.serial
    assert len(caplog.messages) == 1
    assert "the certificate is not valid before " in caplog.messages[0]
    watched.now += 1.5 * DAY.total_seconds()
    watched.tls.check()
    assert watched.tls.current.serial == second.serial
    assert watched.ends() == second.ends
    assert "new certificate" in caplog.messages[1]


def test_a_refused_pair_is_told_once_and_again_after_a_good_one(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = authority.issue(), authority.issue()
    watched = world(tmp_path, first)
    for _ in range(2):
        shutil.copy(second.cert, watched.files.cert)
        for _ in range(5):
            watched.tls.check()
        watched.write(first)
        watched.tls.check()
    assert len(caplog.messages) == 2
    assert all("the key does not belong to the certificate" in message for message in caplog.messages)
    assert watched.tls.current.serial == first.serial


def test_times_and_size_of_the_files_need_not_change(tmp_path: Path, authority: Authority) -> None:
    first, second = authority.issue(), authority.issue()
    watched = world(tmp_path, first)
    for file, other in ((watched.files.cert, second.cert), (watched.files.key, second.key)):
        times = file.stat()
        file.write_bytes(other.read_bytes())
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    watched.tls.check()
    assert watched.tls.current.serial == second.serial


def test_the_end_of_the_authorities_of_clients(tmp_path: Path, authority: Authority) -> None:
    watched = world(tmp_path, authority.issue(), authority.file)
    assert watched.ends("client_ca") == pytest.approx(watched.now + 100 * DAY.total_seconds(), abs=120)
    assert world(tmp_path, authority.issue()).ends("client_ca") is None


def test_without_tls_there_is_no_end_to_alert_on() -> None:
    metrics = Metrics(CollectorRegistry())
    (family,) = [family for family in metrics.registry.collect() if family.name == METRIC]
    assert family.samples == []


@pytest.mark.parametrize(
    ("key", "good"),
    [
        (rsa.generate_private_key(65537, 2048), True),
        (ec.generate_private_key(ec.SECP256R1()), True),
        (ec.generate_private_key(ec.SECP384R1()), True),
        (ec.generate_private_key(ec.SECP521R1()), False),
        (ec.generate_private_key(ec.SECP256K1()), False),
        (ed25519.Ed25519PrivateKey.generate(), False),
    ],
    ids=["RSA", "P-256", "P-384", "P-521", "secp256k1", "Ed25519"],
)
def test_keys_that_grpc_can_use(
    tmp_path: Path, authority: Authority, key: CertificateIssuerPrivateKeyTypes, good: bool
) -> None:
    pair = authority.issue(key=key)
    if not good:
        with pytest.raises(CertificateError, match="kind of key; allowed: RSA, or EC with the curve P-256 or P-384"):
            world(tmp_path, pair)
        return
    with serving([served(FakeWorkers())], tls_cert=str(pair.cert), tls_key=str(pair.key)) as server:
        assert models(server, Tls(ca=authority.file)) == ["loud"]


def models(server: ServerThread, tls: Tls) -> list[str]:
    with TranslationClient(server.address, tls=tls) as client:
        return [model.name for model in client.list_models(deadline=30)]


def test_a_key_with_a_password_is_refused(tmp_path: Path, authority: Authority) -> None:
    pair = authority.issue()
    key = load_pem_private_key(pair.key.read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    pair.key.write_bytes(locked)
    with pytest.raises(CertificateError, match=r"--tls-key: .*the key is encrypted; allowed: a key without a password"):
        world(tmp_path, pair)


def test_a_chain_is_sent_whole(tmp_path: Path) -> None:
    """A client that knows the root alone must get the certificate between it and the server's."""
    root = Authority(tmp_path, "Root")
    middle = Authority(tmp_path, "Middle", root)
    pair = middle.issue()
    tls = {"tls_cert": str(pair.cert), "tls_key": str(pair.key)}
    pair.cert.write_bytes(pair.cert.read_bytes() + middle.file.read_bytes())
    with serving([served(FakeWorkers())], **tls) as server:
        assert models(server, Tls(ca=root.file)) == ["loud"]


@pytest.fixture
def engine() -> FakeWorkers:
    return FakeWorkers()


@pytest.fixture
def mutual(authority: Authority, engine: FakeWorkers) -> Iterator[ServerThread]:
    pair = authority.issue()
    tls = {"tls_cert": str(pair.cert), "tls_key": str(pair.key), "tls_client_ca": str(authority.file)}
    with serving([served(engine)], client_header="x-tenant", **tls) as server:
        yield server


@pytest.mark.parametrize(
    ("common_name", "names", "client"),
    [
        ("alice", (), "certificate:alice"),
        ("alice", ("DNS:alice.example", "URI:spiffe://example/alice"), "certificate:alice.example"),
        ("alice", ("URI:spiffe://example/alice",), "certificate:spiffe://example/alice"),
        ("Bär", (), "certificate:Bär"),
    ],
)
def test_the_certificate_names_the_client_of_the_fair_queue(
    mutual: ServerThread,
    authority: Authority,
    engine: FakeWorkers,
    common_name: str,
    names: tuple[str, ...],
    client: str,
) -> None:
    pair = authority.issue(common_name, names=names)
    tls = Tls(ca=authority.file, cert=pair.cert, key=pair.key)
    with TranslationClient(mutual.address, tls=tls) as caller:
        caller.translate(["a"])
    assert engine.submitted[-1].client == client
    with TranslationClient(mutual.address, tls=tls, metadata=[("x-tenant", "one")]) as caller:
        caller.translate(["a"])
    assert engine.submitted[-1].client == "one", "the operator trusts the header"


def test_without_mutual_tls_the_address_is_the_client(authority: Authority, engine: FakeWorkers) -> None:
    pair = authority.issue()
    alice = authority.issue("alice")
    with serving([served(engine)], tls_cert=str(pair.cert), tls_key=str(pair.key)) as server:
        tls = Tls(ca=authority.file, cert=alice.cert, key=alice.key)
        with TranslationClient(server.address, tls=tls) as caller:
            caller.translate(["a"])
    assert engine.submitted[-1].client == "ipv4:127.0.0.1"


def test_handshakes_read_no_file_and_never_fail(tmp_path: Path, authority: Authority) -> None:
    """gRPC's fetcher gives a new certificate once, and none while there is no other."""
    watched = world(tmp_path, authority.issue())
    fetchers = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpc, "dynamic_ssl_server_credentials", lambda first, fetch, mutual: fetchers.append(fetch))
        watched.tls.credentials()
        watched.tls.credentials()
    public, admin = fetchers
    watched.files.cert.unlink()
    assert public() is None
    watched.write(authority.issue())
    assert public() is None
    watched.tls.check()
    watched.files.key.unlink()
    assert isinstance(public(), grpc.ServerCertificateConfiguration)
    assert public() is None
    assert isinstance(admin(), grpc.ServerCertificateConfiguration), "each port is told"
