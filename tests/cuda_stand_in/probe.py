"""Runs an fp16 bundle with ONNX Runtime's CUDA provider over the stand-ins; prints what it did as JSON.

LD_LIBRARY_PATH=STAND_INS python probe.py BUNDLE
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.plan import Adjustment, Adjustments, Join, Masks, StepPlan
from dragoman_service.errors import BundleError
from dragoman_service.runtime.cuda_runner import CudaRunner
from dragoman_service.runtime.settings import GpuOptions
from support.fake_cuda import FakeCuda

SOURCE = (5, 6, 7, 2)
ROWS = 5
ALLOWED = np.arange(300)[None] % 7 == 0


def main() -> None:
    bundle = Bundle.load(Path(sys.argv[1]))
    counts = ctypes.CDLL("libcudart.so.13")
    cuda = FakeCuda("eager")
    cuda.ort_device = "cuda"
    found = {"onnxruntime": onnxruntime.__version__}
    for graphs in (True, False):
        runner = CudaRunner(bundle, cuda, max_rows=8, options=GpuOptions(graphs=graphs, memory_limit=1000))

        with contextlib.suppress(BundleError):  # the golden sentences come out as nonsense, behind all captures
            runner.prepare()

        def step(position: int, **changes: object) -> StepPlan:
            joins = (Join(SOURCE, tuple(range(ROWS))),) if position == 0 else ()
            feed = (1,) * ROWS, (position,) * ROWS, (len(SOURCE),) * ROWS
            return StepPlan((), joins, *feed, **{"num_candidates": 1, **changes})

        def counted(plan: StepPlan) -> dict[str, int]:
            names = ("launches", "replays", "captures")
            before = [getattr(counts, f"stand_in_{name}")() for name in names]
            copied = [counts.stand_in_copies(kind) for kind in range(5)]
            runner.run(plan)  # noqa: B023
            after = [getattr(counts, f"stand_in_{name}")() for name in names]
            done = {name: b - a for name, a, b in zip(names, before, after, strict=True)}
            kinds = ("host to host", "to the GPU", "to the host", "on the GPU", "either")
            now = [counts.stand_in_copies(kind) for kind in range(5)]
            done["copies"] = {kind: b - a for kind, a, b in zip(kinds, copied, now, strict=True) if b > a}
            return done

        found["captured" if graphs else "eager"] = {
            "first": counted(step(0)),
            "second": counted(step(1)),
            "four": counted(step(2, num_steps=4)),
            "adjusted": counted(step(6, adjustments=Adjustments.of([Adjustment(0, 5, 2.0, 0.0)]))),
            "wide": counted(step(7, num_candidates=8)),
            "selected": counted(step(8, wide_rows=(3, 1), num_wide_candidates=20, masks=Masks(np.array([0]), ALLOWED))),
        }
        runner.close()
    found["empty launches"] = counts.stand_in_empty()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
