"""M2M-100, NLLB-200, SMaLL-100 and WMT 2021: the class M2M100 of Hugging Face, with computed positions."""

from __future__ import annotations

import json
from pathlib import Path

from dragoman_export.imports import positions
from dragoman_export.imports.families import fairseq
from dragoman_export.imports.families.hugging_face import Folder
from dragoman_export.imports.families.vocabulary import SPECIAL, check_fit, language_ids, spm_file, spm_pieces
from dragoman_export.imports.files import need, object_if_there, vocabulary
from dragoman_export.imports.imported import Imported, ImportOptions, TokenizerParts
from dragoman_export.imports.languages import M2M_CODES, NLLB_CODES, WMT21_CODES, m2m, nllb
from dragoman_service.errors import InvalidInput

SAVED_POSITIONS = "model.*.embed_positions.weights"
"""Tables in older files, of the same formula."""
_LISTS = {"m2m100": M2M_CODES, "wmt21": WMT21_CODES}
"""`language_codes` of tokenizer_config.json -> languages."""
_SMALL_100 = "tokenization_small100.py"
"""File of SMaLL-100's own tokenizer, which is not executed."""
SMALL_100_NOTE = "SMaLL-100: the encoder reads the target language; its own tokenizer file is not executed."


def read(path: Path, options: ImportOptions) -> Imported:
    """Read a folder. Raises InvalidInput for what is missing, disagrees or is not supported."""
    folder = Folder(path, "m2m_100", options)
    it = folder.config
    it.fixed(normalize_before=True, add_final_layer_norm=True, normalize_embedding=False, add_bias_logits=False)
    it.fixed(static_position_embeddings=True)
    words = it.integer("vocab_size")
    tokens = _nllb(folder, words) if is_nllb(folder) else _m2m(folder, options, words)
    count, width = folder.max_positions(), it.integer("d_model")
    table = positions.tensor2tensor(count, width, first=fairseq.FIRST_POSITION)
    folder.tensors.ignore(SAVED_POSITIONS)
    return fairseq.finish(folder, options, tokens, fairseq.Body((table, table)))


def is_nllb(folder: Folder) -> bool:
    """Whether the ids are those of SentencePiece with fairseq's offset, instead of a vocabulary file."""
    kind = str(folder.tokenizer.get("tokenizer_class", ""))
    return kind.startswith("Nllb") or not (folder.path / "vocab.json").is_file()


def _nllb(folder: Folder, words: int) -> fairseq.Tokens:
    model = spm_file(folder)
    pieces = len(spm_pieces(model)) + 1
    languages = language_ids(folder, r"([a-z]{3}_[A-Z][a-z]{3})", NLLB_CODES, pieces, words)
    legacy = folder.tokenizer.get("legacy_behaviour", False)
    if not isinstance(legacy, bool):
        raise InvalidInput("tokenizer_config.json: legacy_behaviour", legacy, "true or false")
    parts = TokenizerParts("fairseq", {"model": model}, {"languages": languages, "legacy": legacy})
    return fairseq.Tokens("nllb", parts, languages, nllb, pieces)


def _m2m(folder: Folder, options: ImportOptions, words: int) -> fairseq.Tokens:
    model = spm_file(folder)
    path = need(folder.path, "vocab.json", "it gives the pieces their ids")
    folder.used.append(path)
    entries = vocabulary(path)
    check_fit(model, entries)
    for token, number in SPECIAL.items():
        if entries.get(token) != number:
            raise InvalidInput(f"{path.name}: {token}", entries.get(token), f"the id {number}")
    own = {token: number for token, number in entries.items() if token.startswith("__") and token.endswith("__")}
    pieces = max(number for token, number in entries.items() if token not in own) + 1
    if pieces > words:
        raise InvalidInput(f"{path.name}: largest id", pieces - 1, f"less than {words}, the rows of the embeddings")
    usual = _LISTS.get(str(folder.tokenizer.get("language_codes", "m2m100")))
    if usual is None:
        raise InvalidInput(
            "tokenizer_config.json: language_codes", folder.tokenizer["language_codes"], " or ".join(map(repr, _LISTS))
        )
    languages = {token.strip("_"): number for token, number in own.items()}
    languages = languages or language_ids(folder, r"__([a-z]+)__", usual, pieces, words)
    small = is_small_100(folder.path, options, *map(folder.config.integer, ("encoder_layers", "decoder_layers")))
    if small:
        folder.notes.append(SMALL_100_NOTE)
    full = entries | {f"__{code}__": number for code, number in languages.items()}
    settings = {"languages": {code: code for code in languages}, "source_tag": "target" if small else "source"}
    files: dict[str, bytes | Path] = {"model": model, "vocabulary": json.dumps(full, ensure_ascii=False).encode()}
    family = "small-100" if small else "m2m-100"
    return fairseq.Tokens(family, TokenizerParts("m2m", files, settings), languages, m2m, pieces)


def is_small_100(path: Path, options: ImportOptions, encoder_layers: int, decoder_layers: int) -> bool:
    """Whether a model with the vocabulary of M2M-100 is SMaLL-100, whose encoder reads the target language instead.

    The option `family` says it, or the files of the tokenizer. A conversion by CTranslate2 has none of these. All of
    M2M-100 that is published has as many layers in the decoder as in the encoder; SMaLL-100 has 3 and 12.

    Raises:
        InvalidInput: nothing says it, and the decoder has fewer layers than the encoder.
    """
    if options.family is not None:
        return options.family == "small-100"
    kind = str(object_if_there(path / "tokenizer_config.json").get("tokenizer_class", "")).upper()
    if kind.startswith("SMALL100") or (path / _SMALL_100).is_file():
        return True
    if decoder_layers < encoder_layers and not kind.startswith("M2M100"):
        allowed = (
            "small-100 or m2m-100, with --family. The decoder has fewer layers than the encoder, as that of SMaLL-100, "
            "and no file says which it is; the wrong one translates into wrong languages"
        )
        raise InvalidInput("family", None, allowed)
    return False
