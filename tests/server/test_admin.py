"""The interface for operators over the wire, through its Python client."""

from __future__ import annotations

import os
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from dragoman_protos.admin.v1 import admin_pb2 as pb
from dragoman_protos.admin.v1 import admin_pb2_grpc
from dragoman_service.client.admin import AdminClient, Version
from dragoman_service.client.client import TranslationClient
from dragoman_service.client.errors import (
    DeadlinePassed,
    InvalidRequest,
    ModelNotFound,
    NotPossibleNow,
    ServerFailure,
    TranslationError,
)
from dragoman_service.client.values import Options
from dragoman_service.server.admin_servicer import ADMIN_SERVICE_NAME
from dragoman_service.server.server import StartupError, _lock_socket
from support.fake_workers import FakeWorkers, served
from support.operated import Operated, operated
from support.server_thread import serving
from support.waiting import wait_until

PATIENCE = 30.0
"""Seconds after which a test gives up; only a broken server comes near."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Operated]:
    with operated(tmp_path, "1", "2") as running:
        yield running


@pytest.fixture
def client(server: Operated) -> Iterator[AdminClient]:
    with AdminClient(server.admin, deadline=PATIENCE) as client:
        yield client


def states(versions: list[Version]) -> str:
    """All versions, the default with a star, and their aliases."""
    shown = []
    for it in versions:
        names = ",".join(f"{alias}={share:g}" if share else alias for alias, share in it.aliases)
        shown.append(f"{it.version}:{it.state}{'*' if it.is_default else ''}{f'({names})' if names else ''}")
    return " ".join(shown)


def served_by(server: Operated, model: str = "") -> str:
    """The version that a call gets."""
    with TranslationClient(server.address) as caller:
        (translation,) = caller.translate(["a"], Options(model=model))
    return f"{translation.model}@{translation.version}"


# --- changes


def test_versions_are_listed_with_all_that_is_known_of_them(server: Operated, client: AdminClient) -> None:
    server.stage.store.add_manifest("m", "3")
    server.stage.store.aliases("m", canary=("2", 0.25), spare="2")
    server.stage.bad = {"m@3"}
    client.refresh()
    first, second, third = client.versions()
    assert second == Version("m", "2", "serving", "", (("canary", 0.25), ("spare", 0.0)), is_default=True)
    assert first == Version("m", "1", "available", "", (), is_default=False)
    assert (third.state, third.is_default) == ("failed", False)
    assert "it is bad" in third.reason


def test_every_change_answers_with_the_state_after_it(server: Operated, client: AdminClient) -> None:
    assert states(client.versions()) == "1:available 2:serving*"
    assert states(client.load("m", "1")) == "1:serving 2:serving*"
    assert states(client.unload("m", "1")) == "1:unloaded 2:serving*"
    assert states(client.set_alias("m", "stable", "1")) == "1:serving*(stable) 2:available"
    assert states(client.set_alias("m", "canary", "2", 0.5)) == "1:serving*(stable) 2:serving(canary=0.5)"
    assert states(client.delete_alias("m", "stable")) == "1:available 2:serving*(canary=0.5)"
    server.stage.store.add_manifest("m", "3")
    assert states(client.versions()) == "1:available 2:serving*(canary=0.5)"
    assert states(client.refresh()) == "1:available 2:serving(canary=0.5) 3:serving*"
    assert states(client.unload("m")) == "1:unloaded 2:unloaded(canary=0.5) 3:unloaded"
    assert states(client.load("m")) == "1:unloaded 2:unloaded(canary=0.5) 3:serving*"


def test_callers_get_the_version_that_operators_want(server: Operated, client: AdminClient) -> None:
    assert (served_by(server), served_by(server, "m")) == ("m@2", "m@2")
    client.set_alias("m", "stable", "1")
    client.set_alias("m", "canary", "2")
    assert (served_by(server), served_by(server, "m@canary"), served_by(server, "m@2")) == ("m@1", "m@2", "m@2")
    with TranslationClient(server.address) as caller:
        listed = [(it.version, it.aliases, it.is_default) for it in caller.list_models()]
    assert listed == [("1", ("stable",), True), ("2", ("canary",), False)]


def test_a_caller_who_leaves_does_not_stop_a_change(server: Operated, client: AdminClient) -> None:
    go_on = threading.Event()
    server.stage.while_loading = lambda: go_on.wait(PATIENCE)
    with AdminClient(server.admin, deadline=0.2) as hasty, pytest.raises(DeadlinePassed):
        hasty.load("m", "1")
    go_on.set()
    wait_until(lambda: states(client.versions()) == "1:serving 2:serving*")


# --- refusals


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    """A server of which a version has an alias, and another is bad; its versions stay as they are."""
    with operated(tmp_path_factory.mktemp("refusing"), "1", "2") as running:
        running.stage.bad = {"m@3"}
        running.stage.store.add_manifest("m", "3")
        with AdminClient(running.admin) as client:
            client.set_alias("m", "spare", "2")
        yield running


@pytest.mark.parametrize(
    ("method", "arguments", "kind", "message", "field"),
    [
        ("load", ("x",), ModelNotFound, "no model 'x' in the repository; there are: m", ""),
        ("load", ("m", "9"), ModelNotFound, "no version '9' of m in the repository; there are: 1, 2, 3", ""),
        ("load", ("",), InvalidRequest, "model: got ''; allowed: a name", "model"),
        ("unload", ("",), InvalidRequest, "model: got ''", "model"),
        ("unload", ("m", "2"), NotPossibleNow, "version 2 of m has the alias spare: move or delete", ""),
        ("set_alias", ("", "a", "1"), InvalidRequest, "model: got ''", "model"),
        ("set_alias", ("m", "", "1"), InvalidRequest, "alias: got ''", "alias"),
        ("set_alias", ("m", "a", ""), InvalidRequest, "version: got ''", "version"),
        ("set_alias", ("m", "a", "1", 2), InvalidRequest, r"share: got 2\.0; allowed: 0 to 1", "share"),
        ("set_alias", ("m", "a", "3"), NotPossibleNow, "bundle m/3: it is bad", ""),
        ("delete_alias", ("", "a"), InvalidRequest, "model: got ''", "model"),
        ("delete_alias", ("m", ""), InvalidRequest, "alias: got ''", "alias"),
        ("delete_alias", ("m", "a"), ModelNotFound, "no alias 'a' of m; there are: spare", ""),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    refusing: Operated,
    method: str,
    arguments: tuple[Any, ...],
    kind: type[TranslationError],
    message: str,
    field: str,
) -> None:
    before = refusing.stage.registry.entries["m"]
    with AdminClient(refusing.admin, deadline=PATIENCE) as client, pytest.raises(kind, match=message) as caught:
        getattr(client, method)(*arguments)
    assert getattr(caught.value, "field", "") == field
    assert refusing.stage.registry.entries["m"] is before


def test_a_server_without_a_repository_says_so(tmp_path: Path) -> None:
    admin = f"unix:{tmp_path}/admin"
    with serving([served(FakeWorkers())], admin=admin), AdminClient(admin) as client:
        for ask in (client.versions, client.refresh, lambda: client.load("loud")):
            with pytest.raises(NotPossibleNow, match="no repository: start it with --repository"):
                ask()


def test_a_repository_that_cannot_be_read_is_told_of(server: Operated, client: AdminClient) -> None:
    Path(server.stage.store.root).rename(Path(server.stage.store.root).with_name("away"))
    with pytest.raises(NotPossibleNow, match=r"repository .*: FileNotFoundError"):
        client.load("m", "1")
    assert states(client.refresh()) == "1:available 2:serving*"
    assert server.running.metric("dragoman_repository_errors_total") == 1


# --- the interface itself


def test_operators_are_not_let_in_where_callers_are(server: Operated) -> None:
    with AdminClient(server.address) as client, pytest.raises(ServerFailure) as caught:
        client.versions()
    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED
    with TranslationClient(server.admin) as caller, pytest.raises(ServerFailure):
        caller.list_models()


def test_without_an_address_there_is_no_interface(tmp_path: Path) -> None:
    with operated(tmp_path, "1", admin="") as server:
        assert server.running.server._admin is None
        assert not (tmp_path / "admin").exists()


def test_calls_of_operators_are_counted_and_have_their_id(server: Operated, client: AdminClient) -> None:
    client.load("m", "1")
    with pytest.raises(ModelNotFound) as caught:
        client.load("x")
    assert len(caught.value.request_id) == 32
    assert server.running.metric("dragoman_requests_total", api="dragoman_admin_v1", method="LoadModel", code="OK") == 1
    assert (
        server.running.metric("dragoman_requests_total", api="dragoman_admin_v1", method="LoadModel", code="NOT_FOUND")
        == 1
    )
    assert server.running.metric("dragoman_rejections_total", reason="not_found") == 1


def test_an_address_that_cannot_be_had_is_said_at_the_start(tmp_path: Path) -> None:
    with (
        pytest.raises(StartupError, match=r"--admin: 203\.0\.113\.1:1 cannot be had"),
        operated(tmp_path, "1", admin="203.0.113.1:1"),
    ):
        pass


def test_two_servers_do_not_share_a_socket(server: Operated, client: AdminClient, tmp_path: Path) -> None:
    path = re.escape(f"{tmp_path}/admin")
    with (
        pytest.raises(StartupError, match=f"--admin: unix:{path} cannot be had: another server answers at {path};"),
        serving([served(FakeWorkers())], admin=server.admin),
    ):
        pass
    assert states(client.versions()) == "1:available 2:serving*"
    with AdminClient(server.admin, deadline=PATIENCE) as another:
        assert states(another.versions()) == "1:available 2:serving*"


def test_a_socket_is_free_again_after_the_end_of_its_server(tmp_path: Path) -> None:
    admin = f"unix://{tmp_path}/admin"
    for _ in range(2):
        with serving([served(FakeWorkers())], admin=admin):
            assert (tmp_path / "admin").is_socket()
        assert not (tmp_path / "admin").exists()


def test_of_servers_that_start_at_once_one_gets_the_socket(tmp_path: Path) -> None:
    locks: list[int | None] = []
    refusals: list[StartupError] = []

    def start() -> None:
        try:
            locks.append(_lock_socket(f"unix:{tmp_path}/admin"))
        except StartupError as error:
            refusals.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert (len(locks), len(refusals)) == (1, 7)
    assert locks[0] is not None
    os.close(locks[0])


def test_a_server_that_knows_no_lock_keeps_its_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"{tmp_path}/admin")
        other.listen()
        with (
            pytest.raises(StartupError, match="another server answers"),
            serving([served(FakeWorkers())], admin=f"unix:{tmp_path}/admin"),
        ):
            pass


def test_the_socket_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{tmp_path}/admin")
    with operated(tmp_path, "1") as server, AdminClient(server.admin, deadline=PATIENCE) as client:
        assert states(client.versions()) == "1:serving*"


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "admin").write_text("mine")
    for admin in (f"unix:{tmp_path}/admin", f"unix:{tmp_path}/no-folder/admin"):
        with pytest.raises(StartupError, match="--admin"), serving([served(FakeWorkers())], admin=admin):
            pass
    assert (tmp_path / "admin").read_text() == "mine"


@pytest.mark.parametrize("admin", ["unix:", "unix://", "unix:a%00b"])
def test_a_socket_needs_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, admin: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartupError, match="allowed: unix:PATH"), serving([served(FakeWorkers())], admin=admin):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_path_may_have_any_bytes_but_zero(tmp_path: Path) -> None:
    admin = f"unix:{tmp_path}/a%20%ff"
    with serving([served(FakeWorkers())], admin=admin):
        assert {os.fsencode(file.name) for file in tmp_path.iterdir()} == {b"a \xff", b"a \xff.lock"}
        with pytest.raises(StartupError, match="another server answers"), serving([served(FakeWorkers())], admin=admin):
            pass


def test_every_method_of_the_interface_has_its_answer(server: Operated) -> None:
    methods = pb.DESCRIPTOR.services_by_name[ADMIN_SERVICE_NAME.rpartition(".")[2]].methods
    codes = {}
    with grpc.insecure_channel(server.admin) as channel:
        stub = admin_pb2_grpc.ModelAdminStub(channel)
        for method in methods:
            call = getattr(stub, method.name).future(getattr(pb, method.input_type.name)(), timeout=PATIENCE)
            codes[method.name] = call.code()
    assert {name for name, code in codes.items() if code is grpc.StatusCode.OK} == {"ListVersions", "Refresh"}
    assert set(codes.values()) == {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}


# --- what load balancers see


def ready(server: Operated) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.running.server.metrics_port}/ready", timeout=30) as page:
            return page.status, page.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_server_without_a_model_is_not_ready_until_it_has_one(tmp_path: Path) -> None:
    with operated(tmp_path) as server, AdminClient(server.admin) as client:
        assert ready(server) == (503, "no model is in service\n")
        server.stage.store.add_manifest("m", "1")
        client.refresh()
        wait_until(lambda: ready(server) == (200, "ready\n"))
        client.unload("m")
        wait_until(lambda: ready(server)[0] == 503)


def test_a_server_that_watches_follows_by_itself(tmp_path: Path) -> None:
    with operated(tmp_path, "1", watch=0.01) as server:
        server.stage.store.add_manifest("m", "2")
        wait_until(lambda: server.stage.default() == "2")
        assert served_by(server) == "m@2"
