from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from dragoman_service.server.gpu_metrics import GpuCollector, gpu_collector
from support.fake_nvml import BUS_ID, FakeNvml


def test_memory_and_utilisation_are_those_of_the_moment(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    nvml, registry = FakeNvml(), CollectorRegistry()
    registry.register(GpuCollector(nvml, BUS_ID))
    gpu = {"gpu": "Imaginary 100"}
    assert registry.get_sample_value("dragoman_gpu_memory_used_bytes", gpu) == 3
    assert registry.get_sample_value("dragoman_gpu_memory_total_bytes", gpu) == 10
    assert registry.get_sample_value("dragoman_gpu_utilization_ratio", gpu) == 0.75
    nvml.ill = True
    assert registry.get_sample_value("dragoman_gpu_memory_used_bytes", gpu) is None
    assert registry.get_sample_value("dragoman_gpu_utilization_ratio", gpu) == 0.75
    assert "GPU is lost" in caplog.text


def test_without_nvml_there_are_no_metrics_but_a_word(caplog: pytest.LogCaptureFixture) -> None:
    assert gpu_collector("0000:01:00.0") is None
    assert "no metrics of the GPU" in caplog.text
