"""A fake of NVIDIA's management library (NVML), for machines without a GPU."""

# ruff: noqa: N802 - the names are those of NVML

from __future__ import annotations

from types import SimpleNamespace

BUS_ID = "0000:01:00.0"


class FakeNvml:
    """Replaces `pynvml`."""

    def __init__(self) -> None:
        self.ill = False
        self.initialised = False

    def nvmlInit(self) -> None:
        self.initialised = True

    def nvmlDeviceGetHandleByPciBusId(self, bus_id: str) -> str:
        return f"handle of {bus_id}"

    def nvmlDeviceGetName(self, handle: str) -> bytes:
        return b"Imaginary 100"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        assert handle == f"handle of {BUS_ID}"
        if self.ill:
            raise RuntimeError("GPU is lost")
        return SimpleNamespace(used=3, total=10)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(gpu=75, memory=10)
