"""Writes the ids that the tokenizers of transformers give, with models that it trains, for `bundle/tokenizers`.

Run it in an environment of its own, because tests do not need transformers:

    pip install transformers==4.57.6 sentencepiece==0.2.3 sacremoses
    PYTHONPATH=tests:export python tests/support/tokenizer_golden.py tests/bundle/tokenizers

It writes `golden.json`, and the files of the tokenizers as `golden_files.tar.xz`. transformers is known to be wrong in
two things, which are put right here:
- It numbers the languages of NLLB one too high: it takes the mask to stand in front of them.
- It reads special tokens in a text as such. `split_special_tokens` forbids that, but for the tags of Marian; so a text
  with a tag is split here, as the class does with other texts.
"""

from __future__ import annotations

import io
import json
import os
import random
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from dragoman_export.sentences import BUILT_IN

SENTENCES = [
    *(sentence for sentences in BUILT_IN.values() for sentence in sentences),
    "Поезд отправляется утром в половине десятого.",
    "القطار يغادر في التاسعة والنصف صباحا",
    "火车早上九点半出发。",
    "列車は朝九時半に出発します。",
]
TEXTS = [
    "",
    " ",
    "Hello!",
    "The old man sat down on a bench and fed the birds.",
    "Der Zug fährt um halb zehn ab.",
    "두  spaces,\ttabs\nand lines \u3000",
    "  leading and trailing  ",
    "zażółć gęślą jaźń",
    "漢字とかな、 火车",
    "emoji 😀👩‍👩‍👧 inside",
    "ﬁ Å ① ㌀ ½ …",
    "e\u0301 i\u0308 a\u200db c\u200bd \ufeff\ufffd",
    "\x01\x02 a\x07b \x7f",
    "a\u00a0b\u2028c",
    "القطار يغادر 12%",
    "«…» “x” ‘y’ — –",
    "▁a ▁ b▁",
    "\0",
    "x" * 60,
]
SPECIAL_TEXTS = [
    "</s>",
    "</s> inside </s>",
    "<pad><unk><s>",
    "a <unk> b",
    ">>fra<<",
    ">>fra<< Hello",
    ">>deu<<Hello >>fra<<",
    "__de__ Hello __en__",
    "deu_Latn Hello eng_Latn de_DE",
    "<mask>",
]
"""Texts with special tokens, which stay text."""

_ALPHABET = "abcdefghij ABC éßüñ  .,!?-'\" 0123 </s> >>fra<< ▁ 한국어 漢字 Ж ع 😀 \u0301\u200b\t"


def main(folder: Path) -> None:
    import transformers  # noqa: PLC0415

    rng = random.Random(0)
    texts = [*TEXTS, *BUILT_IN["ko"][:5], *("".join(rng.choices(_ALPHABET, k=rng.randint(1, 30))) for _ in range(40))]
    texts = [text for text in texts if not text.startswith(">>")]
    cases = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_files(root)
        for make in (marian, marian_separate, m2m, nllb, nllb_legacy, mbart50):
            case, tokenizer = make(transformers, root)
            cases[make.__name__] = case | ids_of(make.__name__, case, tokenizer, texts, rng)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:xz", preset=9) as tar:
            for path in sorted(it for it in root.rglob("*") if it.is_file() and it.name != "tokenizer_config.json"):
                info = tarfile.TarInfo(str(path.relative_to(root)))
                info.size = path.stat().st_size
                tar.addfile(info, io.BytesIO(path.read_bytes()))
    (folder / "golden_files.tar.xz").write_bytes(archive.getvalue())
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(case, ensure_ascii=True)}" for name, case in cases.items())
    (folder / "golden.json").write_text(f"{{{lines}}}\n", encoding="ascii")


