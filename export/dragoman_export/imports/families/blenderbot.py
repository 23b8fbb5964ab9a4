"""The class Blenderbot of Hugging Face with the tokenizer of MarianMT, as `dragoman export --to hf` writes it."""

from __future__ import annotations

from pathlib import Path

from dragoman_export.imports.families import marian
from dragoman_export.imports.families.hugging_face import Folder
from dragoman_export.imports.imported import Imported, ImportOptions
from dragoman_service.errors import InvalidInput


def read(path: Path, options: ImportOptions) -> Imported:
    """Read a folder. Raises InvalidInput for what is missing, disagrees or is not supported."""
    folder = Folder(path, "blenderbot", options)
    it = folder.config
    it.fixed(normalize_before=True, add_final_layer_norm=True, normalize_embedding=False, add_bias_logits=False)
    it.fixed(static_position_embeddings=False)
    kind = folder.tokenizer.get("tokenizer_class")
    if kind != "MarianTokenizer":
        allowed = "MarianTokenizer, a translation model; models of conversations are not supported"
        raise InvalidInput("tokenizer_config.json: tokenizer_class", kind, allowed)
    count, width = folder.max_positions(), it.integer("d_model")
    tables = [
        folder.tensors.take(f"model.{stack}.embed_positions.weight", (count, width)) for stack in ("encoder", "decoder")
    ]
    norms = folder.norms(width, "norm", "layer_norm")
    return marian.finish(folder, options, "blenderbot", marian.Body("pre", tables, tensors=norms))
