"""What the import of a checkpoint returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from dragoman_export.imports.lazy import LazyTensor
from dragoman_export.shelf import Shelf, put
from dragoman_model.config import ModelConfig
from dragoman_model.transformer import Transformer
from dragoman_service.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a checkpoint may not say about itself."""

    sources: tuple[str, ...] = ()
    """Source languages, in the model's own codes."""
    targets: tuple[str, ...] = ()
    """Target languages, in the model's own codes."""
    positions: Literal["own", "marian"] = "own"
    """`marian`: the positions that Marian trained with, for folders of Hugging Face, whose formula differs from it."""
    tokenizer: Path | None = None
    """Folder or SentencePiece model, for a checkpoint without a tokenizer of its own."""
    licence: str | None = None
    """The licence, for a checkpoint that does not state it."""
    family: Literal["m2m-100", "small-100"] | None = None
    """Which of two families a checkpoint is of whose files may be the same."""
    languages: tuple[str, ...] = ()
    """Languages to keep, as tags or in the model's own codes, with their pieces alone; none: all."""
    pieces_of: tuple[Path, ...] = ()
    """Files of text in these languages, one sentence a line: only pieces that occur in them are kept."""


@dataclass(frozen=True, slots=True)
class TokenizerParts:
    """The tokenizer of a checkpoint: its files, and what must be known to use them.

    kind     roles of files                                        settings
    marian   source, target (SentencePiece), vocabulary            languages {own code: own code}, tags, begin
             (JSON piece -> id), target_vocabulary if it differs   (piece) if it is not padding
    m2m      model (SentencePiece), vocabulary (with `__en__`)     languages {own code: own code}, source_tag
                                                                   (`source`, or `target`: SMaLL-100)
    fairseq  model (SentencePiece)                                 languages {own code: id}, legacy
    pieces   vocabulary (JSON list), target_vocabulary if it       begin, end, unknown (pieces), add_source_bos,
             differs, model, target_model if it differs            add_source_eos; source_prefix and languages
                                                                   {own code: piece} if a tag names the target
    """

    kind: Literal["marian", "m2m", "fairseq", "pieces"]
    files: Mapping[str, bytes | Path]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Languages:
    """The languages of a model, in its own codes."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] | None = None
    """(source, target). None: every source with every target."""


@dataclass(frozen=True, slots=True)
class Generation:
    """How the checkpoint wants to be decoded."""

    beam_size: int
    length_penalty: float
    """Exponent a of the length normalisation."""
    length_form: Literal["gnmt", "power"]
    """What the score of a hypothesis of l tokens, the end included, is divided by: ((5 + l) / 6)^a, or l^a."""
    max_source_tokens: int
    """Most tokens of a source that the positions allow, language and end of the sentence included."""
    max_target_tokens: int
    """Most tokens of a target that the positions allow, the begin token included."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A checkpoint of another program, as our model."""

    config: ModelConfig
    tensors: Mapping[str, LazyTensor]
    """Every entry of `Transformer.state_dict()`, each read when it is asked for."""
    tokenizer: TokenizerParts
    languages: Languages
    generation: Generation
    licence: str | None
    """What the front matter of README.md says, such as `cc-by-4.0`."""
    origin: Mapping[str, Any]
    """`family`, `name` (of the folder or file), and `files`: name -> SHA-256."""
    notes: tuple[str, ...] = field(default=())
    """What a user should know: what was ignored or banned, and why. One sentence or two each."""

    def load_into(self, model: Transformer, shelf: Shelf | None = None) -> None:
        """Fill a model, one tensor after the other. Parameters on the meta device get memory when their turn comes.

        That memory is on `shelf`.

        Raises:
            InvalidInput: a tensor has an infinity or no number.
        """
        shelf = shelf or Shelf()
        for name, tensor in self.tensors.items():
            path, _, leaf = name.rpartition(".")
            owner = model.get_submodule(path)
            old, array = getattr(owner, leaf), tensor.read()
            if not (np.isfinite(array.min()) and np.isfinite(array.max())):
                raise InvalidInput(f"parameter {name}", "numbers that are not finite", "finite numbers")
            if not old.is_meta:
                with torch.no_grad():
                    old.copy_(torch.from_numpy(array))
            else:
                # A copy, as this may be a view of a file, which somebody may change later.
                put(owner, leaf, shelf.keep(torch.from_numpy(np.require(array, requirements=["C", "W"]))))

    def model(self, shelf: Shelf | None = None) -> Transformer:
        """The model, in evaluation mode, with its tensors on `shelf`; None: in memory."""
        with torch.device("meta"):
            model = Transformer(self.config)
        self.load_into(model, shelf)
        return model.eval()
