"""The two graphs of a bundle on a GPU. Runs are queued on streams; all tensors keep their addresses.

A step of a small model is dozens of kernels, each shorter than its launch. Therefore a step is captured once as a CUDA
graph for each of a few numbers of rows, and replayed with one launch. A captured step has fixed addresses, shapes and
values of host inputs. So rows are padded to the next captured number, and the total lengths, which are host inputs, are
the capacities of the caches.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_service.bundle.manifest import CacheLayout, TensorNames
from dragoman_service.engine.plan import NO_ADJUSTMENTS, Adjustments
from dragoman_service.errors import BundleError
from dragoman_service.runtime.cuda import Cuda, DeviceArray
from dragoman_service.runtime.cuda_memory import (
    AdjustmentBuffer,
    CudaCache,
    SelectionBuffer,
    output_bytes,
    split_inputs,
    split_outputs,
)
from dragoman_service.runtime.ort import onnxruntime
from dragoman_service.runtime.selection import Selection, selects_rows
from dragoman_service.runtime.sessions import encoder_inputs, mixes_lengths, split_sources
from dragoman_service.runtime.settings import GpuOptions

ATTENTION = {"auto": 0, "flash": 1, "efficient": 2, "cudnn": 8, "math": 16}
"""Attention kernel -> its bit in ONNX Runtime's option `sdpa_kernel`."""
ARENA = {"same-as-requested": "kSameAsRequested", "power-of-two": "kNextPowerOfTwo"}
"""How the memory arena of a session grows -> ONNX Runtime's name for it."""
_EAGER = -1
"""Graph id with which nothing is captured: kernels are launched one by one."""
_ALIGNMENT = 256
"""Bytes; the addresses of tensors on a GPU are multiples of it."""
_graph_numbers = itertools.count(1)
"""Graph ids, unique over all sessions: some versions of ONNX Runtime confuse equal ids of two sessions."""


def open_cuda_session(path: Path, options: GpuOptions, stream: int, *, graphs: bool) -> onnxruntime.InferenceSession:
    """Open a graph that runs on the GPU from end to end. A node that would run on the host is an error.

    Args:
        path: The .onnx file.
        options: How the GPU is used.
        stream: The stream on which runs are queued.
        graphs: Whether runs may be captured.

    Raises:
        BundleError: ONNX Runtime cannot open it.
    """
    settings = {
        "user_compute_stream": str(stream),
        "arena_extend_strategy": ARENA[options.arena],
        "sdpa_kernel": str(ATTENTION[options.attention]),
        "enable_cuda_graph": str(int(graphs)),
    }
    if options.memory_limit:
        settings["gpu_mem_limit"] = str(options.memory_limit * 2**20)
    session = onnxruntime.SessionOptions()
    session.log_severity_level = 3
    session.enable_mem_pattern = False
    session.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        return onnxruntime.InferenceSession(str(path), session, providers=[("CUDAExecutionProvider", settings)])
    except Exception as error:  # ONNX Runtime's exceptions have no common base class but Exception
        raise BundleError(path.parent, [f"{path.name}: {error}"]) from error


