"""Waiting for other threads and processes."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds after which a test fails; far more than a working server needs."""


def wait_until(condition: Callable[[], bool], state: Callable[[], object] = str, seconds: float = PATIENCE) -> None:
    """Poll until `condition` is true. `state` gives the message of the failure."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, state()
        time.sleep(0.01)
