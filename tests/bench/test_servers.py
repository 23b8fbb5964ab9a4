from __future__ import annotations

import sys
import time

import pytest
from bench.measure import servers

READY = "print('gRPC localhost:1'); print('ready', flush=True); import time; time.sleep(60)"


def test_a_server_that_has_started_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "START_SECONDS", 2)
    with servers.server_process([sys.executable, "-c", READY]) as server:
        time.sleep(2.5)
        assert server.process.poll() is None
        assert server.address == "localhost:1"
    assert server.process.poll() is not None


def test_a_server_that_hangs_while_it_starts_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "START_SECONDS", 1)
    command = [sys.executable, "-c", "import sys, time; print('no model', file=sys.stderr, flush=True); time.sleep(60)"]
    with pytest.raises(SystemExit, match="no model"), servers.server_process(command):
        pass
