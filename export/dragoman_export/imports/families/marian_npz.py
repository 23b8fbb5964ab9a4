"""Marian's own models: an archive of NumPy arrays, decoder.yml, vocabularies and SentencePiece models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from dragoman_export.imports import positions as formulas
from dragoman_export.imports.architecture import Embeddings, Part, Sizes, check_complete, layer_tensors, positions
from dragoman_export.imports.families.generation import banned_ids
from dragoman_export.imports.families.marian import languages_of
from dragoman_export.imports.families.marian_vocabulary import read_vocabulary
from dragoman_export.imports.families.plain import split_of
from dragoman_export.imports.families.vocabulary import check_fit
from dragoman_export.imports.files import digests, need, parse_yaml, read_text
from dragoman_export.imports.formats.npz import read_npz
from dragoman_export.imports.imported import Generation, Imported, ImportOptions, Languages, TokenizerParts
from dragoman_export.imports.lazy import Claims, LazyTensor
from dragoman_export.imports.licence import licence_notes, licence_of
from dragoman_export.imports.switches import Switches, listed
from dragoman_model.config import ModelConfig
from dragoman_service.errors import InvalidInput

ACTIVATIONS = {"relu": "relu", "swish": "swish", "gelu": "gelu_sigmoid"}
PARTS: dict[str, tuple[str, str]] = {
    "self_attention.query": ("self_Wq", "self_bq"),
    "self_attention.key": ("self_Wk", "self_bk"),
    "self_attention.value": ("self_Wv", "self_bv"),
    "self_attention.output": ("self_Wo", "self_bo"),
    "cross_attention.query": ("context_Wq", "context_bq"),
    "cross_attention.key": ("context_Wk", "context_bk"),
    "cross_attention.value": ("context_Wv", "context_bv"),
    "cross_attention.output": ("context_Wo", "context_bo"),
    "feed_forward.inner": ("ffn_W1", "ffn_b1"),
    "feed_forward.outer": ("ffn_W2", "ffn_b2"),
}
"""Our name within a layer -> weight [in, out] and bias [1, out]."""
NORMS = {
    "self_attention_residual.norm": "self_Wo",
    "cross_attention_residual.norm": "context_Wo",
    "feed_forward_residual.norm": "ffn_ffn",
}
FIXED: dict[str, Any] = {
    "type": "transformer",
    "input-types": [],
    "factors-combine": "sum",
    "lemma-dim-emb": 0,
    "lemma-dependency": "",
    "output-omit-bias": False,
    "right-left": False,
    "transformer-alibi-shift": False,
    "transformer-alibi-trainable": False,
    "transformer-attention-mask": "default",
    "transformer-decoder-autoreg": "self-attention",
    "transformer-disable-position-embeddings": False,
    "transformer-ffn-depth": 2,
    "transformer-no-affine": False,
    "transformer-no-bias": False,
    "transformer-no-projection": False,
    "transformer-pool": False,
    "transformer-rnn-projection": False,
    "transformer-tied-layers": [],
    "ulr": False,
}
"""Switch -> the only value that is supported; a missing one has it."""
NO_EFFECT = frozenset(
    listed(
        """
    bert-train-type-embeddings bert-type-vocab-size dec-cell dec-cell-base-depth dec-cell-high-depth dim-rnn
    dim-vocabs char-conv-filters-num char-conv-filters-widths char-highway char-stride enc-cell enc-cell-depth
    enc-type factors-dim-emb layer-normalization separator-symbol skip special-vocab tied-embeddings
    tied-embeddings-all tied-embeddings-src transformer-aan-activation transformer-aan-depth
    transformer-aan-nogate transformer-depth-scaling transformer-dim-aan transformer-guided-alignment-layer
    ulr-dim-emb ulr-trainable-transformation version
    """
    )
)
"""Switches of other types of models and of training. Which embeddings are tied is seen from the tensors."""
LAYER_NORM_EPSILON = 1e-6
LONGEST = 512
"""Positions of computed tables. Marian computes any, but OPUS-MT's models are trained with at most 500 tokens."""
_PREFERRED = tuple(
    f"model.npz{kind}" for kind in (".best-translation.npz", ".best-bleu.npz", ".best-ce-mean-words.npz", "")
)
"""Archives of a training folder, the best one first."""


