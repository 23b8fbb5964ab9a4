"""Where the tensors of models are kept while they are exported: in memory, or in a file that is mapped into memory.

An export has three models of the same size: the one that was trained, its equalised copy, and the rounded copy that the
graphs must agree with. No stage reads all numbers of more than one of them. So large models are kept in a file, of
which memory holds what the present stage has read.
"""

from __future__ import annotations

import copy
import mmap
import tempfile
from types import TracebackType

import torch
from torch import Tensor, nn

from dragoman_model.transformer import Transformer
from dragoman_service.runtime.memory import trim

_BLOCK = 256 * 2**20
"""Bytes that are mapped at a time."""
_ALIGNMENT = 64
"""Alignment of tensors in bytes: a cache line, and the widest vector register."""


class Shelf:
    """Keeps tensors in memory."""

    def keep(self, tensor: Tensor) -> Tensor:
        """A copy, which may be changed in place."""
        return tensor.detach().clone(memory_format=torch.contiguous_format)

    def release(self) -> None:
        """Give memory back to the system that is not needed until the next tensor is read."""


class FileShelf(Shelf):
    """Keeps tensors in a temporary file without a name. A context manager: the file is gone when the last tensor is."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._blocks: list[mmap.mmap] = []
        self._start = self._used = 0

    def keep(self, tensor: Tensor) -> Tensor:
        """A copy in the file, which may be changed in place. Writing takes no memory.

        Raises:
            OSError: the disk is full.
        """
        flat = tensor.detach().contiguous().flatten()
        if not len(flat):
            return super().keep(tensor)
        if not self._blocks or self._used + flat.nbytes > len(self._blocks[-1]):
            self._add_block(flat.nbytes)
        self._file.seek(self._start + self._used)
        self._file.write(flat.view(torch.uint8).numpy().data)
        self._file.flush()
        kept = torch.frombuffer(self._blocks[-1], dtype=tensor.dtype, count=len(flat), offset=self._used)
        self._used += flat.nbytes + -flat.nbytes % _ALIGNMENT
        return kept.view(tensor.shape)

    def release(self) -> None:
        """Forget the pages of the file, which come back when they are read, and what the allocator keeps in reserve."""
        for block in self._blocks:
            block.madvise(mmap.MADV_DONTNEED)  # the mapping is shared: its changes are in the file
        trim()

    def __enter__(self) -> FileShelf:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def _add_block(self, least: int) -> None:
        self._start += len(self._blocks[-1]) if self._blocks else 0
        length = max(_BLOCK, least + -least % mmap.ALLOCATIONGRANULARITY)
        self._file.truncate(self._start + length)
        self._blocks.append(mmap.mmap(self._file.fileno(), length, offset=self._start))
        self._used = 0


def copied(model: Transformer) -> Transformer:
    """A copy that shares all tensors with `model`. They are not to be changed, but replaced by others with `put`."""
    return copy.deepcopy(model, {id(it): it for it in (*model.parameters(), *model.buffers())})


def put(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Replace a parameter or buffer of a module."""
    parameter = isinstance(getattr(module, name), nn.Parameter)
    setattr(module, name, nn.Parameter(tensor) if parameter else tensor)


def shelve(model: Transformer, shelf: Shelf) -> None:
    """Move the tensors of a model to a shelf, one after the other."""
    for module in model.modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            put(module, name, shelf.keep(tensor))
