"""Files of tensors: what is read, and what is refused with a message that names it."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dragoman_export.imports.formats.ct2 import read_ct2
from dragoman_export.imports.formats.npz import read_npz
from dragoman_export.imports.formats.pickled import read_pickled
from dragoman_export.imports.formats.safetensors import read_safetensors
from dragoman_export.imports.formats.weights import read_weights
from dragoman_export.imports.lazy import Claims, LazyTensor, constant
from dragoman_service.errors import InvalidInput
from support.foreign.checkpoints import FOLDER, copied

ARRAY = np.arange(12, dtype=np.float32).reshape(4, 3) - 5.5


def safetensors(path: Path, entries: dict[str, Any], data: bytes) -> Path:
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_types_of_safetensors(tmp_path: Path) -> None:
    words = (ARRAY.view(np.uint32) >> 16).astype(np.uint16)
    data = ARRAY.tobytes() + ARRAY.astype(np.float16).tobytes() + words.tobytes() + ARRAY.astype(np.float64).tobytes()
    entries = {
        "a": entry("F32", [4, 3], 0, 48),
        "b": entry("F16", [4, 3], 48, 72),
        "c": entry("BF16", [4, 3], 72, 96),
        "d": entry("F64", [4, 3], 96, 192),
        "__metadata__": {"format": "pt"},
    }
    found = read_safetensors(safetensors(tmp_path / "x.safetensors", entries, data))
    assert list(found) == ["a", "b", "c", "d"]
    for tensor in found.values():
        assert tensor.read().dtype == np.float32
        np.testing.assert_array_equal(tensor.read(), ARRAY)  # halves are exact in all of them
        np.testing.assert_array_equal(tensor.read(slice(1, 3)), ARRAY[1:3])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"a": entry("I64", [4, 3], 0, 48)}, "x.safetensors: a: dtype: got 'I64'; allowed: F64 or F32"),
        ({"a": entry("F32", [8, 3], 0, 96)}, "bytes 0 to 96.*within the 48 of the file; is it complete"),
        ({"a": entry("F32", [4, 3], 0, 96)}, r"96 bytes.*the size of shape \[4, 3\]"),
        ({"a": entry("F32", [4, 4], 0, 48)}, r"48 bytes.*the size of shape \[4, 4\] in F32"),
        *(
            ({"a": it}, "x.safetensors: a: got .*dtype, data_offsets and shape, whole numbers of at most 8 axes")
            for it in (
                entry("F32", [-4, -3], 0, 48),
                {"dtype": "F32"},
                "F32",
                entry("F32", [4, 3], -48, 0),
                entry("F32", [4.5, 3], 0, 48),
                entry("F32", ["4", 3], 0, 48),
                entry("F32", [float("inf")], 0, 48),
                entry("F32", [2**62] * 200_000, 0, 48),
            )
        ),
        (
            {"a": entry("F32", [6], 0, 24), "b": entry("F32", [6], 0, 24)},
            "x.safetensors: b: .*from 24, behind the tensor",
        ),
        ({"a": entry("F32", [6], 0, 24), "b": entry("F32", [5], 28, 48)}, "b: got 'bytes from 28'; allowed: from 24"),
        ({"a": entry("F32", [6], 0, 24)}, "got '48 bytes of numbers'; allowed: 24, as its header says"),
    ],
)
def test_damaged_safetensors(tmp_path: Path, entries: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_safetensors(safetensors(tmp_path / "x.safetensors", entries, ARRAY.tobytes()))


@pytest.mark.parametrize("data", [b"", b"1234567", b"\xff" * 20, b"\2\0\0\0\0\0\0\0{]", b"\2\0\0\0\0\0\0\0[]"])
def test_no_header_of_safetensors(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(InvalidInput, match=r"^x.safetensors"):
        read_safetensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_of_both_formats(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "pytorch_model.bin"
    tensor = torch.from_numpy(ARRAY)
    torch.save({"a": tensor, "b": tensor.bfloat16(), "c": tensor.t()}, path, _use_new_zipfile_serialization=zipped)
    found = read_pickled(path)
    np.testing.assert_array_equal(found["a"].read(), ARRAY)
    np.testing.assert_array_equal(found["b"].read(slice(2, 4)), ARRAY[2:4])
    np.testing.assert_array_equal(found["c"].read(), ARRAY.T)


def test_a_state_dict_as_modules_save_it(tmp_path: Path) -> None:
    path, layer = tmp_path / "pytorch_model.bin", torch.nn.Linear(3, 2)
    torch.save(layer.state_dict() | {"again": layer.weight}, path)
    found = read_pickled(path)
    np.testing.assert_array_equal(found["weight"].read(), layer.weight.detach().numpy())
    torch.save(layer.state_dict(), path)
    assert set(read_pickled(path)) == {"weight", "bias"}


def test_names_of_the_same_numbers_have_one_tensor(tmp_path: Path) -> None:
    path, tensor = tmp_path / "pytorch_model.bin", torch.from_numpy(ARRAY)
    torch.save({"a": tensor, "b": tensor, "c": tensor.clone(), "d": tensor[:2]}, path)
    found = read_pickled(path)
    assert found["a"] is found["b"]
    assert found["c"] is not found["a"]
    assert found["d"].shape == (2, 3)


@pytest.mark.parametrize(
    "tensor", [torch.zeros(1).expand(3), torch.zeros(3, dtype=torch.int32), torch.zeros(3, dtype=torch.complex64)]
)
def test_numbers_of_a_pickle_are_in_the_file(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"a": tensor}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InvalidInput, match=r"pytorch_model.bin: a: got 'torch\..*'; allowed: a dense tensor"):
        read_pickled(tmp_path / "pytorch_model.bin")


def test_a_compressed_pickle_is_not_taken_for_numbers(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(1000)}, path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    with pytest.raises(InvalidInput, match=r"got 'compressed'; allowed: stored as it is, as torch.save does"):
        read_pickled(path)


class Large:
    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (2**62,)


def test_a_pickle_that_needs_much_memory(tmp_path: Path) -> None:
    torch.save({"a": Large()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InvalidInput, match=r"^pytorch_model.bin: got"):
        read_pickled(tmp_path / "pytorch_model.bin")


class Harmful:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize(
    "save",
    [
        torch.save,
        lambda it, path: torch.save(it, path, _use_new_zipfile_serialization=False),
        lambda it, path: path.write_bytes(pickle.dumps(it, protocol=2)),
    ],
    ids=["zip", "before 1.6", "plain"],
)
def test_code_in_a_pickle_is_not_executed(tmp_path: Path, save: Callable[[Any, Path], None]) -> None:
    path, proof = tmp_path / "pytorch_model.bin", tmp_path / "executed"
    save({"a": torch.zeros(2), "b": Harmful(f"touch {proof}")}, path)
    with pytest.raises(InvalidInput, match=r"^pytorch_model.bin: .*(nothing in a checkpoint is executed|torch.save)"):
        read_pickled(path)
    assert not proof.exists()


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, {"a": {"b": torch.zeros(2)}}, {1: torch.zeros(2)}])
def test_a_pickle_of_other_things(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "pytorch_model.bin")
    with pytest.raises(InvalidInput, match=r"^pytorch_model.bin.*(state dict|dense tensor)"):
        read_pickled(tmp_path / "pytorch_model.bin")


def test_half_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.zeros(100)}, path)
    data = path.read_bytes()
    for length in (0, 3, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(InvalidInput, match=r"^pytorch_model.bin: got"):
            read_pickled(path)


def test_shards(tmp_path: Path) -> None:
    folder = copied("mbart-50", tmp_path)
    tensors, files = read_weights(folder)
    index = folder / "model.safetensors.index.json"
    assert set(tensors) == set(json.loads(index.read_text())["weight_map"])
    assert [it.name for it in files] == [index.name, *(f"model-0000{it}-of-00003.safetensors" for it in (1, 2, 3))]
    (folder / "model-00002-of-00003.safetensors").rename(folder / "elsewhere")
    with pytest.raises(InvalidInput, match=r"model-00002-of-00003.safetensors is missing. Is the download complete"):
        read_weights(folder)
    for map_ in ({"a": "../x.safetensors"}, {"a": 3}, None):
        index.write_text(json.dumps({"weight_map": map_}))
        with pytest.raises(InvalidInput, match=r"^model.safetensors.index.json: weight_map"):
            read_weights(folder)


def test_weights_of_other_frameworks_alone(tmp_path: Path) -> None:
    (tmp_path / "tf_model.h5").write_bytes(b"")
    with pytest.raises(
        InvalidInput, match=r"weights: got 'tf_model.h5'; allowed: model.safetensors or pytorch_model.bin"
    ):
        read_weights(tmp_path)


def ct2(
    version: int, variables: list[tuple[str, tuple[int, ...], int, bytes]], aliases: tuple[tuple[str, str], ...] = ()
) -> bytes:
    def text(it: str) -> bytes:
        return struct.pack("<H", len(it) + 1) + it.encode() + b"\0"

    data = struct.pack("<I", version) + text("TransformerSpec") + struct.pack("<II", 7, len(variables))
    for name, shape, kind, raw in variables:
        count = len(raw) if version >= 4 else len(raw) // kind
        data += text(name) + struct.pack(f"<B{len(shape)}IBI", len(shape), *shape, kind, count) + raw
    if version >= 3:
        data += struct.pack("<I", len(aliases)) + b"".join(text(one) + text(other) for one, other in aliases)
    return data


def test_names_of_ctranslate2_stand_once(tmp_path: Path) -> None:
    variable, other = ("a", (), 1, b"\1"), ("b", (), 1, b"\1")
    path = tmp_path / "model.bin"
    for data in (ct2(6, [variable, variable]), ct2(6, [variable, other], (("b", "a"),))):
        path.write_bytes(data)
        with pytest.raises(InvalidInput, match=r"model.bin: [ab]: got 'a second tensor of this name'"):
            read_ct2(path)
    path.write_bytes(ct2(6, [variable]) + b"more")
    with pytest.raises(InvalidInput, match=r"model.bin: got '4 bytes behind the last tensor'"):
        read_ct2(path)


@pytest.mark.parametrize("version", range(2, 7))
def test_versions_and_types_of_ctranslate2(tmp_path: Path, version: int) -> None:
    new = version >= 4
    eight, scale = np.array([[127, -127], [64, 3]], np.int8), np.array([2, 4], np.float32)
    sixteen = np.array([[1000, -500]], np.int16)
    variables = [
        ("a/weight", (2, 2), 1, eight.tobytes()),
        ("a/weight_scale", (2,), 0 if new else 4, scale.tobytes()),
        ("b/weight", (1, 2), 2, sixteen.tobytes()),
        ("c/weight", (1, 2), 2, sixteen.tobytes()),
        ("c/weight_scale", (), 0 if new else 4, np.float32(500).tobytes()),
        ("d/bias", (2,), 0 if new else 4, scale.tobytes()),
        ("num_heads", (), 1, b"\x08"),
        ("unk_token", (3,), 1, b"unk"),
    ]
    if new:
        words = (scale.view(np.uint32) >> 16).astype(np.uint16)
        variables += [("e/bias", (2,), 4, scale.astype(np.float16).tobytes()), ("f/bias", (2,), 5, words.tobytes())]
    aliases = (("g/weight", "a/weight"),) if version >= 3 else ()
    path = tmp_path / "model.bin"
    path.write_bytes(ct2(version, variables, aliases))
    file = read_ct2(path)
    assert (file.version, file.spec, file.revision) == (version, "TransformerSpec", 7)
    assert file.scalars == {"num_heads": 8}
    assert file.texts == {"unk_token": "unk"}
    floats = {name: tensor.read().tolist() for name, tensor in file.tensors.items()}
    assert floats["a/weight"] == [[63.5, -63.5], [16.0, 0.75]]
    assert floats["b/weight"] == [[1.0, -0.5]]
    assert floats["c/weight"] == [[2.0, -1.0]]
    assert all(floats[f"{name}/bias"] == [2.0, 4.0] for name in "def" if f"{name}/bias" in floats)
    assert ("g/weight" in floats) == (version >= 3)
    assert file.tensors["a/weight"].read(slice(1, 2)).tolist() == [[16.0, 0.75]]
    assert file.tensors["a/weight"].part(1, 2).read().tolist() == [[16.0, 0.75]]


def test_damaged_files_of_ctranslate2(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(ct2(1, []))
    with pytest.raises(InvalidInput, match=r"model.bin: binary version: got 1; allowed: 2 to 6"):
        read_ct2(path)
    whole = (FOLDER / "ct2-opennmt-int16" / "model.bin").read_bytes()
    for length in (0, 3, 10, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidInput, match=r"^model.bin: got 'incomplete or damaged'"):
            read_ct2(path)
    for variables, aliases, message in (
        ([("a/weight", (2,), 1, b"12")], (), "int8 without weight_scale"),
        ([("a/weight", (2,), 9, b"12")], (), "a/weight: type: got 9"),
        ([("a/weight", (3,), 1, b"12")], (), r"got '2 bytes'; allowed: the size of shape \[3\]"),
        ([("a/qweight", (1,), 3, b"1234"), ("a/qweight_scale", (), 0, b"1234")], (), "int32"),
        (
            [("a/weight", (2, 1), 1, b"12"), ("a/weight_scale", (3,), 0, b"1" * 12)],
            (),
            "a/weight_scale.*one number, or 2",
        ),
        ([], (("a", "b"),), "model.bin: a: got 'b'; allowed: the alias of a tensor"),
    ):
        path.write_bytes(ct2(6, variables, aliases))
        with pytest.raises(InvalidInput, match=message):
            read_ct2(path)


def test_archives_of_numpy(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    special = {"special:model.yml": np.frombuffer(b"type: transformer\0\0\0", np.int8)}
    for save in (np.savez, np.savez_compressed):
        save(path, a=ARRAY, **special)
        tensors, found = read_npz(path)
        assert tensors["a"].shape == (4, 3)
        np.testing.assert_array_equal(tensors["a"].read(), ARRAY)
        assert found == {"special:model.yml": b"type: transformer\0\0\0"}


def test_damaged_archives_of_numpy(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    np.savez(path, a=np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidInput, match=r"model.npz: a.*(floating-point|pickle)"):
        read_npz(path)
    np.savez(path, a=ARRAY.astype(np.int8))
    with pytest.raises(InvalidInput, match=r"model.npz: a: got 'int8'; allowed: an array of floating-point numbers"):
        read_npz(path)
    np.savez(path, a=ARRAY)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidInput, match=r"model.npz.*damaged"):
            read_npz(path)
    path.write_bytes(whole.replace(ARRAY.tobytes()[:8], b"\0" * 8))
    with pytest.raises(InvalidInput, match=r"model.npz.*got 'damaged'.*CRC"):
        read_npz(path)[0]["a"].read()
    with zipfile.ZipFile(path, "w") as archive:
        header = (
            b"\x93NUMPY\1\0\x76\0"
            + b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }".ljust(117)
            + b"\n"
        )
        archive.writestr("a.npy", header)
    with pytest.raises(InvalidInput, match=r"numbers that are in the file"):
        read_npz(path)


def test_every_tensor_of_a_file_is_claimed_once() -> None:
    claims = Claims(
        "file", {name: constant(ARRAY) for name in ("a", "b", "c.version", *(f"left{it}" for it in range(9)))}
    )
    assert claims.take("a", (4, 3)).shape == (4, 3)
    with pytest.raises(KeyError):
        claims.take("a", (4, 3))
    with pytest.raises(InvalidInput, match=r"file: b: got 'shape \[4, 3\]'; allowed: shape \[3, 4\]"):
        claims.take("b", (3, 4))
    with pytest.raises(InvalidInput, match=r"file: d: got None; allowed: a tensor of shape \[2\]; the file has none"):
        claims.take("d", (2,))
    assert claims.find("d", (2,)) is None
    claims.ignore("*.version")
    with pytest.raises(InvalidInput, match=r"file: tensors: got 'left0, left1, .*, left7 and 1 more'"):
        claims.finish()


def test_lazy_tensors_are_compared_block_by_block() -> None:
    rng = np.random.default_rng(0)
    big = rng.normal(size=(10_000, 2)).astype(np.float32)
    largest = []

    def read_rows(rows: slice) -> np.ndarray:
        largest.append(len(big[rows]))
        return big[rows]

    other = big.copy()
    tensor = LazyTensor(big.shape, read_rows)
    assert tensor.equals(constant(other))
    assert max(largest) < 5000
    other[9_999, 1] += 1
    assert not tensor.equals(constant(other))
    assert not tensor.equals(constant(big[:-1]))
