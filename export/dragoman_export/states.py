"""Random inputs (states) for the parts of a graph, chosen to reveal errors rather than to resemble real activations.

Rows of zeros reveal an error of a bias, rows of very small numbers that of a layer norm's epsilon. Numbers beyond the
range of 8 bits reveal wrong clipping. Numbers in the unused positions of a cache reveal a part that reads them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dragoman_export.forced import ordinary_ids
from dragoman_export.joints import DECODER, ENCODER, Stack
from dragoman_export.precision import Prepared
from dragoman_export.weights import BLOCK, cross_key_value
from dragoman_service.engine.plan import Adjustment

MAGNITUDES = (0.0, 1e-3, 1.0, 30.0, 0.05, 4.0)
"""Standard deviations of the rows of a residual stream, used in turn."""
SHARPNESS = (2.0, 8.0, 0.5)
"""Standard deviations of attention scores before the softmax, used in turn, for both even and peaked distributions."""
BEYOND = 2.5
"""The largest number of 8 bits, in standard deviations. One number in a hundred is larger."""
PUSH = 12.0
"""Bias that makes a word one of the likeliest, in nats."""


class States:
    """Draws states from a seed, in the type of the activations of a precision."""

    def __init__(self, prepared: Prepared, seed: int) -> None:
        self._config, self._rounding = prepared.reference.config, prepared.rounding
        self._half = prepared.precision == "fp16"
        self._int8 = prepared.precision == "int8"
        self._draw = torch.Generator().manual_seed(seed)

    def of_joints(self, stack: Stack, rows: tuple[int, int]) -> dict[str, Tensor]:
        """A state [*rows, width] for every joint of a stack."""
        readers = self._readers(stack)
        states = {}
        for joint, width in stack.widths.items():
            shape = (*rows, width)
            if joint in readers:
                state = self._read(readers[joint], shape)
            elif joint.endswith((".packed", ".queries")):
                state = self._attending(joint, shape)
            elif joint.endswith(".result"):
                state = self._normal(shape)
            else:
                state = self._stream(shape)
            states[joint] = state.half() if self._half else state
        return states

    def cache(self, shape: Sequence[int]) -> Tensor:
        """Keys or values of a cache. All positions have numbers."""
        if self._int8:
            return torch.randint(-127, 128, tuple(shape), generator=self._draw, dtype=torch.int8)
        state = self._normal(shape)
        return state.half() if self._half else state

    def ids(self, stack: str, *shape: int) -> Tensor:
        """Random token ids of the whole vocabulary of a stack."""
        words = self._config.source_words if stack == ENCODER else self._config.vocab_size
        return torch.randint(0, words, shape, generator=self._draw)

    def adjustments(self, rows: int) -> list[Adjustment]:
        """Penalties, bans and biases, alone and together. Row 0 has none; those of row 1 are for words of one block."""
        rng = np.random.default_rng(int(torch.randint(0, 2**31, (1,), generator=self._draw)))
        words = ordinary_ids(self._config)
        found = []
        for row in range(1, rows):
            first = int(rng.choice(words)) // BLOCK * BLOCK
            near = words[(words >= first) & (words < first + BLOCK)] if row == 1 else words
            chosen = rng.choice(near, size=min(16, len(near)), replace=False)
            for place, token in enumerate((self._config.end_id, *map(int, chosen))):
                penalty = 1.0 if place % 3 == 1 else float(rng.uniform(0.7, 2.0))
                offset = (0.0, float(rng.normal() * 3), -np.inf, PUSH)[place % 4]
                found.append(Adjustment(row, token, penalty, offset))
        return found

    def masks(self, rows: int) -> Tensor:
        """Allowed words of some rows, [rows, V]: all for the first, one for the second, then from few to most."""
        allowed = torch.zeros(rows, self._config.vocab_size, dtype=torch.bool)
        words = torch.as_tensor(ordinary_ids(self._config))
        for row in range(rows):
            count = len(words) if row == 0 else 1 + (len(words) - 1) * (row - 1) // max(1, rows - 1)
            allowed[row, words[torch.randperm(len(words), generator=self._draw)[:count]]] = True
        allowed[0] = True
        return allowed

    def _readers(self, stack: Stack) -> dict[str, str]:
        """Joint -> the first matrix that reads it."""
        firsts = {"self_attention": "query", "cross_attention": "query", "feed_forward": "inner"}
        readers = {
            joint: f"{sub_layer}.{firsts[sub_layer.rpartition('.')[2]]}"
            for joint, sub_layer in zip(stack.read, stack.sub_layers, strict=False)
        }
        readers[stack.read[-1]] = {ENCODER: cross_key_value(self._config)[0], DECODER: "output"}[stack.name]
        readers |= {joint: f"{attention}.output" for joint, attention in stack.attended.items()}
        readers |= {joint: f"{sub_layer}.outer" for joint, sub_layer in stack.active.items()}
        hidden = (sub_layer for sub_layer in stack.sub_layers if sub_layer.endswith("feed_forward"))
        return readers if stack.active else readers | {f"{each}.hidden": f"{each}.outer" for each in hidden}

    def _read(self, matrix: str, shape: Sequence[int]) -> Tensor:
        """The input of a matrix. Its first row is zero."""
        scale = self._rounding.inputs.get(matrix)
        state = self._normal(shape) * (1.0 if scale is None else scale * (self._rounding.least(matrix) + 255) / BEYOND)
        state.view(-1, shape[-1])[0] = 0
        return state

    def _attending(self, joint: str, shape: Sequence[int]) -> Tensor:
        """Queries, or concatenated queries, keys and values."""
        attention, _, kind = joint.rpartition(".")
        caches = self._rounding.caches
        key, value = (caches.get(f"{attention}.{part}") for part in ("key", "value"))
        width = self._config.attention_width
        spread = torch.ones(3, width)
        if key is not None and value is not None:
            spread[1], spread[2] = key * 127 / BEYOND, value * 127 / BEYOND
            # The integers of the cache are uniformly distributed: their standard deviation is 127 / sqrt(3) steps.
            spread[0] = 1 / (key * 127 * 3**-0.5).square().mean().sqrt()
        state = self._normal(shape)
        state[..., :width] = _by_row(state[..., :width], SHARPNESS)
        return state * (spread.flatten() if kind == "packed" else spread[0])

    def _stream(self, shape: Sequence[int]) -> Tensor:
        return _by_row(self._normal(shape), MAGNITUDES)

    def _normal(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self._draw)


def _by_row(x: Tensor, magnitudes: Sequence[float]) -> Tensor:
    """[..., width] with its rows multiplied by `magnitudes`, used in turn."""
    rows = x.flatten(0, -2)
    factors = torch.tensor([magnitudes[row % len(magnitudes)] for row in range(len(rows))])
    return (rows * factors[:, None]).view(x.shape)
