"""Instruction sets of the processor, and the number of cores that this process may use."""

from __future__ import annotations

import math
import os
import platform
from functools import cache
from pathlib import Path

EXACT_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""x86 instruction sets that add products of 8-bit integers in 32 bits. Older ones add pairs of products in 16 bits with
saturation."""


@cache
def int8_may_overflow() -> bool:
    """Whether the fastest 8-bit integer products may overflow on this processor. An unknown x86 counts as such."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    return not EXACT_INT8 & instruction_sets()


def num_cores(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Number of cores that this process may use: those of its affinity mask, or fewer under a container's CPU quota.

    Args:
        root: Folder of the container's control group, of version 2 (`cpu.max`) or 1 (`cpu/cpu.cfs_*`).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(root)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(root: Path) -> float | None:
    """Cores that the CPU quota allows, as a fraction; None without a quota."""
    try:
        if (root / "cpu.max").exists():
            time, period = (root / "cpu.max").read_text().split()
        else:
            time, period = ((root / "cpu" / f"cpu.cfs_{what}_us").read_text() for what in ("quota", "period"))
        return int(time) / int(period) if int(time) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no control groups here, or `max`
        return None


def instruction_sets(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The flags of the first processor, as Linux names them; empty on other systems."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
