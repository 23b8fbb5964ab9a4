"""The committed checkpoints of other programs, and ways to change them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from dragoman_export.imports.imported import Imported, ImportOptions
from dragoman_export.imports.read import read_checkpoint

torch.set_num_threads(1)  # for such small models, several threads would wait for each other on a busy machine
FOLDER = Path(__file__).parents[2] / "export" / "imports" / "checkpoints"
ENGLISH_GERMAN = ImportOptions(sources=("en",), targets=("de",))
OPTIONS: Mapping[str, ImportOptions] = {
    "opus-mt-en-de": ImportOptions(),
    "opus-mt-en-mul": ImportOptions(),
    "marian-old": ImportOptions(),
    "marian-separate": ImportOptions(),
    "marian-untied": ImportOptions(),
    "marian-pre-norm": ENGLISH_GERMAN,
    "marian-toy": ENGLISH_GERMAN,
    "m2m": ImportOptions(),
    "small-100": ImportOptions(),
    "nllb": ImportOptions(),
    "mbart-50": ImportOptions(),
    "ct2-marian-int8": ENGLISH_GERMAN,
    "ct2-m2m-bfloat16": ImportOptions(family="m2m-100"),
    "ct2-nllb-float16": ImportOptions(),
    "ct2-opennmt-float32": ENGLISH_GERMAN,
    "ct2-opennmt-int16": ENGLISH_GERMAN,
}
"""Name of a checkpoint -> the options that it needs."""


def read(name: str) -> Imported:
    """Read a committed checkpoint."""
    return read_checkpoint(FOLDER / name, OPTIONS[name])


def copied(name: str, folder: Path) -> Path:
    """A copy in `folder`, with the same name, to be changed."""
    return shutil.copytree(FOLDER / name, folder / name)


def change_json(path: Path, **values: Any) -> None:
    """Set fields of a JSON file. A value of `...` removes the field."""
    fields = (json.loads(path.read_text()) if path.exists() else {}) | values
    path.write_text(json.dumps({name: value for name, value in fields.items() if value is not ...}))


def change_tensors(folder: Path, **tensors: np.ndarray | None) -> None:
    """Set tensors of model.safetensors; `__` in a name stands for a dot, and None removes one."""
    path = folder / "model.safetensors"
    state = load_file(path)
    for name, array in tensors.items():
        full = name.replace("__", ".")
        if array is None:
            del state[full]
        else:
            state[full] = np.ascontiguousarray(array)
    save_file(state, path)


def expected(name: str) -> list[dict[str, Any]]:
    """Sources, targets, and the log-probability of each target token as the other program computes it."""
    cases: list[dict[str, Any]] = json.loads((FOLDER / name / "expected.json").read_text())
    return cases


def scores(imported: Imported, cases: list[dict[str, Any]]) -> list[float]:
    """The log-probabilities of all target tokens of the cases, one after the other, by our Transformer."""
    model, found = imported.model(), []
    for case in cases:
        target = case["target"]
        with torch.no_grad():
            logits = model(torch.tensor([case["source"]]), torch.tensor([[imported.config.begin_id, *target[:-1]]]))
        table = logits.double().log_softmax(-1)[0]
        found += [table[place, token].item() for place, token in enumerate(target)]
    return found


def wanted(cases: list[dict[str, Any]]) -> list[float]:
    """The log-probabilities of all target tokens of the cases, one after the other, by the other program."""
    return [score for case in cases for score in case["scores"]]
