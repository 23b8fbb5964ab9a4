from __future__ import annotations

import numpy as np
import pytest

from dragoman_service.runtime.cuda import Cuda, DeviceArray
from dragoman_service.runtime.device import DeviceError
from support.fake_cuda import PACES, FakeCuda


def fill(cuda: Cuda, array: DeviceArray, values: np.ndarray, stream: int) -> None:
    """Write values [of the same shape] to an array that is contiguous."""
    staged = cuda.pinned(values.shape, values.dtype)
    staged[...] = values
    cuda.copy(array, staged, stream)
    cuda.wait(stream)


def read(cuda: Cuda, array: DeviceArray, stream: int) -> np.ndarray:
    back = cuda.pinned(array.shape, array.dtype)
    cuda.copy(back, array, stream)
    cuda.wait(stream)
    return back.copy()


def test_slices_are_where_numpy_has_them() -> None:
    array = DeviceArray.at(4096, (3, 4, 5), np.float32)
    assert (array.address, array.shape, array.strides, array.nbytes) == (4096, (3, 4, 5), (80, 20, 4), 240)
    part = array[1:, 2, 1:4]
    assert (part.address, part.shape, part.strides) == (4096 + 80 + 40 + 4, (2, 3), (80, 4))


def test_memory_begins_with_zeros() -> None:
    cuda = FakeCuda()
    assert not read(cuda, cuda.empty((3, 4), np.float32), cuda.new_stream()).any()


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize(
    ("target", "source"),
    [
        (np.s_[:], np.s_[:]),
        (np.s_[0, 1], np.s_[2, 3]),
        (np.s_[:, 1], np.s_[:, 2]),
        (np.s_[1, :, :3], np.s_[2, :, 2:]),
        (np.s_[:2, 1:3, :2], np.s_[1:, 2:, 3:]),
        (np.s_[:, :0], np.s_[:, :0]),
        (np.s_[1, 2, 3:4], np.s_[0, 0, :1]),
    ],
)
def test_a_copy_moves_what_assignment_would(pace: str, target: tuple[object, ...], source: tuple[object, ...]) -> None:
    cuda = FakeCuda(pace)
    stream = cuda.new_stream()
    shape = (3, 4, 5)
    here = [np.arange(60, dtype=np.float32).reshape(shape), -np.arange(60, dtype=np.float32).reshape(shape)]
    there = [cuda.empty(shape, np.float32) for _ in here]
    for array, values in zip(there, here, strict=True):
        fill(cuda, array, values, stream)
    cuda.copy(there[0][target], there[1][source], stream)
    here[0][target] = here[1][source]
    assert np.array_equal(read(cuda, there[0], stream), here[0])


def test_what_no_copy_can_do_is_refused() -> None:
    cuda = FakeCuda()
    array, stream = cuda.empty((4, 4, 4, 4), np.float32), cuda.new_stream()
    with pytest.raises(ValueError, match="scattered over 4 axes"):
        cuda.copy(array[:3, :3, :3, :3], array[1:, 1:, 1:, 1:], stream)
    with pytest.raises(ValueError, match="shapes"):
        cuda.copy(array[0], array[0, 0], stream)


def test_too_little_memory_is_said_in_words() -> None:
    with pytest.raises(DeviceError, match=r"out of memory \(CUDA error 2\): fewer --max-rows"):
        FakeCuda(memory=100).empty((1000,), np.float32)


def test_all_memory_is_given_back() -> None:
    cuda = FakeCuda()
    cuda.empty((5,), np.float32)
    cuda.pinned((5,), np.float32)
    cuda.close()
    cuda.close()
    assert not cuda.runtime.blocks
    assert cuda.memory() == (1 << 30, 1 << 30)
