"""The weights of a Hugging Face folder: one file, or an index and its shards."""

from __future__ import annotations

from pathlib import Path

from dragoman_export.imports.files import read_object
from dragoman_export.imports.formats.pickled import read_pickled
from dragoman_export.imports.formats.safetensors import read_safetensors
from dragoman_export.imports.lazy import LazyTensor
from dragoman_service.errors import InvalidInput

_READERS = {"model.safetensors": read_safetensors, "pytorch_model.bin": read_pickled}
"""File -> its reader. The first that is there is read; `.index.json` after its name is the index of shards."""
_OTHERS = ("tf_model.h5", "flax_model.msgpack", "rust_model.ot")


def read_weights(folder: Path) -> tuple[dict[str, LazyTensor], list[Path]]:
    """Name -> tensor, and the files that were read.

    Raises:
        InvalidInput: there are no weights, or a file is missing or damaged.
    """
    for name, read in _READERS.items():
        path, index = folder / name, folder / f"{name}.index.json"
        if path.is_file():
            return read(path), [path]
        if index.is_file():
            shards = _shards(index)
            tensors: dict[str, LazyTensor] = {}
            for shard in shards:
                found = read(shard)
                if twice := sorted(tensors.keys() & found.keys()):
                    raise InvalidInput(
                        f"{shard.name}: {twice[0]}", "a tensor of another shard, too", "each tensor once"
                    )
                tensors.update(found)
            return tensors, [index, *shards]
    others = [name for name in _OTHERS if (folder / name).is_file()]
    raise InvalidInput("weights", ", ".join(others) or None, f"{' or '.join(_READERS)}, or its shards, in {folder}")


def _shards(index: Path) -> list[Path]:
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(it, str) for it in places.values()):
        raise InvalidInput(f"{index.name}: weight_map", places, "tensor -> file")
    names = sorted(set(places.values()))
    for name in names:
        if Path(name).name != name:
            raise InvalidInput(f"{index.name}: weight_map", name, "files beside the index")
        if not (index.parent / name).is_file():
            raise InvalidInput(index.name, name, f"shards that are there; {name} is missing. Is the download complete?")
    return [index.parent / name for name in names]
