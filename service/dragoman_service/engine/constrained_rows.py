"""The rows of a batch whose tokens are banned, penalised, biased or restricted: minimum length, repetition penalty,
repeated n-grams, and the biases and restrictions of requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_service.engine.active_request import ActiveRequest
from dragoman_service.engine.biases import Bias
from dragoman_service.engine.plan import NO_ADJUSTMENTS, NO_MASKS, Adjustments, Masks
from dragoman_service.engine.restrictions import allowed_by_all
from dragoman_service.engine.search import constraints
from dragoman_service.engine.token_log import TokenLog

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class ConstrainedRows:
    """The penalties and bans of all rows, and the distinct tokens of each, which penalties need."""

    __slots__ = ("_distinct", "_end_id", "_num_distinct", "_requests", "_table", "_vocab_size")

    def __init__(self, max_rows: int, end_id: int, vocab_size: int) -> None:
        self._end_id, self._vocab_size = end_id, vocab_size
        self._requests: list[ActiveRequest] = []
        self._table: _Table | None = None  # of the requests; None after a change
        self._distinct = np.zeros((max_rows, 32), np.int64)
        self._num_distinct = np.zeros(max_rows, np.int64)

    def __bool__(self) -> bool:
        """Whether any row has a constraint."""
        return bool(self._requests)

    def add(self, active: ActiveRequest) -> None:
        """Add a request that has no tokens yet."""
        self._num_distinct[active.rows] = 0
        self._requests.append(active)
        self._table = None

    def remove(self, active: ActiveRequest) -> None:
        """Remove a request."""
        self._requests.remove(active)
        self._table = None

    def renew(self) -> None:
        """To be called when a request begins to choose."""
        self._table = None

    def move(self, row: int, target: int) -> None:
        """Follow a request from a row to another one."""
        self._distinct[target] = self._distinct[row]
        self._num_distinct[target] = self._num_distinct[row]
        self._table = None

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Follow hypotheses that are copied between rows."""
        if self._options().penalised:
            self._distinct[targets] = self._distinct[sources]
            self._num_distinct[targets] = self._num_distinct[sources]

    def note(self, new: npt.NDArray[Any], positions: Ints) -> None:
        """Add the newest tokens of all rows, which are at `positions` now, to their distinct tokens."""
        table = self._options()
        if not table.penalised:
            return
        rows = table.rows
        counts, tokens = self._num_distinct[rows], new[rows]
        width = int(counts.max(initial=0))
        if width == self._distinct.shape[1]:
            self._distinct = np.concatenate((self._distinct, np.zeros_like(self._distinct)), axis=1)
        known = self._distinct[rows, :width] == tokens[:, None]
        known &= np.arange(width) < counts[:, None]
        is_fresh = ~known.any(axis=1)
        if table.forced is not None:
            is_fresh &= positions[rows] > table.forced
        fresh = np.flatnonzero(is_fresh)
        self._distinct[rows[fresh], counts[fresh]] = tokens[fresh]
        self._num_distinct[rows[fresh]] += 1
        if table.penalties is not None:
            fresh = fresh[table.penalty[fresh] != 1.0]
            if table.penalties.has_room(len(fresh)):
                table.penalties.add(rows[fresh], tokens[fresh], table.penalty[fresh])
            else:
                table.penalties = None

    def adjustments(self, log: TokenLog, positions: Ints, live: Bools) -> Adjustments:
        """The changes to the logits of the next step.

        Args:
            log: The tokens of all rows.
            positions: [rows of the batch], numbers of tokens, those that do not count included.
            live: [rows of the batch], whether the row has a hypothesis that grows.
        """
        table = self._options()
        rows, min_length, ngram, penalty = table.rows, table.min_length, table.ngram, table.penalty
        biases = table.biases
        lengths = positions[rows]
        if table.forced is not None:
            lengths -= table.forced
        if not table.plain:
            at = ((lengths >= table.prefix) & live[rows]).nonzero()[0]
            if not len(at):
                return NO_ADJUSTMENTS
            rows, lengths, min_length, ngram, penalty = rows[at], lengths[at], min_length[at], ngram[at], penalty[at]
            biases = biases and [biases[entry] for entry in at.tolist()]
        bans = self._bans(log, rows, lengths, min_length, ngram, table.sizes)
        if table.plain and not len(bans[0]):
            if table.penalties is None:
                at, token = self._penalised_tokens(rows, penalty)
                table.penalties = _Penalties(rows[at], token, penalty[at])
            made = table.penalties.adjustments()
        else:
            penalised = self._penalised_tokens(rows, penalty)
            most = max((int(tokens.max()) for tokens in (bans[1], penalised[1]) if len(tokens)), default=0)
            made = constraints.adjustments(rows, bans, penalised, penalty, most)
        return self._biased(made, log, rows, lengths, biases) if biases else made

    def masks(self, log: TokenLog, positions: Ints, live: Bools) -> Masks:
        """The tokens that rows with restrictions may have next. For the arguments, see `adjustments`."""
        rows: list[int] = []
        masks: list[Bools] = []
        for active in self._options().restricted:
            request = active.request
            for row in active.rows:
                length = int(positions[row]) - len(request.forced)
                if length < len(request.target_prefix) or not live[row]:
                    continue
                tokens = log.tokens(np.array([row]), length)[:, 0]
                allowed = allowed_by_all(request.restrictions, tokens, self._vocab_size)
                if allowed is not None:
                    rows.append(row)
                    masks.append(allowed)
        return Masks(np.array(rows, np.int64), np.stack(masks)) if rows else NO_MASKS

    def _options(self) -> _Table:
        if self._table is None:
            self._table = _Table(self._requests)
        return self._table

    def _bans(
        self, log: TokenLog, rows: Ints, lengths: Ints, min_length: Ints, ngram: Ints, sizes: Sequence[int]
    ) -> tuple[Ints, Ints]:
        """Banned tokens of the next step: index into `rows`, and token."""
        (short,) = (lengths < min_length).nonzero()
        parts = [(short, np.full(len(short), self._end_id, np.int64))] if len(short) else []
        for size in sizes:
            of_size = np.arange(len(rows)) if len(sizes) == 1 and ngram.all() else (ngram == size).nonzero()[0]
            if len(of_size):
                history = log.tokens(rows[of_size], int(lengths[of_size].max()))
                column, token = constraints.repeated_ngram_ends(history, lengths[of_size], size)
                parts.append((of_size[column], token))
        if len(parts) == 1:
            return parts[0]
        none = np.zeros(0, np.int64)
        return (
            np.concatenate([none, *(at for at, _ in parts)]),
            np.concatenate([none, *(token for _, token in parts)]),
        )

    @staticmethod
    def _biased(
        made: Adjustments, log: TokenLog, rows: Ints, lengths: Ints, biases: Sequence[Sequence[Bias]]
    ) -> Adjustments:
        """The adjustments with the biases of each of `rows`."""
        found: list[tuple[int, Ints, float]] = []
        for row, length, own in zip(rows.tolist(), lengths.tolist(), biases, strict=True):
            tokens = log.of(row, length)[0] if own else []
            found += [(row, *added) for bias in own if len((added := bias.added(tokens))[0])]
        if not found:
            return made
        counts = [len(tokens) for _, tokens, _ in found]
        return constraints.biased(
            made,
            np.repeat([row for row, _, _ in found], counts),
            np.concatenate([tokens for _, tokens, _ in found]),
            np.repeat([number for _, _, number in found], counts),
        )

    def _penalised_tokens(self, rows: Ints, penalty: Floats) -> tuple[Ints, Ints]:
        """All tokens that rows with a penalty have produced: index into `rows`, and token."""
        (at,) = (penalty != 1.0).nonzero()
        counts = self._num_distinct[rows[at]]
        width = int(counts.max(initial=0))
        if not width:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        index, column = (np.arange(width) < counts[:, None]).nonzero()
        return at[index], self._distinct[rows[at[index]], column]


