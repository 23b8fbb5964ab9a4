"""Verification of the graphs by parts: each part of the written graphs is run with its own states, and compared with
`exact`.

Errors do not add up from part to part, so the bounds are the rounding of one part. This holds for int8, too, where
integers are compared with integers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor

from dragoman_export.exact import Exact
from dragoman_export.joints import DECODER, ENCODER, GIVEN, Stack, attended, taken_apart
from dragoman_export.precision import Prepared
from dragoman_export.states import States
from dragoman_export.weights import BLOCK, cross_key_value, padded_words, qkv
from dragoman_service.bundle import manifest
from dragoman_service.bundle.manifest import AlignmentHead, aligning_head
from dragoman_service.engine.plan import Adjustment
from dragoman_service.runtime.ort import onnxruntime
from dragoman_service.runtime.sessions import Placement, encoder_inputs, open_session

SOURCES = ((7, 2, 7, 1, 5), (1, 1))
"""Lengths of the sources of each run of the encoder. Two more runs have a source of the largest length, alone and with
shorter ones."""
ROWS = 12
"""Number of rows of the decoder's step."""
CANDIDATES = ("candidate", "selected")
"""What the names of the outputs with candidates begin with."""
Arrays = dict[str, npt.NDArray[Any]]


class Deviation(NamedTuple):
    """The deviation of a part from its exact result."""

    part: str
    """The name of the output of the part."""
    error: float
    """The largest difference, in units of the largest number of its row. For 8-bit caches: the largest distance between
    an integer and the number that was rounded to it, minus half a step, in steps."""
    in_steps: bool = False
    """Whether `error` is that of an 8-bit cache, in steps."""


@torch.no_grad()
def deviations(
    folder: Path,
    prepared: Prepared,
    *,
    longest: tuple[int, int],
    seed: int = 0,
    stacks: Collection[str] = (ENCODER, DECODER),
    alignment: AlignmentHead | None = None,
) -> Iterator[Deviation]:
    """Test every part of both graphs, one after the other. The generator runs the graphs when a deviation is read.

    Args:
        folder: The folder of the graphs and their weights. Temporary files are written to it.
        prepared: The model that the graphs were made from.
        longest: Largest number of positions of a source and of a target.
        seed: The seed of the states.
        stacks: The graphs to test: `ENCODER`, `DECODER` or both.
        alignment: The head that `aligned` must come from, as the manifest has it.

    Yields:
        The deviations of every part, several times, each time with other states.

    Raises:
        ValueError: a graph lacks a joint.
        Exception: an error of ONNX Runtime, for a graph that it cannot run.
    """
    exact = Exact(prepared)
    if ENCODER in stacks:
        states, encoder = States(prepared, seed), _Apart(folder / manifest.ENCODER, prepared, ENCODER)
        for lengths in (*SOURCES, (longest[0],), (3, longest[0], 1)):
            yield from _encoder_deviations(exact, encoder, states, [states.ids(ENCODER, each) for each in lengths])
            prepared.shelf.release()
        del encoder  # its session has the weights in memory once more
    if DECODER in stacks:
        states, decoder = States(prepared, seed), _Apart(folder / manifest.DECODER, prepared, DECODER)
        for room in (0, 3):  # caches without and with free positions at their end
            yield from _decoder_deviations(exact, decoder, states, longest, room, alignment)


