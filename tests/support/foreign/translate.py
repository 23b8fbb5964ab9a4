"""Translates texts with the checkpoints of `make.py` by the programs that they are of, for the tests to compare.

Needs what `make.py` needs. From the folder `tests`:

    python -m support.foreign.translate export/imports/checkpoints export/imports/translations.json

Tokens that a bundle never produces are suppressed: see BANNED. Nothing else is changed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

import ctranslate2
import sentencepiece
import torch
import transformers
from ctranslate2.converters import MarianConverter

TEXTS = 12
"""Translations of each checkpoint that are kept."""
TRIED = 60
"""Texts that are translated: random parameters give the same to many."""
MAX_LENGTH = 24
"""Most target tokens."""
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
BANNED = {"<s>", "<pad>", "<unk>", "<blank>", "ar_AR", "en_XX", "de_DE"}
"""Pieces, beside the tags of languages and rows without a piece, that a bundle never produces."""


@dataclass(frozen=True, slots=True)
class Side:
    """One language side of a checkpoint: texts to ids and back."""

    model: sentencepiece.SentencePieceProcessor
    pieces: list[str]

    def ids(self, text: str) -> list[int]:
        table = {piece: place for place, piece in enumerate(self.pieces)}
        return [table.get(it, table["<unk>"]) for it in self.model.encode(text, out_type=str)]

    def text(self, ids: list[int]) -> str:
        return str(self.model.decode_pieces([self.pieces[it] for it in ids]))


@dataclass(frozen=True, slots=True)
class Call:
    """A text with its direction, as the program is given it."""

    source: str
    target: str
    text: str
    before: list[int]
    """Ids before the text."""
    forced: list[int]
    """Ids that the decoder is given after its first."""


def side(folder: Path, model: str, pieces: list[str]) -> Side:
    return Side(sentencepiece.SentencePieceProcessor(model_file=str(folder / model)), pieces)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def texts(seed: int) -> list[str]:
    rng = random.Random(seed)
    return list(dict.fromkeys(" ".join(rng.choices(WORDS, k=rng.randint(1, 7))) for _ in range(TRIED)))


def calls(folder: Path, pieces: list[str]) -> list[Call]:
    """What is translated, with the languages of the bundle as tags."""
    name, given = folder.name, texts(len(folder.name))
    place = {piece: at for at, piece in enumerate(pieces)}
    if name == "opus-mt-en-mul":
        tags = {"de": ">>deu<<", "fr": ">>fra<<", "zh-Hans": ">>cmn_Hans<<"}
        chosen = itertools.cycle(tags.items())
        return [Call("en", tag, text, [place[piece]], []) for text, (tag, piece) in zip(given, chosen, strict=False)]
    codes = {
        **{f"__{it}__": it for it in ("de", "en", "fr")},
        **{"eng_Latn": "en", "deu_Latn": "de", "fra_Latn": "fr"},
        **{"ar_AR": "ar", "en_XX": "en", "de_DE": "de"},
    }
    there = [it for it in codes if it in place]
    if not there:
        return [Call("en", "de", text, [], []) for text in given]
    found = []
    for text, (source, target) in zip(given, itertools.cycle(itertools.permutations(there, 2)), strict=False):
        before, forced = ([place[target]], []) if name == "small-100" else ([place[source]], [place[target]])
        found.append(Call(codes[source], codes[target], text, before, forced))
    return found


def vocabulary(folder: Path) -> list[str]:
    """The pieces of a folder of Hugging Face in the order of their ids."""
    pieces = list(read_json(folder / "vocab.json")) if (folder / "vocab.json").exists() else None
    if (folder / "source.spm").exists():
        assert pieces is not None
        return pieces
    if pieces is None:
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
        pieces = ["<s>", "<pad>", "</s>", "<unk>", *map(model.id_to_piece, range(3, model.get_piece_size()))]
    return pieces + [
        it["content"] for it in read_json(folder / "tokenizer_config.json")["added_tokens_decoder"].values()
    ]


def banned(pieces: list[str], rows: int) -> list[int]:
    odd = [at for at, it in enumerate(pieces) if it in BANNED or it.startswith(("__", ">>", "madeup")) or "_Latn" in it]
    return odd + list(range(len(pieces), rows))


def hugging_face(folder: Path) -> list[dict[str, Any]]:
    """Greedy translations, and the best of a beam search, by `generate`."""
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    pieces = vocabulary(folder)
    marian = (folder / "source.spm").exists()
    read, write = (
        side(folder, f"{it}.spm" if marian else "sentencepiece.bpe.model", pieces) for it in ("source", "target")
    )
    end, found = pieces.index("</s>"), []
    for call in calls(folder, pieces):
        source = [*call.before, *read.ids(call.text), end]
        options: dict[str, Any] = {"forced_bos_token_id": call.forced[0]} if call.forced else {}
        never = [[it] for it in banned(pieces, model.config.vocab_size)]
        options |= {"bad_words_ids": never, "forced_eos_token_id": None}
        with torch.no_grad():
            (ids,) = model.generate(
                torch.tensor([source]),
                num_beams=1,
                do_sample=False,
                max_length=None,
                max_new_tokens=MAX_LENGTH + len(call.forced),
                **options,
            ).tolist()
        assert ids[1 : 1 + len(call.forced)] == call.forced
        found.append(case(call, ids[1 + len(call.forced) :], end, write))
    return found


def translated(folder: Path, translator_folder: Path) -> list[dict[str, Any]]:
    """Greedy translations by CTranslate2. `folder` has the tokenizer."""
    translator = ctranslate2.Translator(str(translator_folder), compute_type="float32", intra_threads=1)
    names = ("shared_vocabulary.json",) * 2
    if not (translator_folder / names[0]).exists():
        names = ("source_vocabulary.json", "target_vocabulary.json")
    pieces = [read_json(translator_folder / it) for it in names]
    models = next(
        it
        for it in (("source.spm", "target.spm"), ("source.model", "target.model"), ("sentencepiece.bpe.model",) * 2)
        if (folder / it[0]).exists()
    )
    read, write = (side(folder, *it) for it in zip(models, pieces, strict=True))
    end, found = pieces[1].index("</s>"), []
    adds_end = bool(read_json(translator_folder / "config.json").get("add_source_eos"))
    wants_end = "opennmt" not in folder.name and not adds_end
    for call in calls(folder, pieces[0]):
        source = [*call.before, *read.ids(call.text)]
        (result,) = translator.translate_batch(
            [[pieces[0][it] for it in source] + ["</s>"] * wants_end],
            target_prefix=[[pieces[1][it] for it in call.forced]] if call.forced else None,
            beam_size=1,
            max_decoding_length=MAX_LENGTH + len(call.forced) + 1,
            suppress_sequences=[[pieces[1][it]] for it in banned(pieces[1], 0)],
            return_end_token=True,
        )
        ids = [pieces[1].index(it) for it in result.hypotheses[0]][len(call.forced) :]
        found.append(case(call, ids, end, write))
    return found


def archive(folder: Path) -> list[dict[str, Any]]:
    """Greedy translations of Marian's archive by CTranslate2, with Marian's epsilon; see `make.marian_archive`."""
    with tempfile.TemporaryDirectory() as name:
        path = str(folder / "vocab.yml")
        MarianConverter(str(folder / "model.npz"), [path, path]).convert(name, force=True)
        config = Path(name, "config.json")
        config.write_text(json.dumps(read_json(config) | {"layer_norm_epsilon": 1e-6}))
        return translated(folder, Path(name))


def case(call: Call, ids: list[int], end: int, write: Side) -> dict[str, Any]:
    ended = end in ids[: MAX_LENGTH + 1]
    ids = ids[: ids.index(end)] if end in ids else ids
    ids = ids[:MAX_LENGTH]
    return {
        "source": call.source,
        "target": call.target,
        "text": call.text,
        "ids": ids,
        "ended": ended,
        "translation": write.text(ids),
    }


def chosen(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Translations of different directions, lengths and ids, as far as there are some, in the order of the texts."""
    seen: dict[str, int] = {}

    def novelty(case: dict[str, Any]) -> tuple[int, ...]:
        keys = (case["source"] + case["target"], f"{case['ended']} {len(case['ids'])}", str(case["ids"]))
        counts = [seen.get(it, 0) for it in keys]
        return (*counts[::-1], -len(set(case["ids"])))

    kept: list[dict[str, Any]] = []
    while len(kept) < TEXTS:
        best = min((it for it in cases if it not in kept), key=novelty)
        kept.append(best)
        for key in (best["source"] + best["target"], f"{best['ended']} {len(best['ids'])}", str(best["ids"])):
            seen[key] = seen.get(key, 0) + 1
    return [it for it in cases if it in kept]


def main(folder: Path, output: Path) -> None:
    """Translate with all checkpoints."""
    torch.set_num_threads(1)
    found = {}
    for place in sorted(folder.iterdir()):
        if place.name == "marian-toy":
            continue  # no other program computes Marian's positions
        if place.name == "marian-pre-norm":
            found[place.name] = archive(place)
        elif (place / "model.bin").exists():
            found[place.name] = translated(place, place)
        else:
            found[place.name] = hugging_face(place)
        found[place.name] = chosen(found[place.name])
        print(
            place.name,
            len({str(it["ids"]) for it in found[place.name]}),
            [len(it["ids"]) for it in found[place.name]],
            sum(it["ended"] for it in found[place.name]),
        )
    lines = [f"{json.dumps(name)}: [\n" + ",\n".join(map(json.dumps, cases)) + "\n]" for name, cases in found.items()]
    output.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