class _Table:
    """The options of the requests, an entry for each of their rows."""

    __slots__ = (
        "biases", "forced", "min_length", "ngram", "penalised", "penalties", "penalty", "plain", "prefix", "restricted",
        "rows", "sizes",
    )  # fmt: skip

    def __init__(self, requests: Sequence[ActiveRequest]) -> None:
        each = [(row, active.request, active.request.options) for active in requests for row in active.rows]
        self.rows = np.array([row for row, _, _ in each], np.int64)
        self.prefix = np.array([len(request.target_prefix) for _, request, _ in each], np.int64)
        self.min_length = np.array([options.min_length for _, _, options in each], np.int64)
        self.ngram = np.array([options.no_repeat_ngram_size for _, _, options in each], np.int64)
        self.penalty = np.array([options.repetition_penalty for _, _, options in each], np.float64)
        self.sizes = sorted(set(self.ngram.tolist()) - {0})
        self.penalised = bool(np.count_nonzero(self.penalty != 1.0))
        self.plain = all(len(active.rows) == 1 and not active.in_given for active in requests)
        """Whether every row has its own hypothesis, and chooses its next token."""
        self.biases = [request.biases for _, request, _ in each] if any(it.request.biases for it in requests) else []
        """Empty if there are none."""
        self.restricted = [active for active in requests if active.request.restrictions]
        """Requests with restrictions."""
        self.forced: Ints | None = None
        """Numbers of forced ids; None if there are none."""
        if any(active.request.forced for active in requests):
            self.forced = np.array([len(request.forced) for _, request, _ in each], np.int64)
        self.penalties: _Penalties | None = None
        """The penalties of all rows; None if they must be computed anew."""


class _Penalties:
    """The penalties of the next step. They grow by the tokens that a row produces for the first time."""

    __slots__ = ("_bias", "_count", "_index", "_penalty")

    def __init__(self, rows: Ints, tokens: Ints, penalty: Floats) -> None:
        self._count = len(rows)
        room = max(256, 2 * len(rows))
        self._index = np.empty((room, 2), np.int64)
        self._penalty, self._bias = np.empty(room, np.float32), np.zeros(room, np.float32)
        self._index[: len(rows), 0], self._index[: len(rows), 1] = rows, tokens
        self._penalty[: len(rows)] = penalty

    def has_room(self, count: int) -> bool:
        """Whether `count` further penalties fit."""
        return self._count + count <= len(self._penalty)

    def add(self, rows: Ints, tokens: Ints, penalty: Floats) -> None:
        """Add penalties for tokens that their rows have produced for the first time."""
        new = slice(self._count, self._count + len(rows))
        self._index[new, 0], self._index[new, 1], self._penalty[new] = rows, tokens, penalty
        self._count = new.stop

    def adjustments(self) -> Adjustments:
        """All penalties."""
        count = self._count
        return Adjustments(self._index[:count], self._penalty[:count], self._bias[:count]) if count else NO_ADJUSTMENTS
