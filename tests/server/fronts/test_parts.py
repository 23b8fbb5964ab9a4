"""What each process of a server is given: the limits are those of one process, divided."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dragoman_service.errors import InvalidInput
from dragoman_service.server.fronts.supervisor import parts_of, reserve
from dragoman_service.server.server import StartupError, check_free
from dragoman_service.server.settings import ServiceConfig


def config(**settings: object) -> ServiceConfig:
    return ServiceConfig.of(**{"model_paths": (Path("m"),), "repository": "r", "admin": "unix:a", **settings})


def test_limits_on_all_callers_are_divided_so_that_memory_does_not_grow() -> None:
    whole = config(fronts=4, max_calls=2048, message_memory_mib=64, call_memory_mib=256, max_connections=1024)
    parts = parts_of(whole, 50051, None)
    assert list(parts) == ["engine", "front 1", "front 2", "front 3", "front 4"]
    fronts = [parts[f"front {number}"] for number in range(1, 5)]
    for name in ("max_calls", "message_memory_mib", "call_memory_mib"):
        assert sum(getattr(front.intake, name) for front in fronts) == getattr(whole.intake, name)
    assert sum(front.server.max_connections for front in fronts) == 1024
    assert {front.server.port for front in fronts} == {50051}


def test_the_engine_process_has_models_and_admin_and_the_fronts_have_neither() -> None:
    parts = parts_of(config(fronts=1, lame_duck=5.0), 50051, None)
    engine, front = parts["engine"], parts["front 1"]
    assert (engine.model_paths, engine.repository.repository, engine.server.admin) == ((Path("m"),), "r", "unix:a")
    assert engine.server.lame_duck == 0
    assert (front.repository.repository, front.server.admin) == ("", "")
    assert front.server.lame_duck == 5


def test_memory_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"message_memory_mib: got 64; allowed: 128 or more with 16 fronts"):
        parts_of(config(fronts=16), 50051, None)


@pytest.mark.parametrize("fronts", [-1, 65])
def test_the_number_of_fronts_has_limits(fronts: int) -> None:
    with pytest.raises(InvalidInput, match=r"fronts: got .*; allowed: 0 to 64"):
        config(fronts=fronts)


def test_a_reserved_port_is_not_free_for_another_server() -> None:
    with reserve("127.0.0.1", 0) as reserved:
        port = reserved.getsockname()[1]
        with pytest.raises(StartupError, match=f"port {port}"):
            check_free("", "127.0.0.1", port)
    with reserve("127.0.0.1", port):
        pass
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StartupError, match="cannot be had"):
        reserve("127.0.0.1", taken.getsockname()[1])
