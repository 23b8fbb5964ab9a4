"""Reading of `manifest.json`: both formats that are served, and the checks that no file of the bundle is needed for."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from dragoman_service.bundle.languages import Languages, Pair
from dragoman_service.bundle.manifest import (
    CACHE_DTYPES,
    FILES,
    FORMAT_VERSION,
    MAX_BEAM_SIZE,
    MAX_LENGTH_PENALTY,
    NAME,
    NORMALISATIONS,
    PRECISIONS,
    TOKENIZER,
    CacheLayout,
    Generation,
    Limits,
    Manifest,
    Score,
    TensorNames,
    tensor_names,
    tensor_names_of_format_2,
)
from dragoman_service.bundle.tokenizer import SPECIAL_IDS
from dragoman_service.bundle.tokenizers.loading import KINDS
from dragoman_service.bundle.tokenizers.protocol import SpecialIds, TokenizerSpec
from dragoman_service.bundle.typed_json import from_json, shown

BITS = {"fp32": 32, "fp16": 16, "int8": 8}
"""Precision -> bits of the weights of format 2."""
FORMATS = (2, FORMAT_VERSION)
"""The format versions that this release reads."""

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_TAG = "a language tag such as 'en' or 'pt-BR'"
_MAX_INT32 = 2**31 - 1
"""Largest number that the protobuf messages to clients can hold."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIGEST = "a SHA-256 of 64 lower-case hexadecimal digits"


@dataclass(frozen=True, slots=True)
class _Manifest2:
    """A manifest of format 2: one SentencePiece model, whose special ids are those of Dragoman, and listed pairs."""

    format_version: int
    name: str
    version: str
    description: str
    architecture: dict[str, Any]
    special_ids: SpecialIds
    vocab_size: int
    limits: Limits
    language_pairs: tuple[Pair, ...]
    precision: str
    cache: CacheLayout
    tensors: TensorNames
    files: dict[str, str]
    training: dict[str, Any]
    scores: tuple[Score, ...]
    created: str
    producer: str

    def converted(self) -> Manifest:
        """The manifest of format 3 that says the same."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        special = self.special_ids
        values |= {"format_version": FORMAT_VERSION, "languages": Languages(values.pop("language_pairs"))}
        return Manifest(
            **values,
            source_vocab_size=self.vocab_size,
            banned_ids=tuple(sorted({special.pad, special.begin, special.unknown})),
            tokenizer=TokenizerSpec("dragoman", {"model": TOKENIZER}, {}),
            generation=Generation(),
            weight_bits=BITS.get(self.precision, 8),
            alignments=False,
            licence="",
            origin=None,
        )


def read_manifest(text: str) -> tuple[Manifest | None, list[str]]:
    """Parse and check `manifest.json`. Returns the manifest, or None and every problem found.

    A manifest of format 2 is converted to one of format 3.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # RecursionError: nested too deeply
        return None, [f"manifest.json: not JSON ({error})"]
    if not isinstance(value, dict):
        return None, [f"manifest.json: got {shown(value)}; allowed: an object"]
    version = value.get("format_version")
    if type(version) is not int or version not in FORMATS:
        allowed = " or ".join(map(str, FORMATS))
        return None, [f"format_version: got {shown(version)}; allowed: {allowed}, which is what this release reads"]
    problems: list[str] = []
    if version == FORMAT_VERSION:
        manifest: Manifest = from_json(Manifest, value, "", problems)
        problems = problems or [*_problems(manifest, version), *_problems_of_format_3(manifest)]
    else:
        older: _Manifest2 = from_json(_Manifest2, value, "", problems)
        if not problems:
            manifest = older.converted()
            problems = [*_problems(manifest, version), *_problems_of_dragoman_ids(manifest.special_ids)]
    return (None if problems else manifest), problems


def _problems(manifest: Manifest, version: int) -> Iterable[str]:
    """What must hold in both formats. `version` is the format that was read, whose fields messages name."""
    limits, cache = manifest.limits, manifest.cache
    for field in ("name", "version"):
        if not NAME.fullmatch(getattr(manifest, field)):
            yield f"{field}: got {getattr(manifest, field)!r}; allowed: letters, digits, dots, dashes and underscores"
    groups = {"limits": dataclasses.asdict(limits), "cache": dataclasses.asdict(cache)}
    values = {f"{group}.{field}": value for group, fields in groups.items() for field, value in fields.items()}
    numbers = {field: value for field, value in values.items() if isinstance(value, int)}
    if cache.dtype not in CACHE_DTYPES:
        yield f"cache.dtype: got {cache.dtype!r}; allowed: {', '.join(CACHE_DTYPES)}"
    for field, number in {"vocab_size": manifest.vocab_size, **numbers}.items():
        if not 1 <= number <= _MAX_INT32:
            yield f"{field}: got {shown(number)}; allowed: 1 to {_MAX_INT32}"
    most = manifest.vocab_size - len(manifest.banned_ids)
    if limits.max_candidates > most:
        allowed = f"up to {shown(most)}, vocab_size without the ids that no translation contains"
        yield f"limits.max_candidates: got {limits.max_candidates}; allowed: {allowed}"
    if manifest.precision not in PRECISIONS:
        yield f"precision: got {manifest.precision!r}; allowed: {', '.join(PRECISIONS)}"
    yield from _language_problems(manifest.languages, version)
    yield from _architecture_problems(manifest)
    # The number of layers is compared first: names for a huge number of layers would fill the memory.
    few = 1 <= cache.decoder_layers <= len(manifest.tensors.decoder_outputs)
    known = [tensor_names_of_format_2(cache.decoder_layers)] if few else []
    # What format 2 had may be written again as format 3, with its graphs.
    known += [tensor_names(cache.decoder_layers)] if few and version == FORMAT_VERSION else []
    if manifest.tensors not in known:
        yield f"tensors: not those of format version {version} with {cache.decoder_layers} decoder layers"
    yield from _file_problems(manifest)