def read(path: Path, options: ImportOptions) -> Imported:
    """Read a folder, or its `.npz`. Raises InvalidInput for what is missing, disagrees or is not supported."""
    folder = path.parent if path.is_file() else path
    decoder = _decoder(folder)
    archive = path if path.is_file() else _archive(folder, decoder)
    arrays, special = read_npz(archive)
    config, tensors = _config(special, archive.name), Claims(archive.name, arrays)
    sizes, norm = _sizes(config, tensors), _norm(config)
    vocabularies = [folder / it for it in _vocabularies(folder, decoder)]
    pieces = [read_vocabulary(it) for it in vocabularies]
    source, target = pieces[0], pieces[-1]
    embeddings = _embeddings(tensors, sizes.d_model, source, target)
    words = max(embeddings.source.shape[0], embeddings.target.shape[0])
    tables, parameters = embeddings.grown(words + 1).convert()
    where, position_tensors = positions(*_positions(config, tensors, sizes.d_model))
    parameters |= (
        position_tensors | _layers(tensors, sizes, pre=norm == "pre") | _stack_norms(config, tensors, sizes, norm)
    )
    tensors.finish()
    switches = {
        "norm": norm,
        "activation": config.choice("transformer-ffn-activation", ACTIVATIONS, "swish"),
        "embedding_norm": "n" in config.among("transformer-postprocess-emb", "d", "", "n", "nd"),
    }
    config.finish(NO_EFFECT)
    end, unknown = (_piece(target, it, vocabularies[-1].name) for it in ("</s>", "<unk>"))
    tags = [piece[2:-2] for piece in source if re.fullmatch(r">>.+<<", piece)]
    notes: list[str] = []
    languages = languages_of(folder.resolve().name, {}, tags, options, notes)
    banned = {unknown, *range(len(target), words + 1), *(target[f">>{it}<<"] for it in tags if f">>{it}<<" in target)}
    parts, files = _tokenizer(folder, options, source, target, languages, bool(tags))
    model = ModelConfig(
        **sizes.settings() | tables | where | switches,
        layer_norm_epsilon=LAYER_NORM_EPSILON,
        dropout=0.0,
        pad_id=words,
        begin_id=words,
        end_id=end,
        unknown_id=unknown,
        banned_ids=banned_ids(banned, end_id=end, words=words + 1),
    )
    licence = options.licence or licence_of(folder)
    notes.append("The embeddings have one more row, of zeros: Marian begins a translation with it.")
    notes.append("<unk> and the tags of languages are never produced, as Marian does by default.")
    used = [archive, *vocabularies, *files, *filter(Path.is_file, [folder / "decoder.yml"])]
    return Imported(
        model,
        check_complete(model, parameters),
        parts,
        languages,
        _generation(decoder, model.max_positions, notes),
        licence,
        {"family": "marian-npz", "name": archive.name, "files": digests(used)},
        (*licence_notes(licence), *notes),
    )


def _decoder(folder: Path) -> dict[str, Any]:
    path = folder / "decoder.yml"
    values = parse_yaml(read_text(path), path.name) if path.is_file() else {}
    if not isinstance(values, dict):
        raise InvalidInput(path.name, values, "options by name")
    return values


def _names(decoder: dict[str, Any], option: str) -> list[str]:
    """The files that an option of decoder.yml names."""
    named = decoder.get(option) or []
    if not isinstance(named, list) or not all(isinstance(it, str) for it in named):
        raise InvalidInput(f"decoder.yml: {option}", named, "a list of files")
    return named


def _archive(folder: Path, decoder: dict[str, Any]) -> Path:
    named = _names(decoder, "models")
    if len(named) > 1:
        raise InvalidInput("decoder.yml: models", named, "one model; ensembles are not supported")
    if named and (folder / Path(named[0]).name).is_file():
        return folder / Path(named[0]).name
    found = sorted(it for it in folder.glob("*.npz") if not it.name.endswith((".optimizer.npz", ".orig.npz")))
    preferred = [folder / name for name in _PREFERRED if folder / name in found]
    if len(found) == 1 or preferred:
        return (preferred or found)[0]
    raise InvalidInput("model", ", ".join(it.name for it in found) or None, f"one .npz in {folder}, or its name")


def _config(special: dict[str, bytes], where: str) -> Switches:
    text = special.get("special:model.yml")
    values = parse_yaml(text.rstrip(b"\0"), f"{where}: special:model.yml") if text is not None else None
    if not isinstance(values, dict):
        raise InvalidInput(f"{where}: special:model.yml", values, "the options of a model of Marian")
    config = Switches(f"{where}: special:model.yml", values)
    for name, value in FIXED.items():
        config.among(name, value)
    return config


