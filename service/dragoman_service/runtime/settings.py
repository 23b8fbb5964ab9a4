"""How a model runs on a device."""

from __future__ import annotations

from dataclasses import dataclass

from dragoman_service.errors import InvalidInput, at_least

DEVICES = ("auto", "cpu", "cuda")
"""Where models can run; auto is the GPU for bundles that are made for it, where there is one, and else the CPU."""
ARENAS = ("same-as-requested", "power-of-two")
"""By how much the memory of a GPU's session grows."""
ATTENTION_KERNELS = ("auto", "flash", "efficient", "cudnn", "math")
"""Of ONNX Runtime, on a GPU."""


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """How a model uses a GPU."""

    memory_limit: int = 0
    """MiB that ONNX Runtime may take for each graph of a model, weights included; 0 is all there is. The caches of
    keys and values come on top: see the server's log."""
    arena: str = "same-as-requested"
    """By how much that memory grows when it is too little, one of `ARENAS`."""
    attention: str = "flash"
    """Kernels of attention, one of `ATTENTION_KERNELS`; steps of one token a row choose their own where they can."""
    graph_rows: tuple[int, ...] = ()
    """Numbers of rows for which steps are captured as CUDA graphs, at the start; a step takes the next larger one.
    Left empty: 1, 2, 4, 8 ... and `max_rows`."""
    graphs: bool = True
    """Whether steps are captured at all."""
    steps: int = 4
    """Steps between two looks at what came out, where all sentences are decoded greedily and nobody waits for a piece
    of one: looking costs a moment in which the GPU idles."""

    def __post_init__(self) -> None:
        at_least("gpu.memory_limit", self.memory_limit, 0)
        at_least("gpu.steps", self.steps, 1)
        if self.arena not in ARENAS:
            raise InvalidInput("gpu.arena", self.arena, ", ".join(ARENAS))
        if self.attention not in ATTENTION_KERNELS:
            raise InvalidInput("gpu.attention", self.attention, ", ".join(ATTENTION_KERNELS))
        for rows in self.graph_rows:
            at_least("gpu.graph_rows", rows, 1)
