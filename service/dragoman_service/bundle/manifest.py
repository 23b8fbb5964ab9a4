"""`manifest.json`, the description of a bundle: its frozen dataclass, its parser and its checks."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from dragoman_service.bundle.tokenizer import SPECIAL_IDS

FORMAT_VERSION = 2
"""Version of the bundle format. It is raised when servers for the older format cannot serve the newer one."""

PRECISIONS = ("fp32", "fp16", "int8")
"""Number formats in which weights are stored and multiplied."""

ENCODER, DECODER, WEIGHTS = "encoder.onnx", "decoder.onnx", "weights.safetensors"
TOKENIZER, GOLDEN, MODEL_CARD = "tokenizer.model", "golden.json", "MODEL_CARD.md"
FILES = (ENCODER, DECODER, WEIGHTS, TOKENIZER, GOLDEN, MODEL_CARD)
"""The files of a bundle beside its manifest."""

CACHE_DTYPES = ("float32", "float16", "int8")
"""Number formats in which keys and values are cached."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Allowed names of models, versions and aliases."""

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_MAX_INT32 = 2**31 - 1
"""Largest number that the protobuf messages to clients can hold."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Ids of the special tokens."""

    pad: int
    begin: int
    end: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest inputs and outputs of the model."""

    max_source_tokens: int
    """Tokens of one sentence, its end included."""
    max_target_tokens: int
    """Tokens of one translation, without its end."""
    max_candidates: int
    """Candidates that a decoder step can return per row: the vocabulary less the ids that are never produced."""


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """Shape and type of cached keys and values: [rows, num_heads, capacity, head_dim] for each decoder layer.

    Self-attention and cross-attention have the same layout.
    """

    decoder_layers: int
    num_heads: int
    head_dim: int
    dtype: str
    """Name of a NumPy type, one of `CACHE_DTYPES`."""


@dataclass(frozen=True, slots=True)
class TensorNames:
    """Names of the inputs and outputs of the two graphs, in order."""

    encoder_inputs: tuple[str, ...]
    encoder_outputs: tuple[str, ...]
    decoder_inputs: tuple[str, ...]
    decoder_outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """A score of the model on a test set."""

    test_set: str
    metric: str
    value: float
    signature: str
    """Signature of sacreBLEU, without which scores cannot be compared."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of `manifest.json`, which a server reads before any other file of the bundle."""

    format_version: int
    name: str
    version: str
    description: str
    architecture: dict[str, Any]
    """Hyper-parameters, for readers and for export. The server reads `cache` instead."""
    special_ids: SpecialIds
    vocab_size: int
    limits: Limits
    language_pairs: tuple[tuple[str, str], ...]
    """(source, target), as BCP 47 tags."""
    precision: str
    cache: CacheLayout
    tensors: TensorNames
    files: dict[str, str]
    """File name -> SHA-256 in hexadecimal, of every file but the manifest."""
    training: dict[str, Any]
    """Summary of the training run."""
    scores: tuple[Score, ...]
    created: str
    """Time in UTC, ISO 8601."""
    producer: str
    """Name and version of the program that wrote the bundle."""

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"


def tensor_names(decoder_layers: int) -> TensorNames:
    """The tensor names of bundles that this release writes."""
    older = tensor_names_of_format_2(decoder_layers)
    return TensorNames(
        encoder_inputs=("source", "source_positions", "cells", "places", "source_lengths", "total_source_length"),
        encoder_outputs=older.encoder_outputs,
        decoder_inputs=(*older.decoder_inputs, "selected_rows", "masks", "num_selected_candidates"),
        decoder_outputs=(*older.decoder_outputs, "selected_ids", "selected_log_probs", "aligned"),
    )


