"""Metrics of a GPU, read from its driver at every scrape."""

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
        """`nvml` is the module `pynvml`. `bus_id` is the PCI bus id: CUDA and NVML may number GPUs differently."""
        self._nvml = nvml
        nvml.nvmlInit()
        self._handle = nvml.nvmlDeviceGetHandleByPciBusId(bus_id)
        name = nvml.nvmlDeviceGetName(self._handle)
        self._name = name.decode() if isinstance(name, bytes) else str(name)

    def collect(self) -> Iterator[Metric]:
        """The current metrics, without those that the GPU does not report."""
        nvml, handle = self._nvml, self._handle
        asked: tuple[tuple[str, str, Callable[[], float]], ...] = (
            (
                "memory_used_bytes",
                "Memory in use, by all processes.",
                lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used,
            ),
            ("memory_total_bytes", "Total memory.", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total),
            (
                "utilization_ratio",
                "Share of the last sampling period in which a kernel ran.",
                lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            ),
        )
        for name, what, ask in asked:
            family = GaugeMetricFamily(f"dragoman_gpu_{name}", what, labels=["gpu"])
            try:
                family.add_metric([self._name], ask())
            except Exception as error:  # a GPU may lack a metric or have failed; the page needs the other metrics
                _log.debug("the GPU does not report %s: %s", name, error)
                continue
            yield family


def gpu_collector(bus_id: str) -> GpuCollector | None:
    """A collector for the GPU with a PCI bus id; None, with a warning in the log, if NVML is not available."""
    try:
        return GpuCollector(importlib.import_module("pynvml"), bus_id)
    except Exception as error:  # the base class of NVML's errors is in the module, which may be missing
        _log.warning("no metrics of the GPU: %s", error)
        return None
