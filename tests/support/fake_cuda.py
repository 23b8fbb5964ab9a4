"""A fake GPU over host memory: the CUDA runtime calls that Dragoman uses, asynchronous streams, and sessions.

`pace` says when queued work is done. `lazy`: when the stream is waited for. `contrary`: then, but after all possible
work of the other streams. `eager`: as soon as possible. `random`: at random. A real GPU may do any of these, and the
results must be the same.
"""

# ruff: noqa: N802, N815 - the names are those of CUDA

from __future__ import annotations

import ctypes
import random
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from dragoman_service.runtime.cuda import Cuda
from dragoman_service.runtime.ort import onnxruntime
from dragoman_service.runtime.sessions import SLOWER_FUSIONS
from dragoman_service.runtime.settings import GpuOptions

PACES = ("lazy", "contrary", "eager", "random")
_OUT_OF_MEMORY = 2


class FakeRuntime:
    """Replaces `cuda.bindings.runtime`."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyDefault=4)
    cudaMemcpy3DParms = cudaPitchedPtr = cudaExtent = SimpleNamespace

    def __init__(self, pace: str = "lazy", memory: int = 1 << 30, devices: int = 1, error: int = 0) -> None:
        self.blocks: dict[int, np.ndarray] = {}
        self.waits = 0
        self._pace, self._free, self._devices, self._error = pace, memory, devices, error
        self._random = random.Random(1)
        self._streams: dict[int, deque[Callable[[], bool]]] = {}
        """Stream -> queued work. The first item is called until it returns True."""
        self._done: set[int] = set()
        """Marks that have been reached. A mark is one recording of an event."""
        self._last_mark: dict[int, int] = {}
        self._marks = 0

    # Memory.

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        if size > self._free:
            return _OUT_OF_MEMORY, 0
        self._free -= size
        block = np.full(size, 0xFF, np.uint8)  # unwritten memory reads as NaN
        self.blocks[block.ctypes.data] = block
        return 0, block.ctypes.data

    cudaMallocHost = cudaMalloc

    def cudaFree(self, address: int) -> tuple[int]:
        self._free += self.blocks.pop(address).nbytes
        return (0,)

    cudaFreeHost = cudaFree

    def cudaMemset(self, address: int, value: int, size: int) -> tuple[int]:
        ctypes.memset(self._inside(address, size), value, size)
        return (0,)

    def cudaMemGetInfo(self) -> tuple[int, int, int]:
        return 0, self._free, self._free + sum(block.nbytes for block in self.blocks.values())

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        return self.cudaMemcpy2DAsync(to, size, source, size, size, 1, kind, stream)

    def cudaMemcpy2DAsync(
        self, to: int, to_pitch: int, source: int, pitch: int, width: int, height: int, kind: int, stream: int
    ) -> tuple[int]:
        assert kind == 4
        for line in range(height):
            self._move(to + line * to_pitch, source + line * pitch, width, stream)
        return (0,)

    def cudaMemcpy3DAsync(self, box: Any, stream: int) -> tuple[int]:
        size, to, source = box.extent, box.dstPtr, box.srcPtr
        for plane in range(size.depth):
            for line in range(size.height):
                places = [end.ptr + (plane * end.ysize + line) * end.pitch for end in (to, source)]
                self._move(*places, size.width, stream)
        return (0,)

    def _move(self, to: int, source: int, size: int, stream: int) -> None:
        self._inside(to, size)
        self._inside(source, size)
        self.queue(stream, lambda: ctypes.memmove(to, source, size))

    def _inside(self, address: int, size: int) -> int:
        fits = any(start <= address and address + size <= start + len(block) for start, block in self.blocks.items())
        assert fits, f"{size} bytes at {address:#x} are not allocated"
        return address

    # Streams.

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:
        self._marks += 1
        self._streams[self._marks] = deque()
        return 0, self._marks

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        del self._streams[stream]
        return (0,)

    def cudaEventDestroy(self, event: int) -> tuple[int]:
        self._last_mark.pop(event, None)
        return (0,)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[int, int]:
        self._marks += 1
        return 0, -self._marks

    def cudaEventRecord(self, event: int, stream: int) -> tuple[int]:
        self._marks += 1
        self._last_mark[event] = mark = self._marks
        self.queue(stream, lambda: self._done.add(mark))
        return (0,)

    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> tuple[int]:
        mark = self._last_mark.get(event)

        def reached() -> bool:
            return mark is None or mark in self._done

        self._streams[stream].append(reached)
        self._hurry()
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        if stream == 0:
            return (0,)
        self.waits += 1
        if self._pace == "contrary":
            for other in self._streams:
                while other != stream and self._advance(other):
                    pass
        while self._streams[stream]:
            if not self._advance(stream):  # it waits for a mark of another stream
                assert any(self._advance(other) for other in self._streams if other != stream), "a deadlock"
        return (0,)

    def queue(self, stream: int, work: Callable[[], Any]) -> None:
        """Queue work on a stream."""

        def do() -> bool:
            work()
            return True

        self._streams[stream].append(do)
        self._hurry()

    def _hurry(self) -> None:
        """Do queued work according to the pace: none, some, or all that is possible."""
        if self._pace in ("lazy", "contrary"):
            return
        streams = list(self._streams)
        self._random.shuffle(streams)
        for stream in streams:
            while (self._pace == "eager" or self._random.random() < 0.6) and self._advance(stream):
                pass

    def _advance(self, stream: int) -> bool:
        waiting = self._streams[stream]
        if not waiting or not waiting[0]():
            return False
        waiting.popleft()
        return True

    # Everything else.

    def cudaSetDevice(self, number: int) -> tuple[int]:
        return (0,)

    def cudaGetDeviceCount(self) -> tuple[int, int]:
        return self._error, self._devices

    def cudaDeviceGetPCIBusId(self, length: int, number: int) -> tuple[int, bytes]:
        return 0, b"0000:01:00.0".ljust(length, b"\0")

    def cudaGetErrorString(self, error: int) -> tuple[int, bytes]:
        return 0, {_OUT_OF_MEMORY: b"out of memory"}.get(error, b"no CUDA-capable device is detected")


class FakeCuda(Cuda):
    """`Cuda` over host memory."""

    ort_device = "cpu"

    def __init__(self, pace: str = "lazy", memory: int = 1 << 30) -> None:
        self.runtime = FakeRuntime(pace, memory)
        super().__init__(self.runtime)

    def open_session(self, path: Path, options: GpuOptions, stream: int, *, graphs: bool) -> Any:
        """Replaces `open_cuda_session`: the graph runs on the CPU, queued on the stream."""
        session = onnxruntime.SessionOptions()
        session.intra_op_num_threads = 1
        session.log_severity_level = 3
        session.enable_mem_pattern = False
        # The same fusions as on CPUs, so that results can be compared bit for bit.
        opened = onnxruntime.InferenceSession(str(path), session, disabled_optimizers=SLOWER_FUSIONS)
        return _QueuedSession(opened, self.runtime, stream, graphs)


class _QueuedSession:
    """A session whose runs are queued on a stream. ONNX Runtime runs a graph three times at first; so does this."""

    def __init__(self, session: onnxruntime.InferenceSession, runtime: FakeRuntime, stream: int, graphs: bool) -> None:
        self._session, self._runtime, self._stream, self._graphs = session, runtime, stream, graphs
        self._captured: dict[str, Any] = {}

    def io_binding(self) -> Any:
        return self._session.io_binding()

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        graph = options.get_run_config_entry("gpu_graph_id") if self._graphs else "-1"
        repeats = 1
        if int(graph) > 0:
            repeats = 1 if graph in self._captured else 3
            assert self._captured.setdefault(graph, binding) is binding, "another binding under the same number"
        for _ in range(repeats):
            self._runtime.queue(self._stream, lambda: self._session.run_with_iobinding(binding))
