"""The tokenizer and the languages of an imported checkpoint, in the form that a bundle has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dragoman_export.exporter import contents_of
from dragoman_export.imports import languages as tags
from dragoman_export.imports.imported import Imported
from dragoman_service.bundle.languages import Languages
from dragoman_service.bundle.tokenizers.loading import load_tokenizer
from dragoman_service.bundle.tokenizers.protocol import Tokenizer, TokenizerSpec

_ROLES = {"source": "source_model", "target": "target_model", "vocabulary": "vocabulary"}
"""Roles of Marian's files in a checkpoint -> in a bundle."""
_PIECES = {"unknown": "unk_token", "begin": "bos_token", "end": "eos_token"}
"""Settings of a list of pieces in a checkpoint -> in a bundle."""
_SUFFIX = {"model": ".model", "vocabulary": ".json"}


class BundleTokenizer:
    """What a bundle says of the tokenizer of a checkpoint and of its languages, and the files."""

    def __init__(self, imported: Imported) -> None:
        """Convert. Raises InvalidInput for a language code that its family does not have."""
        parts = imported.tokenizer
        self._imported = imported
        self._tag_of = tagger(imported)
        files = dict(parts.files)
        settings = {
            "marian": self._marian,
            "m2m": self._m2m,
            "fairseq": self._fairseq,
            "pieces": self._pieces,
        }[parts.kind](files)
        config = imported.config
        settings |= {"vocab_size": config.vocab_size, "source_vocab_size": config.source_words}
        names = {role: f"tokenizer.{role}{_SUFFIX[role.rpartition('_')[2]]}" for role in files}
        self.files: dict[str, bytes | Path] = {names[role]: contents for role, contents in files.items()}
        """Name of a file of the bundle -> its contents."""
        self.spec = TokenizerSpec(parts.kind, names, settings)

    def load(self) -> Tokenizer:
        """The tokenizer as the bundle will have it. Raises InvalidInput if its files are damaged or do not fit."""
        return load_tokenizer(self.spec, lambda name: contents_of(self.files[name]))

    @property
    def languages(self) -> Languages:
        """The languages as BCP 47 tags."""
        found = self._imported.languages
        both = tags.by_tag(dict.fromkeys((*found.sources, *found.targets)), self._tag_of)
        tag = {code: it for it, code in both.items()}
        if found.pairs is not None:
            return Languages(tuple((tag[source], tag[target]) for source, target in found.pairs))
        sources, targets = (tuple(tag[code] for code in side) for side in (found.sources, found.targets))
        if len(sources) == len(targets) == 1:
            return Languages(((sources[0], targets[0]),))
        return Languages((), sources, targets)

    def _marian(self, files: dict[str, bytes | Path]) -> dict[str, Any]:
        for role in list(files):
            if role in _ROLES:
                files[_ROLES[role]] = files.pop(role)
        own = self._imported.tokenizer.settings
        settings = {"begin_token": own["begin"]} if "begin" in own else {}
        return settings | ({"languages": tags.by_tag(own["languages"], self._tag_of)} if own["tags"] else {})

    def _m2m(self, files: dict[str, bytes | Path]) -> dict[str, Any]:
        own = self._imported.tokenizer.settings
        vocabulary: dict[str, int] = json.loads(contents_of(files["vocabulary"]))
        ids = {code: vocabulary.pop(f"__{code}__") for code in own["languages"]}
        files["vocabulary"] = json.dumps(vocabulary, ensure_ascii=False).encode()
        return {
            "languages": tags.by_tag(own["languages"], self._tag_of),
            "language_ids": ids,
            "target_in_source": own["source_tag"] == "target",
        }

    def _fairseq(self, _: Mapping[str, object]) -> dict[str, Any]:
        own = self._imported.tokenizer.settings
        return {
            "languages": tags.by_tag(own["languages"], self._tag_of),
            "language_ids": dict(own["languages"]),
            "legacy": own["legacy"],
        }

    def _pieces(self, files: dict[str, bytes | Path]) -> dict[str, Any]:
        own, config = dict(self._imported.tokenizer.settings), self._imported.config
        if "languages" in own:
            pieces_of = own["languages"]
            own["languages"] = {tag: pieces_of[code] for tag, code in tags.by_tag(pieces_of, self._tag_of).items()}
        if "target_vocabulary" in files:
            files["source_vocabulary"] = files.pop("vocabulary")
        if "target_model" in files:
            files["source_model"] = files.pop("model")
        target = "target_vocabulary" if "target_vocabulary" in files else "vocabulary"
        pieces: list[str] = json.loads(contents_of(files[target]))
        # Rows of the model without a piece, such as the zeros that Marian begins with, need a name.
        pieces += [f"<row {row}>" for row in range(len(pieces), config.vocab_size)]
        files[target] = json.dumps(pieces, ensure_ascii=False).encode()
        settings = {_PIECES.get(name, name): value for name, value in own.items()}
        return settings | {"begin_token": pieces[config.begin_id], "pad_token": pieces[config.pad_id]}


def tagger(imported: Imported) -> Callable[[str], str]:
    """The function from the family's own codes to tags."""
    kind = imported.tokenizer.kind
    if kind == "m2m":
        return tags.m2m
    if kind == "fairseq":
        return tags.of_fairseq(imported.tokenizer.settings["languages"])
    return tags.argos if imported.origin["family"] == "argos" else tags.opus_or_tag
