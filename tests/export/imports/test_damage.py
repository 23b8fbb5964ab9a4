"""Files with random damage give a checkpoint with other numbers, or one clear message: never another error."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dragoman_export.imports.read import read_checkpoint
from dragoman_service.errors import InvalidInput
from support.foreign.checkpoints import OPTIONS, copied

ROUNDS = 12
FILES = [
    ("opus-mt-en-de", "model.safetensors"),
    ("opus-mt-en-de", "config.json"),
    ("opus-mt-en-de", "vocab.json"),
    ("opus-mt-en-de", "generation_config.json"),
    ("opus-mt-en-de", "tokenizer_config.json"),
    ("marian-old", "pytorch_model.bin"),
    ("m2m", "sentencepiece.bpe.model"),
    ("nllb", "tokenizer_config.json"),
    ("mbart-50", "model.safetensors.index.json"),
    ("ct2-opennmt-int16", "model.bin"),
    ("ct2-opennmt-int16", "config.json"),
    ("ct2-opennmt-int16", "target_vocabulary.json"),
    ("marian-toy", "model.npz"),
    ("marian-toy", "vocab.yml"),
    ("marian-toy", "decoder.yml"),
    ("marian-pre-norm", "source.spm"),
]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Change, remove or insert some bytes, half of the times at the beginning, where headers are."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(min(len(changed), rng.choice((64, 1 << 40))))
        kind = rng.randrange(3)
        if kind == 0:
            changed[place] = rng.randrange(256)
        elif kind == 1:
            del changed[place : place + rng.randint(1, 40)]
        else:
            changed[place:place] = rng.randbytes(rng.randint(1, 8))
        if not changed:
            break
    return bytes(changed)


@pytest.mark.parametrize(("name", "file"), FILES)
def test_damage_never_gives_another_error(tmp_path: Path, name: str, file: str) -> None:
    folder = copied(name, tmp_path)
    whole = (folder / file).read_bytes()
    for seed in range(ROUNDS):
        (folder / file).unlink()  # what is mapped into memory keeps its own file
        (folder / file).write_bytes(damaged(whole, random.Random(f"{name} {file} {seed}")))
        try:
            for tensor in read_checkpoint(folder, OPTIONS[name]).tensors.values():
                tensor.read()
        except InvalidInput:
            continue