def make_files(root: Path) -> None:
    """Train the SentencePiece models and write the vocabularies, in the layouts of Hugging Face."""
    fairseq = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}
    english = [*BUILT_IN["en"], *BUILT_IN["fr"]]
    shared = [*BUILT_IN["en"], *BUILT_IN["de"]]
    source = train(root / "marian/source.spm", english, 350)
    target = train(root / "marian/target.spm", shared, 330)
    bpe = train(root / "bpe/sentencepiece.bpe.model", SENTENCES, 450, model_type="bpe", **fairseq)
    unigram = {"character_coverage": 0.98, "remove_extra_whitespaces": False, "byte_fallback": False}
    train(root / "mbart50/sentencepiece.bpe.model", SENTENCES, 420, **unigram, **fairseq)
    pieces = sorted({*source, *target} - {"<s>", "</s>", "<unk>"})
    ids = ["</s>", "<unk>", ">>deu<<", ">>fra<<", ">>cmn_Hans<<", *pieces[:-20], "<pad>"]
    write(root / "marian/vocab.json", {piece: i for i, piece in enumerate(ids)})
    size = min(len(source), len(target)) - 10  # the class insists upon one id of padding for both sides
    for name, side in (("vocab", source), ("target_vocab", target)):
        own = ["<unk>", *side[3:size], "</s>", "<pad>"]
        write(root / f"separate/{name}.json", {piece: i for i, piece in enumerate(own)})
    rest = bpe[3:]
    random.Random(1).shuffle(rest)
    write(root / "bpe/vocab.json", {piece: i for i, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *rest[:-15]])})


def train(path: Path, sentences: list[str], size: int, **options: Any) -> list[str]:
    """Train a SentencePiece model. Returns its pieces."""
    import sentencepiece  # noqa: PLC0415

    path.parent.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
        **({"character_coverage": 0.99} | options),
    )
    path.write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [processor.id_to_piece(i) for i in range(processor.get_piece_size())]


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def spec(kind: str, files: dict[str, str], **settings: Any) -> dict[str, Any]:
    return {"kind": kind, "files": files, "settings": settings}


MARIAN = {"source_model": "marian/source.spm", "target_model": "marian/target.spm"}


def marian(transformers: Any, root: Path) -> tuple[dict[str, Any], Any]:
    files = MARIAN | {"vocabulary": "marian/vocab.json"}
    given = spec("marian", files, languages={"de": "deu", "fr": "fra", "zh-Hans": "cmn_Hans"})
    tokenizer = transformers.MarianTokenizer(*(str(root / it) for it in files.values()))
    tag = tokenizer.convert_tokens_to_ids(">>fra<<")
    return {"spec": given, "pair": ["en", "fr"], "before": [tag], "after": [tokenizer.eos_token_id]}, tokenizer


def marian_separate(transformers: Any, root: Path) -> tuple[dict[str, Any], Any]:
    files = MARIAN | {"vocabulary": "separate/vocab.json", "target_vocabulary": "separate/target_vocab.json"}
    tokenizer = transformers.MarianTokenizer(*(str(root / it) for it in files.values()), separate_vocabs=True)
    case = {"spec": spec("marian", files), "pair": ["en", "de"], "before": [], "after": [tokenizer.eos_token_id]}
    return case, tokenizer


def m2m(transformers: Any, root: Path) -> tuple[dict[str, Any], Any]:
    files = {"model": "bpe/sentencepiece.bpe.model", "vocabulary": "bpe/vocab.json"}
    paths = (str(root / files["vocabulary"]), str(root / files["model"]))
    tokenizer = transformers.M2M100Tokenizer(*paths, src_lang="en", tgt_lang="de")
    ids = {code: tokenizer.get_lang_id(code) for code in ("en", "de", "zu")}
    given = spec("m2m", files, languages={"en": "en", "de": "de", "zu": "zu"}, language_ids=ids)
    return {"spec": given, "pair": ["en", "de"], "before": [ids["en"]], "after": [2], "forced": [ids["de"]]}, tokenizer


def nllb(transformers: Any, root: Path) -> tuple[dict[str, Any], Any]:
    return _nllb(transformers, root, legacy=False)


def nllb_legacy(transformers: Any, root: Path) -> tuple[dict[str, Any], Any]:
    return _nllb(transformers, root, legacy=True)


