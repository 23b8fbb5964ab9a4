"""Makes the checkpoints that the tests of `dragoman_export.imports` read, with random parameters.

Needs transformers 5, ctranslate2 4, sentencepiece and torch. From the folder `tests`:

    python -m support.foreign.make export/imports/checkpoints
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

import ctranslate2
import numpy as np
import sentencepiece
import torch
import transformers
from ctranslate2.converters import MarianConverter, TransformersConverter
from torch import nn

WORDS = [
    "a",
    "bad",
    "cat",
    "did",
    "eat",
    "fat",
    "hens",
    "in",
    "jail",
    "kept",
    "long",
    "men",
    "no",
    "one",
    "put",
    "red",
    "sun",
    "the",
    "up",
    "van",
    "we",
]
SIZES = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 40,
}
DEEP = {"encoder_layers": 3, "decoder_layers": 1, "decoder_ffn_dim": 24}
FLAT = {"encoder_layers": 1, "decoder_layers": 1}
PIECES = 48
CASES = 3


def sentence_piece(kind: str = "unigram", seed: int = 0, **options: Any) -> bytes:
    """A SentencePiece model of few pieces. Without its own normalisation, a file has 1 kB instead of 240."""
    rng, model = random.Random(seed), io.BytesIO()
    texts = [" ".join(rng.choices(WORDS, k=6)) for _ in range(200)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=PIECES,
        model_type=kind,
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


def pieces_of(model: bytes) -> list[str]:
    """The pieces, without the special ones."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [processor.id_to_piece(it) for it in range(3, processor.get_piece_size())]


def randomised(model: nn.Module, seed: int) -> Any:
    """Draw every parameter at random: the zeros and ones of an initialisation hide mistakes."""
    torch.manual_seed(seed)
    state = {**dict(model.named_parameters()), **{n: b for n, b in model.named_buffers() if "logits_bias" in n}}
    with torch.no_grad():
        for name, tensor in state.items():
            if "embed_positions" in name and "MBart" not in type(model).__name__:
                continue  # computed
            tensor.normal_(std=0.3)
            if "norm" in name and name.endswith("weight"):
                tensor.add_(1.0)
    return model.eval()


def cases_of(model: Any, words: int, *, begin: int, end: int, first: int = 4, seed: int = 0) -> list[dict[str, Any]]:
    """Random sources and targets, and the log-probabilities of each target by teacher forcing."""
    rng, cases = random.Random(seed), []
    for _ in range(CASES):
        source, target = ([*rng.choices(range(first, words), k=rng.randint(4, 12)), end] for _ in range(2))
        with torch.no_grad():
            logits = model(
                input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([[begin, *target[:-1]]])
            ).logits
        scores = logits.double().log_softmax(-1)[0, torch.arange(len(target)), torch.tensor(target)]
        cases.append({"source": source, "target": target, "scores": [round(it, 6) for it in scores.tolist()]})
    return cases


def write(folder: Path, **files: Any) -> None:
    """Write files; values that are no bytes become JSON. `__` in a name stands for a dot."""
    for name, value in files.items():
        data = value if isinstance(value, bytes) else json.dumps(value, indent=0).encode()
        (folder / name.replace("__", ".")).write_bytes(data)


def clean(folder: Path) -> None:
    """Round trips of the library write files that published folders have in another form, or not at all."""
    for name in ("tokenizer.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)


def marian(folder: Path, *, seed: int, tags: tuple[str, ...] = (), **config: Any) -> None:
    """A folder as OPUS-MT's on the hub."""
    source, target = sentence_piece(seed=seed), sentence_piece(seed=seed + 1)
    pieces = [
        "</s>",
        "<unk>",
        *(f">>{it}<<" for it in tags),
        *sorted({*pieces_of(source), *pieces_of(target)}),
        "<pad>",
    ]
    words = len(pieces)
    special = {
        "pad_token_id": words - 1,
        "decoder_start_token_id": words - 1,
        "eos_token_id": 0,
        "forced_eos_token_id": 0,
    }
    settings = SIZES | {"scale_embedding": True, "vocab_size": words, "decoder_vocab_size": words} | special | config
    untied = settings.pop("untied", False)
    model = randomised(transformers.MarianMTModel(transformers.MarianConfig(**settings)), seed)
    if untied:
        model.lm_head.weight = nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.3)
    model.generation_config.num_beams, model.generation_config.max_length = 4, 32
    model.generation_config.bad_words_ids = [[words - 1]]
    model.save_pretrained(folder)
    write(
        folder,
        source__spm=source,
        target__spm=target,
        vocab__json={piece: place for place, piece in enumerate(pieces)},
        tokenizer_config__json={"source_lang": "en", "target_lang": "de", "tokenizer_class": "MarianTokenizer"},
        expected__json=cases_of(model, words - 1, begin=words - 1, end=0, first=2 + len(tags), seed=seed),
    )


