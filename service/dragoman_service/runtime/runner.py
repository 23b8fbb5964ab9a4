"""The runner that executes the scheduler's plans with ONNX Runtime on CPUs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.plan import Join, Runner, StepPlan, StepResult
from dragoman_service.errors import BundleError, InvalidInput
from dragoman_service.runtime import golden
from dragoman_service.runtime.kv_cache import KvCache
from dragoman_service.runtime.sessions import DecoderSession, EncoderSession, Graphs, Placement

MAX_ENCODE_TOKENS = 1024
"""Most source tokens in one run of the encoder, with padding, unless a single source is longer. It bounds the memory of
a run."""


class OrtRunner(Runner):
    """A bundle's graphs and the KV caches of its running rows. Use it from one thread at a time.

    The result of a row is the same to the last bit whatever the other rows are: no kernel mixes rows, and the encoder
    computes nothing for padding but queries of attention that nobody reads.
    """

    def __init__(
        self, bundle: Bundle, *, max_rows: int, threads: int, graphs: Graphs | None = None, prove: bool = True
    ) -> None:
        """Open the graphs, or use those that another runner of the bundle has opened.

        Args:
            bundle: The bundle to run.
            max_rows: Most rows of a plan.
            threads: Threads that one run uses.
            graphs: The `graphs` of another runner of this bundle, so that their weights are in memory once.
            prove: Whether `prepare` translates the golden sentences.

        Raises:
            InvalidInput: a value that is not allowed.
            BundleError: a graph cannot be opened.
        """
        if max_rows < 1:
            raise InvalidInput("max_rows", max_rows, "1 or more")
        manifest = bundle.manifest
        self.bundle = bundle
        self.max_rows = max_rows
        self.max_positions = bundle.max_positions
        self._prove = prove
        self.cache = KvCache(
            manifest.cache,
            max_rows=max_rows,
            max_target_positions=bundle.max_positions,
            max_source_tokens=manifest.limits.max_source_tokens,
        )
        self.graphs = graphs or Graphs.open(bundle.folder, manifest.tensors, Placement(threads, manifest.weight_bits))
        self._encoder = EncoderSession(self.graphs.encoder, manifest.cache, manifest.tensors)
        most = manifest.limits.max_candidates
        self._decoder = DecoderSession(self.graphs.decoder, self.cache, manifest.tensors, most)

    def run(self, plan: StepPlan) -> StepResult:
        """Perform one step; see `plan.Runner`.

        Raises:
            InvalidInput: the plan has more candidates than the model.
            ValueError: the plan has too many rows or positions.
        """
        check_plan(plan, self.max_rows, self.bundle.manifest.limits.max_candidates)
        started = time.perf_counter()
        self._make_room(plan)
        for copy in plan.copies:
            self.cache.copy_row(copy.source, copy.target, copy.length, copy.cross)
        for joins in encoder_batches(plan.joins, MAX_ENCODE_TOKENS, mixed=self._encoder.mixes_lengths):
            self._encode(joins)
        return self._decoder.run(plan, time.perf_counter() - started)

    def prepare(self) -> None:
        """Warm up, and with `prove` run the longest positions and translate the golden sentences.

        Raises:
            BundleError: the golden sentences are not reproduced on this machine.
        """
        self.warm_up()
        if self._prove:
            self._reach_limits()
        problems = self.verify_golden() if self._prove else []
        if problems:
            raise BundleError(self.bundle.path, problems)

    def warm_up(self) -> None:
        """Run a step of one row and one of `max_rows`, so that no request pays for first-time work."""
        for rows in {1, self.max_rows}:
            self.run(empty_step(self.bundle, rows))

    def _reach_limits(self) -> None:
        """Run a step at the last positions that the manifest allows. Graphs with fewer positions raise.

        The step has caches of its own, so that those of the model do not grow before they must.
        """
        limits = self.bundle.manifest.limits
        special = self.bundle.manifest.special_ids
        trial = OrtRunner(self.bundle, max_rows=1, threads=1, graphs=self.graphs, prove=False)
        join = Join(source=(special.end,) * limits.max_source_tokens, rows=(0,))
        last = self.max_positions - 1
        try:
            trial.run(StepPlan((), (join,), (special.begin,), (last,), (limits.max_source_tokens,), num_candidates=1))
        finally:
            trial.close()

    def probe(self) -> None:
        """Run a step without requests; see `plan.Runner`."""
        self.run(empty_step(self.bundle, 1))

    def verify_golden(self) -> list[str]:
        """Translate the bundle's golden sentences on this machine. Returns the differences."""
        return golden.verify(self.bundle, self, max_rows=self.max_rows)

    def close(self) -> None:
        """Free the sessions and the caches. A second call does nothing."""
        for name in ("_encoder", "_decoder", "cache", "graphs"):
            self.__dict__.pop(name, None)

    def _make_room(self, plan: StepPlan) -> None:
        joining = {row for join in plan.joins for row in join.rows}
        rows = len(plan.tokens)
        # Before the copies of the plan, rows beyond its own may still hold contents that are to be copied.
        kept = 0 if len(joining) == rows else max(rows, *(copy.source + 1 for copy in plan.copies), 0)
        self.cache.reserve(
            target_length=int(np.max(plan.positions)) + 1,
            source_length=int(np.max(plan.source_lengths)),
            kept_rows=kept,
        )

    def _encode(self, joins: Sequence[Join]) -> None:
        encoded = self._encoder.run([join.source for join in joins])
        for join, values in zip(joins, encoded, strict=True):
            for row in join.rows:
                self.cache.cross_attention.write_row(row, values)


def empty_step(bundle: Bundle, rows: int, num_candidates: int = 1) -> StepPlan:
    """A plan of the first step of `rows` rows whose source is only the end of the sentence."""
    special = bundle.manifest.special_ids
    join = Join(source=(special.end,), rows=tuple(range(rows)))
    return StepPlan((), (join,), (special.begin,) * rows, (0,) * rows, (1,) * rows, num_candidates)


def check_plan(plan: StepPlan, max_rows: int, max_candidates: int) -> None:
    """Raise InvalidInput for more candidates than the model has, ValueError for more rows than the runner has."""
    wide = {"num_wide_candidates": plan.num_wide_candidates} if len(plan.wide_rows) else {}
    for field, number in {"num_candidates": plan.num_candidates, **wide}.items():
        if not 1 <= number <= max_candidates:
            raise InvalidInput(field, number, f"1 to {max_candidates}")
    if len(plan.tokens) > max_rows:
        raise ValueError(f"a plan of {len(plan.tokens)} rows; this runner has {max_rows}")


def encoder_batches(joins: Iterable[Join], max_tokens: int, *, mixed: bool = True) -> Iterator[list[Join]]:
    """Group joins, the longest sources first, into runs of the encoder.

    Args:
        joins: The joins.
        max_tokens: Most tokens of a group, with its sources padded to the longest one. A single source may be longer.
        mixed: Whether the sources of a group may have different lengths.
    """
    group: list[Join] = []
    for join in sorted(joins, key=lambda join: -len(join.source)):
        longest = len(group[0].source) if group else 0
        if group and (longest * (len(group) + 1) > max_tokens or not (mixed or longest == len(join.source))):
            yield group
            group = []
        group.append(join)
    if group:
        yield group
