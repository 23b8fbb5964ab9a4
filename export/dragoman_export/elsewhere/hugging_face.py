"""A folder of Hugging Face Transformers, versions 4 and 5, of the class that computes what the model computes.

| class (`model_type`) | norm | norm after the embeddings | positions |
|---|---|---|---|
| MarianMT (`marian`) | post | no | a table of the file, otherwise computed by another formula than ours |
| Blenderbot (`blenderbot`) | pre | no | one trained table of each stack |
| mBART (`mbart`) | pre | yes | one trained table of each stack, whose first two rows are not used |

All have an output bias. The tokenizer is that of MarianMT for all of them: SentencePiece, and a vocabulary in which the
tag of a target language is `>>de<<` instead of `<2de>`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from dragoman_export.elsewhere.ctranslate2 import check as check_attention
from dragoman_export.elsewhere.ctranslate2 import write_json
from dragoman_export.elsewhere.own import Array, OwnModel
from dragoman_export.imports.families.hugging_face import DROPOUTS, LAYER_NORM_EPSILON, PARTS
from dragoman_model.config import ModelConfig
from dragoman_service.errors import InvalidInput

PRECISIONS = ("fp32", "fp16")
_ACTIVATIONS = {
    "relu": "relu",
    "swish": "swish",
    "gelu": "gelu",
    "gelu_tanh": "gelu_new",
    "gelu_sigmoid": "quick_gelu",
}
"""Our name -> `activation_function`."""


@dataclass(frozen=True, slots=True)
class _Class:
    model_type: str
    architecture: str
    unused_positions: int = 0
    """Rows of the table of positions before the first one that is used."""
    separate: bool = False
    """Whether source and target may have embeddings of their own."""


_CLASSES = {
    ("post", False): _Class("marian", "MarianMTModel", separate=True),
    ("pre", False): _Class("blenderbot", "BlenderbotForConditionalGeneration"),
    ("pre", True): _Class("mbart", "MBartForConditionalGeneration", unused_positions=2),
}
"""(norm, embedding_norm) -> the class."""


def write_folder(own: OwnModel, folder: Path, precision: str) -> list[str]:
    """Write the files into an empty folder. Returns notes for the user.

    Raises:
        InvalidInput: no class computes what the model computes. The message names the switch.
    """
    kind = _class(own.config)
    half = precision == "fp16"
    tensors = {name: np.ascontiguousarray(it, np.float16 if half else np.float32) for name, it in _tensors(own, kind)}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    generation = _generation(own)
    write_json(folder / "config.json", _config(own, kind, "float16" if half else "float32"))
    write_json(folder / "generation_config.json", generation)
    for side in ("source", "target"):
        (folder / f"{side}.spm").write_bytes(own.tokenizer_model)
    vocabulary = {piece: number for number, piece in enumerate(own.pieces)}
    for language, number in own.target_tags.items():
        del vocabulary[own.pieces[number]]
        vocabulary[f">>{language}<<"] = number
    write_json(folder / "vocab.json", dict(sorted(vocabulary.items(), key=lambda it: it[1])))
    write_json(folder / "tokenizer_config.json", _tokenizer(own))
    notes = [
        f"The class is {kind.architecture}, which computes what this model computes; the tokenizer is MarianTokenizer."
    ]
    if kind.model_type == "marian":
        notes.append("Do not save it again with save_pretrained, which leaves the positions out and computes others.")
    if own.target_tags:
        notes.append("A source begins with the tag of its target language: " + ", ".join(map(_tag, own.target_tags)))
    if own.generation.normalisation != "power":
        notes.append("Scores of beams are divided by their length, not by the length penalty of Dragoman.")
    return notes


def _class(config: ModelConfig) -> _Class:
    check_attention(config)
    kind = _CLASSES.get((config.norm, config.embedding_norm))
    if kind is None:
        allowed = "False with post-norm: BART has learned positions only, and no other class is like it"
        raise InvalidInput("model.embedding_norm", config.embedding_norm, allowed)
    name = kind.architecture
    if config.ends_with_norm != (config.norm == "pre"):
        raise InvalidInput("model.final_norm", config.final_norm, f"{config.norm == 'pre'}, for {name}")
    if config.layer_norm_epsilon != LAYER_NORM_EPSILON:
        raise InvalidInput("model.layer_norm_epsilon", config.layer_norm_epsilon, f"{LAYER_NORM_EPSILON}, for {name}")
    if config.embedding_scale not in (None, 1.0, config.d_model**0.5):
        raise InvalidInput("model.embedding_scale", config.embedding_scale, f"1 or sqrt(d_model), for {name}")
    for field in ("source_embedding", "output_embedding"):
        if getattr(config, field) == "own" and not kind.separate:
            raise InvalidInput(f"model.{field}", "own", f"shared, for {name}")
    return kind


def _config(own: OwnModel, kind: _Class, dtype: str) -> dict[str, Any]:
    config = own.config
    scaled = config.embedding_scale is None or config.embedding_scale == config.d_model**0.5
    values: dict[str, Any] = {
        "architectures": [kind.architecture],
        "model_type": kind.model_type,
        "is_encoder_decoder": True,
        "activation_function": _ACTIVATIONS[config.activation],
        "d_model": config.d_model,
        "encoder_attention_heads": config.num_heads,
        "decoder_attention_heads": config.num_heads,
        "encoder_ffn_dim": config.d_ff_of("encoder"),
        "decoder_ffn_dim": config.d_ff_of("decoder"),
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "num_hidden_layers": config.encoder_layers,
        "encoder_layerdrop": 0.0,
        "decoder_layerdrop": 0.0,
        **{name: getattr(config, name) for name in DROPOUTS},
        "max_position_embeddings": config.max_positions,
        "scale_embedding": scaled,
        "vocab_size": config.vocab_size,
        "bos_token_id": config.begin_id,
        "decoder_start_token_id": config.begin_id,
        "eos_token_id": config.end_id,
        "forced_eos_token_id": None,
        "pad_token_id": config.pad_id,
        "tie_word_embeddings": config.output_embedding == "shared",
        "torch_dtype": dtype,
        "use_cache": True,
    }
    if kind.model_type == "marian":
        values |= {
            "decoder_vocab_size": config.vocab_size,
            "share_encoder_decoder_embeddings": not _separate(config),
            "normalize_before": False,
            "add_final_layer_norm": False,
            "normalize_embedding": False,
        }
    else:
        values |= {"normalize_before": True, "add_final_layer_norm": True, "normalize_embedding": config.embedding_norm}
    if kind.model_type == "blenderbot":
        values["encoder_no_repeat_ngram_size"] = 0  # the class has 3 as its default
    return values


def _generation(own: OwnModel) -> dict[str, Any]:
    config, search = own.config, own.generation
    penalty = search.length_penalty if search.normalisation == "power" else None
    return {
        "bos_token_id": config.begin_id,
        "decoder_start_token_id": config.begin_id,
        "eos_token_id": config.end_id,
        "pad_token_id": config.pad_id,
        "encoder_no_repeat_ngram_size": 0,
        "length_penalty": 1.0 if penalty is None else penalty,
        "max_length": own.max_target_tokens + 2,  # the begin and the end count
        "num_beams": search.beam_size or 1,
    }


def _tokenizer(own: OwnModel) -> dict[str, Any]:
    config, pieces = own.config, own.pieces
    sources, targets = (sorted({pair[side] for pair in own.language_pairs}) for side in (0, 1))
    return {
        "tokenizer_class": "MarianTokenizer",
        "separate_vocabs": False,
        "source_lang": sources[0] if len(sources) == 1 else None,
        "target_lang": targets[0] if len(targets) == 1 else None,
        "bos_token": pieces[config.begin_id],
        "eos_token": pieces[config.end_id],
        "pad_token": pieces[config.pad_id],
        "unk_token": pieces[config.unknown_id],
        "model_max_length": config.max_positions,
        "clean_up_tokenization_spaces": False,
    }


def _tag(language: str) -> str:
    return f">>{language}<<"


def _separate(config: ModelConfig) -> bool:
    """Whether the embeddings of MarianMT are stored one by one: it ties the output to those of the target at most."""
    return "own" in (config.source_embedding, config.output_embedding)


def _tensors(own: OwnModel, kind: _Class) -> Iterator[tuple[str, Array]]:
    config = own.config
    for stack, count in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        for layer in range(count):
            for ours, theirs in PARTS.items():
                if stack == "decoder" or not ours.startswith("cross_attention"):
                    for leaf in ("weight", "bias"):
                        yield (
                            f"model.{stack}.layers.{layer}.{theirs}.{leaf}",
                            own.tensor(f"{stack}.{layer}.{ours}.{leaf}"),
                        )
        unused = np.zeros((kind.unused_positions, config.d_model), np.float32)
        yield f"model.{stack}.embed_positions.weight", np.concatenate([unused, own.positions(stack)])
        for ours, theirs, there in (
            ("norm", "layer_norm", config.ends_with_norm),
            ("embedding_norm", "layernorm_embedding", config.embedding_norm),
        ):
            for leaf in ("weight", "bias") if there else ():
                yield f"model.{stack}.{theirs}.{leaf}", own.tensor(f"{stack}_{ours}.{leaf}")
    matrices = {use: own.model.embedding_matrix(use).detach().float().numpy() for use in ("source", "target", "output")}
    if _separate(config):
        yield "model.encoder.embed_tokens.weight", matrices["source"]
        yield "model.decoder.embed_tokens.weight", matrices["target"]
    else:
        yield "model.shared.weight", matrices["target"]
    if config.output_embedding == "own":
        yield "lm_head.weight", matrices["output"]
    yield "final_logits_bias", own.output_bias()[None]