def old_marian(folder: Path) -> None:
    """As older OPUS-MT folders: a pickle with all names of the shared matrix, with positions, and no other options."""
    marian(folder, seed=7, activation_function="swish", **FLAT)
    model = transformers.MarianMTModel.from_pretrained(folder)
    state = model.state_dict()
    shared = state["model.shared.weight"]
    names = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
    torch.save(dict(state) | dict.fromkeys(names, shared), folder / "pytorch_model.bin")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "num_beams": 6,
        "max_length": 512,
        "bad_words_ids": [[config["pad_token_id"]]],
        "normalize_before": False,
    }
    config |= {"static_position_embeddings": True, "add_final_layer_norm": False, "normalize_embedding": False}
    write(folder, config__json=config)
    for name in ("model.safetensors", "generation_config.json"):
        (folder / name).unlink()


def m2m(folder: Path, *, seed: int, kind: str, **config: Any) -> None:
    """A folder of M2M-100 (`m2m`), SMaLL-100 (`small`) or NLLB (`nllb`), with few languages."""
    model_file = sentence_piece("bpe", seed, unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    pieces = pieces_of(model_file)
    first = 4 + len(pieces)
    codes = ["eng_Latn", "deu_Latn", "fra_Latn"] if kind == "nllb" else ["__de__", "__en__", "__fr__"]
    words = first + len(codes) + 2
    settings = SIZES | {"vocab_size": words, "scale_embedding": True} | config
    model = randomised(transformers.M2M100ForConditionalGeneration(transformers.M2M100Config(**settings)), seed)
    model.generation_config.max_length = 200
    model.save_pretrained(folder)
    added = {str(first + place): {"content": code} for place, code in enumerate(codes)}
    names = {"nllb": "NllbTokenizer", "m2m": "M2M100Tokenizer", "small": "SMALL100Tokenizer"}
    write(
        folder,
        **{"sentencepiece.bpe.model": model_file},
        tokenizer_config__json={"tokenizer_class": names[kind], "added_tokens_decoder": added},
        expected__json=cases_of(model, first, begin=2, end=2, seed=seed),
    )
    if kind != "nllb":
        write(
            folder, vocab__json={piece: place for place, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *pieces])}
        )


def mbart(folder: Path, *, seed: int) -> None:
    """A folder of mBART-50."""
    model_file = sentence_piece(seed=seed, unk_id=0, bos_id=1, eos_id=2, pad_id=-1)
    first = 4 + len(pieces_of(model_file))
    words = first + 4
    settings = SIZES | {"vocab_size": words, "scale_embedding": True, "activation_function": "gelu"}
    settings |= {"decoder_start_token_id": 2, "tokenizer_class": "MBart50Tokenizer", **DEEP}
    model = randomised(transformers.MBartForConditionalGeneration(transformers.MBartConfig(**settings)), seed)
    model.generation_config.num_beams, model.generation_config.max_length = 5, 200
    model.save_pretrained(folder, max_shard_size="20KB")
    added = {str(first + place): {"content": code} for place, code in enumerate(["ar_AR", "en_XX", "de_DE"])}
    write(
        folder,
        **{"sentencepiece.bpe.model": model_file},
        tokenizer_config__json={"tokenizer_class": "MBart50Tokenizer", "added_tokens_decoder": added},
        expected__json=cases_of(model, first, begin=2, end=2, seed=seed),
    )


def ct2_scores(folder: Path, vocabulary: list[str], cases: list[dict[str, Any]], *, end: str, source_end: bool) -> None:
    """Replace the scores of `cases` by CTranslate2's of the model in `folder`, in float32."""
    translator = ctranslate2.Translator(str(folder), compute_type="float32", intra_threads=1)
    words = lambda ids: [vocabulary[it] for it in ids]  # noqa: E731
    for case in cases:
        source = words(case["source"] if source_end else case["source"][:-1])
        (result,) = translator.score_batch([source], [words(case["target"][:-1])])
        assert len(result.log_probs) == len(case["target"]), (result.tokens, end)
        case["scores"] = [round(it, 6) for it in result.log_probs]
    write(folder, expected__json=cases)