def _architecture_problems(manifest: Manifest) -> Iterable[str]:
    """Values of `cache` and `limits` that differ from those of `architecture`, where it has them."""
    architecture, cache, limits = manifest.architecture, manifest.cache, manifest.limits
    for field in ("decoder_layers", "num_heads"):
        got, wanted = getattr(cache, field), architecture.get(field)
        if field in architecture and got != wanted:
            yield f"cache.{field}: got {got}; allowed: {shown(wanted)}, as in architecture"
    head_size = architecture.get("head_size")  # None, as where it is missing: the heads share d_model
    if head_size is not None:
        if cache.head_dim != head_size:
            yield f"cache.head_dim: got {cache.head_dim}; allowed: {shown(head_size)}, the head_size of architecture"
    elif "d_model" in architecture and cache.num_heads * cache.head_dim != architecture["d_model"]:
        got_heads = f"{cache.num_heads} heads of {cache.head_dim}"
        yield f"cache.head_dim: got {got_heads}; allowed: together d_model, {shown(architecture['d_model'])}"
    most = architecture.get("max_positions")
    if most is not None and type(most) is not int:
        yield f"architecture.max_positions: got {shown(most)}; allowed: int"
    elif most is not None:
        for field in ("max_source_tokens", "max_target_tokens"):
            if getattr(limits, field) > most:
                got = getattr(limits, field)
                yield f"limits.{field}: got {got}; allowed: up to architecture.max_positions, {most}"


def _language_problems(languages: Languages, version: int) -> Iterable[str]:
    pairs, sets = languages.pairs, {"sources": languages.sources, "targets": languages.targets}
    listed = "language_pairs" if version == 2 else "languages.pairs"
    if not len(languages):
        allowed = "one or more" if version == 2 else "pairs, or sources and targets, of two languages"
        yield f"{listed.removesuffix('.pairs')}: got none; allowed: {allowed}"
    for name, tags in sets.items():
        yield from _tag_problems(tags, f"languages.{name}")
        if not tags and any(sets.values()):
            yield f"languages.{name}: got none; allowed: one or more, as there are languages of the other side"
    both = Languages((), languages.sources, languages.targets)
    known: set[Pair] = set()
    for index, pair in enumerate(pairs):
        if not all(_LANGUAGE.fullmatch(language) for language in pair):
            yield f"{listed}[{index}]: got {shown(list(pair))}; allowed: two language tags such as 'en' or 'pt-BR'"
        low = (pair[0].lower(), pair[1].lower())
        if low in known:
            yield f"{listed}[{index}]: {shown(list(pair))} is listed twice"
        elif both.translates(*pair):
            yield f"{listed}[{index}]: got {shown(list(pair))}; allowed: pairs that sources and targets do not give"
        known.add(low)


def _tag_problems(tags: Iterable[str], field: str) -> Iterable[str]:
    known: set[str] = set()
    for index, tag in enumerate(tags):
        if not _LANGUAGE.fullmatch(tag):
            yield f"{field}[{index}]: got {shown(tag)}; allowed: {_TAG}"
        if tag.lower() in known:
            yield f"{field}[{index}]: {shown(tag)} is listed twice"
        known.add(tag.lower())


def _file_problems(manifest: Manifest) -> Iterable[str]:
    files = manifest.files
    yield from (f"files: {name} missing" for name in FILES if name not in files)
    for role, name in manifest.tokenizer.files.items():
        if name not in files:
            yield f"files: {shown(name)} missing, which the tokenizer has as {shown(role)}"
    for name, digest in files.items():
        path = PurePosixPath(name)
        if (
            path.is_absolute()
            or ".." in path.parts
            or "\\" in name
            or str(path) != name
            or name in ("", ".")
            or not name.isprintable()
        ):
            yield f"files: got {name!r}; allowed: relative paths inside the bundle"
        if not _SHA256.fullmatch(digest):
            yield f"files.{name}: got {digest!r}; allowed: {_DIGEST}"


def _bits_problems(manifest: Manifest) -> Iterable[str]:
    bits = (7, 8) if manifest.precision == "int8" else (BITS.get(manifest.precision, 0),)
    if manifest.weight_bits not in bits:
        allowed = " or ".join(map(str, bits))
        yield f"weight_bits: got {shown(manifest.weight_bits)}; allowed: {allowed} for {manifest.precision}"