def tensor_names_of_format_2(decoder_layers: int) -> TensorNames:
    """The tensor names of bundles of format 2, whose encoder takes sources of one length."""

    def per_layer(*prefixes: str) -> tuple[str, ...]:
        return tuple(f"{prefix}_{layer}" for layer in range(decoder_layers) for prefix in prefixes)

    step = ("tokens", "positions", "total_length", "source_lengths", "total_source_length", "num_candidates")
    adjust = ("adjust_index", "adjust_penalty", "adjust_bias")
    return TensorNames(
        encoder_inputs=("source",),
        encoder_outputs=("cross_kv",),
        decoder_inputs=(*step, *adjust, *per_layer("self_key", "self_value", "cross_key", "cross_value")),
        decoder_outputs=(
            "candidate_ids",
            "candidate_log_probs",
            *per_layer("new_self_key", "new_self_value", "new_cross_key", "new_cross_value"),
        ),
    )


def read_manifest(text: str) -> tuple[Manifest | None, list[str]]:
    """Parse and check `manifest.json`. Returns the manifest, or None and every problem found."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # RecursionError: nested too deeply
        return None, [f"manifest.json: not JSON ({error})"]
    if not isinstance(value, dict):
        return None, [f"manifest.json: got {_shown(value)}; allowed: an object"]
    if value.get("format_version") != FORMAT_VERSION:
        got = _shown(value.get("format_version"))
        return None, [f"format_version: got {got}; allowed: {FORMAT_VERSION}, which is what this release reads"]
    problems: list[str] = []
    manifest = from_json(Manifest, value, "", problems)
    if not problems:
        problems = list(_contradictions(manifest))
    return (None if problems else manifest), problems


def from_json(wanted: Any, value: Any, where: str, problems: list[str]) -> Any:
    """Convert parsed JSON to the type `wanted`: a dataclass, tuple[...], dict, str, int or float.

    Args:
        wanted: The type.
        value: The parsed JSON.
        where: Path of the value for messages, such as `limits.max_candidates`.
        problems: Receives a message for every value of another type.
    """
    origin = typing.get_origin(wanted)
    if dataclasses.is_dataclass(wanted):
        return _dataclass_from_json(wanted, value, where, problems)
    if origin is tuple:
        return _tuple_from_json(typing.get_args(wanted), value, where, problems)
    if origin is dict:
        return _dict_from_json(typing.get_args(wanted)[1], value, where, problems)
    if wanted is float and type(value) is int and abs(value) < 2**63:
        return float(value)
    if wanted is not Any and type(value) is not wanted:  # isinstance would accept True as an int
        problems.append(f"{where}: got {_shown(value)}; allowed: {wanted.__name__}")
    elif isinstance(value, str) and not _is_text(value):
        problems.append(f"{where}: got {_shown(value)}; allowed: text without lone surrogates")
    return value


def _tuple_from_json(arguments: tuple[Any, ...], value: Any, where: str, problems: list[str]) -> tuple[Any, ...]:
    size = None if arguments[-1] is Ellipsis else len(arguments)
    if not isinstance(value, list) or size not in (None, len(value)):
        problems.append(f"{where}: got {_shown(value)}; allowed: a list{f' of {size}' if size else ''}")
        return ()
    return tuple(from_json(arguments[0], item, f"{where}[{i}]", problems) for i, item in enumerate(value))


def _dict_from_json(wanted: Any, value: Any, where: str, problems: list[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        problems.append(f"{where}: got {_shown(value)}; allowed: an object")
        return {}
    return {key: from_json(wanted, item, f"{where}.{key}", problems) for key, item in value.items()}


def _dataclass_from_json(wanted: Any, value: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(value, dict):
        problems.append(f"{where}: got {_shown(value)}; allowed: an object")
        return None
    types_of = typing.get_type_hints(wanted)
    prefix = f"{where}." if where else ""
    problems += [f"{prefix}{name}: missing" for name in types_of if name not in value]
    problems += [f"{prefix}{name}: unknown field" for name in value if name not in types_of]
    fields = {
        name: from_json(kind, value[name], prefix + name, problems) for name, kind in types_of.items() if name in value
    }
    return None if problems else wanted(**fields)


def _contradictions(manifest: Manifest) -> Iterable[str]:
    special, limits, cache = manifest.special_ids, manifest.limits, manifest.cache
    for field in ("name", "version"):
        if not NAME.fullmatch(getattr(manifest, field)):
            yield f"{field}: got {getattr(manifest, field)!r}; allowed: letters, digits, dots, dashes and underscores"
    if dataclasses.astuple(special) != tuple(SPECIAL_IDS.values()):
        yield f"special_ids: got {dataclasses.astuple(special)}; allowed: {tuple(SPECIAL_IDS.values())}"
    groups = {"limits": dataclasses.asdict(limits), "cache": dataclasses.asdict(cache)}
    values = {f"{group}.{field}": value for group, fields in groups.items() for field, value in fields.items()}
    numbers = {field: value for field, value in values.items() if isinstance(value, int)}
    if cache.dtype not in CACHE_DTYPES:
        yield f"cache.dtype: got {cache.dtype!r}; allowed: {', '.join(CACHE_DTYPES)}"
    for field, number in {"vocab_size": manifest.vocab_size, **numbers}.items():
        if not 1 <= number <= _MAX_INT32:
            yield f"{field}: got {_shown(number)}; allowed: 1 to {_MAX_INT32}"
    if limits.max_candidates > manifest.vocab_size:
        yield f"limits.max_candidates: got {limits.max_candidates}; allowed: up to vocab_size, {manifest.vocab_size}"
    if manifest.precision not in PRECISIONS:
        yield f"precision: got {manifest.precision!r}; allowed: {', '.join(PRECISIONS)}"
    yield from _language_problems(manifest.language_pairs)
    yield from _architecture_problems(manifest)
    # The number of layers is compared first: names for a huge number of layers would fill the memory.
    few = 1 <= cache.decoder_layers <= len(manifest.tensors.decoder_outputs)
    if not few or manifest.tensors not in (
        tensor_names(cache.decoder_layers),
        tensor_names_of_format_2(cache.decoder_layers),
    ):
        yield f"tensors: not those of format version {FORMAT_VERSION} with {cache.decoder_layers} decoder layers"
    yield from _file_problems(manifest.files)


def _architecture_problems(manifest: Manifest) -> Iterable[str]:
    """Values of `cache` and `limits` that differ from those of `architecture`, where it has them."""
    architecture, cache, limits = manifest.architecture, manifest.cache, manifest.limits
    for field in ("decoder_layers", "num_heads"):
        got, wanted = getattr(cache, field), architecture.get(field)
        if field in architecture and got != wanted:
            yield f"cache.{field}: got {got}; allowed: {_shown(wanted)}, as in architecture"
    if "d_model" in architecture and cache.num_heads * cache.head_dim != architecture["d_model"]:
        shown = f"{cache.num_heads} heads of {cache.head_dim}"
        yield f"cache.head_dim: got {shown}; allowed: together d_model, {_shown(architecture['d_model'])}"
    most = architecture.get("max_positions")
    if most is not None and type(most) is not int:
        yield f"architecture.max_positions: got {_shown(most)}; allowed: int"
    elif most is not None:
        for field in ("max_source_tokens", "max_target_tokens"):
            if getattr(limits, field) > most:
                got = getattr(limits, field)
                yield f"limits.{field}: got {got}; allowed: up to architecture.max_positions, {most}"


def _language_problems(pairs: tuple[tuple[str, str], ...]) -> Iterable[str]:
    if not pairs:
        yield "language_pairs: got none; allowed: one or more"
    for index, pair in enumerate(pairs):
        if not all(_LANGUAGE.fullmatch(language) for language in pair):
            yield f"language_pairs[{index}]: got {list(pair)}; allowed: two language tags such as 'en' or 'pt-BR'"
        if pair in pairs[:index]:
            yield f"language_pairs[{index}]: {list(pair)} is listed twice"


def _file_problems(files: dict[str, str]) -> Iterable[str]:
    yield from (f"files: {name} missing" for name in FILES if name not in files)
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
            yield f"files.{name}: got {digest!r}; allowed: a SHA-256 of 64 lower-case hexadecimal digits"


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or an integer of too many digits
        return "something too long to be shown"
    return text if len(text) <= 60 else text[:57] + "..."