def converted(
    folder: Path, source: Path, vocabulary: list[str], quantisation: str | None, keep: tuple[str, ...]
) -> None:
    """The conversion of a folder of Hugging Face by CTranslate2, whose vocabulary is set by hand."""

    class Converter(TransformersConverter):
        def load_tokenizer(self, *_: Any, **__: Any) -> Any:
            class Tokenizer:
                bos_token, eos_token, unk_token, pad_token = "<s>", "</s>", "<unk>", "<pad>"
                unk_token_id, special_tokens_map, num_madeup_words = vocabulary.index("<unk>"), {}, 0

                def get_vocab(self) -> dict[str, int]:
                    return {piece: place for place, piece in enumerate(vocabulary)}

                def convert_ids_to_tokens(self, number: int) -> str:
                    return vocabulary[number]

            return Tokenizer()

    Converter(str(source)).convert(str(folder), quantization=quantisation, force=True)
    for name in keep:
        shutil.copy(source / name, folder / name)


def convert_marian(folder: Path, source: Path, quantisation: str | None) -> None:
    """A conversion of MarianMT, which drops `<pad>` and begins with zeros."""
    vocabulary = list(json.loads((source / "vocab.json").read_text()))
    converted(folder, source, vocabulary, quantisation, ("source.spm", "target.spm"))
    cases = json.loads((source / "expected.json").read_text())
    ct2_scores(folder, vocabulary, cases, end="</s>", source_end=True)