class CudaEncoder:
    """The encoder: sources -> keys and values of cross-attention. Runs on a stream parallel to that of the decoder."""

    def __init__(
        self,
        cuda: Cuda,
        session: onnxruntime.InferenceSession,
        stream: int,
        layout: CacheLayout,
        tokens: int,
        names: TensorNames,
    ) -> None:
        """`tokens` is the most tokens that all sources of one call may have together."""
        self._cuda, self._session, self.stream, self.tokens = cuda, session, stream, tokens
        self.mixes_lengths = mixes_lengths(names)
        """Whether one run may have sources of different lengths."""
        self._layout = layout
        self._values_per_token = 2 * layout.decoder_layers * layout.num_heads * layout.head_dim
        self._reserve(8 * tokens)
        self._output = cuda.empty((tokens * self._values_per_token,), layout.dtype)
        self._scalars: list[npt.NDArray[Any]] = []
        """Inputs on the host, which queued runs may still read."""
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def queue(self, batches: Sequence[Sequence[Sequence[int]]]) -> list[DeviceArray]:
        """Queue the encoding of batches; see `runner.encoder_batches`.

        Returns:
            For every source, in order, [layers, 2, heads, length, head_dim]. The next call overwrites these arrays.
            Before it, readers on other streams and this stream's copies from the staging memory must be done.
        """
        fed = [encoder_inputs(sources, mixed=self.mixes_lengths) for sources in batches]
        self._scalars = []
        self._reserve(sum(_aligned(array.nbytes) for inputs in fed for array in inputs.values()))
        staged = tokens = 0
        encoded: list[DeviceArray] = []
        for sources, inputs in zip(batches, fed, strict=True):
            binding = self._session.io_binding()
            begin = staged
            for name, array in inputs.items():
                if array.ndim == 0:
                    self._scalars.append(array)
                    binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
                    continue
                self._staging[staged : staged + array.nbytes] = array.reshape(-1).view(np.uint8)
                there = DeviceArray.at(self._inputs.address + staged, array.shape, array.dtype)
                _bind(binding.bind_input, name, self._cuda, there)
                staged += _aligned(array.nbytes)
            self._cuda.copy(self._inputs[begin:staged], self._staging[begin:staged], self.stream)
            output = self._output_for(sources, tokens)
            _bind(binding.bind_output, "cross_kv", self._cuda, output)
            self._session.run_with_iobinding(binding, self._options)
            split = (self._layout.decoder_layers, 2, *output.shape[1:])
            encoded += split_sources(DeviceArray.at(output.address, split, output.dtype), sources)
            tokens += sum(map(len, sources))
        return encoded

    def _output_for(self, sources: Sequence[Sequence[int]], begin: int) -> DeviceArray:
        """The output of a run of the graph, whose first token is the token `begin` of all."""
        layout, length = self._layout, len(sources[0])
        shape: tuple[int, ...] = (layout.num_heads, sum(map(len, sources)), layout.head_dim)
        if not self.mixes_lengths:
            shape = (len(sources), layout.num_heads, length, layout.head_dim)
        address = self._output[begin * self._values_per_token :].address
        return DeviceArray.at(address, (2 * layout.decoder_layers, *shape), layout.dtype)

    def _reserve(self, num_bytes: int) -> None:
        """Make room for the inputs of a call."""
        if num_bytes > getattr(self, "_room", 0):
            self._room = num_bytes
            self._staging = self._cuda.pinned((num_bytes,), np.uint8)
            self._inputs = self._cuda.empty((num_bytes,), np.uint8)


def _aligned(num_bytes: int) -> int:
    """`num_bytes` rounded up to the alignment of GPU memory."""
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT


@dataclass(frozen=True, slots=True)
class _Step:
    """A bound step of a given number of rows and candidates: its binding, run options and outputs."""

    binding: Any
    options: onnxruntime.RunOptions
    ids: DeviceArray
    log_probs: DeviceArray
    aligned: DeviceArray
    outputs: DeviceArray
    """All of them as bytes; see `split_outputs`."""


