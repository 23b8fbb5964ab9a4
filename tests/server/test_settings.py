"""Settings of one model, which its repository has beside its bundles; other settings are tried in test_cli."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dragoman_service.engine.settings import EngineSettings
from dragoman_service.errors import InvalidInput
from dragoman_service.repository.call_caps import CallCaps
from dragoman_service.repository.settings import MODEL_SETTINGS
from dragoman_service.server.settings import ServiceConfig

CONFIG = ServiceConfig.of(repository="models", threads=2, max_rows=32, default_beam_size=2).model


def test_a_server_needs_a_bundle_or_a_repository() -> None:
    assert ServiceConfig.of(repository="s3://bucket/models").model_paths == ()
    assert ServiceConfig.of(model_paths=(Path("m/1"),)).repository.repository == ""
    with pytest.raises(InvalidInput, match="allowed: a folder of a model bundle, or a repository"):
        ServiceConfig.of()


@pytest.mark.parametrize("admin", ["localhost", "localhost:99999", "localhost:", ":1", "localhost:-1", "http://x"])
def test_an_address_of_the_admin_interface_has_a_port(admin: str) -> None:
    with pytest.raises(
        InvalidInput, match=r"admin: got .*; allowed: HOST:PORT with a port of 0 to 65535, or unix:PATH"
    ):
        ServiceConfig.of(repository="models", admin=admin)


def test_a_model_has_settings_of_its_own_and_the_rest_from_the_server() -> None:
    own = CONFIG.with_settings({"max_rows": 8, "lanes": 2, "threads": 4, "max_queue": 5, "max_queue_tokens": 700})
    assert own.engine == EngineSettings(threads=4, lanes=2, max_rows=8, max_queue=5, max_queue_tokens=700)
    assert own.default_beam_size == 2
    assert CONFIG.engine.max_rows == 32
    assert CONFIG.with_settings({"max_beam_size": 2, "max_deadline": 1.5}).caps == CallCaps(
        max_beam_size=2, max_deadline=1.5
    )


def test_no_settings_change_nothing() -> None:
    assert CONFIG.with_settings({}) == CONFIG


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_row": 8}, "max_row: got 8; allowed: one of threads, lanes, max_rows, max_queue, max_queue_tokens"),
        ({"port": 8}, "port: got 8; allowed: one of threads"),
        ({"model": {"max_rows": 8}}, "model: got"),
        ({"max_rows": "8"}, "max_rows: got '8'; allowed: a whole number"),
        ({"max_rows": 8.0}, "max_rows: got 8.0; allowed: a whole number"),
        ({"max_rows": True}, "max_rows: got True; allowed: a whole number"),
        ({"max_rows": 0}, "max_rows: got 0; allowed: 1 or more"),
        ({"max_rows": 1}, "default_beam_size: got 2"),
        (
            {"max_rows": 2, "lanes": 2},
            r"default_beam_size: got 2; allowed: 1 to 1 \(no more than max_rows for each lane",
        ),
        ({"lanes": 33}, "lanes: got 33; allowed: 0 to 32"),
        ({"max_queue": 0}, "max_queue: got 0"),
        ({"max_queue_tokens": 0}, "max_queue_tokens: got 0"),
        ({"threads": -1}, "threads: got -1"),
        ({"max_beam_size": 2.0}, "max_beam_size: got 2.0; allowed: a whole number"),
        ({"max_deadline": "1"}, "max_deadline: got '1'; allowed: a number"),
    ],
)
def test_settings_that_cannot_be_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        CONFIG.with_settings(settings)


def test_every_setting_of_a_model_is_one_of_the_servers() -> None:
    for name in MODEL_SETTINGS:
        assert isinstance(getattr(CONFIG.engine, name, getattr(CONFIG.caps, name, None)), int | float)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("watch", -1.0),
        ("watch", float("nan")),
        ("lame_duck", -0.1),
        ("lame_duck", 3601.0),
        ("step_timeout", 0.0),
        ("step_timeout", float("inf")),
        ("max_queue_tokens", 0),
    ],
)
def test_values_out_of_range_are_named(field: str, value: float) -> None:
    with pytest.raises(InvalidInput) as caught:
        ServiceConfig.of(repository="models", **{field: value})
    assert caught.value.field == field


def test_a_setting_that_is_none_is_named() -> None:
    with pytest.raises(InvalidInput, match="max_row: got 3; allowed: a setting of a server"):
        ServiceConfig.of(repository="models", max_row=3)


def test_pages_may_have_the_port_of_grpc_at_another_address_alone() -> None:
    own = ServiceConfig.of(repository="models", port=7, metrics_port=7, metrics_host="127.0.0.2").server
    assert (own.host, own.pages_host) == ("127.0.0.1", "127.0.0.2")
    assert ServiceConfig.of(repository="models", host="0.0.0.0").server.pages_host == "0.0.0.0"
    with pytest.raises(InvalidInput, match="metrics_port"):
        ServiceConfig.of(repository="models", port=7, metrics_port=7, metrics_host="127.0.0.1")
