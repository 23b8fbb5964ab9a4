"""What the cache of tokenised text holds, pinned: a change of it needs another FORMAT, and nothing raises that."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from dragoman_model.data.entry_writer import FORMAT
from dragoman_model.data.mixture import read_parts
from dragoman_model.data.prepare import prepare
from support.tiny import tokenizer_model
from support.tiny_model import make_recipe

PINNED_FORMAT = 3
PINNED_TEXT = "15ed005ce3b4441e"
PINNED_FILES = "1593570ed1054c0d"
PINNED_WITH = "0.2.3"
"""The version of SentencePiece, whose draws and whose handling of text may differ in another."""

CHANGED = (
    "the cache would hold something else for the same text: raise FORMAT in entry_writer.py, or old entries are taken "
    "for what this code makes; then set PINNED_FORMAT to it, and this to {!r}"
)

LINES = (
    "Tom lives in Boston.\tTom wohnt in Boston.",
    "Tom lives in Boston.\tTom wohnt in Boston.",
    "I know Tom, and Mary does too.\tIch kenne Tom, und Mary auch.",
    "She paid 1,250.5 dollars at 3 p.m.!\tSie zahlte um 15 Uhr 1.250,5 Dollar!",
    "\tleer",
    "not translated\tnot translated",
    "a much longer text than the other side has\tkurz",
    "good evening\tдобрый вечер",
    "This must not be learned\tDas darf nicht gelernt werden",
    "THE STREET IS LONG\tDIE STRASSE IST LANG, SEHR LANG",
    "Where is the station?\tWo ist der Bahnhof?",
    "a dog sees " + "the cat " * 30 + "\tein Hund sieht " + "die Katze " * 30,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.tsv").write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    (tmp_path / "valid.en").write_text("This must not be learned!\nLong street\n", encoding="utf-8")
    (tmp_path / "valid.de").write_text(
        "Das darf nicht gelernt werden!\nDie Straße ist lang, sehr lang.\n", encoding="utf-8"
    )
    return tmp_path


RECIPE = make_recipe(
    tokenizer={"bpe_dropout": 0.2},
    data={
        "train": [{"path": "train.tsv", "weight": 1.5}, {"path": "train.tsv", "limit": 3}],
        "cleaning": {},
        "augmentation": dict.fromkeys(("lower", "unpunctuated", "joined", "swapped"), 0.8) | {"numbers": 2},
    },
)


def test_text_is_cleaned_and_added_to_as_before(folder: Path) -> None:
    parts = [[part.summary(), list(part.pairs)] for part in read_parts(RECIPE, folder)]
    found = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    assert (FORMAT, found) == (PINNED_FORMAT, PINNED_TEXT), CHANGED.format(found)


@pytest.mark.skipif(sentencepiece.__version__ != PINNED_WITH, reason=f"pinned with SentencePiece {PINNED_WITH}")
def test_files_are_as_before(folder: Path) -> None:
    """Of the entry, and of an epoch with BPE-dropout."""
    prepare(RECIPE, folder, tokenizer_model(model_type="bpe"), folder / "cache").epoch(1)
    digest = hashlib.sha256()
    for entry in sorted(
        (path for path in (folder / "cache").iterdir() if path.is_dir()), key=lambda path: "-" in path.name
    ):
        described = json.loads((entry / "cache.json").read_text(encoding="utf-8"))
        stable = {name: described[name] for name in ("format", "pairs", "details")}
        digest.update(json.dumps([sorted(described), stable], sort_keys=True).encode())
        for path in sorted(entry.glob("*.npy")):
            array = np.load(path)
            digest.update(f"{path.name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    found = digest.hexdigest()[:16]
    assert (FORMAT, found) == (PINNED_FORMAT, PINNED_FILES), CHANGED.format(found)
