"""Creation of the runners for the lanes of a model, on a given device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.lanes import Division
from dragoman_service.engine.plan import Runner
from dragoman_service.runtime.cuda import Cuda
from dragoman_service.runtime.cuda_runner import CudaRunner
from dragoman_service.runtime.device import cuda_runtime
from dragoman_service.runtime.runner import OrtRunner
from dragoman_service.runtime.settings import GpuOptions

_log = logging.getLogger(__name__)


def make_runners(
    bundle: Bundle, gpu: GpuOptions, device: str, division: Division, on_gpu: Callable[[str], None]
) -> Sequence[Runner]:
    """Create a runner for each lane, over the same weights. `on_gpu` is called with the PCI bus id of the GPU used.

    Raises:
        BundleError: a graph cannot be opened.
        DeviceError: the GPU has too little memory.
    """
    if device == "cuda":
        cuda = Cuda(cuda_runtime())
        on_gpu(cuda.bus_id())
        cuda_runner = CudaRunner(bundle, cuda, max_rows=division.rows, options=gpu)
        _log.info(
            "%s: keys and values take %.0f MiB of the GPU", bundle.manifest.name, cuda_runner.cache.num_bytes / 2**20
        )
        return [cuda_runner]
    runners: list[OrtRunner] = []
    try:
        for _ in range(division.lanes):
            graphs = runners[0].graphs if runners else None
            # The golden sentences test the graphs, which all runners share, so one runner translates them.
            prove = not runners
            runners.append(
                OrtRunner(bundle, max_rows=division.rows, threads=division.threads, graphs=graphs, prove=prove)
            )
    except BaseException:
        for runner in runners:
            runner.close()
        raise
    return runners
