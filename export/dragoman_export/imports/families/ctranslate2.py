"""Folders of CTranslate2: `model.bin`, vocabularies, and perhaps the SentencePiece models of the tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dragoman_export.imports import positions as formulas
from dragoman_export.imports.architecture import (
    Embeddings,
    Part,
    Sizes,
    check_complete,
    layer_tensors,
    positions,
)
from dragoman_export.imports.families import m2m
from dragoman_export.imports.families.ct2_tokens import Behaviour, Tokens, Vocabularies, read_tokens, read_vocabularies
from dragoman_export.imports.families.generation import banned_ids
from dragoman_export.imports.files import digests, need, object_if_there
from dragoman_export.imports.formats.ct2 import Ct2File, Scalar, read_ct2
from dragoman_export.imports.imported import Generation, Imported, ImportOptions
from dragoman_export.imports.lazy import Claims, LazyTensor
from dragoman_export.imports.licence import licence_notes, licence_of
from dragoman_export.imports.switches import Switches
from dragoman_model.config import ModelConfig
from dragoman_service.errors import InvalidInput

SPECS = {"TransformerBase": 8, "TransformerBig": 16, "TransformerSpec": 8}
"""Name of the kind of model -> heads, where the file does not say them."""
ACTIVATIONS = {0: "relu", 1: "gelu_tanh", 2: "swish", 3: "gelu", 4: "gelu_sigmoid"}
PARTS: dict[str, tuple[str, int, int]] = {
    "self_attention.query": ("self_attention/linear_0", 0, 3),
    "self_attention.key": ("self_attention/linear_0", 1, 3),
    "self_attention.value": ("self_attention/linear_0", 2, 3),
    "self_attention.output": ("self_attention/linear_1", 0, 1),
    "self_attention_residual.norm": ("self_attention/layer_norm", 0, 1),
    "cross_attention.query": ("attention/linear_0", 0, 1),
    "cross_attention.key": ("attention/linear_1", 0, 2),
    "cross_attention.value": ("attention/linear_1", 1, 2),
    "cross_attention.output": ("attention/linear_2", 0, 1),
    "cross_attention_residual.norm": ("attention/layer_norm", 0, 1),
    "feed_forward.inner": ("ffn/linear_0", 0, 1),
    "feed_forward.outer": ("ffn/linear_1", 0, 1),
    "feed_forward_residual.norm": ("ffn/layer_norm", 0, 1),
}
"""Our name within a layer -> theirs, and which of how many parts of it."""
LONGEST = 1024
"""Positions of a model that computes them: as many as CTranslate2 reads by default."""
_OTHERS = (
    "relative_attention_bias",
    "relative_position_keys",
    "relative_asymmetric_position_keys",
    "rotary_dim",
    "linear_0_noact",
    "memory_kv",
    "num_heads_kv",
    "project_in",
    "q_norm",
    "shared_layer_norm",
)
"""Parts of names that stand in models of other architectures, such as T5, alone."""
_UNUSED = ("alignment_layer", "alignment_heads", "alibi_use_positive_positions", "scale_alibi", "embeddings_merge")
_REFUSED = {"alibi": 0, "multi_query_attention": 0, "final_logit_softcapping": 0, "sliding_window": 0}
"""Switch -> the value that turns it off, the only one that is allowed."""
_TEXTS = frozenset(("unk_token", "bos_token", "eos_token"))
_CONFIG_NO_EFFECT = frozenset(("multi_query_attention", "quantization_bits", "quantization_group_size"))


class _Model:
    """A `model.bin` while it is being read."""

    def __init__(self, file: Ct2File, where: str) -> None:
        self._file, self._left = file, dict(file.scalars)
        self.tensors = Claims(where, file.tensors)
        self.where = where

    def switch(self, name: str, default: Scalar) -> Scalar:
        """A switch of both stacks. Before revision 5, it may stand once for both."""
        values = {}
        for stack in ("encoder", "decoder"):
            own = self._left.pop(f"{stack}/{name}", None)
            values[stack] = own if own is not None else self._file.scalars.get(name, default)
        self._left.pop(name, None)
        if values["encoder"] != values["decoder"]:
            raise InvalidInput(f"{self.where}: {name}", values, "the same value for encoder and decoder")
        return values["encoder"]

    def flag(self, name: str, default: bool = False) -> bool:
        """A switch of the model or of the decoder."""
        return self._bool(name, self._left.pop(name, default))

    def both(self, name: str, default: bool) -> bool:
        """A switch of both stacks that is on or off."""
        return self._bool(name, self.switch(name, default))

    def _bool(self, name: str, value: Scalar) -> bool:
        if value not in (0, 1):
            raise InvalidInput(f"{self.where}: {name}", value, "0 or 1")
        return bool(value)

    def finish(self) -> None:
        """Check that every tensor and every switch has been used."""
        for name in sorted(self._left):
            kind, value = name.split("/")[-1], self._left[name]
            if kind not in _UNUSED and _REFUSED.get(kind) != value:
                raise InvalidInput(f"{self.where}: {name}", value, "no such switch: models with it are not supported")
        self.tensors.finish()


def read(path: Path, options: ImportOptions, prefix: str | None = None) -> Imported:
    """Read a folder. Raises InvalidInput for what is missing, disagrees or is not supported.

    `prefix` is the token that the decoder is always given first, or "" for none; the encoder then reads the text alone,
    whatever languages the vocabulary names. None: the vocabulary tells what both read.
    """
    file = read_ct2(need(path, "model.bin", "it has the tensors"))
    heads = SPECS.get(file.spec)
    if heads is None:
        raise InvalidInput("model.bin: kind of model", file.spec, " or ".join(SPECS))
    _refuse_others(file)
    model = _Model(file, "model.bin")
    behaviour = _behaviour(path, file, model)
    vocabularies = read_vocabularies(path, behaviour.unknown)
    zero = model.flag("decoder/start_from_zero_embedding")
    tokens = read_tokens(path, options, vocabularies, behaviour, zero_start=zero, prefix=prefix)
    sizes = _sizes(model, heads)
    tokens = _told_apart(tokens, path, options, sizes)
    settings, tensors = _stacks(model, sizes)
    embeddings = _embeddings(model, sizes.d_model, vocabularies)
    banned, pad = set(tokens.banned), tokens.pad
    begin = tokens.begin
    if zero or pad is None:
        added = max(embeddings.source.shape[0], embeddings.target.shape[0])
        embeddings = embeddings.grown(added + 1)
        banned |= set(range(len(vocabularies.target), added + 1))
        pad, begin = added, added if zero else begin
    assert begin is not None
    tables, embedding_tensors = embeddings.convert()
    tensors |= embedding_tensors
    model.finish()
    words = int(tables["vocab_size"])
    config = ModelConfig(
        **sizes.settings() | settings | tables,
        layer_norm_epsilon=behaviour.layer_norm_epsilon,
        dropout=0.0,
        pad_id=pad,
        begin_id=begin,
        end_id=tokens.end,
        unknown_id=tokens.unknown,
        banned_ids=banned_ids(banned, end_id=tokens.end, words=words),
    )
    licence = options.licence or licence_of(path)
    used = [path / "model.bin", *filter(Path.is_file, [path / "config.json"]), *vocabularies.files, *tokens.files]
    count = config.max_positions
    return Imported(
        config,
        check_complete(config, tensors),
        tokens.parts,
        tokens.languages,
        Generation(2, 1.0, "power", max_source_tokens=count, max_target_tokens=count),
        licence,
        {"family": "ctranslate2", "name": path.resolve().name, "files": digests(used)},
        (*licence_notes(licence), *tokens.notes),
    )


def _told_apart(tokens: Tokens, path: Path, options: ImportOptions, sizes: Sizes) -> Tokens:
    """M2M-100, or SMaLL-100, which has the same vocabulary."""
    parts = tokens.parts
    if parts.kind != "m2m" or not m2m.is_small_100(path, options, sizes.encoder_layers, sizes.decoder_layers):
        return tokens
    parts = replace(parts, settings={**parts.settings, "source_tag": "target"})
    return replace(tokens, parts=parts, notes=[*tokens.notes, m2m.SMALL_100_NOTE])


def _refuse_others(file: Ct2File) -> None:
    for name in (*file.tensors, *file.scalars):
        for part in _OTHERS:
            if part in name.split("/"):
                allowed = f"a model without {part}: T5, MADLAD-400 and others have another architecture"
                raise InvalidInput(f"model.bin: {name}", "present", allowed)


def _behaviour(path: Path, file: Ct2File, model: _Model) -> Behaviour:
    values = object_if_there(path / "config.json")
    if file.version < 6:
        texts = {name: text for name, text in file.texts.items() if name in _TEXTS}
        bos, eos = texts.get("bos_token", "<s>"), texts.get("eos_token", "</s>")
        start = bos if model.flag("with_target_bos", True) else eos
        values |= texts | {
            "add_source_bos": model.flag("with_source_bos"),
            "add_source_eos": model.flag("with_source_eos"),
            "decoder_start_token": None if model.flag("user_decoder_start_tokens") else start,
        }
    for name in file.texts.keys() - _TEXTS:
        raise InvalidInput(f"model.bin: {name}", file.texts[name], f"only the texts {', '.join(sorted(_TEXTS))}")
    it = Switches("config.json", values)
    it.among("quantization_type", 0, None)
    behaviour = Behaviour(
        unknown=it.text("unk_token", "<unk>"),
        begin=it.text("bos_token", "<s>"),
        end=it.text("eos_token", "</s>"),
        start=None if values.get("decoder_start_token", "") is None else it.text("decoder_start_token", "<s>"),
        add_source_bos=it.flag("add_source_bos", False),
        add_source_eos=it.flag("add_source_eos", False),
        layer_norm_epsilon=it.number("layer_norm_epsilon", 1e-5),
    )
    it.finish(_CONFIG_NO_EFFECT | {"decoder_start_token"})
    return behaviour


def _sizes(model: _Model, heads: int) -> Sizes:
    def layers(stack: str) -> int:
        count = 0
        while f"{stack}/layer_{count}/ffn/linear_0/weight" in model.tensors:
            count += 1
        return count

    def d_ff(stack: str) -> int:
        return model.tensors.shape(f"{stack}/layer_0/ffn/linear_0/weight")[0]

    width = model.tensors.shape("decoder/embeddings/weight")[1]
    num_heads = model.switch("num_heads", heads)
    if not isinstance(num_heads, int) or num_heads < 1:
        raise InvalidInput("model.bin: num_heads", num_heads, "a whole number, 1 or more")
    return Sizes(width, num_heads, layers("encoder"), layers("decoder"), d_ff("encoder"), d_ff("decoder"))


def _stacks(model: _Model, sizes: Sizes) -> tuple[dict[str, Any], dict[str, LazyTensor]]:
    """The fields of `ModelConfig` and our parameters, but for the embedding matrices."""
    activation = model.switch("activation", 0)
    if activation not in ACTIVATIONS:
        raise InvalidInput("model.bin: activation", activation, " or ".join(map(str, ACTIVATIONS)))
    settings: dict[str, Any] = {
        "activation": ACTIVATIONS[int(activation)],
        "norm": "pre" if model.both("pre_norm", True) else "post",
        "embedding_scale": _embedding_scale(model),
    }
    where, tensors = positions(*(_positions(model, stack, sizes.d_model) for stack in ("encoder", "decoder")))
    tensors |= layer_tensors(sizes, _finder(model.tensors))
    for field, ours, theirs in (
        ("final_norm", "norm", "layer_norm"),
        ("embedding_norm", "embedding_norm", "layernorm_embedding"),
    ):
        settings[field] = f"encoder/{theirs}/gamma" in model.tensors
        for stack in ("encoder", "decoder") if settings[field] else ():
            for kind, name in (("weight", "gamma"), ("bias", "beta")):
                shape = (sizes.d_model,)
                tensors[f"{stack}_{ours}.{kind}"] = model.tensors.take(f"{stack}/{theirs}/{name}", shape)
    return settings | where, tensors


def _finder(tensors: Claims) -> Callable[[Part], tuple[LazyTensor, LazyTensor]]:
    """Part -> weight and bias. Several parts may be rows of one tensor, which is claimed once."""
    taken: dict[str, LazyTensor] = {}

    def take(name: str, shape: tuple[int, ...]) -> LazyTensor:
        if name not in taken:
            taken[name] = tensors.take(name, shape)
        return taken[name]

    def find(part: Part) -> tuple[LazyTensor, LazyTensor]:
        theirs, place, count = PARTS[part.name]
        name, rows = f"{part.stack}/layer_{part.layer}/{theirs}", part.shape[0]
        kinds = ("gamma", "beta") if len(part.shape) == 1 else ("weight", "bias")
        shapes = (count * rows, *part.shape[1:]), (count * rows,)
        weight, bias = (take(f"{name}/{kind}", shape) for kind, shape in zip(kinds, shapes, strict=True))
        return weight.part(place * rows, (place + 1) * rows), bias.part(place * rows, (place + 1) * rows)

    return find


def _embedding_scale(model: _Model) -> float | None:
    """The factor of the embeddings: a flag, a number, or in the oldest files a flag with another name."""
    scales = {model.switch("scale_embeddings", -1), model.switch("embeddings/multiply_by_sqrt_depth", -1)} - {-1}
    scale = scales.pop() if scales else 1
    if isinstance(scale, int):
        return None if scale else 1.0
    return scale


def _positions(model: _Model, stack: str, width: int) -> LazyTensor:
    """The table of the file, or the one that CTranslate2 computes, which is OpenNMT-tf's."""
    name = f"{stack}/position_encodings/encodings"
    if name not in model.tensors:
        return formulas.tensor2tensor(LONGEST, width, first=1)
    return model.tensors.take(name, (model.tensors.shape(name)[0], width))


def _embeddings(model: _Model, width: int, vocabularies: Vocabularies) -> Embeddings:
    source, target = (len(it) for it in (vocabularies.source, vocabularies.target))
    several = "encoder/embeddings_0/weight" in model.tensors
    bias = model.tensors.find("decoder/projection/bias", (target,))
    return Embeddings(
        model.tensors.take(f"encoder/embeddings{'_0' * several}/weight", (source, width)),
        model.tensors.take("decoder/embeddings/weight", (target, width)),
        model.tensors.take("decoder/projection/weight", (target, width)),
        bias,
    )