class _Apart:
    """An open session of a graph that is cut at its joints."""

    def __init__(self, path: Path, prepared: Prepared, stack: str) -> None:
        self.stack = Stack(prepared.reference.config, stack)
        self._flat = {*self.stack.widths} if stack == ENCODER else set()
        if prepared.builder.flat:
            self._flat |= self.stack.widths.keys() - self.stack.attended.keys()
        kind = onnx.TensorProto.FLOAT16 if prepared.precision == "fp16" else onnx.TensorProto.FLOAT
        graph = taken_apart(onnx.load(path, load_external_data=False), self.stack.widths, kind)
        apart = path.with_name(f"{path.stem}.apart.onnx")
        try:
            onnx.save(graph, apart)
            self._session = open_session(apart, Placement(1, manifest.WEIGHT_BITS))
            self._options = onnxruntime.RunOptions()  # after a run, its results are not to be in memory twice
            self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        finally:
            apart.unlink(missing_ok=True)

    def run(
        self, states: Mapping[str, Tensor], inputs: Mapping[str, npt.NDArray[Any]], kinds: Collection[str] = ()
    ) -> Arrays:
        """Run all parts, with a state for every joint and the inputs of the graph.

        Returns the outputs of all parts, or those with a name that begins with one of `kinds`.
        """
        feeds = dict(inputs)
        for joint, state in states.items():
            feeds[joint + GIVEN] = (state.flatten(0, 1) if joint in self._flat else state).numpy()
        every = (output.name for output in self._session.get_outputs())
        names = [name for name in every if name.startswith(tuple(kinds) or "")]
        return dict(zip(names, self._session.run(names, feeds, self._options), strict=True))


def _encoder_deviations(exact: Exact, apart: _Apart, states: States, sources: Sequence[Tensor]) -> Iterator[Deviation]:
    lengths = [len(source) for source in sources]
    given = states.of_joints(apart.stack, (1, sum(lengths)))
    found = apart.run(given, encoder_inputs([source.tolist() for source in sources], mixed=True))
    positions = torch.cat([torch.arange(length) for length in lengths])
    embedded = exact.embedded(ENCODER, torch.cat(list(sources)), positions)
    for name, wanted in _expected(exact, apart.stack, given, embedded):
        yield Deviation(name, relative(found[name], wanted))
    for sub_layer in apart.stack.sub_layers:
        if sub_layer.endswith("attention"):
            each = (packed.chunk(3, dim=-1) for packed in torch.split(given[f"{sub_layer}.packed"], lengths, dim=1))
            alone = [exact.attended(query, exact.heads(key), exact.heads(value)) for query, key, value in each]
            joint = attended(sub_layer)
            yield Deviation(joint, relative(found[joint], torch.cat(alone, dim=1)))
    memory = given[apart.stack.read[-1]]
    cross = found["cross_kv"]
    projections = cross_key_value(exact.config)
    if len(cross) != len(projections):
        yield Deviation("cross_kv", float("inf"))
    for name, got in zip(projections, cross, strict=False):
        yield _kept(exact, name, got[None], exact.heads(exact.linear([name], memory)))


