"""Checkpoints: folders of safetensors and JSON files, without pickles. A checkpoint is complete or does not exist.

model.safetensors      the parameters
config.json            the shape of the model, its languages and limits, and a summary of the run
tokenizer.model        the SentencePiece model
training.safetensors   state of the optimiser and the random number generators (newest checkpoint of a run only)
training.json          state of the training loop (checkpoints of a run only)
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dragoman_model.config import ModelConfig
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class CheckpointConfig:
    """The contents of `config.json`."""

    model: ModelConfig
    language_pairs: tuple[tuple[str, str], ...]
    """(source, target), ISO 639-1 codes. The main pair of the recipe is the first."""
    max_source_tokens: int
    """Limit of a source in training, in tokens, the end of the sentence included."""
    max_target_tokens: int
    """Limit of a target in training, in tokens, the end of the sentence included."""
    training: dict[str, Any]
    """Summary of the run so far: step, epochs, tokens, data, best BLEU."""

    def to_json(self) -> dict[str, Any]:
        """The fields as nested JSON-ready values."""
        names = ("language_pairs", "max_source_tokens", "max_target_tokens", "training")
        return {"model": self.model.to_json(), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_json(cls, settings: Any) -> CheckpointConfig:
        """Read the result of `to_json`, or the older format with a single language pair.

        Raises KeyError, TypeError or InvalidInput for anything else.
        """
        if not isinstance(settings, dict):
            raise TypeError("config.json is not a mapping")
        settings = dict(settings)
        if "source_language" in settings:
            settings["language_pairs"] = [[settings.pop("source_language"), settings.pop("target_language")]]
        pairs = tuple((source, target) for source, target in settings.pop("language_pairs"))
        return cls(ModelConfig.from_settings(settings.pop("model")), pairs, **settings)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained model, ready for evaluation or export."""

    model: Transformer
    """In evaluation mode, on the CPU."""
    config: CheckpointConfig
    tokenizer: Tokenizer
    tokenizer_model: bytes
    """The file that `tokenizer` was read from."""


def save_checkpoint(
    folder: Path,
    parameters: dict[str, Tensor],
    config: CheckpointConfig,
    tokenizer_model: bytes,
    training_state: tuple[dict[str, Tensor], dict[str, Any]] | None = None,
) -> None:
    """Write a checkpoint. An existing folder is replaced after the new one is complete and on the disk.

    Args:
        folder: The folder of the checkpoint.
        parameters: `Transformer.state_dict()`.
        config: The contents of `config.json`.
        tokenizer_model: The serialised tokenizer.
        training_state: Tensors and JSON-ready values from which training resumes.

    Raises:
        OSError: a file cannot be written, for example because the disk is full. `folder` is unchanged then, and no
            partial folder is left beside it.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _save_tensors(partial / "model.safetensors", parameters)
        _write_json(partial / "config.json", config.to_json())
        (partial / "tokenizer.model").write_bytes(tokenizer_model)
        if training_state is not None:
            _save_tensors(partial / "training.safetensors", training_state[0])
            _write_json(partial / "training.json", training_state[1])
        for path in (*partial.iterdir(), partial):
            _sync(path)  # otherwise the rename might reach the disk before the contents
        _replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint. It must have exactly the parameters of its model, with their shapes.

    Raises:
        InvalidInput: a file or parameter is missing or does not fit. The message names it.
    """
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = CheckpointConfig.from_json(settings)
        parameters = load_file(folder / "model.safetensors")
        tokenizer_model = (folder / "tokenizer.model").read_bytes()
        model = Transformer(config.model)
        model.load_state_dict(parameters)
        tokenizer = Tokenizer(tokenizer_model)
    except KeyError as error:
        raise InvalidInput("checkpoint", str(folder), f"a checkpoint folder (config.json lacks {error})") from error
    except (OSError, ValueError, TypeError, SafetensorError, RuntimeError, InvalidInput) as error:
        raise InvalidInput("checkpoint", str(folder), f"a checkpoint folder ({error})") from error
    return Checkpoint(model.eval(), config, tokenizer, tokenizer_model)


def load_training_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Read what a run resumes from: the parameters, and the training state as tensors and JSON values.

    Raises:
        InvalidInput: the checkpoint has no training state, or is damaged.
    """
    try:
        state = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        return load_file(folder / "model.safetensors"), load_file(folder / "training.safetensors"), state
    except (OSError, ValueError, SafetensorError) as error:
        raise InvalidInput("checkpoint", str(folder), f"a checkpoint to resume from ({error})") from error


def average_parameters(folders: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the parameters of several checkpoints (section 6.1 of Vaswani et al. 2017), summed in fp64.

    Raises:
        InvalidInput: a checkpoint cannot be read.
    """
    total: dict[str, Tensor] = {}
    for folder in folders:
        try:
            parameters = load_file(folder / "model.safetensors")
        except (OSError, SafetensorError) as error:
            raise InvalidInput("checkpoint", str(folder), f"a checkpoint to average ({error})") from error
        for name, tensor in parameters.items():
            total[name] = total.get(name, torch.zeros((), dtype=torch.float64)) + tensor.double()
    return {name: (tensor / len(folders)).float() for name, tensor in total.items()}


def _save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # safetensors raises it for a full disk, too
        raise OSError(f"{path}: {error}") from error


def _replace(new: Path, folder: Path) -> None:
    """Rename the folder `new` to `folder`. An old `folder` is removed after that, or restored if the rename fails."""
    if not folder.exists():
        new.rename(folder)
        _sync(folder.parent)
        return
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
