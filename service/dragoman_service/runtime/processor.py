"""What the processor can do, as far as results and not only speed depend on it."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

EXACT_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""x86 instruction sets that add products of 8-bit integers in 32 bits. Those before add pairs of them in 16, and cut
what does not fit."""


@cache
def int8_may_overflow() -> bool:
    """Whether the fastest products of 8-bit integers may be wrong here; on x86 that we know nothing of, assume so."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    return not EXACT_INT8 & instruction_sets()


def instruction_sets(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The flags of the first processor, as Linux names them; none elsewhere."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
