"""What a GPU reports of itself, asked for at every scrape."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_log = logging.getLogger(__name__)


class GpuCollector(Collector):
    """Memory and utilisation of one GPU, through NVIDIA's management library (NVML)."""

    def __init__(self, nvml: Any, bus_id: str) -> None:
        """`nvml` is the module `pynvml`; `bus_id` is the GPU's place, as CUDA gives it: numbers may differ."""
        self._nvml = nvml
        nvml.nvmlInit()
        self._handle = nvml.nvmlDeviceGetHandleByPciBusId(bus_id)
        name = nvml.nvmlDeviceGetName(self._handle)
        self._name = name.decode() if isinstance(name, bytes) else str(name)

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment; none if the GPU does not answer."""
        nvml, handle = self._nvml, self._handle
        asked: tuple[tuple[str, str, Callable[[], float]], ...] = (
            (
                "memory_used_bytes",
                "Memory in use, by all processes.",
                lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
            ),
            ("memory_total_bytes", "Memory that there is.", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total),
            (
                "utilization_ratio",
                "Share of the last moments in which a kernel ran.",
                lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            ),
        )
        for name, what, ask in asked:
            family = GaugeMetricFamily(f"dragoman_gpu_{name}", what, labels=["gpu"])
            try:
                family.add_metric([self._name], ask())
            except (
                Exception
            ) as error:  # not every GPU says everything, and one that is ill must not take the rest along
                _log.debug("the GPU does not say its %s: %s", name, error)
                continue
            yield family


def gpu_collector(bus_id: str) -> GpuCollector | None:
    """A collector for the GPU at a place of the bus; None, with a word in the log, if NVML cannot be had."""
    try:
        return GpuCollector(importlib.import_module("pynvml"), bus_id)
    except Exception as error:  # NVML's errors share a base class that is in the module that may be missing
        _log.warning("no metrics of the GPU: %s", error)
        return None