def _nllb(transformers: Any, root: Path, *, legacy: bool) -> tuple[dict[str, Any], Any]:
    files = {"model": "bpe/sentencepiece.bpe.model"}
    languages = {"src_lang": "eng_Latn", "tgt_lang": "deu_Latn"}
    tokenizer = transformers.NllbTokenizer(str(root / files["model"]), legacy_behaviour=legacy, **languages)
    wrong = tokenizer.convert_tokens_to_ids("ace_Arab"), tokenizer.sp_model_size + 2
    assert wrong[0] == wrong[1], wrong
    ids = {code: tokenizer.convert_tokens_to_ids(code) - 1 for code in ("ace_Arab", "eng_Latn", "deu_Latn", "zul_Latn")}
    tags = {"ace-Arab": "ace_Arab", "en": "eng_Latn", "de": "deu_Latn", "zu": "zul_Latn"}
    case = {
        "spec": spec("fairseq", files, languages=tags, language_ids=ids, **({"legacy": True} if legacy else {})),
        "pair": ["en", "de"],
        "before": [] if legacy else [ids["eng_Latn"]],
        "after": [2, ids["eng_Latn"]] if legacy else [2],
        "forced": [ids["deu_Latn"]],
    }
    return case, tokenizer


def mbart50(transformers: Any, root: Path) -> tuple[dict[str, Any], Any]:
    files = {"model": "mbart50/sentencepiece.bpe.model"}
    tokenizer = transformers.MBart50Tokenizer(str(root / files["model"]), src_lang="en_XX", tgt_lang="de_DE")
    codes = {"ar": "ar_AR", "en": "en_XX", "de": "de_DE", "sl": "sl_SI"}
    ids = {code: tokenizer.lang_code_to_id[code] for code in codes.values()}
    given = spec("fairseq", files, languages=codes, language_ids=ids, vocab_size=len(tokenizer))
    return {
        "spec": given,
        "pair": ["en", "de"],
        "before": [ids["en_XX"]],
        "after": [2],
        "forced": [ids["de_DE"]],
    }, tokenizer


def ids_of(name: str, case: dict[str, Any], tokenizer: Any, texts: list[str], rng: random.Random) -> dict[str, Any]:
    """What a tokenizer gives for texts, and for random ids."""
    shift = 1 if name.startswith("nllb") else 0
    first_language = tokenizer.sp_model_size + 2 if shift else 0

    def right(ids: list[int]) -> list[int]:
        return [i - 1 if shift and i >= first_language else i for i in ids]

    def pieces(text: str, model: Any) -> list[int]:
        return tokenizer.convert_tokens_to_ids(model.encode(text, out_type=str))

    sources = [right(tokenizer(text, split_special_tokens=True).input_ids) for text in texts]
    targets = [right(tokenizer(text_target=text, split_special_tokens=True).input_ids) for text in texts]
    if not name.startswith("marian"):
        sources += [right(tokenizer(text, split_special_tokens=True).input_ids) for text in SPECIAL_TEXTS]
        targets += [right(tokenizer(text_target=text, split_special_tokens=True).input_ids) for text in SPECIAL_TEXTS]
    else:
        sources += [[*pieces(text, tokenizer.spm_source), tokenizer.eos_token_id] for text in SPECIAL_TEXTS]
        tokenizer._switch_to_target_mode()
        targets += [[*pieces(text, tokenizer.spm_target), tokenizer.eos_token_id] for text in SPECIAL_TEXTS]
        tokenizer._switch_to_input_mode()
    if case["spec"]["settings"].get("languages") and name == "marian":
        sources = [[*case["before"], *ids] for ids in sources]
    size = len(tokenizer.target_encoder) if name == "marian_separate" else tokenizer.vocab_size
    ordinary = [i for i in range(size) if i >= 5]
    decoded = [rng.choices(ordinary[: size - 60 if name == "mbart50" else size], k=rng.randint(1, 12)) for _ in texts]
    decoded += [ids for ids in targets if ids]
    shown = [tokenizer.decode([i for i in ids if i < size], skip_special_tokens=True) for ids in decoded]
    tokenizer._switch_to_target_mode()
    begin = tokenizer.pad_token_id if name.startswith("marian") else tokenizer.eos_token_id
    ends = {"pad": tokenizer.pad_token_id, "end": tokenizer.eos_token_id, "unknown": tokenizer.unk_token_id}
    languages = case["spec"]["settings"].get("language_ids", {})
    return {
        "special": ends | {"begin": begin},
        "vocab_size": case["spec"]["settings"].get("vocab_size") or max([size, *(i + 1 for i in languages.values())]),
        "texts": [*texts, *SPECIAL_TEXTS],
        "sources": sources,
        "targets": targets,
        "decoded": [[ids, text] for ids, text in zip(decoded, shown, strict=True)],
    }


if __name__ == "__main__":
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    main(Path(sys.argv[1]))