def convert_fairseq(folder: Path, source: Path, quantisation: str | None) -> None:
    """A conversion of M2M-100 or NLLB."""
    model = (source / "sentencepiece.bpe.model").read_bytes()
    tokens = json.loads((source / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *pieces_of(model), *(it["content"] for it in tokens.values())]
    vocabulary += ["madeupword0", "madeupword1"]
    converted(folder, source, vocabulary, quantisation, ("sentencepiece.bpe.model",))
    cases = json.loads((source / "expected.json").read_text())
    ct2_scores(folder, vocabulary, cases, end="</s>", source_end=True)


def open_nmt(folder: Path, *, seed: int, quantisation: str | None) -> None:
    """As OpenNMT's models: pre-norm, two vocabularies, positions on neither file, heads of 4."""
    from ctranslate2.specs import TransformerSpec, common_spec  # noqa: PLC0415

    rng = np.random.default_rng(seed)
    models = [sentence_piece(seed=seed + it) for it in range(2)]
    vocabularies = [["<blank>", "<s>", "</s>", "<unk>", *pieces_of(it)] for it in models]
    vocabularies[1].pop()
    width, inner, heads = 24, 40, 6
    spec = TransformerSpec.from_config((1, 1), heads, pre_norm=True, activation=common_spec.Activation.GELUTanh)
    random_array = lambda *shape: rng.normal(0, 0.3, shape).astype(np.float32)  # noqa: E731

    def fill(part: Any, name: str, _: Any) -> None:
        kind = name.rsplit("/", maxsplit=1)[-1]
        if kind in ("gamma", "beta"):
            setattr(part, kind, random_array(width) + (kind == "gamma"))
        elif kind == "weight":
            setattr(part, kind, random_array(*shape_of(name)))
            if hasattr(part, "bias"):
                part.bias = random_array(shape_of(name)[0])

    def shape_of(name: str) -> tuple[int, int]:
        if "embeddings" in name or "projection" in name:
            return len(vocabularies["decoder" in name]), width
        if "ffn" in name:
            return (inner, width) if "linear_0" in name else (width, inner)
        return (3 if "self_attention/linear_0" in name else 2 if "/attention/linear_1" in name else 1) * width, width

    spec._visit(fill)
    for stack in (spec.encoder, spec.decoder):
        del stack.position_encodings
    spec.register_source_vocabulary(vocabularies[0])
    spec.register_target_vocabulary(vocabularies[1])
    spec.validate()
    spec.optimize(quantization=quantisation)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    spec.save(str(folder))
    write(folder, **{"source.model": models[0], "target.model": models[1]})
    draw = random.Random(seed)
    cases = []
    for _ in range(CASES):
        source = draw.choices(range(4, len(vocabularies[0])), k=9)
        target = [*draw.choices(range(4, len(vocabularies[1])), k=7), 2]
        cases.append({"source": source, "target": target})
    translator = ctranslate2.Translator(str(folder), compute_type="float32", intra_threads=1)
    for case in cases:
        (result,) = translator.score_batch(
            [[vocabularies[0][it] for it in case["source"]]], [[vocabularies[1][it] for it in case["target"][:-1]]]
        )
        case["scores"] = [round(it, 6) for it in result.log_probs]
    write(folder, expected__json=cases)


def marian_archive(folder: Path, *, seed: int) -> None:
    """As Marian's own, pre-norm, with a norm after the embeddings, learned positions and an output matrix of its own.

    CTranslate2 reads it: its converter agrees with Marian but for computed positions. Its epsilon is set to Marian's.
    """
    rng, width, inner, model = np.random.default_rng(seed), 16, 32, sentence_piece(seed=seed)
    pieces = ["</s>", "<unk>", *sorted(pieces_of(model))]
    options = {
        "type": "transformer", "dim-emb": width, "enc-depth": 1, "dec-depth": 1, "transformer-heads": 2,
        "transformer-dim-ffn": inner, "transformer-ffn-activation": "gelu", "transformer-preprocess": "n",
        "transformer-postprocess": "da", "transformer-postprocess-top": "n", "transformer-postprocess-emb": "nd",
        "transformer-decoder-autoreg": "self-attention", "transformer-no-projection": False,
        "transformer-guided-alignment-layer": "last", "transformer-train-position-embeddings": True,
    }  # fmt: skip
    arrays = {"special:model.yml": np.frombuffer(json.dumps(options).encode() + b"\0", np.int8)}

    def add(name: str, *shape: int) -> None:
        arrays[name] = (rng.normal(0, 0.3, shape) + ("_ln_scale" in name)).astype(np.float32)

    def norm(name: str) -> None:
        for kind in ("scale", "bias"):
            add(name.replace("*", kind), 1, width)

    for name in ("encoder_Wemb", "decoder_Wemb", "decoder_ff_logit_out_Wt"):
        add(name, len(pieces), width)
    add("Wpos", 40, width)
    add("decoder_ff_logit_out_b", 1, len(pieces))
    for stack, attentions in (("encoder", ("self",)), ("decoder", ("self", "context"))):
        norm(f"{stack}_emb_ln_*_pre")
        norm(f"{stack}_top_ln_*")
        for attention in attentions:
            norm(f"{stack}_l1_{attention}_Wo_ln_*_pre")
            for part in "qkvo":
                add(f"{stack}_l1_{attention}_W{part}", width, width)
                add(f"{stack}_l1_{attention}_b{part}", 1, width)
        norm(f"{stack}_l1_ffn_ffn_ln_*_pre")
        for part, shape in (("1", (width, inner)), ("2", (inner, width))):
            add(f"{stack}_l1_ffn_W{part}", *shape)
            add(f"{stack}_l1_ffn_b{part}", 1, shape[1])
    np.savez(folder / "model.npz", **arrays)
    vocabulary = "".join(f'"{piece}": {place}\n' for place, piece in enumerate(pieces))
    write(folder, **{"source.spm": model, "target.spm": model, "vocab.yml": vocabulary.encode()})
    with tempfile.TemporaryDirectory() as name:
        path = str(folder / "vocab.yml")
        MarianConverter(str(folder / "model.npz"), [path, path]).convert(name, force=True)
        config = Path(name, "config.json")
        config.write_text(json.dumps(json.loads(config.read_text()) | {"layer_norm_epsilon": 1e-6}))
        draw = random.Random(seed)
        cases: list[dict[str, Any]] = [
            {side: [*draw.choices(range(2, len(pieces)), k=9), 0] for side in ("source", "target")}
            for _ in range(CASES)
        ]
        ct2_scores(Path(name), pieces, cases, end="</s>", source_end=False)
        write(folder, expected__json=cases)


def tokenizer_json(folder: Path) -> None:
    """A SentencePiece model, the `tokenizer.json` that transformers 4.57 makes of it, and the ids that this gives."""
    fast = transformers.NllbTokenizerFast if folder.name == "nllb" else transformers.MBart50TokenizerFast
    builtin = Path(__file__).parents[3] / "export" / "dragoman_export" / "builtin"
    texts = [line for it in ("en", "de", "ru") for line in (builtin / f"{it}.txt").read_text().splitlines()]
    model = io.BytesIO()
    with tempfile.TemporaryDirectory() as name:
        rules = Path(name, "rules.tsv")  # a small table: wide letters, an ellipsis, odd spaces
        wide = [f"{0xFF21 + it:X}\t{0x41 + it:X}" for it in range(26)]
        rules.write_text("\n".join([*wide, "2026\t2E 2E 2E", "9\t20", "A0\t20", ""]))
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=400,
            model_type="bpe" if folder.name == "nllb" else "unigram",
            character_coverage=1.0,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            normalization_rule_tsv=str(rules),
            hard_vocab_limit=False,
            num_threads=1,
            minloglevel=2,
        )
        write(folder, **{"sentencepiece.bpe.model": model.getvalue()})
        tokenizer = fast(vocab_file=str(folder / "sentencepiece.bpe.model"))
        tokenizer.save_pretrained(name)
        shutil.copy(Path(name, "tokenizer.json"), folder)
    texts = [*texts[::9], "", "  two  spaces ", "Ａ…\tＢ\u00a0x", "漢字 ☃", "aaaaaaa bababa", "Grüße 123"]
    write(folder, expected__json=[[it, tokenizer(it, add_special_tokens=False).input_ids] for it in texts])


