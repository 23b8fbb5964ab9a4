"""The server is killed under load, and a supervisor starts it again."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest

from support.supervisor import SUPERVISORD, supervised
from support.traffic import Traffic, traffic, translations

pytestmark = pytest.mark.skipif(SUPERVISORD is None, reason="supervisord (package supervisor) is not installed")

KILLS = 2
CALLS = 20
"""Of each method, between two kills."""
RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "dragoman.v1.Translation"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


def test_a_killed_server_costs_only_what_ran_and_nothing_of_those_who_retry(bundle: Path, tmp_path: Path) -> None:
    retrying = [("grpc.service_config", json.dumps(RETRIES))]
    with supervised(tmp_path, bundle) as server:
        address = server.backend.address
        expected = translations(address)
        with (
            traffic(address, expected, clients=4, channel_options=retrying, wait_for_ready=True) as patient,
            traffic(address, expected, clients=8) as hasty,
        ):
            for kill in range(KILLS):
                for seen in (patient, hasty):
                    seen.wait_for(CALLS)
                server.kill()
                server.wait_until_ready(kill + 2)
            for seen in (patient, hasty):
                seen.wait_for(CALLS)
        assert len(server.pids) == KILLS + 1
        assert server.errors == ""
    print(f"{KILLS} kills; who retried: {patient}; who did not: {hasty}")
    # A stream that has begun cannot be begun again: gRPC leaves that to the caller.
    assert [problem for problem in patient.problems if not problem.startswith("stream: UNAVAILABLE: ")] == []
    assert patient.failed.total() <= KILLS * 2
    assert_only_unavailable(hasty)


def assert_only_unavailable(seen: Traffic) -> None:
    """Calls failed, and all alike; those that did not fail had the right answer."""
    assert set(seen.failed) == {grpc.StatusCode.UNAVAILABLE}
    assert len(seen.problems) == seen.failed.total()
