"""Write a parallel corpus of English and German numbers in words, to try the whole way from text to server with.

    python recipes/numbers/make_corpus.py

writes `train.tsv`, `valid.en`, `valid.de`, `test.en` and `test.de` beside this file. No number is in two of the three.
German writes the units before the tens and all below a million in one word, so this is translation, not copying.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path


def words(text: str) -> list[str]:
    """Words between spaces."""
    return text.split()


ENGLISH_SMALL = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
ENGLISH_TENS = words("twenty thirty forty fifty sixty seventy eighty ninety")
GERMAN_SMALL = words(
    "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
    "achtzehn neunzehn"
)
GERMAN_TENS = words("zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")

FRAMES = (
    ("{}", "{}"),
    ("{}.", "{}."),
    ("The number is {}.", "Die Zahl ist {}."),
    ("I see {} birds.", "Ich sehe {} Vögel."),
    ("We have {} books.", "Wir haben {} Bücher."),
    ("Are there {} houses?", "Gibt es {} Häuser?"),
    ("{} people live here.", "{} Menschen leben hier."),
)
"""Sentences with a place for a number of two or more."""


def english(number: int) -> str:
    """A number from 0 to 999,999 in British words.

    >>> english(342_015)
    'three hundred and forty-two thousand and fifteen'
    """
    if number >= 1000:
        rest = number % 1000
        joint = " and " if 0 < rest < 100 else " "
        return english(number // 1000) + " thousand" + (joint + english(rest) if rest else "")
    if number >= 100:
        return english(number // 100) + " hundred" + (" and " + english(number % 100) if number % 100 else "")
    if number >= 20:
        return ENGLISH_TENS[number // 10 - 2] + ("-" + english(number % 10) if number % 10 else "")
    return ENGLISH_SMALL[number]


def german(number: int) -> str:
    """A number from 0 to 999,999 in German words.

    >>> german(342_015)
    'dreihundertzweiundvierzigtausendfünfzehn'
    """
    word = _german(number)
    return word + "s" if number % 100 == 1 else word  # "ein" within a word, "eins" at its end


def _german(number: int) -> str:
    if number >= 1000:
        return _german(number // 1000) + "tausend" + (_german(number % 1000) if number % 1000 else "")
    if number >= 100:
        return _german(number // 100) + "hundert" + (_german(number % 100) if number % 100 else "")
    if number >= 20:
        return (_german(number % 10) + "und" if number % 10 else "") + GERMAN_TENS[number // 10 - 2]
    return GERMAN_SMALL[number]


def pair(number: int, rng: random.Random) -> tuple[str, str]:
    """A sentence with the number and its translation."""
    source, target = rng.choice(FRAMES if number > 1 else FRAMES[:3])
    texts = source.format(english(number)), target.format(german(number))
    if source.startswith("{") and source != "{}":
        texts = texts[0][0].upper() + texts[0][1:], texts[1][0].upper() + texts[1][1:]
    return texts


def write_corpus(folder: Path, *, train: int = 12_000, held_out: int = 300, seed: int = 1) -> None:
    """Write the files into a folder.

    Args:
        folder: Where to.
        train: Pairs to learn from.
        held_out: Pairs to validate on, and as many to test on.
        seed: Of the draw.
    """
    rng = random.Random(seed)
    small = list(range(1000))  # hardly any of them would be drawn, and everybody tries them first
    drawn = small + rng.sample(range(1000, 1_000_000), train + 2 * held_out - len(small))
    rng.shuffle(drawn)
    pairs = [pair(number, rng) for number in drawn]
    write_pairs(folder, "valid", pairs[:held_out])
    write_pairs(folder, "test", pairs[held_out : 2 * held_out])
    lines = (f"{source}\t{target}\n" for source, target in pairs[2 * held_out :])
    (folder / "train.tsv").write_text("".join(lines), encoding="utf-8")


def write_pairs(folder: Path, name: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Write NAME.en and NAME.de, line by line."""
    for side, language in enumerate(("en", "de")):
        text = "".join(texts[side] + "\n" for texts in pairs)
        (folder / f"{name}.{language}").write_text(text, encoding="utf-8")


def argument_parser() -> argparse.ArgumentParser:
    """What the command line understands."""
    parser = argparse.ArgumentParser(description="Write a corpus of English and German numbers in words.")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent, help="folder (default: that of this file)"
    )
    return parser


def main() -> None:
    """Write the corpus where the arguments say."""
    folder: Path = argument_parser().parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    write_corpus(folder)
    print(f"wrote train.tsv, valid.en, valid.de, test.en and test.de into {folder}")


if __name__ == "__main__":
    main()