class CudaDecoder:
    """The decoder: queues steps of all running rows. Inputs come from the host or from the step before."""

    def __init__(
        self,
        cuda: Cuda,
        session: onnxruntime.InferenceSession,
        stream: int,
        cache: CudaCache,
        names: TensorNames,
    ) -> None:
        self.selects, self.aligns = selects_rows(names), "aligned" in names.decoder_outputs
        """Whether the graph searches the candidates of some rows apart, and whether it gives aligned positions."""
        self._cuda, self._session, self.stream, self._cache = cuda, session, stream, cache
        self._max_rows = cache.self_attention.shape[2]
        # One block, so that one copy uploads all inputs: 8 bytes a row for the token, 4 each for position and length.
        self._inputs = cuda.empty((16 * self._max_rows,), np.uint8)
        self.tokens, self.positions, self.source_lengths = split_inputs(self._inputs, self._max_rows)
        self._scalars: dict[str, npt.NDArray[Any]] = {
            "total_length": np.array(cache.self_attention.shape[4], np.int32),
            "total_source_length": np.array(cache.cross_attention.shape[4], np.int32),
        }
        self._counts: dict[int, npt.NDArray[np.int64]] = {}
        words = [value.shape[1] for value in session.get_inputs() if value.name == "masks"]
        self._words = words[0] if words else 0
        self._no_adjustments = AdjustmentBuffer(cuda, 0, self._words)
        self._adjustments = AdjustmentBuffer(cuda, 64, self._words)
        self._no_selection = SelectionBuffer(cuda, 1, *words) if words else None
        self._selection = self._no_selection
        self.no_mask = np.zeros((1, *words), np.float32)
        """[1, V], a mask that allows every word."""
        self._nothing = cuda.empty((0, 1), np.int64), cuda.empty((0, 1), np.float32)
        self._selected = cuda.empty((0,), np.uint8)
        self.selected = self._nothing
        """Ids and log-probabilities [selected, candidates] of the selected rows of the last step, on the GPU."""
        self._steps: dict[tuple[int, int], _Step] = {}

    def upload(self, staged: npt.NDArray[np.uint8]) -> None:
        """Queue the copy of all inputs from pinned memory."""
        self._cuda.copy(self._inputs, staged, self.stream)

    def upload_positions(self, staged: npt.NDArray[np.int32]) -> None:
        """Queue the copy of the positions alone, for a step whose tokens come from the step before."""
        self._cuda.copy(self.positions, staged, self.stream)

    def feed_back(self, rows: int, candidates: int) -> None:
        """Queue the copy of the most probable candidates of the last step to the tokens of the next step."""
        self._cuda.copy(self.tokens[:rows], self._steps[rows, candidates].ids[:, 0], self.stream)

    def queue(
        self,
        rows: int,
        candidates: int,
        adjustments: Adjustments = NO_ADJUSTMENTS,
        selection: Selection | None = None,
        *,
        captured: bool = False,
    ) -> DeviceArray:
        """Queue a step. Returns the bytes on the GPU that will hold its candidates; see `split_outputs`.

        With `captured`, the first run captures the step on the calling thread. Steps with adjustments or selected rows
        are not captured.
        """
        step = self._steps.get((rows, candidates))
        if step is None:
            self._steps[rows, candidates] = step = self._bind(rows, candidates, captured)
        if len(adjustments) or selection:
            self._run_varying(step, rows, candidates, adjustments, selection)
        else:
            self._session.run_with_iobinding(step.binding, step.options)
        return step.outputs

    def _bind(self, rows: int, candidates: int, captured: bool) -> _Step:
        outputs = self._cuda.empty((output_bytes(rows, candidates),), np.uint8)
        graph = next(_graph_numbers) if captured else _EAGER
        binding, split = self._session.io_binding(), split_outputs(outputs, rows, candidates)
        step = _Step(binding, self._options(graph), *split, outputs)
        self._give(step, rows, candidates)
        self._give_adjustments(binding, self._no_adjustments.columns(0))
        self._give_selection(binding, None)
        return step

    def _run_varying(
        self, step: _Step, rows: int, candidates: int, adjustments: Adjustments, selection: Selection | None
    ) -> None:
        """Queue a step that is not captured, because the number of adjustments or of selected rows varies.

        Only one such step may be queued at a time: the next one overwrites the adjustments and the selection.
        """
        if len(adjustments) > self._adjustments.room:
            self._adjustments = AdjustmentBuffer(self._cuda, 2 * len(adjustments), self._words)
        self._adjustments.upload(adjustments, self.stream)
        varying = dataclasses.replace(step, binding=self._session.io_binding())
        self._give(varying, rows, candidates)
        self._give_adjustments(varying.binding, self._adjustments.columns(len(adjustments)))
        self._give_selection(varying.binding, selection)
        self._session.run_with_iobinding(varying.binding, self._options(_EAGER))

    def _give(self, step: _Step, rows: int, candidates: int) -> None:
        """Bind what every step of so many rows and candidates has."""
        binding, cuda = step.binding, self._cuda
        wanted = self._counts.setdefault(candidates, np.array([candidates], np.int64))
        for name, array in (*self._scalars.items(), ("num_candidates", wanted)):
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        fed = {"positions": self.positions[:rows], "source_lengths": self.source_lengths[:rows]}
        fed["tokens"] = DeviceArray.at(self.tokens.address, (rows, 1), np.int64)
        for name, device_array in fed.items():
            _bind(binding.bind_input, name, cuda, device_array)
        for kind, cache in (("self", self._cache.self_attention), ("cross", self._cache.cross_attention)):
            for layer in range(cache.shape[0]):
                for which, name in enumerate(("key", "value")):
                    # With the same memory as input and output, the kernel appends in place and copies nothing.
                    _bind(binding.bind_input, f"{kind}_{name}_{layer}", cuda, cache[layer, which, :rows])
                    _bind(binding.bind_output, f"new_{kind}_{name}_{layer}", cuda, cache[layer, which, :rows])
        _bind(binding.bind_output, "candidate_ids", cuda, step.ids)
        _bind(binding.bind_output, "candidate_log_probs", cuda, step.log_probs)
        if self.aligns:
            _bind(binding.bind_output, "aligned", cuda, step.aligned)

    def _give_adjustments(self, binding: Any, columns: Sequence[DeviceArray]) -> None:
        for name, column in zip(("adjust_index", "adjust_penalty", "adjust_bias"), columns, strict=True):
            _bind(binding.bind_input, name, self._cuda, column)

    def _give_selection(self, binding: Any, selection: Selection | None) -> None:
        """Bind the selected rows, and outputs for them."""
        if self._selection is None or self._no_selection is None:  # a graph of format 2
            return
        count, made = 1, self._nothing
        rows, masks = self._no_selection.part(0, 1)
        if selection:
            selected = len(selection.rows)
            if selected > self._selection.room or self._selection is self._no_selection:
                self._selection = SelectionBuffer(self._cuda, 2 * selected, self.no_mask.shape[1])
            rows, masks = self._selection.upload(selection, self.stream)
            count = selection.count
            made = self._outputs_for(selected, count)
        self.selected = made
        wanted = self._counts.setdefault(count, np.array([count], np.int64))
        binding.bind_input("num_selected_candidates", "cpu", 0, wanted.dtype.type, wanted.shape, wanted.ctypes.data)
        _bind(binding.bind_input, "selected_rows", self._cuda, rows)
        _bind(binding.bind_input, "masks", self._cuda, masks)
        for name, array in zip(("selected_ids", "selected_log_probs"), made, strict=True):
            _bind(binding.bind_output, name, self._cuda, array)

    def _outputs_for(self, selected: int, count: int) -> tuple[DeviceArray, DeviceArray]:
        """Arrays [selected, count] for the ids and the log-probabilities of selected rows."""
        ids = 8 * selected * count
        if self._selected.nbytes < 2 * ids:
            self._selected = self._cuda.empty((4 * ids,), np.uint8)
        address, shape = self._selected.address, (selected, count)
        return DeviceArray.at(address, shape, np.int64), DeviceArray.at(address + ids, shape, np.float32)

    def _options(self, graph: int) -> onnxruntime.RunOptions:
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        options.add_run_config_entry("gpu_graph_id", str(graph))
        return options


def _bind(bind: Any, name: str, cuda: Cuda, array: DeviceArray) -> None:
    bind(name, cuda.ort_device, 0, array.dtype.type, array.shape, array.address)
