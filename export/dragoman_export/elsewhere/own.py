"""A model of our own, from a checkpoint or from a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dragoman_export.imports.architecture import NEVER
from dragoman_export.read_back import read_model
from dragoman_model.checkpoint import load_checkpoint
from dragoman_model.config import ModelConfig
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.bundle import MANIFEST, Bundle
from dragoman_service.bundle.manifest import MODEL_CARD, TOKENIZER, Generation
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.errors import InvalidInput

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class OwnModel:
    """What the folders of other programs are written from."""

    model: Transformer
    """In evaluation mode, on the CPU."""
    tokenizer_model: bytes
    """The SentencePiece model."""
    pieces: tuple[str, ...]
    """The string of every token id, all different."""
    target_tags: dict[str, int]
    """Target language -> the id of its tag, which stands before a source; empty for a model of one target language."""
    language_pairs: tuple[tuple[str, str], ...]
    max_target_tokens: int
    """Tokens of the longest translation, without its end."""
    generation: Generation
    card: str | None
    """The model card; None: a checkpoint has none."""
    licence: str = ""
    """Empty: not known."""
    notes: tuple[str, ...] = ()
    """What a user should know; a sentence or two each."""

    @property
    def config(self) -> ModelConfig:
        """The hyper-parameters."""
        return self.model.config

    def tensor(self, name: str) -> Array:
        """A parameter, by its name in `Transformer.state_dict()`."""
        array: Array = self.model.state_dict()[name].float().numpy()
        return array

    def positions(self, stack: str) -> Array:
        """[P, D], the positions of a stack as they are, whether trained, given or computed."""
        array: Array = self.model.position_table(stack).detach().float().numpy()
        return array

    def output_bias(self) -> Array:
        """[V]. The probability of an id that no translation contains is 0: neither program has a list of these."""
        bias = self.tensor("output_bias").copy()
        bias[list(self.config.banned_ids)] = NEVER
        return bias


def read_own(path: Path) -> OwnModel:
    """Read a checkpoint of `dragoman train`, or a bundle that was exported from one.

    Raises:
        InvalidInput: `path` is neither, is damaged, or is a bundle of a model of another program.
        BundleError: the bundle is not valid.
    """
    return _of_bundle(path) if (path / MANIFEST).is_file() else _of_checkpoint(path)


def _of_checkpoint(path: Path) -> OwnModel:
    found = load_checkpoint(path)
    config = found.config
    return _own(
        found.model,
        found.tokenizer_model,
        language_pairs=config.language_pairs,
        max_target_tokens=min(config.max_target_tokens, config.model.max_positions) - 1,
        generation=Generation(),
        card=None,
    )


def _of_bundle(path: Path) -> OwnModel:
    bundle = Bundle.load(path)
    manifest = bundle.manifest
    if manifest.tokenizer.kind != "dragoman":
        family = manifest.origin.family if manifest.origin else manifest.tokenizer.kind
        allowed = "a model of `dragoman train`; this bundle was imported, and its checkpoint is what others read"
        raise InvalidInput(f"{path}: tokenizer.kind", f"{manifest.tokenizer.kind} ({family})", allowed)
    rounded = {"int8": "8 bits", "fp16": "16 bits"}.get(manifest.precision)
    notes = (f"The weights are those of the bundle, which are rounded to {rounded}.",) if rounded else ()
    return _own(
        read_model(path, manifest.architecture),
        (path / manifest.tokenizer.files.get("model", TOKENIZER)).read_bytes(),
        language_pairs=tuple(manifest.languages.all_pairs()),
        max_target_tokens=manifest.limits.max_target_tokens,
        generation=manifest.generation,
        card=(path / MODEL_CARD).read_text(encoding="utf-8"),
        licence=manifest.licence,
        notes=notes,
    )


def _own(
    model: Transformer,
    tokenizer_model: bytes,
    *,
    language_pairs: tuple[tuple[str, str], ...],
    max_target_tokens: int,
    generation: Generation,
    card: str | None,
    licence: str = "",
    notes: tuple[str, ...] = (),
) -> OwnModel:
    tokenizer = Tokenizer(tokenizer_model)
    words = model.config.vocab_size
    if tokenizer.vocab_size != words or model.config.source_words != words:
        raise InvalidInput("tokenizer", f"{tokenizer.vocab_size} subwords", f"the model's vocabulary size, {words}")
    pieces = tuple(tokenizer.pieces(range(words)))
    return OwnModel(
        model,
        tokenizer_model,
        pieces,
        dict(tokenizer.target_tags),
        language_pairs,
        max_target_tokens,
        generation,
        card,
        licence,
        notes,
    )
