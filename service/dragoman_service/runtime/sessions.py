"""Typed calls to the two graphs of a bundle, opened in ONNX Runtime on CPUs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_service.bundle.manifest import DECODER, ENCODER, CacheLayout, TensorNames
from dragoman_service.engine.plan import Adjustments, StepPlan, StepResult
from dragoman_service.errors import BundleError, InvalidInput
from dragoman_service.runtime.kv_cache import KvCache
from dragoman_service.runtime.ort import onnxruntime
from dragoman_service.runtime.processor import int8_may_overflow
from dragoman_service.runtime.selection import (
    Selection,
    flat_index,
    for_all_rows,
    from_all_rows,
    merge,
    select,
    selects_rows,
)

SLOWER_FUSIONS = ["SkipLayerNormFusion"]
"""Graph optimisations that are turned off: the fused kernel is not vectorised, the kernels of its parts are."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How graphs run on CPUs."""

    threads: int
    """Threads that one run uses, 1 or more."""
    weight_bits: int = 8
    """Bits of the weights of int8 graphs; see `Manifest.weight_bits`."""

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise InvalidInput("threads", self.threads, "1 or more")


def open_session(path: Path, placement: Placement) -> onnxruntime.InferenceSession:
    """Open the graph of an .onnx file, with the weights file beside it.

    Raises:
        BundleError: ONNX Runtime cannot open it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = placement.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # it plans memory for one shape, and shapes differ from run to run
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leave the cores to the gRPC server
    if placement.weight_bits > 7 and int8_may_overflow():  # select the exact kernels, which have half the speed
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER_FUSIONS
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base class but Exception
        raise BundleError(path.parent, [f"{path.name}: {error}"]) from error


@dataclass(frozen=True, slots=True)
class Graphs:
    """The open graphs of a bundle. Runners on any threads may share them, so the weights are packed once."""

    encoder: onnxruntime.InferenceSession
    decoder: onnxruntime.InferenceSession

    @classmethod
    def open(cls, folder: Path, names: TensorNames, placement: Placement) -> Graphs:
        """Open both graphs. Raises as `open_session` does, and BundleError if their tensors do not have `names`."""
        encoder = open_session(folder / ENCODER, placement)
        _check_names(folder / ENCODER, encoder, names.encoder_inputs, names.encoder_outputs)
        decoder = open_session(folder / DECODER, placement)
        _check_names(folder / DECODER, decoder, names.decoder_inputs, names.decoder_outputs)
        return cls(encoder, decoder)


class EncoderSession:
    """The encoder: sources -> the keys and values that the decoder's cross-attention reads."""

    def __init__(self, session: onnxruntime.InferenceSession, layout: CacheLayout, names: TensorNames) -> None:
        self._layout = layout
        self._session = session
        self.mixes_lengths = mixes_lengths(names)
        """Whether one run may have sources of different lengths."""

    def run(self, sources: Sequence[Sequence[int]]) -> list[npt.NDArray[Any]]:
        """Encode sources. For each, in order, returns [layers, 2, heads, length, head_dim] of the cache's type."""
        inputs = encoder_inputs(sources, mixed=self.mixes_lengths)
        (cross,) = self._session.run(["cross_kv"], inputs)
        return split_sources(cross.reshape(self._layout.decoder_layers, 2, *cross.shape[1:]), sources)


def mixes_lengths(names: TensorNames) -> bool:
    """Whether an encoder takes sources of different lengths. Those of format 2 do not."""
    return "source_lengths" in names.encoder_inputs


def encoder_inputs(sources: Sequence[Sequence[int]], *, mixed: bool) -> dict[str, npt.NDArray[Any]]:
    """The inputs of the encoder for sources of any lengths, N tokens together, or without `mixed` of one length.

    Returns:
        Without `mixed`, `source` [sources, length]. With it, `source` [N], the tokens of all sources, one source after
        the other. `source_positions` [N], the place of each token in its source. `cells` [sources, longest], the number
        of the token in each cell of the padded sources; cells of padding have that of any token. `places` [N, 2], the
        cell of each token: the number of its source, and its place in it. `source_lengths` [sources].
        `total_source_length`, a scalar, the length of the longest source.
    """
    if not mixed:
        return {"source": np.array(sources, np.int64)}
    lengths = np.array([len(source) for source in sources], np.int32)
    longest, total = int(lengths.max()), int(lengths.sum())
    starts = np.cumsum(lengths) - lengths
    places = np.empty((total, 2), np.int64)
    places[:, 0] = np.repeat(np.arange(len(sources)), lengths)
    positions = np.arange(total) - np.repeat(starts, lengths)
    places[:, 1] = positions
    return {
        "source": np.fromiter(itertools.chain.from_iterable(sources), np.int64, total),
        "source_positions": positions,
        "cells": np.minimum(starts[:, None] + np.arange(longest), total - 1),
        "places": places,
        "source_lengths": lengths,
        "total_source_length": np.array(longest, np.int32),
    }