def _sizes(config: Switches, tensors: Claims) -> Sizes:
    heads, depths = config.integer("transformer-heads"), (config.integer("enc-depth"), config.integer("dec-depth"))
    inner = config.integer("transformer-dim-ffn")
    decoder_inner = config.integer("transformer-decoder-dim-ffn", least=0, default=0)
    config.among("transformer-decoder-ffn-depth", 0, 2)
    return Sizes(config.integer("dim-emb"), heads, *depths, inner, decoder_inner or inner)


def _norm(config: Switches) -> str:
    names = ("transformer-preprocess", "transformer-postprocess", "transformer-postprocess-top")
    found = tuple(config.get(name, "") for name in names)
    known = {("", "dan", ""): "post", ("n", "da", "n"): "pre"}
    if found not in known:
        allowed = " or ".join(" ".join(map(repr, it)) for it in known)
        raise config.refusal(names[0], f"{', '.join(names)}: {allowed}; these are {' '.join(map(repr, found))}")
    return known[found]


def _layers(tensors: Claims, sizes: Sizes, *, pre: bool) -> dict[str, LazyTensor]:
    def find(part: Part) -> tuple[LazyTensor, LazyTensor]:
        prefix = f"{part.stack}_l{part.layer + 1}_"
        if part.name in NORMS:
            return _norm_tensors(tensors, prefix + NORMS[part.name], sizes.d_model, pre=pre)
        weight, bias = PARTS[part.name]
        out, width = part.shape
        return tensors.take(prefix + weight, (width, out)).transposed(), tensors.take(prefix + bias, (1, out)).flat()

    return layer_tensors(sizes, find)


def _norm_tensors(tensors: Claims, name: str, width: int, *, pre: bool) -> tuple[LazyTensor, LazyTensor]:
    suffix = "_pre" if pre else ""
    kinds = (f"{name}_ln_scale{suffix}", f"{name}_ln_bias{suffix}")
    weight, bias = (tensors.take(kind, (1, width)).flat() for kind in kinds)
    return weight, bias


def _stack_norms(config: Switches, tensors: Claims, sizes: Sizes, norm: str) -> dict[str, LazyTensor]:
    found: dict[str, LazyTensor] = {}
    wanted = [("norm", "top", False)] * (norm == "pre")
    wanted += [("embedding_norm", "emb", True)] * ("n" in config.get("transformer-postprocess-emb", "d"))
    for ours, theirs, pre in wanted:
        for stack in ("encoder", "decoder"):
            name = f"{stack}_{theirs}"
            suffix = pre or f"{name}_ln_scale_pre" in tensors
            weight, bias = _norm_tensors(tensors, name, sizes.d_model, pre=suffix)
            found |= {f"{stack}_{ours}.weight": weight, f"{stack}_{ours}.bias": bias}
    return found


def _embeddings(tensors: Claims, width: int, source: dict[str, int], target: dict[str, int]) -> Embeddings:
    shared = tensors.find("Wemb", (len(target), width)) if "Wemb" in tensors else None
    matrices = {
        side: tensors.find(f"{side}_Wemb", (len(pieces), width)) or shared
        for side, pieces in (("encoder", source), ("decoder", target))
    }
    for side, matrix in matrices.items():
        if matrix is None:
            tensors.take(f"{side}_Wemb", (len(source if side == "encoder" else target), width))
    encoder, decoder = matrices["encoder"], matrices["decoder"]
    assert encoder is not None
    assert decoder is not None
    output = tensors.find("decoder_ff_logit_out_Wt", (len(target), width))
    if "decoder_ff_logit_out_W" in tensors:
        output = tensors.take("decoder_ff_logit_out_W", (width, len(target))).transposed()
    bias = tensors.take("decoder_ff_logit_out_b", (1, len(target))).flat()
    return Embeddings(encoder, decoder, output or decoder, bias)


def _positions(config: Switches, tensors: Claims, width: int) -> tuple[LazyTensor, LazyTensor]:
    if not config.flag("transformer-train-position-embeddings", False):
        table = formulas.tensor2tensor(LONGEST, width)
        return table, table
    found = []
    shared = tensors.take("Wpos", tensors.shape("Wpos")) if "Wpos" in tensors else None
    for stack in ("encoder", "decoder"):
        name = f"{stack}_Wpos"
        found.append(shared or tensors.take(name, (tensors.shape(name)[0], width)))
    return found[0], found[1]


