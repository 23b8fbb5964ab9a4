"""Returns free memory to the operating system, which the C library would otherwise keep in the process."""

from __future__ import annotations

import ctypes
import gc


def release() -> None:
    """Collect garbage, then return free memory."""
    gc.collect()
    trim()


def trim() -> None:
    """Make glibc return free memory. Other C libraries have no call for it."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
