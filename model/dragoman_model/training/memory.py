"""Settings of the C library's memory allocator for training on a CPU."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""Parameters of mallopt(3)."""


def keep_freed_memory() -> bool:
    """Make glibc keep the memory of freed tensors for later tensors. Returns whether it does.

    By default glibc returns large blocks to the kernel at once, and the kernel clears every page again at the next
    update. With another C library nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 << 20))
    return all(bool(mallopt(parameter, value)) for parameter, value in settings)