def _problems_of_format_3(manifest: Manifest) -> Iterable[str]:
    """What must hold of the fields that format 2 has not."""
    yield from _bits_problems(manifest)
    special, tokenizer, generation = manifest.special_ids, manifest.tokenizer, manifest.generation
    size, banned = manifest.vocab_size, manifest.banned_ids
    if not 1 <= manifest.source_vocab_size <= _MAX_INT32:
        yield f"source_vocab_size: got {shown(manifest.source_vocab_size)}; allowed: 1 to {_MAX_INT32}"
    below = f"0 to {size - 1}, less than vocab_size"
    ids = {f"special_ids.{name}": token for name, token in dataclasses.asdict(special).items()}
    for field, token in [*ids.items(), *((f"banned_ids[{i}]", token) for i, token in enumerate(banned))]:
        if not 0 <= token < size:
            yield f"{field}: got {shown(token)}; allowed: {below}"
    for index in range(1, len(banned)):
        before, token = banned[index - 1], banned[index]
        if before >= token:
            yield f"banned_ids[{index}]: got {shown(token)} after {shown(before)}; allowed: each id once, ascending"
    if special.end in banned:
        yield f"banned_ids: got {special.end}, the end of the sentence; allowed: ids other than special_ids.end"
    if tokenizer.kind not in KINDS:
        yield f"tokenizer.kind: got {tokenizer.kind!r}; allowed: {', '.join(KINDS)}"
    if tokenizer.kind == "dragoman":
        yield from _problems_of_dragoman_ids(special)
    if not tokenizer.files:
        yield "tokenizer.files: got none; allowed: one or more"
    yield from _alignment_problems(manifest)
    yield from _generation_problems(generation)
    yield from _described_problems(manifest)
    for name, digest in manifest.origin.files.items() if manifest.origin else ():
        if not _SHA256.fullmatch(digest):
            yield f"origin.files.{name}: got {digest!r}; allowed: {_DIGEST}"


def _problems_of_dragoman_ids(special: SpecialIds) -> Iterable[str]:
    if dataclasses.astuple(special) != tuple(SPECIAL_IDS.values()):
        yield f"special_ids: got {dataclasses.astuple(special)}; allowed: {tuple(SPECIAL_IDS.values())}"


def _alignment_problems(manifest: Manifest) -> Iterable[str]:
    aligned = "aligned" in manifest.tensors.decoder_outputs
    if manifest.alignments != aligned:
        yield f"alignments: got {manifest.alignments}; allowed: {aligned}, as the outputs of the decoder say"
    if manifest.alignment is None:
        return
    given = dataclasses.asdict(manifest.alignment)
    if not aligned:
        yield f"alignment: got {shown(given)}; allowed: null, as the decoder returns no alignments"
    for field, sizes in {"layer": "decoder_layers", "head": "num_heads"}.items():
        size = getattr(manifest.cache, sizes)
        if not 0 <= given[field] < size:
            yield f"alignment.{field}: got {shown(given[field])}; allowed: 0 to {size - 1}, less than cache.{sizes}"


def _generation_problems(generation: Generation) -> Iterable[str]:
    beam, penalty, normalisation = generation.beam_size, generation.length_penalty, generation.normalisation
    if beam is not None and not 1 <= beam <= MAX_BEAM_SIZE:
        yield f"generation.beam_size: got {shown(beam)}; allowed: 1 to {MAX_BEAM_SIZE}, or null"
    if penalty is not None and not 0 <= penalty <= MAX_LENGTH_PENALTY:
        yield f"generation.length_penalty: got {penalty}; allowed: 0 to {MAX_LENGTH_PENALTY:g}, or null"
    if normalisation not in NORMALISATIONS:
        yield f"generation.normalisation: got {normalisation!r}; allowed: {', '.join(NORMALISATIONS)}"
    elif penalty is None and normalisation != "gnmt":
        allowed = f"a number, as that of the server is not one for the normalisation {normalisation!r}"
        yield f"generation.length_penalty: got null; allowed: {allowed}"


def _described_problems(manifest: Manifest) -> Iterable[str]:
    """Vocabularies and ids that differ from those of `architecture`, where it has them."""
    architecture = manifest.architecture
    own_source = "source_vocab_size" if architecture.get("source_vocab_size") is not None else "vocab_size"
    values: list[tuple[str, str, Any]] = [
        ("vocab_size", "vocab_size", manifest.vocab_size),
        ("source_vocab_size", own_source, manifest.source_vocab_size),
        ("banned_ids", "banned_ids", list(manifest.banned_ids)),
        *((f"special_ids.{it}", f"{it}_id", token) for it, token in dataclasses.asdict(manifest.special_ids).items()),
    ]
    for field, name, got in values:
        if architecture.get(name, got) != got:
            yield f"{field}: got {shown(got)}; allowed: {shown(architecture[name])}, as {name} of architecture"
