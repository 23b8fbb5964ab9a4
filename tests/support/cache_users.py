"""What processes do that use the cache of tokenised text at the same time, or are killed meanwhile."""

from __future__ import annotations

import hashlib
import json
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from unittest.mock import patch

from dragoman_model.data import entry_writer, token_cache
from dragoman_model.data import prepare as prepare_module
from dragoman_model.data.prepare import PreparedData, prepare
from support.tiny_model import make_recipe

RECIPE = make_recipe(tokenizer={"bpe_dropout": 0.1}, data={"augmentation": {"lower": 0.5}})


def digest(data: PreparedData) -> str:
    """Of what training sees, the text of the second epoch included."""
    texts = [text.batch(range(len(text))) for text in (data.train, data.epoch(1))]
    ids = [[batch.source.tolist(), batch.target.tolist()] for batch in texts]
    everything = json.dumps([ids, data.weights.tolist(), data.summary]).encode() + data.tokenizer_model
    return hashlib.sha256(everything).hexdigest()


def prepare_and_see(folder: Path, cache: Path) -> str:
    return digest(prepare(RECIPE, folder, None, cache))


def prepare_without_flush(folder: Path, cache: Path) -> str:
    """What a killed process has written is there without."""
    with patch.object(entry_writer, "flush_to_disk"), patch.object(token_cache, "flush_to_disk"):
        return prepare_and_see(folder, cache)


def prepare_together(folder: Path, model: bytes | None, expected: str, gate: Barrier) -> None:
    """Prepare once all have come to the gate. Each time that text is tokenised, the file `writes` gets a character."""
    write = prepare_module._write_entry

    def noted(*arguments: Any) -> bytes:
        with (folder / "writes").open("ab") as file:
            file.write(b"." if model is None else b":")
        return write(*arguments)

    with patch.object(prepare_module, "_write_entry", noted):
        gate.wait()
        assert digest(prepare(RECIPE, folder, model, folder / "cache")) == expected
