"""Random damage to bytes and to JSON; the same `random.Random` does the same damage."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

NESTED = "nested too deeply"
"""Stands for lists in lists, which are put in as text: no value that deep could be written."""
DEPTH = 100_000
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 10**6, 2**31, -(2**63), 10**15, 2**70, 10**400, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), float("-inf"), "", " ", "x", "1", "en", "nan", "../x", "/", "a/b", "\0", "\n", "\ud800", "\u202e",
    "漢", "x" * 10_000, [], [[]], [None], ["en"], ["en", "de"], [1, 2], {}, {"": 0}, {"\0": {}}, {"\ud800": 1}, NESTED,
)  # fmt: skip

Bytes = Callable[[bytearray, random.Random], None]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A copy with one to three kinds of damage, most often one."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(_KINDS)(changed, rng)
    return bytes(changed)


def damaged_json(value: Any, rng: random.Random) -> str:
    """JSON of `value` in which one to three things are dropped, added, doubled, or of another kind."""
    changed = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        parent, key = rng.choice(list(_places(changed)) or [(None, None)])
        if parent is None:
            break
        _change(parent, key, rng)
    return as_text(changed)


def as_text(value: Any) -> str:
    """JSON, with what `NESTED` stands for."""
    return json.dumps(value).replace(f'"{NESTED}"', "[" * DEPTH + "]" * DEPTH)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key in it, at any depth."""
    if isinstance(value, dict | list):
        for key, inside in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _places(inside)


def _change(parent: Any, key: Any, rng: random.Random) -> None:
    how = rng.randrange(8)
    if how == 0:
        del parent[key]
    elif how == 1 and isinstance(parent, dict):
        parent[str(rng.choice(ODD_VALUES))] = parent[key]
    elif how == 2 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(rng.choice(parent)))
    elif how == 3:
        parent[key] = [parent[key]]
    elif how == 4 and isinstance(parent[key], int):
        parent[key] += rng.choice((-1, 1, 100, 2**31, 10**400))
    else:
        parent[key] = copy.deepcopy(rng.choice(ODD_VALUES))


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 16)) if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 4)) if data else 0):
        data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))


def _blank(data: bytearray, rng: random.Random) -> None:
    start, stop = _stretch(data, rng)
    data[start:stop] = bytes(stop - start)


def _insert(data: bytearray, rng: random.Random) -> None:
    place = rng.randint(0, len(data))
    data[place:place] = rng.randbytes(rng.choice((1, 2, 8, 100)))


def _delete(data: bytearray, rng: random.Random) -> None:
    start, stop = _stretch(data, rng)
    del data[start:stop]


def _double(data: bytearray, rng: random.Random) -> None:
    start, stop = _stretch(data, rng)
    data[start:start] = data[start:stop]


def _move(data: bytearray, rng: random.Random) -> None:
    start, stop = _stretch(data, rng)
    moved = data[start:stop]
    del data[start:stop]
    place = rng.randint(0, len(data))
    data[place:place] = moved


def _truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randint(0, len(data)) :]


def _stretch(data: bytearray, rng: random.Random) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.choice((1, 2, 8, 100, 1000)))


_KINDS: tuple[Bytes, ...] = (_flip, _flip, _flip, _overwrite, _blank, _insert, _delete, _double, _move, _truncate)
