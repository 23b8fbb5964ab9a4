"""Folders of NLLB-200 as Hugging Face publishes them, of any size, with random weights and a tokenizer of 43 languages.

python -m bench.peers.random_nllb nllb FOLDER
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import sentencepiece
from safetensors.numpy import save_file
from sentencepiece import sentencepiece_model_pb2

from dragoman_export.imports.families.hugging_face import PARTS
from dragoman_export.imports.families.vocabulary import MODEL
from dragoman_export.imports.languages import NLLB_CODES
from dragoman_export.sentences import CALIBRATION

TRAINED_PIECES = 8000
"""Pieces that are trained; the others stand in no text."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model."""

    d_model: int
    layers: int
    """Of the encoder, and as many of the decoder."""
    d_ff: int
    heads: int
    words: int


SHAPES = {
    "nllb": Shape(1024, 12, 4096, 16, 256_206),
    "quarter": Shape(1024, 3, 4096, 16, 64_206),
}
"""Name -> that of NLLB-200 600M, and one with a quarter of its layers and words, so of its memory."""


def write_folder(folder: Path, shape: Shape, seed: int = 0) -> int:
    """Write a folder. Returns the bytes of its weights."""
    folder.mkdir(parents=True)
    pieces = shape.words - len(NLLB_CODES) - 4  # special pieces, and <mask> and padding behind the languages
    (folder / MODEL).write_bytes(_tokenizer(pieces))
    codes = {str(pieces + 1 + place): {"content": code} for place, code in enumerate(NLLB_CODES)}
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "NllbTokenizer", "added_tokens_decoder": codes})
    _write(folder / "generation_config.json", {"decoder_start_token_id": 2, "eos_token_id": 2, "max_length": 200})
    stacks = {
        f"{stack}_{name}": value
        for stack in ("encoder", "decoder")
        for name, value in (("layers", shape.layers), ("ffn_dim", shape.d_ff), ("attention_heads", shape.heads))
    }
    special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    _write(
        folder / "config.json",
        {
            "model_type": "m2m_100",
            "is_encoder_decoder": True,
            "activation_function": "relu",
            "scale_embedding": True,
            "max_position_embeddings": 1024,
            "d_model": shape.d_model,
            "vocab_size": shape.words,
            **stacks,
            **special,
        },
    )
    tensors = dict(_tensors(shape, np.random.default_rng(seed)))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return (folder / "model.safetensors").stat().st_size


def _tensors(shape: Shape, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    width = shape.d_model

    def normal(size: tuple[int, ...], deviation: float, mean: float = 0.0) -> np.ndarray:
        array = rng.standard_normal(size, np.float32)
        array *= np.float32(deviation)
        array += np.float32(mean)
        return array

    def norm(name: str) -> Iterator[tuple[str, np.ndarray]]:
        yield f"{name}.weight", normal((width,), 0.1, 1.0)
        yield f"{name}.bias", normal((width,), 0.1)

    yield "model.shared.weight", normal((shape.words, width), width**-0.5)
    sizes = {"fc1": (shape.d_ff, width), "fc2": (width, shape.d_ff)}
    for stack in ("encoder", "decoder"):
        for layer in range(shape.layers):
            for ours, theirs in PARTS.items():
                name = f"model.{stack}.layers.{layer}.{theirs}"
                if stack == "encoder" and ours.startswith("cross_attention"):
                    continue
                if theirs.endswith("layer_norm"):
                    yield from norm(name)
                    continue
                out, into = sizes.get(theirs, (width, width))
                yield f"{name}.weight", normal((out, into), into**-0.5)
                yield f"{name}.bias", normal((out,), 0.1)
        yield from norm(f"model.{stack}.layer_norm")


def _tokenizer(size: int) -> bytes:
    """A SentencePiece model of `size` pieces: trained ones, and names that no text has."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(text for texts in CALIBRATION.values() for text in texts),
        model_writer=model,
        vocab_size=min(size, TRAINED_PIECES),
        model_type="unigram",
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
    )
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    for number in range(size - len(proto.pieces)):
        piece = proto.pieces.add()
        piece.piece, piece.score = f"\u2581\ue000{number}", -100.0
    filled: bytes = proto.SerializeToString()
    return filled


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


if __name__ == "__main__":
    print(write_folder(Path(sys.argv[2]), SHAPES[sys.argv[1]]))
