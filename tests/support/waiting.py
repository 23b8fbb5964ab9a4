"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds after which a test gives up; only a broken server comes near."""


def wait_until(condition: Callable[[], bool], state: Callable[[], object] = str, seconds: float = PATIENCE) -> None:
    """Poll until something holds; `state` is for the message if it never does."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, state()
        time.sleep(0.01)
