"""Which of many hashes have come before, with little in memory."""

from __future__ import annotations

import hashlib

import numpy as np

_SORTED_TOGETHER = 1 << 20
"""Hashes in memory at a time: 33 MB with all that sorting needs."""


def hash_of(pair: bytes) -> int:
    """64 bits: among a hundred million pairs, two of the same hash have a probability of 0.0003."""
    return int.from_bytes(hashlib.blake2b(pair, digest_size=8).digest(), "little")


def repeated(hashes: np.ndarray, among: int) -> np.ndarray:
    """[hashes] whether each stands further ahead too, there within the first `among`.

    Args:
        hashes: [n] of 64 bits, unsigned; may be a file that is mapped into memory. It is read from beginning to end
            once for every `_SORTED_TOGETHER` of them.
        among: How many at the beginning count as those that may be repeated.
    """
    found = np.zeros(len(hashes), dtype=bool)
    rounds = max(1, -(-len(hashes) // _SORTED_TOGETHER))
    for residue in range(rounds):
        indices = _of_residue(hashes, rounds, residue)
        values = hashes[indices]
        order = np.argsort(values, kind="stable")
        values, indices = values[order], indices[order]
        is_first = np.ones(len(values), dtype=bool)
        is_first[1:] = values[1:] != values[:-1]
        first = indices[np.maximum.accumulate(np.where(is_first, np.arange(len(values)), 0))]
        found[indices] = ~is_first & (first < among)
    return found


def _of_residue(hashes: np.ndarray, divisor: int, residue: int) -> np.ndarray:
    """The indices of those that leave this residue."""
    found = [
        start + np.flatnonzero(hashes[start : start + _SORTED_TOGETHER] % np.uint64(divisor) == residue)
        for start in range(0, len(hashes), _SORTED_TOGETHER)
    ]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
