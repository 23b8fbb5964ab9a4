"""Tensors that are read from a file when they are asked for, and the account of which of a file have been used."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dragoman_service.errors import InvalidInput

Array = npt.NDArray[np.float32]

_BLOCK = 4096
"""Rows that are compared at a time: two vocabularies are never in memory together."""
_MOST_NAMES = 8
"""Most names of tensors in a message."""


@dataclass(frozen=True, slots=True, eq=False)
class LazyTensor:
    """A tensor that is read when it is asked for."""

    shape: tuple[int, ...]
    read_rows: Callable[[slice], npt.NDArray[np.generic]]
    """Reads rows of the first axis, in any floating-point type."""

    def read(self, rows: slice = slice(None)) -> Array:
        """The numbers of some rows, or of all, as float32. They may be a view of a file that is mapped into memory."""
        with np.errstate(all="ignore"):  # what is not finite is refused where the numbers are needed
            return np.asarray(self.read_rows(rows), dtype=np.float32)

    def equals(self, other: LazyTensor) -> bool:
        """Whether both have the same shape and numbers. Reads some thousand rows at a time."""
        if self is other:
            return True
        places = range(0, self.shape[0] if self.shape else 1, _BLOCK)
        return self.shape == other.shape and all(
            np.array_equal(self.read(slice(it, it + _BLOCK)), other.read(slice(it, it + _BLOCK))) for it in places
        )

    def part(self, start: int, stop: int) -> LazyTensor:
        """The rows from `start` to `stop`."""

        def read_rows(rows: slice) -> Array:
            first, last, _ = rows.indices(stop - start)
            return self.read(slice(start + first, start + last))

        return LazyTensor((stop - start, *self.shape[1:]), read_rows)

    def then(self, change: Callable[[Array], npt.NDArray[np.generic]], shape: tuple[int, ...]) -> LazyTensor:
        """The result of a function of the whole tensor, of another shape."""
        return LazyTensor(shape, lambda rows: change(self.read())[rows])

    def gathered(self, rows: Sequence[int]) -> LazyTensor:
        """Some rows, in the order of `rows`."""
        return self.then(lambda array: array[np.asarray(rows, np.intp)], (len(rows), *self.shape[1:]))

    def transposed(self) -> LazyTensor:
        """A matrix with its axes exchanged."""
        return self.then(np.transpose, self.shape[::-1])

    def flat(self) -> LazyTensor:
        """A row or column as a vector."""
        size = int(np.prod(self.shape))
        return self.then(lambda array: array.reshape(size), (size,))

    def grown(self, rows: int, value: float = 0.0) -> LazyTensor:
        """With rows of `value` added at the end, up to `rows`."""
        more = rows - self.shape[0]
        if not more:
            return self
        width = ((0, more), *((0, 0) for _ in self.shape[1:]))
        return self.then(lambda array: np.pad(array, width, constant_values=value), (rows, *self.shape[1:]))


def constant(array: npt.NDArray[np.generic]) -> LazyTensor:
    """A tensor of numbers that are in memory."""
    return LazyTensor(array.shape, lambda rows: array[rows])


class Claims:
    """The tensors of a file. Each is claimed once, or ignored by name; what is left in the end is an error."""

    def __init__(self, where: str, tensors: Mapping[str, LazyTensor]) -> None:
        """`where` is the name of the file, for messages."""
        self._where, self._left, self._all = where, dict(tensors), tensors

    def __contains__(self, name: str) -> bool:
        """Whether the file has the tensor."""
        return name in self._all

    def shape(self, name: str, axes: int = 2) -> tuple[int, ...]:
        """The shape of a tensor that must be there.

        Raises:
            InvalidInput: there is no such tensor, or it has another number of axes.
        """
        if name not in self._all:
            raise InvalidInput(f"{self._where}: {name}", None, "a tensor; the file has none of this name")
        shape = self._all[name].shape
        if len(shape) != axes:
            raise InvalidInput(f"{self._where}: {name}", f"shape {list(shape)}", f"a tensor of {axes} axes")
        return shape

    def take(self, name: str, shape: tuple[int, ...]) -> LazyTensor:
        """Claim a tensor, which must be there and have this shape.

        Raises:
            InvalidInput: there is no such tensor, or it has another shape.
        """
        if name not in self._all:
            allowed = f"a tensor of shape {list(shape)}; the file has none of this name"
            raise InvalidInput(f"{self._where}: {name}", None, allowed)
        tensor = self._left.pop(name)
        if tensor.shape != shape:
            allowed = f"shape {list(shape)}, which follows from the configuration and the other tensors"
            raise InvalidInput(f"{self._where}: {name}", f"shape {list(tensor.shape)}", allowed)
        return tensor

    def find(self, name: str, shape: tuple[int, ...]) -> LazyTensor | None:
        """Claim a tensor, or return None if the file does not have it."""
        return self.take(name, shape) if name in self._all else None

    def ignore(self, *patterns: str) -> None:
        """Leave out the tensors whose names match a pattern of a shell."""
        for name in [name for name in self._left if any(fnmatch.fnmatchcase(name, it) for it in patterns)]:
            del self._left[name]

    def finish(self) -> None:
        """Check that no tensor is left.

        Raises:
            InvalidInput: some are. The message names them.
        """
        if self._left:
            names = sorted(self._left)
            shown = ", ".join(names[:_MOST_NAMES]) + (
                f" and {len(names) - _MOST_NAMES} more" * (len(names) > _MOST_NAMES)
            )
            allowed = "only tensors of this family of models and of the layers that the configuration names"
            raise InvalidInput(f"{self._where}: tensors", shown, allowed)