def _vocabularies(folder: Path, decoder: dict[str, Any]) -> list[str]:
    names = [Path(it).name for it in _names(decoder, "vocabs")]
    names = (
        names or [it.name for it in sorted(folder.glob("*vocab*.yml"))] or [it.name for it in folder.glob("vocab*.spm")]
    )
    if len(set(names)) == 1:
        names = names[:1]
    elif not decoder.get("vocabs") and not _in_order(names):
        allowed = "their names in decoder.yml, as vocabs: [SOURCE, TARGET]; it is not said which is the source's"
        raise InvalidInput("vocabulary", ", ".join(names), allowed)
    for name in names:
        need(folder, name, "decoder.yml names it as a vocabulary")
    if not 1 <= len(names) <= 2:
        raise InvalidInput(
            "vocabulary", ", ".join(names) or None, f"one .yml or .spm, or one for each side, in {folder}"
        )
    return names


def _in_order(names: list[str]) -> bool:
    """Whether the first of two names is that of the source, and the second that of the target."""
    sides = [re.search(r"(?<![a-z])(?:(src|source)|(trg|tgt|target))(?![a-z])", it) for it in names]
    return len(names) == 2 and all(sides) and bool(sides[0] and sides[0][1] and sides[1] and sides[1][2])


def _tokenizer(
    folder: Path,
    options: ImportOptions,
    source: dict[str, int],
    target: dict[str, int],
    languages: Languages,
    tags: bool,
) -> tuple[TokenizerParts, list[Path]]:
    if options.tokenizer is None and not any(folder.glob("*.spm")) and split_of([*source, *target]) is not None:
        return _words(source, target), []
    models = _models(options.tokenizer or folder)
    check_fit(models["source"], source)
    check_fit(models["target"], target)
    files: dict[str, bytes | Path] = {**models, "vocabulary": json.dumps(source, ensure_ascii=False).encode()}
    if target != source:
        files["target_vocabulary"] = json.dumps(target, ensure_ascii=False).encode()
    settings = {"languages": {code: code for code in languages.targets}, "tags": tags}
    return TokenizerParts("marian", files, settings), [*models.values()]


def _words(source: dict[str, int], target: dict[str, int]) -> TokenizerParts:
    """The tokenizer of a vocabulary of words. Marian splits texts at white space."""
    lists = [
        json.dumps(sorted(side, key=lambda it: side[it]), ensure_ascii=False).encode() for side in (source, target)
    ]
    files: dict[str, bytes | Path] = {"vocabulary": lists[0]}
    if target != source:
        files["target_vocabulary"] = lists[1]
    settings = {"split": "whitespace", "end": "</s>", "unknown": "<unk>", "add_source_eos": True}
    return TokenizerParts("pieces", files, settings)


def _models(place: Path) -> dict[str, Path]:
    """Side -> SentencePiece model at a place, which may be one for both."""
    models = {side: place / f"{side}.spm" for side in ("source", "target")}
    if all(it.is_file() for it in models.values()):
        return models
    found = sorted(place.glob("*.spm")) if place.is_dir() else [place]
    if len(found) != 1:
        allowed = (
            f"source.spm and target.spm, or one .spm, in {place}, or --tokenizer; models with BPE are not supported"
        )
        raise InvalidInput("tokenizer", ", ".join(it.name for it in found) or None, allowed)
    return dict.fromkeys(models, found[0])


def _generation(decoder: dict[str, Any], count: int, notes: list[str]) -> Generation:
    it = Switches("decoder.yml", decoder)
    if it.number("word-penalty", 0.0):
        raise it.refusal("word-penalty", "0; a penalty for each word is not supported")
    # `normalize: true` is a way to write 1.
    normalise = it.get("normalize", 0.0)
    exponent = float(normalise) if isinstance(normalise, bool) else it.number("normalize", 0.0, least=0)
    if it.get("allow-unk"):
        notes.append("decoder.yml allows <unk> in translations; here it is never produced.")
    # 12 is the default of marian-decoder.
    return Generation(
        it.integer("beam-size", default=12), exponent, "power", max_source_tokens=count, max_target_tokens=count
    )


def _piece(pieces: dict[str, int], piece: str, where: str) -> int:
    if piece not in pieces:
        raise InvalidInput(f"{where}: {piece}", None, "an entry of this name")
    return pieces[piece]