def split_sources(cross: Any, sources: Sequence[Sequence[int]]) -> list[Any]:
    """The part of each source of the encoder's output, [layers, 2, heads, length, head_dim].

    The output is [layers, 2, heads, tokens, head_dim], or in format 2 [layers, 2, sources, heads, length, head_dim].
    """
    if len(cross.shape) == 6:
        return [cross[:, :, row] for row in range(len(sources))]
    ends = list(itertools.accumulate(map(len, sources)))
    return [cross[:, :, :, end - len(source) : end] for end, source in zip(ends, sources, strict=True)]


class DecoderSession:
    """The decoder: one step of all running rows, over tensors that keep their addresses.

    Binding some forty tensors takes more than a tenth of a small step, and the number of rows changes every few steps.
    Therefore a binding is kept for every number of rows and every capacity of the caches.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, cache: KvCache, names: TensorNames, max_candidates: int
    ) -> None:
        self._session = session
        self._cache = cache
        self._max_candidates = max_candidates
        self._selects = selects_rows(names)
        self._aligns = "aligned" in names.decoder_outputs
        max_rows = cache.max_rows
        self._inputs: dict[str, npt.NDArray[Any]] = {
            "tokens": np.zeros((max_rows, 1), np.int64),
            "positions": np.zeros(max_rows, np.int32),
            "source_lengths": np.zeros(max_rows, np.int32),
        }
        self._scalars: dict[str, npt.NDArray[Any]] = {
            "total_length": np.zeros((), np.int32),
            "total_source_length": np.zeros((), np.int32),
            "num_candidates": np.zeros(1, np.int64),
        }
        words = [value.shape[1] for value in session.get_inputs() if value.name == "masks"]
        self._words = words[0] if words else 0
        """V of the graph; 0 for one of format 2."""
        self._no_mask = np.zeros((1, self._words), np.float32)
        self._nothing_selected = Selection(np.zeros(0, np.int64), self._no_mask, 1)
        self._bound: dict[tuple[int, tuple[int, int]], _Binding] = {}
        """(Number of rows, capacities of the caches) -> the binding."""

    def run(self, plan: StepPlan, encode_seconds: float = 0.0) -> StepResult:
        """Feed every row its token, whose keys and values are added to the cache.

        The plan's copies and joins are left to the runner. A later call overwrites the arrays of the result.
        """
        started = time.perf_counter()
        selects = plan.selects_rows
        if selects and not self._selects:
            return from_all_rows(plan, self.run(for_all_rows(plan, self._max_candidates), encode_seconds))
        rows = len(plan.tokens)
        self._inputs["tokens"][:rows, 0] = plan.tokens
        self._inputs["positions"][:rows] = plan.positions
        self._inputs["source_lengths"][:rows] = plan.source_lengths
        self._scalars["total_length"][...] = np.max(plan.positions) + 1
        self._scalars["total_source_length"][...] = np.max(plan.source_lengths)
        self._scalars["num_candidates"][0] = plan.num_candidates
        binding = self._binding(rows)
        binding.give_candidates(rows, plan.num_candidates)
        binding.give_adjustments(plan.adjustments, self._words)
        selection = select(plan, self._no_mask) if selects else self._nothing_selected
        if self._selects:
            binding.give_selection(selection)
        self._session.run_with_iobinding(binding.runtime)
        seconds = time.perf_counter() - started
        result = StepResult(binding.ids, binding.log_probs, encode_seconds, seconds, aligned=binding.aligned)
        return merge(plan, selection, result, *binding.selected) if selects else result

    def _binding(self, rows: int) -> _Binding:
        key = (rows, self._cache.capacities)
        binding = self._bound.get(key)
        if binding is None:
            self._bound[key] = binding = self._bind(rows)
        return binding

    def _bind(self, rows: int) -> _Binding:
        """Bind the tensors that are the same in every step of `rows` rows."""
        binding = _Binding(self._session.io_binding())
        for name, array in self._inputs.items():
            binding.bind(name, array[:rows])
        for name, array in self._scalars.items():
            binding.bind(name, array)
        for kind, cache in (("self", self._cache.self_attention), ("cross", self._cache.cross_attention)):
            for layer, keys_values in enumerate(cache.array):
                for name, array in zip(("key", "value"), keys_values, strict=True):
                    binding.bind(f"{kind}_{name}_{layer}", array[:rows])
                    # With the same memory as input and output, the kernel appends in place and copies nothing.
                    binding.bind(f"new_{kind}_{name}_{layer}", array[:rows], output=True)
        if self._aligns:
            aligned = np.zeros((rows, 1), np.int64)
            binding.bind("aligned", aligned, output=True)
            binding.aligned = (aligned[:, 0],)
        return binding


class _Binding:
    """An ONNX Runtime binding, which holds tensors by address, and the arrays that it must keep alive."""

    __slots__ = ("_adjust", "_selected_count", "_selection", "aligned", "ids", "log_probs", "runtime", "selected")

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime
        """The binding of ONNX Runtime."""
        self.ids = np.zeros((0, 0), np.int64)
        self.log_probs = np.zeros((0, 0), np.float32)
        self.aligned: tuple[npt.NDArray[np.int64], ...] = ()
        """The aligned source positions of the rows, if the graph gives them."""
        self.selected = np.zeros((0, 1), np.int64), np.zeros((0, 1), np.float32)
        """Ids and log-probabilities of the selected rows."""
        self._adjust: tuple[npt.NDArray[Any], ...] | None = None
        self._selection: Selection | None = None
        self._selected_count = np.ones(1, np.int64)

    def bind(self, name: str, array: npt.NDArray[Any], *, output: bool = False) -> None:
        """Bind an array by its address, because binding the array itself would copy it. The caller keeps it alive."""
        bind = self.runtime.bind_output if output else self.runtime.bind_input
        bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def give_candidates(self, rows: int, count: int) -> None:
        """Bind outputs for `count` candidates of each row."""
        if self.ids.shape == (rows, count):
            return
        self.ids = np.zeros((rows, count), np.int64)
        self.log_probs = np.zeros((rows, count), np.float32)
        self.bind("candidate_ids", self.ids, output=True)
        self.bind("candidate_log_probs", self.log_probs, output=True)

    def give_adjustments(self, adjustments: Adjustments, words: int) -> None:
        """Bind the adjustments of a step. Nothing is done if neither it nor the last step has any.

        `words` is V of the graph, for indices in its flattened logits; 0 for a graph of format 2, which takes pairs.
        """
        if not len(adjustments) and self._adjust is not None and not len(self._adjust[1]):
            return
        index: npt.NDArray[Any] = flat_index(adjustments, words) if words else adjustments.index
        self._adjust = (index, adjustments.penalty, adjustments.bias)
        for name, array in zip(("index", "penalty", "bias"), self._adjust, strict=True):
            self.bind(f"adjust_{name}", array)

    def give_selection(self, selection: Selection) -> None:
        """Bind the selected rows of a step, and outputs for them. Nothing is done for that of the last step."""
        if selection is self._selection:
            return
        self._selection = selection
        self._selected_count = np.array([selection.count], np.int64)
        self.bind("num_selected_candidates", self._selected_count)
        self.bind("selected_rows", selection.rows)
        self.bind("masks", selection.masks)
        shape = (len(selection.rows), selection.count)
        ids, log_probs = self.selected = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        self.bind("selected_ids", ids, output=True)
        self.bind("selected_log_probs", log_probs, output=True)


def _check_names(
    path: Path, session: onnxruntime.InferenceSession, inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    problems = []
    for kind, wanted, there in (("inputs", inputs, session.get_inputs()), ("outputs", outputs, session.get_outputs())):
        names = [value.name for value in there]
        if sorted(names) != sorted(wanted):
            odd = sorted(set(names) ^ set(wanted))
            problems.append(f"{path.name}: {kind} differ from those of the manifest: {', '.join(odd)}")
    if problems:
        raise BundleError(path.parent, problems)
