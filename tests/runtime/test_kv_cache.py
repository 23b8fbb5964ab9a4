from __future__ import annotations

import numpy as np
import pytest

from dragoman_service.bundle.manifest import CacheLayout
from dragoman_service.runtime.kv_cache import AttentionCache, KvCache, capacity_for

LAYOUT = CacheLayout(decoder_layers=2, num_heads=3, head_dim=8, dtype="float32")


@pytest.mark.parametrize(
    ("length", "capacity"), [(1, 32), (32, 32), (33, 64), (64, 64), (65, 128), (129, 200), (200, 200)]
)
def test_capacity_grows_in_buckets_to_the_limit(length: int, capacity: int) -> None:
    assert capacity_for(length, 200) == capacity


def test_a_small_limit_is_the_only_bucket() -> None:
    assert capacity_for(1, 20) == 20


def test_no_room_beyond_the_limit() -> None:
    with pytest.raises(ValueError, match="201 positions; the model's limit is 200"):
        capacity_for(201, 200)


def filled(max_rows: int = 4) -> AttentionCache:
    cache = AttentionCache(LAYOUT, max_rows, 200)
    cache.array[:] = np.arange(cache.array.size, dtype=np.float32).reshape(cache.array.shape)
    return cache


def test_growing_keeps_the_rows_that_are_to_be_kept() -> None:
    cache = filled()
    before = cache.array.copy()
    cache.reserve(70, kept_rows=3)
    assert cache.array.shape == (2, 2, 4, 3, 128, 8)
    np.testing.assert_array_equal(cache.array[:, :, :3, :, :32], before[:, :, :3])
    assert not cache.array[:, :, 3].any()


def test_it_shrinks_only_when_there_is_nothing_to_keep() -> None:
    cache = filled()
    cache.reserve(70, kept_rows=1)
    cache.reserve(1, kept_rows=1)
    assert cache.capacity == 128
    cache.reserve(1, kept_rows=0)
    assert cache.capacity == 32


def test_memory_stays_where_it_is_while_there_is_room() -> None:
    cache = filled()
    array = cache.array
    cache.reserve(32, kept_rows=0)
    cache.reserve(5, kept_rows=2)
    assert cache.array is array


def test_each_capacity_has_memory_of_its_own_that_is_used_again() -> None:
    cache = filled()
    small = cache.array
    cache.reserve(70, kept_rows=0)
    large = cache.array
    for _ in range(3):
        cache.reserve(1, kept_rows=0)
        assert cache.array is small
        cache.reserve(70, kept_rows=2)
        assert cache.array is large
        np.testing.assert_array_equal(large[:, :, :2, :, :32], small[:, :, :2])
    assert cache.num_bytes == small.nbytes + large.nbytes


def test_copying_a_row_copies_all_layers_and_only_the_first_positions() -> None:
    cache = filled()
    before = cache.array.copy()
    cache.copy_row(2, 1, 5)
    np.testing.assert_array_equal(cache.array[:, :, 1, :, :5], before[:, :, 2, :, :5])
    np.testing.assert_array_equal(cache.array[:, :, 1, :, 5:], before[:, :, 1, :, 5:])
    np.testing.assert_array_equal(cache.array[:, :, [0, 2, 3]], before[:, :, [0, 2, 3]])


def test_writing_a_row() -> None:
    cache = filled()
    values = -np.ones((2, 2, 3, 7, 8), np.float32)
    cache.write_row(1, values)
    assert (cache.array[:, :, 1, :, :7] == -1).all()
    assert (cache.array[:, :, 1, :, 7:] >= 0).all()
    assert (cache.array[:, :, [0, 2, 3]] >= 0).all()


def test_the_first_rows_of_a_layer_are_contiguous() -> None:
    cache = filled()
    assert cache.array[1, 0, :3].flags.c_contiguous


def test_both_caches_are_accounted_for_and_copied_as_asked() -> None:
    cache = KvCache(LAYOUT, max_rows=4, max_target_positions=64, max_source_tokens=200)
    cache.reserve(target_length=40, source_length=100, kept_rows=0)
    per_position = 2 * 2 * 4 * 3 * 8 * 4
    assert cache.num_bytes == per_position * (32 + 64 + 32 + 128)
    assert cache.capacities == (64, 128)
    cache.self_attention.array[:, :, 2] = 1
    cache.cross_attention.array[:, :, 2] = 1
    cache.copy_row(2, 0, 3, 0)
    assert cache.self_attention.array[:, :, 0, :, :3].all()
    assert not cache.cross_attention.array[:, :, 0].any()
    cache.copy_row(2, 1, 3, 100)
    assert cache.cross_attention.array[:, :, 1, :, :100].all()
    assert not cache.cross_attention.array[:, :, 1, :, 100:].any()
