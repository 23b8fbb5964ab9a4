"""The runner that executes the scheduler's plans on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.manifest import DECODER, ENCODER
from dragoman_service.engine.plan import Join, Runner, StepPlan, StepResult
from dragoman_service.errors import BundleError, InvalidInput
from dragoman_service.runtime import golden
from dragoman_service.runtime.capturing import CaptureLock
from dragoman_service.runtime.cuda import Cuda, DeviceArray
from dragoman_service.runtime.cuda_memory import CudaCache, output_bytes, split_inputs, split_outputs
from dragoman_service.runtime.cuda_sessions import CudaDecoder, CudaEncoder, open_cuda_session
from dragoman_service.runtime.runner import MAX_ENCODE_TOKENS, check_plan, empty_step, encoder_batches
from dragoman_service.runtime.selection import for_all_rows, from_all_rows, merge, select
from dragoman_service.runtime.settings import GpuOptions

GRAPH_CANDIDATES = (1, 8, 16, 32)
"""Numbers of candidates per row for which steps are captured: those of greedy search and of beams of 4, 8 and 16."""
_capture_lock = CaptureLock()
"""Shared by all runners: a model may be loaded, which captures steps, while others run."""


class CudaRunner(Runner):
    """A bundle's graphs and the KV caches of its running rows, on a GPU. `prepare` and later calls share one thread.

    All work of a plan is queued, then waited for once. The sources that join next are encoded meanwhile on another
    stream.
    """

    def __init__(
        self,
        bundle: Bundle,
        cuda: Cuda,
        *,
        max_rows: int,
        options: GpuOptions | None = None,
        open_session: Callable[..., Any] = open_cuda_session,
    ) -> None:
        """Open the graphs and allocate the memory.

        Args:
            bundle: The bundle to run, in fp16.
            cuda: The GPU, used by this runner alone and closed with it.
            max_rows: Most rows of a plan.
            options: How the GPU is used.
            open_session: `open_cuda_session`; tests without a GPU pass another function.

        Raises:
            InvalidInput: a value that is not allowed.
            BundleError: a graph cannot be opened.
            DeviceError: the GPU has too little memory.
        """
        if max_rows < 1:
            raise InvalidInput("max_rows", max_rows, "1 or more")
        options = options or GpuOptions()
        self.bundle, self.max_rows = bundle, max_rows
        self._cuda = cuda
        self._row_buckets = row_buckets(options, max_rows)
        limits = bundle.manifest.limits
        self.max_positions = bundle.max_positions
        self._last_position = self.max_positions - 1
        most = limits.max_candidates
        self._captured = sorted({min(number, most) for number in GRAPH_CANDIDATES}) if options.graphs else []
        self._steps = options.steps
        try:
            self._open_decoder(options, open_session)
            self._open_encoders(options, open_session)
            self._staged = cuda.pinned((options.steps, 16 * max_rows), np.uint8)
            self._outputs, self._selected = cuda.pinned((0,), np.uint8), cuda.pinned((0,), np.uint8)
            self._encoded, self._joined = cuda.new_event(), cuda.new_event()
        except BaseException:
            self.close()
            raise

    def _open_decoder(self, options: GpuOptions, open_session: Callable[..., Any]) -> None:
        manifest, rows = self.bundle.manifest, self.max_rows
        target, source = self.max_positions, manifest.limits.max_source_tokens
        self.cache = CudaCache(self._cuda, manifest.cache, max_rows=rows, target=target, source=source)
        stream = self._cuda.new_stream()
        session = open_session(self.bundle.folder / DECODER, options, stream, graphs=options.graphs)
        self._decoder = CudaDecoder(self._cuda, session, stream, self.cache, manifest.tensors)

    def _open_encoders(self, options: GpuOptions, open_session: Callable[..., Any]) -> None:
        """Open two encoders of one graph: one encodes sources that join now, the other those that join later."""
        limits = self.bundle.manifest.limits
        stream = self._cuda.new_stream()
        session = open_session(self.bundle.folder / ENCODER, options, stream, graphs=False)
        tokens = max(MAX_ENCODE_TOKENS, limits.max_source_tokens)
        layout, names = self.bundle.manifest.cache, self.bundle.manifest.tensors
        self._encode_now, self._encode_ahead = (
            CudaEncoder(self._cuda, session, stream, layout, tokens, names) for _ in range(2)
        )
        self._ahead: dict[tuple[int, ...], DeviceArray] = {}
        """Sources encoded before they joined."""

    def prepare(self) -> None:
        """Capture the steps, then translate the golden sentences.

        Raises:
            BundleError: the golden sentences are not reproduced on this GPU.
        """
        for candidates in self._captured or (1,):
            for rows in self._row_buckets:
                with _capture_lock.alone():
                    self._run(empty_step(self.bundle, rows, candidates))
        problems = self.verify_golden()
        if problems:
            raise BundleError(self.bundle.path, problems)

    def run(self, plan: StepPlan) -> StepResult:
        """Perform the steps of a plan; see `plan.Runner`.

        Raises:
            InvalidInput: the plan has more candidates than the model.
            ValueError: the plan has too many rows, positions or steps.
            DeviceError: the GPU failed.
        """
        with _capture_lock.shared():
            return self._run(plan)

    def probe(self) -> None:
        """Run a step without requests; see `plan.Runner`."""
        self.run(empty_step(self.bundle, 1))

    def _run(self, plan: StepPlan) -> StepResult:
        if plan.selects_rows and not self._decoder.selects:
            most = self.bundle.manifest.limits.max_candidates
            return from_all_rows(plan, self._run(for_all_rows(plan, most)))
        self._check(plan)
        started = time.perf_counter()
        stream = self._decoder.stream
        for copy in plan.copies:
            self.cache.copy_row(copy.source, copy.target, copy.length, copy.cross, stream)
        self._join(plan.joins)
        self._cuda.mark(self._joined, stream)
        encoded = time.perf_counter()
        rows = next(bucket for bucket in self._row_buckets if bucket >= len(plan.tokens))
        candidates = self._candidates(plan.num_candidates)
        size = output_bytes(rows, candidates)
        selection = select(plan, self._decoder.no_mask) if plan.selects_rows else None
        if len(self._outputs) < plan.num_steps * size:
            self._outputs = self._cuda.pinned((2 * plan.num_steps * size,), np.uint8)
        self._stage(plan, rows)
        for step in range(plan.num_steps):
            if step == 0:
                self._decoder.upload(self._staged[0])
            else:
                self._decoder.feed_back(rows, candidates)
                self._decoder.upload_positions(split_inputs(self._staged[step], self.max_rows)[1])
            captured = candidates in self._captured
            made = self._decoder.queue(rows, candidates, plan.adjustments, selection, captured=captured)
            self._cuda.copy(self._outputs[step * size : (step + 1) * size], made, stream)
        selected = self._read_selected() if selection else ()
        self._look_ahead(plan.upcoming)
        self._cuda.wait(stream)
        steps, aligned = [], []
        for ids, log_probs, positions in self._read(plan, rows, candidates):
            steps.append((ids, log_probs))
            aligned.append(positions)
        times = encoded - started, time.perf_counter() - encoded
        given = tuple(aligned) if self._decoder.aligns else ()
        result = StepResult(*steps[0], *times, later=tuple(steps[1:]), aligned=given)
        return merge(plan, selection, result, *selected) if selection else result

    def verify_golden(self) -> list[str]:
        """Translate the bundle's golden sentences on this GPU. Returns the differences."""
        return golden.verify(self.bundle, self, max_rows=self.max_rows)

    def close(self) -> None:
        """Free the sessions and the memory. A second call does nothing."""
        for name in ("_decoder", "_encode_now", "_encode_ahead", "_ahead", "cache"):
            self.__dict__.pop(name, None)
        self._cuda.close()

    def _check(self, plan: StepPlan) -> None:
        limits = self.bundle.manifest.limits
        check_plan(plan, self.max_rows, limits.max_candidates)
        if not 1 <= plan.num_steps <= (1 if len(plan.adjustments) or plan.selects_rows else self._steps):
            allowed = f"{self._steps}, one with adjustments or selected rows"
            raise ValueError(f"a plan of {plan.num_steps} steps; this runner makes {allowed}")
        for name, longest, most in (
            ("positions", int(np.max(plan.positions)) + 1, self.max_positions),
            ("source positions", int(np.max(plan.source_lengths)), limits.max_source_tokens),
        ):
            if longest > most:
                raise ValueError(f"{longest} {name}; the model's limit is {most}")

    def _candidates(self, wanted: int) -> int:
        """`wanted` rounded up, so that few numbers of candidates have to be bound and captured."""
        enough = next((number for number in GRAPH_CANDIDATES if wanted <= number), 1 << (wanted - 1).bit_length())
        return min(enough, self.bundle.manifest.limits.max_candidates)

    def _stage(self, plan: StepPlan, rows: int) -> None:
        """Write the inputs of all steps to pinned memory. Padding rows get token 0, position 0 and source length 1."""
        real = len(plan.tokens)
        positions = np.asarray(plan.positions, np.int32)
        for step in range(plan.num_steps):
            tokens, places, lengths = split_inputs(self._staged[step], self.max_rows)
            tokens[real:rows], places[real:rows], lengths[real:rows] = 0, 0, 1
            tokens[:real] = plan.tokens
            places[:real] = np.minimum(positions + step, self._last_position)
            lengths[:real] = plan.source_lengths

    def _read(
        self, plan: StepPlan, rows: int, candidates: int
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
        """Ids, log-probabilities and aligned positions of each step."""
        size, real = output_bytes(rows, candidates), len(plan.tokens)
        for step in range(plan.num_steps):
            block = self._outputs[step * size : (step + 1) * size]
            ids, log_probs, aligned = split_outputs(block, rows, candidates)
            wanted = slice(plan.num_candidates)
            yield ids[:real, wanted], log_probs[:real, wanted], aligned[:real, 0]

    def _read_selected(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Queue the copies of the selected rows' candidates to the host. They are there when the stream is done."""
        ids, log_probs = self._decoder.selected
        rows, count = ids.shape
        if len(self._selected) < output_bytes(rows, count):
            self._selected = self._cuda.pinned((2 * output_bytes(rows, count),), np.uint8)
        block = self._selected[: output_bytes(rows, count)]
        copies = split_outputs(block, rows, count)
        for here, there in zip(copies, (ids, log_probs), strict=False):
            self._cuda.copy(here, there, self._decoder.stream)
        return copies[0], copies[1]

    def _join(self, joins: Sequence[Join]) -> None:
        """Queue the copies of the joining rows' cross-attention; first encode sources that were not encoded ahead."""
        if not joins:
            return
        late = [join for join in joins if join.source not in self._ahead]
        for part in parts(late, self._encode_now.tokens):
            batches = list(encoder_batches(part, MAX_ENCODE_TOKENS, mixed=self._encode_now.mixes_lengths))
            encoded = self._encode_now.queue([[join.source for join in batch] for batch in batches])
            ordered = [join for batch in batches for join in batch]
            self._write(list(zip(ordered, encoded, strict=True)))
            if len(part) < len(late):  # the next part overwrites the encoder's output
                self._cuda.wait(self._decoder.stream)
        self._write([(join, self._ahead[join.source]) for join in joins if join.source in self._ahead])

    def _write(self, encoded: Sequence[tuple[Join, DeviceArray]]) -> None:
        self._cuda.mark(self._encoded, self._encode_now.stream)
        self._cuda.follow(self._decoder.stream, self._encoded)
        for join, values in encoded:
            for row in join.rows:
                self.cache.write_source(row, values, self._decoder.stream)

    def _look_ahead(self, upcoming: Sequence[tuple[int, ...]]) -> None:
        """Queue the encoding of sources that will join, unless sources encoded ahead still wait to join."""
        if not upcoming or any(source in self._ahead for source in upcoming):
            return
        encoder = self._encode_ahead
        self._cuda.wait(encoder.stream)  # copies from its staging memory may still run if no source ever joined
        self._cuda.follow(encoder.stream, self._joined)  # rows that join in this step still read the last output
        first = next(parts([Join(source, ()) for source in dict.fromkeys(upcoming)], encoder.tokens))
        batches = list(encoder_batches(first, MAX_ENCODE_TOKENS, mixed=encoder.mixes_lengths))
        self._ahead = {}  # their memory is overwritten from here on, even if `queue` raises
        encoded = encoder.queue([[join.source for join in batch] for batch in batches])
        self._ahead = dict(zip((join.source for batch in batches for join in batch), encoded, strict=True))


def row_buckets(options: GpuOptions, max_rows: int) -> tuple[int, ...]:
    """Numbers of rows to which steps are padded, ascending; the last is `max_rows`."""
    chosen = options.graph_rows or tuple(2**power for power in range(max_rows.bit_length()))
    return tuple(sorted({rows for rows in chosen if rows < max_rows} | {max_rows}))


def parts(joins: Sequence[Join], tokens: int) -> Iterator[list[Join]]:
    """Divide joins, in order, into parts whose sources have at most `tokens` tokens together, or of one join."""
    part: list[Join] = []
    for join in joins:
        if part and sum(len(other.source) for other in part) + len(join.source) > tokens:
            yield part
            part = []
        part.append(join)
    if part:
        yield part
