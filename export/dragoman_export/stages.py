"""What an export does now, how long each part of it took, and its memory, for those who wait for it."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dragoman_export.shelf import Shelf

_log = logging.getLogger(__name__)


@contextmanager
def stage(name: str, shelf: Shelf) -> Iterator[None]:
    """A part of an export. Says when it begins and when it has ended, and releases what it kept in memory."""
    started = time.monotonic()
    _log.info("%s ...", name)
    try:
        yield
    finally:
        shelf.release()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    _log.info("%s: %.1f s, peak memory so far %.2f GiB", name, time.monotonic() - started, peak)


def show() -> None:
    """Have the messages of `stage` written to standard error."""
    if not _log.handlers:
        _log.addHandler(_StandardError())
        _log.setLevel(logging.INFO)


class _StandardError(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr, flush=True)