def _decoder_deviations(
    exact: Exact, apart: _Apart, states: States, longest: tuple[int, int], room: int, alignment: AlignmentHead | None
) -> Iterator[Deviation]:
    given = states.of_joints(apart.stack, (ROWS, 1))
    sources, targets = (_spread(most) for most in longest)
    tokens, positions = states.ids(DECODER, ROWS, 1), targets - 1
    inputs: Arrays = {
        "tokens": tokens.numpy(),
        "positions": positions.numpy().astype(np.int32),
        "total_length": np.array(int(targets.max()), np.int32),
        "source_lengths": sources.numpy().astype(np.int32),
        "total_source_length": np.array(int(sources.max()), np.int32),
    }
    heads, width = exact.config.num_heads, exact.config.head_dim
    for layer in range(exact.config.decoder_layers):
        for kind, most in (("self", longest[1]), ("cross", longest[0])):
            for part in ("key", "value"):
                shape = (ROWS, heads, most + room, width)
                inputs[f"{kind}_{part}_{layer}"] = states.cache(shape).numpy()
    adjustments = states.adjustments(ROWS)
    words = exact.config.vocab_size - len(exact.config.banned_ids)
    inputs |= _selection_inputs(exact)
    found = apart.run(given, inputs | _search_inputs(exact, words, adjustments))
    embedded = exact.embedded(DECODER, tokens, positions[:, None])
    for name, wanted in _expected(exact, apart.stack, given, embedded):
        yield Deviation(name, relative(found[name], wanted))
    for layer in range(exact.config.decoder_layers):
        yield from _self_attention(exact, layer, given, inputs, found)
        yield from _cross_attention(exact, layer, given, inputs, found)
    yield _aligned(exact, alignment, given, inputs, found)
    last = given[apart.stack.read[-1]]
    found = {name: found[name] for name in found if name.startswith(CANDIDATES)}  # the caches of all layers are large
    exact.shelf.release()
    yield from _candidates(found, words, exact.log_probs(last, adjustments))
    del found
    for changes in ((), adjustments):
        right = exact.log_probs(last, changes)
        for count in sorted({min(count, words) for count in (1, 4, 9, -(-words // BLOCK) + 1)}):
            searched = apart.run(given, inputs | _search_inputs(exact, count, changes), CANDIDATES)
            yield from _candidates(searched, count, right)
    yield from _selected_deviations(exact, apart, states, given, inputs, adjustments)


def _selected_deviations(
    exact: Exact,
    apart: _Apart,
    states: States,
    given: Mapping[str, Tensor],
    inputs: Arrays,
    adjustments: Sequence[Adjustment],
) -> Iterator[Deviation]:
    """Check the candidates of selected rows, with and without masks, and that those of the other rows are right too."""
    last = given[apart.stack.read[-1]]
    everything = exact.log_probs(last, adjustments)
    words = exact.config.vocab_size - len(exact.config.banned_ids)
    for rows, count, masks in (
        ([7, 0, 5], min(40, words), None),
        (list(range(ROWS))[::-1], words, states.masks(ROWS)),
        ([3, 1], 1, states.masks(2)),
    ):
        selection = _selection_inputs(exact, rows, count, masks)
        found = apart.run(given, inputs | _search_inputs(exact, 2, adjustments) | selection, CANDIDATES)
        right = exact.log_probs(
            last[rows], [it._replace(row=rows.index(it.row)) for it in adjustments if it.row in rows], masks
        )
        yield from _candidates(found, count, right, "selected")
        yield from _candidates(found, 2, everything)


def _aligned(
    exact: Exact, alignment: AlignmentHead | None, given: Mapping[str, Tensor], inputs: Arrays, found: Arrays
) -> Deviation:
    """Check that no source position has a larger score than `aligned`, in units of the largest score of the row."""
    aligning = aligning_head(alignment, exact.config.decoder_layers)
    attention = f"decoder.{aligning.layer}.cross_attention"
    keys = torch.tensor(inputs[f"cross_key_{aligning.layer}"]).double() * exact.cache_unit(f"{attention}.key")
    scores = exact.scores(given[f"{attention}.queries"], keys, aligning.head)  # [R, positions]
    worst = 0.0
    chosen = found["aligned"].reshape(-1)
    if len(chosen) != len(scores):
        return Deviation("aligned", float("inf"))
    for row, length, position in zip(scores, inputs["source_lengths"], chosen, strict=True):
        if not 0 <= position < length:
            return Deviation("aligned", float("inf"))
        seen = row[:length]
        worst = max(
            worst, float((seen.max() - seen[position]) / seen.abs().max().clamp(min=torch.finfo(torch.double).tiny))
        )
    return Deviation("aligned", worst)


def _expected(
    exact: Exact, stack: Stack, given: Mapping[str, Tensor], embedded: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Yield the expected value of each joint, except the outputs of attentions."""
    yield f"{stack.name}.embedded", embedded
    for norm, joint in zip(stack.norms, stack.normed, strict=True):
        yield f"{norm}.output", exact.norm(norm, given[joint])
    for place, sub_layer in enumerate(stack.sub_layers):
        read = given[stack.read[place]]
        yield stack.sums[place], given[stack.streams[place]].double() + given[f"{sub_layer}.result"].double()
        if sub_layer.endswith("feed_forward"):
            yield f"{sub_layer}.hidden", exact.linear([f"{sub_layer}.inner"], read)
            hidden, active = given[f"{sub_layer}.hidden"], f"{sub_layer}.active"
            if active in stack.active:
                yield active, exact.active(hidden)
            read = given[active] if active in stack.active else exact.active(hidden)
            yield f"{sub_layer}.result", exact.linear([f"{sub_layer}.outer"], read)
            continue
        yield f"{sub_layer}.result", exact.linear([f"{sub_layer}.output"], given[attended(sub_layer)])
        if sub_layer.endswith("self_attention"):
            yield f"{sub_layer}.packed", exact.linear(qkv(sub_layer), read)
        else:
            yield f"{sub_layer}.queries", exact.linear([f"{sub_layer}.query"], read)


def _self_attention(
    exact: Exact, layer: int, given: Mapping[str, Tensor], inputs: Arrays, found: Arrays
) -> Iterator[Deviation]:
    """Check the new keys and values in the cache, that the past ones are unchanged, and the output of the attention."""
    attention = f"decoder.{layer}.self_attention"
    positions = torch.tensor(inputs["positions"])
    query, *appended = given[f"{attention}.packed"].chunk(3, dim=-1)
    caches = []
    for part, new in zip(("key", "value"), appended, strict=True):
        cache = torch.tensor(found[f"new_self_{part}_{layer}"])
        before = torch.tensor(inputs[f"self_{part}_{layer}"])
        changed = max(_differ(cache[row, :, :length], before[row, :, :length]) for row, length in enumerate(positions))
        yield Deviation(f"new_self_{part}_{layer}", changed)
        at = cache[torch.arange(ROWS), :, positions][:, :, None]  # [R, H, 1, K]
        yield _kept(exact, f"{attention}.{part}", at.numpy(), exact.heads(new))
        caches.append(cache.double() * exact.cache_unit(f"{attention}.{part}"))
    mask = torch.arange(caches[0].size(2)) <= positions[:, None, None, None]
    wanted = exact.attended(query, caches[0], caches[1], mask)
    yield Deviation(attended(attention), relative(found[attended(attention)], wanted))


def _cross_attention(
    exact: Exact, layer: int, given: Mapping[str, Tensor], inputs: Arrays, found: Arrays
) -> Iterator[Deviation]:
    attention = f"decoder.{layer}.cross_attention"
    lengths = torch.tensor(inputs["source_lengths"])
    caches = []
    for part in ("key", "value"):
        before, after = (torch.tensor(it[f"{new}cross_{part}_{layer}"]) for it, new in ((inputs, ""), (found, "new_")))
        changed = max(_differ(after[row, :, :length], before[row, :, :length]) for row, length in enumerate(lengths))
        yield Deviation(f"new_cross_{part}_{layer}", changed)
        caches.append(before.double() * exact.cache_unit(f"{attention}.{part}"))
    mask = torch.arange(caches[0].size(2)) < lengths[:, None, None, None]
    wanted = exact.attended(given[f"{attention}.queries"], caches[0], caches[1], mask)
    yield Deviation(attended(attention), relative(found[attended(attention)], wanted))


def _candidates(found: Arrays, count: int, expected: Tensor, kind: str = "candidate") -> Iterator[Deviation]:
    """Compare the candidates with the expected log-probabilities [R, V].

    They must be the `count` likeliest ids, likeliest first, with their log-probabilities. `kind` is "candidate" for
    those of all rows, "selected" for those of selected rows.
    """
    ids, log_probs = found[f"{kind}_ids"], found[f"{kind}_log_probs"].astype(np.float64)
    wanted = expected.numpy()
    possible = np.isfinite(log_probs)
    words = wanted.shape[1]
    shapes = {ids.shape, log_probs.shape}
    twice = any(len(set(row)) < len(row) for row in ids.tolist())
    if shapes != {(len(wanted), count)} or twice or (ids[possible] >= words).any():
        yield Deviation(f"{kind}_ids", float("inf"))
        return
    of_ids = np.take_along_axis(wanted, np.minimum(ids, words - 1), axis=1)
    best = -np.sort(-wanted, axis=1)[:, : ids.shape[1]]
    of_ids = np.where(possible, of_ids, -np.inf)  # candidates with minus infinity may have any id
    # The unit is the largest number of all words, as the log-probabilities of the likeliest may be almost 0.
    units = np.abs(np.where(np.isfinite(wanted), wanted, 0)).max(axis=1)
    for name, right in (("log_probs", of_ids), ("ids", best)):
        yield Deviation(f"{kind}_{name}", relative(log_probs, torch.from_numpy(right), units))


def _kept(exact: Exact, name: str, got: npt.NDArray[Any], wanted: Tensor) -> Deviation:
    """Compare keys or values [N, H, T, K] in the cache of the projection `name` with their exact values."""
    if got.dtype != np.int8:
        return Deviation(name, relative(got.reshape(*got.shape[:-1], -1), wanted))
    steps = (wanted / exact.cache_unit(name)).clamp(-128, 127).numpy()
    if got.shape != steps.shape:
        return Deviation(name, float("inf"), in_steps=True)
    return Deviation(name, float(np.abs(got - steps).max()) - 0.5, in_steps=True)


def relative(got: npt.NDArray[Any], wanted: Tensor, units: npt.NDArray[Any] | None = None) -> float:
    """The largest difference, in units of the largest number of its row. It is infinite if sizes or infinities differ.

    `units` [rows] replaces the largest numbers of the rows.
    """
    right = wanted.numpy().reshape(-1, wanted.shape[-1])
    if got.size != right.size:
        return float("inf")
    left = got.astype(np.float64).reshape(right.shape)
    finite = np.isfinite(right)
    if not np.array_equal(left[~finite], right[~finite]) or not np.isfinite(left[finite]).all():
        return float("inf")
    zeros = np.zeros_like(right)
    difference = np.abs(np.where(finite, left, zeros) - np.where(finite, right, zeros)).max(axis=1)
    largest = np.abs(np.where(finite, right, zeros)).max(axis=1) if units is None else units
    return float((difference / np.maximum(largest, np.finfo(np.float64).tiny)).max())


def _differ(one: Tensor, other: Tensor) -> float:
    """0 if two tensors are equal, else infinity."""
    return 0.0 if torch.equal(one, other) else float("inf")


def _spread(most: int) -> Tensor:
    """The lengths of `ROWS` rows, from 1 to `most`, both included, in mixed order."""
    lengths = torch.linspace(1, most, ROWS).long()
    return lengths[torch.arange(ROWS) * 5 % ROWS]


def _search_inputs(exact: Exact, count: int, adjustments: Sequence[Adjustment]) -> Arrays:
    """The decoder's inputs for the number of candidates and the adjustments."""
    words = padded_words(exact.config.vocab_size)
    return {
        "num_candidates": np.array([count], np.int64),
        "adjust_index": np.array([it.row * words + it.token for it in adjustments], np.int64),
        "adjust_penalty": np.array([it.penalty for it in adjustments], np.float32),
        "adjust_bias": np.array([it.bias for it in adjustments], np.float32),
    }


def _selection_inputs(exact: Exact, rows: Sequence[int] = (), count: int = 1, masks: Tensor | None = None) -> Arrays:
    """The decoder's inputs for selected rows, each with the allowed words `masks` [rows, V]."""
    words = padded_words(exact.config.vocab_size)
    bias = np.zeros((1 if masks is None else len(rows), words), np.float32)
    if masks is not None:
        bias[:, : masks.size(1)][~masks.numpy()] = -np.inf
    return {
        "selected_rows": np.array(rows, np.int64),
        "masks": bias,
        "num_selected_candidates": np.array([count], np.int64),
    }
