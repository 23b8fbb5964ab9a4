from __future__ import annotations

from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from dragoman_service.gpu_metrics import GpuCollector, gpu_collector


class FakeNvml:
    """In place of `pynvml`."""

    def __init__(self) -> None:
        self.ill = False
        self.initialised = False

    def nvmlInit(self) -> None:  # noqa: N802
        self.initialised = True

    def nvmlDeviceGetHandleByPciBusId(self, bus_id: str) -> str:  # noqa: N802
        return f"handle of {bus_id}"

    def nvmlDeviceGetName(self, handle: str) -> bytes:  # noqa: N802
        return b"Imaginary 100"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:  # noqa: N802
        assert handle == "handle of 0000:01:00.0"
        if self.ill:
            raise RuntimeError("GPU is lost")
        return SimpleNamespace(used=3, total=10)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=75, memory=10)


def test_memory_and_utilisation_are_those_of_the_moment(caplog: pytest.LogCaptureFixture) -> None:
    nvml, registry = FakeNvml(), CollectorRegistry()
    registry.register(GpuCollector(nvml, "0000:01:00.0"))
    gpu = {"gpu": "Imaginary 100"}
    assert registry.get_sample_value("dragoman_gpu_memory_used_bytes", gpu) == 3
    assert registry.get_sample_value("dragoman_gpu_memory_total_bytes", gpu) == 10
    assert registry.get_sample_value("dragoman_gpu_utilization_ratio", gpu) == 0.75
    nvml.ill = True
    assert registry.get_sample_value("dragoman_gpu_memory_used_bytes", gpu) is None
    assert "GPU is lost" in caplog.text


def test_without_nvml_there_are_no_metrics_but_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert gpu_collector("0000:01:00.0") is None
    assert "no metrics of the GPU" in caplog.text
