"""Gives memory back to the operating system, which the C library else keeps for a process that may want it again."""

from __future__ import annotations

import ctypes
import gc


def release() -> None:
    """Collect garbage, and have glibc return what is free; where the C library is another one, it does as it likes."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
