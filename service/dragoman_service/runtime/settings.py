"""Settings of the device on which models run."""

from __future__ import annotations

from dataclasses import dataclass

from dragoman_service.errors import InvalidInput, at_least

DEVICES = ("auto", "cpu", "cuda")
"""Devices for models. `auto` is the GPU if there is one and the bundle is made for it, else the CPU."""
ARENAS = ("same-as-requested", "power-of-two")
"""How the memory arena of a session on a GPU grows."""
ATTENTION_KERNELS = ("auto", "flash", "efficient", "cudnn", "math")
"""ONNX Runtime's attention kernels on a GPU."""


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """How a model uses a GPU."""

    memory_limit: int = 0
    """MiB that ONNX Runtime may take for each graph of a model, weights included; 0 is no limit. The caches of keys and
    values are not included: the server logs their size."""
    arena: str = "same-as-requested"
    """How that memory grows when it is exhausted, one of `ARENAS`."""
    attention: str = "flash"
    """Attention kernels, one of `ATTENTION_KERNELS`. Steps of one token a row choose their own where they can."""
    graph_rows: tuple[int, ...] = ()
    """Numbers of rows for which steps are captured as CUDA graphs when a model is loaded. A step is padded to the next
    larger one. Empty: 1, 2, 4, 8 ... and `max_rows`."""
    graphs: bool = True
    """Whether steps are captured."""
    steps: int = 4
    """Steps run before their results are read, if all requests are greedy and none is streamed. The GPU is idle while
    results are read."""

    def __post_init__(self) -> None:
        at_least("gpu.memory_limit", self.memory_limit, 0)
        at_least("gpu.steps", self.steps, 1)
        if self.arena not in ARENAS:
            raise InvalidInput("gpu.arena", self.arena, ", ".join(ARENAS))
        if self.attention not in ATTENTION_KERNELS:
            raise InvalidInput("gpu.attention", self.attention, ", ".join(ATTENTION_KERNELS))
        for rows in self.graph_rows:
            at_least("gpu.graph_rows", rows, 1)
