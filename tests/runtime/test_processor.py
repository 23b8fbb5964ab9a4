from __future__ import annotations

import os
import platform
import random
from pathlib import Path

import pytest

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.manifest import ENCODER
from dragoman_service.engine.plan import Join, StepPlan
from dragoman_service.runtime import processor, sessions
from dragoman_service.runtime.processor import EXACT_INT8, instruction_sets, int8_may_overflow, num_cores
from dragoman_service.runtime.runner import OrtRunner
from dragoman_service.runtime.sessions import Placement, open_session

ZEN_5 = """processor	: 0
vendor_id	: AuthenticAMD
flags		: fpu sse2 ssse3 fma sse4_1 sse4_2 avx f16c avx2 avx512f avx512vl avx_vnni avx512_bf16 avx512_vnni
bugs		: sysret_ss_attrs spectre_v1

processor	: 1
flags		: fpu
"""
HASWELL = """processor	: 0
vendor_id	: GenuineIntel
flags		: fpu sse2 ssse3 fma sse4_1 sse4_2 movbe popcnt avx f16c bmi1 avx2 bmi2 erms
vmx flags	: vnmi preemption_timer
"""
SKYLAKE_SERVER = "flags\t\t: fpu sse2 avx avx2 fma avx512f avx512dq avx512cd avx512bw avx512vl\n"
SAPPHIRE_RAPIDS = "flags\t\t: fpu avx2 avx512f avx512_vnni avx_vnni amx_bf16 amx_tile amx_int8\n"
NEOVERSE = """processor	: 0
BogoMIPS	: 243.75
Features	: fp asimd evtstrm aes asimddp i8mm bf16
CPU implementer	: 0x41
"""


def flags_of(tmp_path: Path, text: str) -> frozenset[str]:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    return instruction_sets(path)


def may_overflow(monkeypatch: pytest.MonkeyPatch, machine: str, flags: frozenset[str]) -> bool:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(processor, "instruction_sets", lambda: flags)
    return int8_may_overflow.__wrapped__()  # past the cache


@pytest.mark.parametrize(
    ("cpuinfo", "exact"),
    [(ZEN_5, {"avx512_vnni", "avx_vnni"}), (HASWELL, set()), (SKYLAKE_SERVER, set()), (SAPPHIRE_RAPIDS, EXACT_INT8)],
)
def test_x86_is_exact_if_it_adds_in_32_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str, exact: set[str]
) -> None:
    flags = flags_of(tmp_path, cpuinfo)
    assert {"avx2", "fpu"} <= flags
    assert flags & EXACT_INT8 == exact
    for machine in ("x86_64", "AMD64"):
        assert may_overflow(monkeypatch, machine, flags) == (not exact)


@pytest.mark.parametrize("cpuinfo", [NEOVERSE, "", "flags\n"])
def test_without_a_line_of_flags_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str) -> None:
    assert flags_of(tmp_path, cpuinfo) == frozenset()
    assert not may_overflow(monkeypatch, "aarch64", frozenset())
    assert may_overflow(monkeypatch, "x86_64", frozenset())  # nothing is known of it


def test_no_cpuinfo_at_all(tmp_path: Path) -> None:
    assert instruction_sets(tmp_path / "nowhere") == frozenset()


class Options(sessions.onnxruntime.SessionOptions):
    """Session options that remember what was added."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[str, str] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


@pytest.mark.parametrize(("bits", "overflow", "slow"), [(8, False, False), (8, True, True), (7, True, False)])
def test_graphs_are_opened_with_the_exact_kernels_where_the_fast_ones_may_be_wrong(
    monkeypatch: pytest.MonkeyPatch, bits: int, overflow: bool, slow: bool
) -> None:
    opened: list[Options] = []
    monkeypatch.setattr(sessions, "int8_may_overflow", lambda: overflow)
    monkeypatch.setattr(sessions.onnxruntime, "SessionOptions", Options)
    monkeypatch.setattr(sessions.onnxruntime, "InferenceSession", lambda _, options, **__: opened.append(options))
    open_session(Path(ENCODER), Placement(1, bits))
    assert opened[0].entries.get("session.x64quantprecision") == ("1" if slow else None)


def everything(bundle: Bundle) -> list[tuple[list[list[int]], list[list[float]]]]:
    """All candidates of every step of a few rows."""
    rng = random.Random(0)
    sources = [(*rng.choices(range(4, 300), k=length), 2) for length in (3, 12, 40)]
    joins = tuple(Join(source, (row,)) for row, source in enumerate(sources))
    runner = OrtRunner(bundle, max_rows=3, threads=1)
    lengths, most = tuple(map(len, sources)), bundle.manifest.limits.max_candidates
    found = []
    for step in range(10):
        tokens = tuple(rng.choices(range(4, 300), k=3))
        result = runner.run(StepPlan((), () if step else joins, tokens, (step,) * 3, lengths, most))
        found.append((result.token_ids.tolist(), result.log_probs.tolist()))
    return found


def test_exact_kernels_give_the_same_bits_as_fast_ones_that_cannot_overflow(
    tiny_int8_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not EXACT_INT8 & instruction_sets():
        pytest.skip("the fast kernels of this processor may overflow, or it has no others")
    monkeypatch.setattr(sessions, "int8_may_overflow", lambda: False)
    fast = everything(tiny_int8_bundle)
    monkeypatch.setattr(sessions, "int8_may_overflow", lambda: True)
    assert everything(tiny_int8_bundle) == fast


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "10000000 100000"}, 8),
        ({"cpu.max": "damaged"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_a_quota_of_a_container_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert num_cores(tmp_path) == cores
