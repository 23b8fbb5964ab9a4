"""Ids of special tokens and languages of Hugging Face's multilingual tokenizers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from dragoman_export.imports.families import tokenizer_json
from dragoman_export.imports.families.hugging_face import Folder
from dragoman_export.imports.files import need, object_if_there, read_bytes
from dragoman_export.imports.imported import ImportOptions, Languages
from dragoman_export.imports.languages import contradictions, own_codes
from dragoman_export.imports.sentence_piece import parse
from dragoman_service.bundle.tokenizers.encoding import open_model, pieces_of
from dragoman_service.errors import InvalidInput

SPECIAL = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
"""The first ids of fairseq's dictionaries."""
_FROM_ENGLISH, _TO_ENGLISH = ("one-to-many", "wide-en-x"), ("many-to-one", "wide-x-en")
"""Parts of the names of published models that are trained from English, or into English, alone."""
MODEL = "sentencepiece.bpe.model"
_KNOWN = 0.5
"""Least share of the pieces of a tokenizer that the vocabulary of its model has."""


def spm_file(folder: Folder) -> Path | bytes:
    """The SentencePiece model of a folder, or the one from which its `tokenizer.json` was made.

    Raises:
        InvalidInput: there is neither, or the latter cannot be converted back.
    """
    whole = folder.path / tokenizer_json.FILE
    if whole.is_file() and not (folder.path / MODEL).is_file():
        folder.used.append(whole)
        folder.notes.append(f"There is no {MODEL}: it was made from {whole.name}.")
        return tokenizer_json.sentence_piece(whole)
    path = need(folder.path, MODEL, f"it splits the texts; take it from the original model, or {whole.name}")
    folder.used.append(path)
    return path


def spm_pieces(model: Path | bytes) -> list[str]:
    """The pieces of a SentencePiece model. Raises InvalidInput if the file is none, or marks words at their ends."""
    data, name = (model, MODEL) if isinstance(model, bytes) else (read_bytes(model), model.name)
    pieces = pieces_of(open_model(data, name))
    if parse(data, name).trainer_spec.treat_whitespace_as_suffix:
        raise InvalidInput(f"{name}: treat_whitespace_as_suffix", True, "False: the space belongs to the next word")
    return pieces


def check_fit(model: Path | bytes, vocabulary: Iterable[str]) -> None:
    """Raise InvalidInput for a SentencePiece model most of whose pieces a vocabulary lacks, or for another file."""
    pieces = spm_pieces(model)
    count = len(set(vocabulary).intersection(pieces))
    if count < _KNOWN * len(pieces):
        allowed = f"the tokenizer of this model; of its {len(pieces)} pieces, the vocabulary has only {count}"
        raise InvalidInput("tokenizer", MODEL if isinstance(model, bytes) else model.name, allowed)


def added_tokens(folder: Folder) -> dict[str, int]:
    """Token -> id, of all tokens that the files of the tokenizer add to the pieces.

    Raises:
        InvalidInput: two files disagree about an id.
    """
    found: dict[str, int] = {}
    for name, read in (
        ("tokenizer.json", lambda it: [(token["content"], token["id"]) for token in it.get("added_tokens", [])]),
        ("added_tokens.json", lambda it: list(it.items())),
        (
            "tokenizer_config.json",
            lambda it: [
                (token["content"], int(number)) for number, token in it.get("added_tokens_decoder", {}).items()
            ],
        ),
    ):
        path = folder.path / name
        try:
            entries = read(object_if_there(path))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(name, "tokens of another form", f"tokens with ids ({error!r})") from error
        if entries:
            folder.used.append(path)
        for token, number in entries:
            if not isinstance(number, int) or found.setdefault(token, number) != number:
                raise InvalidInput(f"{name}: {token}", number, f"the id of another file of this folder, {found[token]}")
    return found


def language_ids(folder: Folder, pattern: str, usual: Sequence[str], first: int, words: int) -> dict[str, int]:
    """Language -> id.

    Args:
        folder: The folder, whose own files count if they name languages.
        pattern: Of a token that stands for a language; its group is the language.
        usual: Languages of the published model, with ids from `first` on.
        first: The first id after the pieces.
        words: Rows of the embeddings.

    Raises:
        InvalidInput: an id is not in the vocabulary, or is that of a piece or of two languages.
    """
    matches = [(re.fullmatch(pattern, token), number) for token, number in added_tokens(folder).items()]
    found = {match[1]: number for match, number in matches if match} or {it: first + n for n, it in enumerate(usual)}
    counts = Counter(found.values())
    for code, number in found.items():
        if not first <= number < words or counts[number] > 1:
            allowed = f"an id of its own from {first}, after the pieces, to {words - 1}, the last row of the embeddings"
            raise InvalidInput(f"id of the language {code}", number, allowed)
    return found


def chosen(
    known: Sequence[str],
    options: ImportOptions,
    tag_of: Callable[[str], str],
    name: str = "",
    notes: list[str] | None = None,
) -> Languages:
    """All languages in both directions, those that the user names, or those that the name of the model tells.

    Args:
        known: All languages of the model.
        options: What the user says counts.
        tag_of: Language -> tag, by which the user may name it too.
        name: The name of the model.
        notes: Gets a note for languages that the name tells otherwise.

    Raises:
        InvalidInput: the user names one that the model does not have.
    """
    options = replace(
        options,
        sources=own_codes(options.sources, known, tag_of, "sources"),
        targets=own_codes(options.targets, known, tag_of, "targets"),
    )
    english = tuple(it for it in known if it.partition("_")[0] in ("en", "eng"))
    from_english = any(it in name for it in _FROM_ENGLISH) and english
    to_english = any(it in name for it in _TO_ENGLISH) and english
    usual = Languages(english if from_english else tuple(known), english if to_english else tuple(known))
    if notes is not None:
        notes += contradictions(usual, options)
    found = Languages(options.sources or usual.sources, options.targets or usual.targets)
    if len({*found.sources, *found.targets}) < 2:
        raise InvalidInput("targets", ", ".join(found.targets), "another language than the source")
    return found


def check_special(folder: Folder) -> None:
    """Check that the special ids of config.json are fairseq's. Raises InvalidInput if one is not."""
    names = {"bos_token_id": "<s>", "pad_token_id": "<pad>", "eos_token_id": "</s>", "decoder_start_token_id": "</s>"}
    for name, token in names.items():
        folder.config.among(name, SPECIAL[token])
