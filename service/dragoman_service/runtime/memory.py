"""Returns free memory to the operating system, which the C library would otherwise keep in the process."""

from __future__ import annotations

import ctypes
import gc


def release() -> None:
    """Collect garbage, then make glibc return free memory. Other C libraries have no call for it."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