MAKERS: dict[str, Callable[[Path], None]] = {
    "opus-mt-en-de": lambda it: marian(it, seed=1, activation_function="swish"),
    "marian-separate": lambda it: marian(
        it,
        seed=2,
        activation_function="relu",
        share_encoder_decoder_embeddings=False,
        tie_word_embeddings=False,
        **FLAT,
    ),
    "marian-untied": lambda it: marian(
        it, seed=3, activation_function="gelu", tie_word_embeddings=False, untied=True, scale_embedding=False, **DEEP
    ),
    "opus-mt-en-mul": lambda it: marian(
        it, seed=4, tags=("deu", "fra", "cmn_Hans"), activation_function="relu", **FLAT
    ),
    "marian-old": old_marian,
    "m2m": lambda it: m2m(it, seed=11, kind="m2m", **DEEP),
    "small-100": lambda it: m2m(it, seed=12, kind="small", **FLAT),
    "nllb": lambda it: m2m(it, seed=13, kind="nllb"),
    "marian-pre-norm": lambda it: marian_archive(it, seed=22),
    "mbart-50": lambda it: mbart(it, seed=14),
}


PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "opus-mt-en-de": (
        "Marian",
        {
            "vocab_size": 58101, "d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 8,
            "decoder_attention_heads": 8, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048,
            "activation_function": "swish", "max_position_embeddings": 512, "scale_embedding": True,
            "pad_token_id": 58100, "decoder_start_token_id": 58100, "eos_token_id": 0,
        },
    ),
    "m2m100_418M": ("M2M100", {"vocab_size": 128112}),
    "small100": ("M2M100", {"vocab_size": 128112, "decoder_layers": 3}),
    "nllb-200-distilled-600M": ("M2M100", {"vocab_size": 256206}),
    "mbart-large-50": (
        "MBart",
        {
            "vocab_size": 250054, "scale_embedding": True, "activation_function": "relu", "decoder_start_token_id": 2,
            "tokenizer_class": "MBart50Tokenizer",
        },
    ),
}  # fmt: skip
"""Name of a published model -> its class and the fields of its configuration that are no defaults."""


def published() -> dict[str, Any]:
    """The configurations of published models, and the names and shapes of their tensors, layers of a stack as one."""
    found = {}
    for name, (kind, fields) in PUBLISHED.items():
        config = getattr(transformers, f"{kind}Config")(**fields)
        with torch.device("meta"):
            suffix = "MTModel" if kind == "Marian" else "ForConditionalGeneration"
            model = getattr(transformers, f"{kind}{suffix}")(config)
        tied = ("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
        tensors: dict[str, list[int]] = {}
        for tensor, value in model.state_dict().items():
            if tensor in tied or (kind == "Marian" and "embed_positions" in tensor):
                continue  # saved once, or not at all
            compact = re.sub(r"layers\.\d+\.", "layers.*.", tensor)
            assert tensors.setdefault(compact, [*value.shape]) == [*value.shape]
        values = json.loads(config.to_json_string(use_diff=False))
        found[name] = {"config": values, "tensors": tensors}
    return found


def main(folder: Path) -> None:
    """Make all checkpoints anew."""
    torch.set_num_threads(1)
    for name, make in MAKERS.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
        make(folder / name)
        clean(folder / name)
    write(folder.parent, published__json=published())
    for name in ("nllb", "mbart-50") if transformers.__version__.startswith("4.") else ():
        (folder.parent / "tokenizers" / name).mkdir(parents=True, exist_ok=True)
        tokenizer_json(folder.parent / "tokenizers" / name)
    convert_marian(folder / "ct2-marian-int8", folder / "opus-mt-en-de", "int8")
    convert_fairseq(folder / "ct2-nllb-float16", folder / "nllb", "float16")
    convert_fairseq(folder / "ct2-m2m-bfloat16", folder / "m2m", "bfloat16")
    for quantisation in ("float32", "int16"):
        open_nmt(folder / f"ct2-opennmt-{quantisation}", seed=21, quantisation=quantisation)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
