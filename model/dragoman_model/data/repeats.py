"""Search for repeated hashes in a large array, with little memory."""

from __future__ import annotations

import hashlib

import numpy as np

_SORTED_TOGETHER = 1 << 20
"""Number of hashes that are sorted together. It takes 33 MB of memory."""


def hash_of(pair: bytes) -> int:
    """A hash of 64 bits. A hundred million different pairs have two equal hashes with a probability of 0.0003."""
    return int.from_bytes(hashlib.blake2b(pair, digest_size=8).digest(), "little")


def repeated(hashes: np.ndarray, among: int) -> np.ndarray:
    """[n] Whether each hash is equal to an earlier one that is among the first `among` hashes.

    Args:
        hashes: [n] Unsigned, of 64 bits; may be a memory-mapped file. All hashes are read once for every
            `_SORTED_TOGETHER` of them.
        among: Number of hashes at the beginning whose repetitions count.
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
    """The indices of the hashes with this residue modulo `divisor`."""
    found = [
        start + np.flatnonzero(hashes[start : start + _SORTED_TOGETHER] % np.uint64(divisor) == residue)
        for start in range(0, len(hashes), _SORTED_TOGETHER)
    ]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
