"""Servers behind a load balancer are restarted one after the other, and no caller notices."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.fleet import Backend, Fleet
from support.proxy import HAPROXY, NGINX, haproxy, nginx
from support.traffic import Traffic, traffic, translations

ROUNDS = 2
CALLS_BETWEEN = 20
"""Of each method, between two restarts."""
LAME_DUCK = ("--lame-duck", "1.5")
RETRIES = {
    "name": [{"service": "dragoman.v1.Translation"}],
    "retryPolicy": {
        "maxAttempts": 5,
        "initialBackoff": "0.05s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    },
}
with_haproxy = pytest.mark.skipif(HAPROXY is None, reason="haproxy (Debian package haproxy) is not installed")
with_nginx = pytest.mark.skipif(NGINX is None, reason="nginx (Debian package nginx) is not installed")


@with_haproxy
def test_no_call_fails_behind_haproxy(bundle: Path, tmp_path: Path) -> None:
    with Fleet(bundle, 2, *LAME_DUCK) as fleet, haproxy(tmp_path, fleet.backends) as proxy:
        for backend in fleet.backends:
            proxy.wait_until_up(backend)

        def restart(backend: Backend) -> None:
            fleet.restart(backend)
            proxy.wait_until_up(backend)

        check(fleet, proxy.address, restart)


@pytest.mark.slow
@with_nginx
def test_no_call_fails_behind_an_nginx_that_is_told_of_restarts(bundle: Path, tmp_path: Path) -> None:
    """It asks nobody whether they are ready, so that whoever restarts a server takes it out and in again."""
    with Fleet(bundle, 2, *LAME_DUCK) as fleet, nginx(tmp_path, fleet.backends) as proxy:

        def restart(backend: Backend) -> None:
            proxy.reload(without=[backend])
            fleet.restart(backend)
            proxy.reload()

        check(fleet, proxy.address, restart)


@pytest.mark.slow
@with_nginx
@pytest.mark.xfail(reason="calls that nginx has begun may end CANCELLED, which is not retried", strict=False)
def test_no_call_fails_behind_an_nginx_that_is_told_nothing_if_clients_retry(bundle: Path, tmp_path: Path) -> None:
    """By itself it cannot: a refusal is HTTP 200 to it, and a gRPC call once sent it sends to no other server."""
    with Fleet(bundle, 2) as fleet, nginx(tmp_path, fleet.backends) as proxy:
        check(fleet, proxy.address, fleet.restart, {"methodConfig": [RETRIES]})


@pytest.mark.slow
def test_no_call_fails_with_the_balancing_and_health_checks_of_grpc(bundle: Path) -> None:
    with Fleet(bundle, 2, *LAME_DUCK) as fleet:

        def restart(backend: Backend) -> None:
            fleet.restart(backend)
            fleet.server(backend).wait_for_metrics(lambda metrics: metrics.get("dragoman_requests_total", 0) > 0)

        address = "ipv4:" + ",".join(backend.address for backend in fleet.backends)
        balancing = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
        check(fleet, address, restart, balancing, shared=True)


def check(
    fleet: Fleet,
    address: str,
    restart: Callable[[Backend], None],
    service_config: Mapping[str, Any] | None = None,
    *,
    shared: bool = False,
) -> None:
    """Restart each server some times under load, and see that every call has its answer."""
    expected = translations(fleet.backends[0].address)
    config = [("grpc.service_config", json.dumps(service_config))] if service_config else []
    with traffic(address, expected, channel_options=config, shared=shared) as seen:
        for backend in fleet.backends * ROUNDS:
            seen.wait_for(CALLS_BETWEEN)
            restart(backend)
        seen.wait_for(CALLS_BETWEEN)
    report(fleet, seen)
    assert seen.problems == []
    assert seen.failed.total() == 0
    assert fleet.restarts == ROUNDS * len(fleet.backends)


def report(fleet: Fleet, seen: Traffic) -> None:
    """What `-s` shows."""
    print(f"{fleet.restarts} restarts, {seen.calls} calls: {seen}")
