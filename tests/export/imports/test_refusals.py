"""What is not supported, missing or damaged is refused with one message that names it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dragoman_export.imports.imported import ImportOptions
from dragoman_export.imports.read import READERS, detect, read_checkpoint
from dragoman_export.imports.sentence_piece import parse
from dragoman_export.imports.tokenizers import BundleTokenizer
from dragoman_service.errors import InvalidInput
from support.foreign.checkpoints import ENGLISH_GERMAN, FOLDER, OPTIONS, change_json, change_tensors, copied

Change = Callable[[Path], object]
BOMB = "- &a [x, x]\n" + "".join(f"- &{one} [*{two}, *{two}]\n" for one, two in zip("bcdefgh", "abcdefg", strict=True))
"""Aliases, each of which doubles the value."""
VECTOR = np.zeros(16, np.float32)


def config(**values: Any) -> Change:
    return fields("config.json", **values)


def tensors(**values: Any) -> Change:
    return lambda it: change_tensors(it, **values)


def without(name: str) -> Change:
    return lambda it: (it / name).unlink()


def spaces_at_the_ends(folder: Path) -> None:
    path = folder / "source.spm"
    model = parse(path.read_bytes(), path.name)
    model.trainer_spec.treat_whitespace_as_suffix = True
    path.write_bytes(model.SerializeToString())


def capitals(folder: Path) -> None:
    path = folder / "shared_vocabulary.json"
    pieces = json.loads(path.read_text())
    path.write_text(json.dumps([it.upper() if it == "▁cat" else it for it in pieces]))


def text(file: str, contents: str) -> Change:
    return lambda it: (it / file).write_text(contents)


def pipe(file: str) -> Change:
    def replaced(folder: Path) -> None:
        (folder / file).unlink()
        os.mkfifo(folder / file)

    return replaced


def broken_link(file: str) -> Change:
    def replaced(folder: Path) -> None:
        (folder / file).unlink()
        (folder / file).symlink_to("nowhere")

    return replaced


def two_vocabularies(folder: Path) -> None:
    for name in ("vocab.de.yml", "vocab.en.yml"):
        shutil.copyfile(folder / "vocab.yml", folder / name)
    (folder / "vocab.yml").unlink()
    (folder / "decoder.yml").unlink()


def fields(file: str, **values: Any) -> Change:
    return lambda it: change_json(it / file, **values)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "opus-mt-en-de",
            config(activation_function="tanh"),
            "config.json: activation_function: got 'tanh'; allowed: 'relu'",
        ),
        ("opus-mt-en-de", config(normalize_before=True), "config.json: normalize_before: got True; allowed: False"),
        ("opus-mt-en-de", config(decoder_attention_heads=4), "decoder_attention_heads: got 4; allowed: 2"),
        ("opus-mt-en-de", config(d_model="16"), "d_model: got '16'; allowed: a whole number, 1 or more"),
        ("opus-mt-en-de", config(d_model=True), "d_model: got True"),
        ("opus-mt-en-de", config(encoder_layers=...), "encoder_layers: got None; allowed: a whole number"),
        (
            "opus-mt-en-de",
            config(encoder_layers=3),
            "model.safetensors: model.encoder.layers.2.self_attn.q_proj.weight: got None",
        ),
        (
            "opus-mt-en-de",
            config(encoder_layers=1),
            "tensors: got 'model.encoder.layers.1.encoder|tensors: got 'model.encoder.layers.1",
        ),
        (
            "opus-mt-en-de",
            config(encoder_ffn_dim=24),
            r"layers.0.fc1.weight: got 'shape \[32, 16\]'; allowed: shape \[24, 16\]",
        ),
        ("opus-mt-en-de", config(vocab_size=40, decoder_vocab_size=40), r"model.shared.weight: got 'shape \[47, 16\]'"),
        ("opus-mt-en-de", config(decoder_vocab_size=46), "decoder_vocab_size: got 46; allowed: 47"),
        ("opus-mt-en-de", config(quantization_config={"bits": 4}), "quantization_config: got"),
        ("opus-mt-en-de", config(rope_theta=3), "config.json: rope_theta: got 3; allowed: no such field"),
        (
            "opus-mt-en-de",
            config(eos_token_id=2),
            "vocab.json: got 0; allowed: an entry </s> with the id 2|forced_eos_token_id: got 0",
        ),
        (
            "opus-mt-en-de",
            config(pad_token_id=1, decoder_start_token_id=1),
            "decoder_start_token_id: got 46; allowed: 1",
        ),
        ("opus-mt-en-de", config(decoder_start_token_id=0), "decoder_start_token_id: got 46; allowed: 0"),
        ("opus-mt-en-de", config(tie_word_embeddings=False), "lm_head.weight: got None|embed_tokens"),
        ("opus-mt-en-de", tensors(extra__weight=VECTOR), "model.safetensors: tensors: got 'extra.weight'"),
        (
            "opus-mt-en-de",
            tensors(final_logits_bias=VECTOR),
            r"final_logits_bias: got 'shape \[16\]'; allowed: shape \[1, 47\]",
        ),
        ("opus-mt-en-de", tensors(model__shared__weight=None), "model.encoder.embed_tokens.weight: got None"),
        (
            "opus-mt-en-de",
            tensors(model__decoder__layers__1__fc2__bias=None),
            "model.decoder.layers.1.fc2.bias: got None",
        ),
        ("opus-mt-en-de", without("source.spm"), "source.spm: got None; allowed: .*OPUS-MT models with Moses and BPE"),
        ("opus-mt-en-de", text("target.spm", "?"), "target.spm: got '1 bytes'; allowed: a SentencePiece model"),
        ("marian-pre-norm", text("source.spm", "?"), "source.spm: got '1 bytes'; allowed: a SentencePiece model"),
        (
            "opus-mt-en-de",
            spaces_at_the_ends,
            "source.spm: treat_whitespace_as_suffix: got True; allowed: False: the space",
        ),
        ("opus-mt-en-de", without("vocab.json"), "vocab.json: got None"),
        ("opus-mt-en-de", text("added_tokens.json", '{"<x>": 47}'), "added token <x>: got 47; allowed: tokens that"),
        (
            "opus-mt-en-de",
            without("model.safetensors"),
            "weights: got None; allowed: model.safetensors or pytorch_model.bin",
        ),
        ("opus-mt-en-de", fields("vocab.json", twice=0), "vocab.json: got 'two pieces with the same id'"),
        ("opus-mt-en-de", fields("vocab.json", large=47), "vocab.json: largest id: got 47; allowed: less than 47"),
        ("opus-mt-en-de", fields("vocab.json", odd="1"), "vocab.json: odd: got '1'; allowed: an id"),
        (
            "opus-mt-en-de",
            lambda it: (it / "config.json").write_text("[" * 99_999),
            "config.json: got 'damaged'; allowed: JSON",
        ),
        ("opus-mt-en-de", lambda it: (it / "config.json").write_bytes(b"\xff"), "config.json: .*UTF-8"),
        ("opus-mt-en-de", fields("generation_config.json", bad_words_ids=[[1, 2]]), "bad_words_ids: got"),
        ("opus-mt-en-de", fields("generation_config.json", bad_words_ids=[[47]]), "got 47; allowed: less than 47"),
        ("opus-mt-en-de", fields("generation_config.json", begin_suppress_tokens=[3]), "begin_suppress_tokens"),
        (
            "opus-mt-en-de",
            fields("generation_config.json", eos_token_id=[0, 5]),
            r"eos_token_id: got \[0, 5\]; allowed: 0",
        ),
        (
            "opus-mt-en-de",
            fields("generation_config.json", length_penalty=-1),
            "length_penalty: got -1; allowed: a finite",
        ),
        ("opus-mt-en-de", fields("generation_config.json", length_penalty=10**400), "length_penalty: got 1000"),
        ("opus-mt-en-de", fields("generation_config.json", length_penalty=float("inf")), "length_penalty: got inf"),
        ("opus-mt-en-de", config(d_model=10**10), "d_model: got 10000000000"),
        ("opus-mt-en-de", config(d_model=2**30), r"model.shared.weight: .*allowed: shape \[47, 1073741824\]"),
        ("m2m", config(d_model=2**30), r"model.shared.weight: got 'shape"),
        ("opus-mt-en-de", config(max_position_embeddings=10**9), "a whole number from 1 to 65536"),
        ("m2m", config(max_position_embeddings=10**9), "a whole number from 1 to 65536"),
        (
            "opus-mt-en-de",
            fields("tokenizer_config.json", sp_model_kwargs={"enable_sampling": True}),
            "sp_model_kwargs: got {'enable_sampling': True}",
        ),
        (
            "opus-mt-en-de",
            lambda it: (it / "config.json").write_text('{"model_type": "marian", "d_model": 16, "d_model": 16}'),
            "config.json: got 'damaged'; .*'d_model' stands twice",
        ),
        ("opus-mt-en-de", pipe("config.json"), "config.json: got .* a regular file"),
        ("opus-mt-en-de", broken_link("tokenizer_config.json"), "tokenizer_config.json: got .* a readable file"),
        ("opus-mt-en-de", broken_link("generation_config.json"), "generation_config.json: got .* a readable file"),
        ("m2m", config(pad_token_id=0), "config.json: pad_token_id: got 0; allowed: 1"),
        ("m2m", config(normalize_before=False), "normalize_before: got False; allowed: True"),
        (
            "m2m",
            without("sentencepiece.bpe.model"),
            "sentencepiece.bpe.model: got None; .*it splits the texts; take it from the original",
        ),
        ("m2m", lambda it: (it / "sentencepiece.bpe.model").write_bytes(b"?"), "allowed: a SentencePiece model"),
        ("m2m", fields("vocab.json", **{"</s>": 1, "<pad>": 2}), "vocab.json: <pad>: got 2; allowed: the id 1"),
        ("m2m", fields("tokenizer_config.json", language_codes="mine"), "language_codes: got 'mine'"),
        ("m2m", tensors(model__encoder__layer_norm__bias=None), "model.encoder.layer_norm.bias: got None"),
        ("nllb", config(vocab_size=50), "got .*50|id of the language"),
        (
            "nllb",
            fields("tokenizer_config.json", added_tokens_decoder={"3": {"content": "eng_Latn"}}),
            "id of the language eng_Latn: got 3",
        ),
        ("nllb", fields("added_tokens.json", eng_Latn=50), "eng_Latn: got 49; allowed: the id of another file.* 50"),
        ("nllb", fields("tokenizer_config.json", legacy_behaviour="yes"), "legacy_behaviour: got 'yes'"),
        ("mbart-50", fields("tokenizer_config.json", tokenizer_class="MBartTokenizer"), "mBART-25"),
        (
            "mbart-50",
            config(max_position_embeddings=50),
            r"embed_positions.weight: got 'shape \[42, 16\]'; allowed: shape \[52, 16\]",
        ),
        ("ct2-opennmt-float32", config(decoder_start_token=None), "decoder_start_token: got None; allowed: a token"),
        (
            "ct2-opennmt-float32",
            config(eos_token="</end>"),
            "config.json: got '</end>'; allowed: a piece of the target",
        ),
        ("ct2-opennmt-float32", config(mystery=1), "config.json: mystery: got 1"),
        ("ct2-opennmt-float32", config(bos_token=3), "config.json: bos_token: got 3; allowed: a text"),
        ("ct2-opennmt-float32", config(quantization_type=1), "quantization_type: got 1"),
        ("ct2-opennmt-float32", without("target_vocabulary.json"), "target_vocabulary.json: got None"),
        ("ct2-opennmt-float32", without("target.model"), None),
        (
            "ct2-opennmt-float32",
            text("source_vocabulary.json", '["a", "b"]'),
            "tokenizer: got 'source.model'; allowed: the tokenizer of this model",
        ),
        ("ct2-nllb-float16", capitals, "vocabulary: got .*CAT"),
        ("marian-pre-norm", without("source.spm"), None),
        ("marian-toy", text("decoder.yml", "word-penalty: 1"), "decoder.yml: word-penalty: got 1"),
        ("marian-toy", text("decoder.yml", "models: [a.npz, b.npz]"), "decoder.yml: models: .*ensembles"),
        ("marian-toy", text("decoder.yml", "- 1"), "decoder.yml: got .*options by name"),
        (
            "marian-toy",
            text("decoder.yml", "vocabs: vocab.yml"),
            "decoder.yml: vocabs: got 'vocab.yml'; allowed: a list",
        ),
        ("marian-toy", text("decoder.yml", "normalize: .nan"), "decoder.yml: normalize: got nan"),
        ("marian-toy", text("decoder.yml", BOMB), r"decoder.yml: got 'damaged'.*the alias \*a in line 2"),
        (
            "marian-toy",
            text("decoder.yml", "a: b\n" * 99_999),
            "decoder.yml: got '499995 characters'; allowed: at most",
        ),
        (
            "marian-toy",
            two_vocabularies,
            "vocabulary: got 'vocab.de.yml, vocab.en.yml'; allowed: their names in decoder",
        ),
        (
            "marian-toy",
            text("decoder.yml", "!!python/object/apply:os.system [ls]"),
            "decoder.yml: .*YAML of plain values",
        ),
    ],
)
def test_one_message_names_what_is_wrong(tmp_path: Path, name: str, change: Change, message: str | None) -> None:
    folder = copied(name, tmp_path)
    change(folder)
    if message is None:
        read_checkpoint(folder, OPTIONS[name])  # one model is enough for both sides
        return
    with pytest.raises(InvalidInput, match=message):
        read_checkpoint(folder, OPTIONS[name])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("type", "s2s"),
        ("transformer-decoder-autoreg", "rnn"),
        ("transformer-ffn-depth", 3),
        ("transformer-tied-layers", [1, 1]),
        ("transformer-no-projection", True),
        ("transformer-no-affine", True),
        ("transformer-alibi-shift", True),
        ("transformer-disable-position-embeddings", True),
        ("transformer-postprocess", "da"),
        ("transformer-ffn-activation", "tanh"),
        ("transformer-postprocess-emb", "x"),
        ("transformer-new-switch", 1),
        ("enc-depth", "2"),
    ],
)
def test_a_switch_of_marian_is_named(tmp_path: Path, option: str, value: Any) -> None:
    folder = copied("marian-toy", tmp_path)
    with np.load(folder / "model.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    options = yaml.safe_load(arrays["special:model.yml"].tobytes().rstrip(b"\0")) | {option: value}
    arrays["special:model.yml"] = np.frombuffer(yaml.safe_dump(options).encode() + b"\0" * 5, np.int8)
    np.savez(folder / "model.npz", **arrays)
    said = "transformer-preprocess" if option == "transformer-postprocess" else option
    with pytest.raises(InvalidInput, match=rf"special:model.yml: {said}: got"):
        read_checkpoint(folder, ENGLISH_GERMAN)


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "special"])
def test_a_tensor_of_marian_is_named(tmp_path: Path, change: str) -> None:
    folder = copied("marian-toy", tmp_path)
    with np.load(folder / "model.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    if change == "missing":
        del arrays["encoder_l2_ffn_W1"]
    elif change == "extra":
        arrays["encoder_l3_ffn_W1"] = arrays["encoder_l2_ffn_W1"]
    elif change == "shape":
        arrays["encoder_l2_ffn_W1"] = arrays["encoder_l2_ffn_W1"].T
    else:
        del arrays["special:model.yml"]
    np.savez(folder / "model.npz", **arrays)
    name = {"extra": "encoder_l3_ffn_W1", "special": "special:model.yml"}.get(change, "encoder_l2_ffn_W1")
    with pytest.raises(InvalidInput, match=name):
        read_checkpoint(folder, ENGLISH_GERMAN)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "got 'an empty folder'"),
        ({"notes.txt": ""}, "got 'a folder with notes.txt'"),
        *(
            ({"config.json": json.dumps({"model_type": kind})}, f"got 'model_type {kind}'.*{why}")
            for kind, why in (
                ("t5", "MADLAD"), ("mt5", "gated"), ("umt5", "relative"), ("nllb-moe", "experts"), ("fsmt", "Moses"),
                ("bert", "an unknown family"),
            )
        ),
        ({"config.json": json.dumps({"model_type": ["t5"]})}, "no name"),
        ({"config.json": "{}"}, "config.json without model_type"),
        ({"model.ende.intgemm.alphas.bin": ""}, "SSRU"),
        ({"decoder.yml": "models: [model.bin.gz.bin]", "x": ""}, "SSRU"),
        ({"model.pt": ""}, "a checkpoint of fairseq"),
        ({"opus.npz": "", "source.bpe": "", "target.bpe": ""}, "Moses and BPE instead of SentencePiece"),
        ({"a.npz": "", "b.npz": ""}, "model: got 'a.npz, b.npz'; allowed: one .npz"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read_checkpoint(tmp_path)


def test_an_adapter_alone_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"got 'adapter_config.json'.*merge it into its model"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "languages"),
    [
        ("nllb", {"sources": ("en",), "targets": ("DE", "fr-FR")}, (("eng_Latn",), ("deu_Latn", "fra_Latn"))),
        ("nllb", {"targets": ("DEU_LATN", "deu", "de_AT")}, (("eng_Latn", "deu_Latn", "fra_Latn"), ("deu_Latn",))),
        ("m2m", {"sources": ("eng", "en"), "targets": ("de",)}, (("en",), ("de",))),
        ("mbart-50", {"targets": ("de",)}, (("ar_AR", "en_XX", "de_DE"), ("de_DE",))),
        ("opus-mt-en-mul", {"targets": ("de", "zh-Hans")}, (("en",), ("deu", "cmn_Hans"))),
        ("marian-old", {"sources": ("EN", "en ")}, (("en",), ("de",))),
    ],
)
def test_languages_may_be_spelled_in_many_ways(name: str, options: Any, languages: Any) -> None:
    found = read_checkpoint(FOLDER / name, ImportOptions(**options)).languages
    assert (found.sources, found.targets) == languages


def test_a_language_is_not_translated_into_itself() -> None:
    with pytest.raises(InvalidInput, match="targets: got 'en'; allowed: another language than the source"):
        read_checkpoint(FOLDER / "m2m", ImportOptions(sources=("en",), targets=("en",)))
    with pytest.raises(InvalidInput, match="sources: got ''; allowed: the tag or code of a language"):
        read_checkpoint(FOLDER / "m2m", ImportOptions(sources=(" ",)))


def test_options_of_decoding_that_are_not_known_are_noted(tmp_path: Path) -> None:
    folder = copied("nllb", tmp_path)
    change_json(
        folder / "generation_config.json", no_repeat_ngram_size=3, new_kind_of_search=True, top_k=5, num_beams=4
    )
    notes = " ".join(read_checkpoint(folder).notes)
    assert "Options of decoding that are not applied: no_repeat_ngram_size 3, new_kind_of_search True." in notes


def test_rows_without_a_piece_are_never_produced(tmp_path: Path) -> None:
    folder = copied("opus-mt-en-de", tmp_path)
    pieces = json.loads((folder / "vocab.json").read_text())
    gone = max((it for it in pieces if it[0] != "<"), key=len)
    number = pieces.pop(gone)
    (folder / "vocab.json").write_text(json.dumps(pieces))
    imported = read_checkpoint(folder)
    assert number in imported.config.banned_ids
    assert any(it.startswith("1 rows of the embeddings have no piece") for it in imported.notes)


def test_a_licence_cannot_control_a_terminal(tmp_path: Path) -> None:
    folder = copied("marian-toy", tmp_path)
    (folder / "README.md").write_text('---\nlicense: "mit\\e[2J\\n"\n---\n')
    assert read_checkpoint(folder, ENGLISH_GERMAN).licence == r"mit\x1b[2J\n"
    (folder / "README.md").write_text("---\nlicense: {a: 1}\n---\n")
    assert read_checkpoint(folder, ENGLISH_GERMAN).licence is None


def test_families_are_detected() -> None:
    found = {name: detect(FOLDER / name) for name in OPTIONS}
    assert set(found.values()) | {"argos", "blenderbot"} == set(READERS)
    assert found["nllb"] == found["small-100"] == "m2m_100"
    assert found["marian-toy"] == found["marian-pre-norm"] == "marian_npz"


def test_no_such_place(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="allowed: a folder or file that exists"):
        read_checkpoint(tmp_path / "nowhere")
    for name, message in (("model.pt", "fairseq are programs"), ("x.txt", "no file of a known kind")):
        (tmp_path / name).write_text("")
        with pytest.raises(InvalidInput, match=message):
            read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("name", ["m2m", "marian-toy", "ct2-marian-int8"])
def test_only_folders_of_marianmt_have_a_choice_of_positions(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"positions: got 'marian'; allowed: 'own'"):
        read_checkpoint(FOLDER / name, ImportOptions(("en",), ("de",), positions="marian"))


def test_languages_that_are_not_said_are_asked_for(tmp_path: Path) -> None:
    for name in ("marian-toy", "ct2-opennmt-float32"):
        with pytest.raises(InvalidInput, match=r"sources: got None; allowed: languages, with --source"):
            read_checkpoint(FOLDER / name)
    folder = copied("opus-mt-en-de", tmp_path)
    for codes, side in (({"source_lang": "roa"}, "sources"), ({"target_lang": "zle"}, "targets")):
        change_json(folder / "tokenizer_config.json", **{"source_lang": "en", "target_lang": "de"} | codes)
        with pytest.raises(InvalidInput, match=rf"{side}: got '(roa|zle)'; allowed: languages, with --{side[:-1]}"):
            read_checkpoint(folder)
    with pytest.raises(InvalidInput, match="targets: got 'spa'; allowed: languages of the model: deu, fra, cmn_Hans"):
        read_checkpoint(FOLDER / "opus-mt-en-mul", ImportOptions(targets=("spa",)))
    with pytest.raises(InvalidInput, match="sources: got 'xx'; allowed: languages of the model: eng_Latn, deu_Latn"):
        read_checkpoint(FOLDER / "nllb", ImportOptions(sources=("xx",)))


@pytest.mark.parametrize(
    ("name", "options", "note"),
    [
        ("opus-mt-en-de", ImportOptions(targets=("fr",)), "translates to de; fr counts, as --target says"),
        ("opus-mt-en-de", ImportOptions(sources=("nl", "deu")), "translates from en; nl, deu counts, as --source says"),
        ("opus-mt-en-de", ImportOptions(("eng",), ("de_AT",)), None),
        ("opus-mt-en-mul", ImportOptions(targets=("deu",)), None),
        ("ct2-marian-int8", ENGLISH_GERMAN, None),
        ("m2m", ImportOptions(targets=("de",)), None),
    ],
)
def test_languages_that_contradict_the_checkpoint_are_noted(
    name: str, options: ImportOptions, note: str | None
) -> None:
    found = [it for it in read_checkpoint(FOLDER / name, options).notes if "--source" in it or "--target" in it]
    assert found == ([f"The checkpoint says that it {note}."] if note else [])


def test_languages_that_contradict_the_name_of_a_model_are_noted(tmp_path: Path) -> None:
    for name, options, note in (
        ("mbart-large-50-one-to-many-mmt", ImportOptions(sources=("de_DE",)), "from en_XX; de_DE counts, as --source"),
        ("mbart-large-50-many-to-one-mmt", ImportOptions(targets=("ar_AR",)), "to en_XX; ar_AR counts, as --target"),
    ):
        folder = copied("mbart-50", tmp_path).rename(tmp_path / name)
        assert any(note in it for it in read_checkpoint(folder, options).notes)
    folder = copied("marian-pre-norm", tmp_path).rename(tmp_path / "opus-mt-en-fi")
    assert any("to fi; de counts, as --target" in it for it in read_checkpoint(folder, ENGLISH_GERMAN).notes)


def is_small(folder: Path, options: ImportOptions = ImportOptions()) -> bool:  # noqa: B008 - it cannot be changed
    tokenizer = BundleTokenizer(read_checkpoint(folder, options)).load()
    from_english, to_german = (tokenizer.pieces(tokenizer.source([], "en", it)) for it in ("de", "fr"))
    assert (from_english == to_german) == bool(tokenizer.forced("de"))
    return not tokenizer.forced("de")


def test_a_conversion_of_small_100_is_told_from_one_of_m2m_100_or_asked_for(tmp_path: Path) -> None:
    """The vocabularies are the same. The fixture has fewer layers in the decoder, as SMaLL-100."""
    folder = copied("ct2-m2m-bfloat16", tmp_path)
    with pytest.raises(InvalidInput, match="family: got None; allowed: small-100 or m2m-100, with --family"):
        read_checkpoint(folder)
    assert is_small(folder, ImportOptions(family="small-100"))
    assert not is_small(folder, ImportOptions(family="m2m-100"))
    change_json(folder / "tokenizer_config.json", tokenizer_class="SMALL100Tokenizer")
    assert is_small(folder)
    change_json(folder / "tokenizer_config.json", tokenizer_class="M2M100Tokenizer")
    assert not is_small(folder)
    (folder / "tokenization_small100.py").write_text("raise SystemExit")
    assert is_small(folder)


def test_so_is_a_folder_of_hugging_face(tmp_path: Path) -> None:
    folder = copied("m2m", tmp_path)
    assert not is_small(folder)
    assert is_small(folder, ImportOptions(family="small-100"))
    change_json(folder / "tokenizer_config.json", tokenizer_class=...)
    with pytest.raises(InvalidInput, match="family: got None"):
        read_checkpoint(folder)
    folder = copied("small-100", tmp_path)
    assert is_small(folder)
    assert not is_small(folder, ImportOptions(family="m2m-100"))
    with pytest.raises(InvalidInput, match="family: got 'm2m-100'; allowed: none; only models with the vocabulary"):
        read_checkpoint(FOLDER / "nllb", ImportOptions(family="m2m-100"))


def test_a_model_of_ctranslate2_of_another_architecture_is_named(tmp_path: Path) -> None:
    folder = copied("ct2-opennmt-float32", tmp_path)
    path = folder / "model.bin"
    old, new = b"encoder/layer_0/ffn/layer_norm/beta\0", b"encoder/layer_0/self_attn/rotary_dim\0"
    data = path.read_bytes()
    length = len(old).to_bytes(2, "little")
    assert data.count(length + old) == 1
    path.write_bytes(data.replace(length + old, len(new).to_bytes(2, "little") + new))
    with pytest.raises(
        InvalidInput, match=r"model.bin: encoder/layer_0/self_attn/rotary_dim: got 'present'.*MADLAD-400"
    ):
        read_checkpoint(folder, ENGLISH_GERMAN)
    new = b"encoder/layer_0/ffn/layer_norm/bera\0"
    path.write_bytes(data.replace(old, new))
    with pytest.raises(InvalidInput, match=r"model.bin: encoder/layer_0/ffn/layer_norm/beta: got None"):
        read_checkpoint(folder, ENGLISH_GERMAN)
    path.write_bytes(data.replace(b"decoder/alignment_layer", b"decoder/alignment_laxer"))
    with pytest.raises(InvalidInput, match=r"model.bin: decoder/alignment_laxer: got -1; allowed: no such switch"):
        read_checkpoint(folder, ENGLISH_GERMAN)
