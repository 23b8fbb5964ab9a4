"""mBART-50 of Hugging Face: pre-norm, a norm after the embeddings, two learned tables of positions."""

from __future__ import annotations

from pathlib import Path

from dragoman_export.imports.families import fairseq, marian
from dragoman_export.imports.families.hugging_face import Folder
from dragoman_export.imports.families.vocabulary import language_ids, spm_file, spm_pieces
from dragoman_export.imports.imported import Imported, ImportOptions, TokenizerParts
from dragoman_export.imports.languages import MBART50_CODES, mbart50
from dragoman_export.imports.lazy import LazyTensor
from dragoman_service.errors import InvalidInput


def read(path: Path, options: ImportOptions) -> Imported:
    """Read a folder. Raises InvalidInput for what is missing, disagrees or is not supported."""
    folder = Folder(path, "mbart", options)
    it = folder.config
    it.fixed(normalize_before=True, add_final_layer_norm=True, normalize_embedding=True, add_bias_logits=False)
    it.fixed(static_position_embeddings=False)
    words, width = it.integer("vocab_size"), it.integer("d_model")
    rows = folder.max_positions() + fairseq.FIRST_POSITION

    def table(stack: str) -> LazyTensor:
        stored = folder.tensors.take(f"model.{stack}.embed_positions.weight", (rows, width))
        return stored.part(fairseq.FIRST_POSITION, rows)

    tables = table("encoder"), table("decoder")
    norms = folder.norms(width, "embedding_norm", "layernorm_embedding")
    if folder.tokenizer.get("tokenizer_class") == "MarianTokenizer":  # from `dragoman export --to hf`
        norms |= folder.norms(width, "norm", "layer_norm")
        return marian.finish(folder, options, "mbart", marian.Body("pre", tables, {"embedding_norm": True}, norms))
    _refuse_mbart_25(folder)
    model = spm_file(folder)
    pieces = len(spm_pieces(model)) + 1
    languages = language_ids(folder, r"([a-z]{2,3}_[A-Z]{2})", MBART50_CODES, pieces, words)
    parts = TokenizerParts("fairseq", {"model": model}, {"languages": languages, "legacy": False})
    body = fairseq.Body(positions=tables, output_bias=True, settings={"embedding_norm": True}, tensors=norms)
    return fairseq.finish(folder, options, fairseq.Tokens("mbart-50", parts, languages, mbart50, pieces), body)


def _refuse_mbart_25(folder: Folder) -> None:
    """mBART-25 begins a target with its language instead of `</s>`, and ends a source with it."""
    kind = folder.tokenizer.get("tokenizer_class") or folder.config.get("tokenizer_class")
    if not str(kind).startswith("MBart50Tokenizer"):
        allowed = "MBart50Tokenizer; mBART-25 has another order of tokens and is not supported"
        raise InvalidInput("tokenizer_class", kind, allowed)
