"""Where sentences end: Dragoman's splitter, sentencex, pySBD, BlingFire and spaCy's sentencizer.

    pip install sentencex pysbd blingfire spacy
    python bench/splitting.py --data DATA [--treebanks FOLDER] [--sentences 1000]

The table has the F1 score of the ends of sentences that are inside a paragraph, in percent. The paragraphs are

- sentences of development sets, ten each in a row, of those that end with a mark: `DATA/dev/SET.PAIR.LANGUAGE`;
- treebanks of Universal Dependencies, files `LANGUAGE-NAME.conllu`: paragraphs where the treebank marks them, else ten
  sentences in a row;
- the hard cases of `tests/text/hard_sentences.tsv`, line by line.

A system that does not know a language is given English, and spaCy its rules for any language.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, islice, pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dragoman_service.text.sentences import sentence_ends
from dragoman_service.text.spans import find_spans

ROOT = Path(__file__).parents[1]
SETS = (
    "tatoeba-valid.en-de",
    "newstest2013.en-de",
    "dialogue-valid.en-de",
    "newstest2013.en-fr",
    "tatoeba-valid.en-fr",
    "news-dev.en-ko",
    "tatoeba-valid.en-ko",
)
ENDS = ".!?…。\"”“»'’)"
PER_PARAGRAPH = 10
UNSPACED = ("zh", "ja", "th", "km", "my", "lo")
Paragraph = list[str]
"""Sentences, with the space after each."""
Splitter = Callable[[str], Iterable[str]]


def joined(sentences: Iterable[str], language: str) -> Iterator[Paragraph]:
    """Paragraphs of ten sentences in a row."""
    space = "" if language in UNSPACED else " "
    spaced = iter([sentence + space for sentence in sentences])
    while paragraph := list(islice(spaced, PER_PARAGRAPH)):
        yield paragraph


def development(data: Path, count: int) -> Iterator[tuple[str, str, list[Paragraph]]]:
    """Name, language and paragraphs of each development set."""
    for name in SETS:
        for language in name.rpartition(".")[2].split("-"):
            if language == "en" and not name.endswith("en-de"):
                continue
            lines = (data / "dev" / f"{name}.{language}").read_text("utf-8").splitlines()
            whole = [line.strip() for line in lines if line.strip()[-1:] in ENDS and line.strip()]
            yield f"{name.partition('.')[0]} {language}", language, list(joined(whole[:count], language))


def treebanks(folder: Path, count: int) -> Iterator[tuple[str, str, list[Paragraph]]]:
    """Name, language and paragraphs of each treebank."""
    for path in sorted(folder.glob("*.conllu")):
        language = path.stem.partition("-")[0]
        lines = path.read_text("utf-8").splitlines()
        paragraphs: list[Paragraph] = []
        texts: list[str] = []
        has_paragraphs = any(line.startswith("# newpar") for line in lines)
        for line in lines:
            if line.startswith(("# newpar", "# newdoc")) or not paragraphs:
                paragraphs.append([])
            if line.startswith("# text = "):
                texts.append(line.removeprefix("# text = ").strip())
                paragraphs[-1].append(texts[-1] + " ")
        whole = [text for text in texts if text[-1] in ENDS]
        chosen = (
            [paragraph for paragraph in paragraphs if paragraph] if has_paragraphs else joined(whole[:count], language)
        )
        yield f"UD {path.stem}", language, list(islice(chosen, count))


def hard_cases() -> Iterator[tuple[str, str, list[Paragraph]]]:
    """The hard cases of each language."""
    cases: dict[str, list[Paragraph]] = {}
    for line in (ROOT / "tests" / "text" / "hard_sentences.tsv").read_text("utf-8").splitlines():
        language, text = line.split("\t")
        cases.setdefault(language, []).append(text.split("|"))
    for language in ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "zh", "ja", "ko"):
        yield f"hard {language}", language, cases.pop(language)
    for language, paragraphs in cases.items():
        yield f"hard {language}", language, paragraphs


def ends_of(sentences: Iterable[str]) -> set[int]:
    """The ends of all sentences but the last, as numbers of characters that are no spaces."""
    *ends, _ = accumulate(len("".join(sentence.split())) for sentence in sentences)
    return set(ends) - {0}


def dragoman(language: str) -> Splitter:
    """The ends of sentences alone, without what is copied around them."""

    def split(text: str) -> list[str]:
        cuts = [0, *sentence_ends(text, 0, len(text), language, find_spans(text)), len(text)]
        return [text[begin:end] for begin, end in pairwise(cuts)]

    return split


def sentencex(language: str) -> Splitter:
    import sentencex  # noqa: PLC0415

    return lambda text: sentencex.segment(language, text)


def pysbd(language: str) -> Splitter:
    import pysbd  # noqa: PLC0415
    from pysbd.languages import LANGUAGE_CODES  # noqa: PLC0415

    return pysbd.Segmenter(language if language in LANGUAGE_CODES else "en", clean=False).segment


def blingfire(language: str) -> Splitter:
    import blingfire  # noqa: PLC0415

    return lambda text: blingfire.text_to_sentences(text).split("\n")


def spacy(language: str) -> Splitter:
    import spacy  # noqa: PLC0415

    pipeline = spacy.blank(language if language in ("en", "de", "fr", "es", "it", "pt", "nl", "pl") else "xx")
    pipeline.add_pipe("sentencizer")
    return lambda text: [sentence.text for sentence in pipeline(text).sents]


SYSTEMS = {"Dragoman": dragoman, "sentencex": sentencex, "pySBD": pysbd, "BlingFire": blingfire, "spaCy": spacy}


def f1(split: Splitter, paragraphs: list[Paragraph], name: str, wrong: bool) -> tuple[int, int, int]:
    """Right, found and wanted ends."""
    right = found = wanted = 0
    for paragraph in paragraphs:
        truth, answer = ends_of(paragraph), ends_of(split("".join(paragraph).strip()))
        right, found, wanted = right + len(truth & answer), found + len(answer), wanted + len(truth)
        if wrong and truth != answer:
            letters = "".join("".join(paragraph).split())
            for end in sorted(truth ^ answer):
                print(
                    name,
                    "missed" if end in truth else "added",
                    letters[max(0, end - 30) : end],
                    "|",
                    letters[end : end + 30],
                )
    return right, found, wanted


def score(right: int, found: int, wanted: int) -> float:
    return 200 * right / (found + wanted) if found + wanted else 100.0


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with dev/")
    parser.add_argument("--treebanks", type=Path, help="folder with LANGUAGE-NAME.conllu")
    parser.add_argument("--sentences", type=int, default=1000, help="of each set at most")
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--wrong", action="store_true", help="print the ends that the first system misses or adds")
    return parser


def main() -> None:
    options = argument_parser().parse_args()
    systems = options.systems.split(",")
    sets = [
        *(development(options.data, options.sentences) if options.data else ()),
        *(treebanks(options.treebanks, options.sentences) if options.treebanks else ()),
        *hard_cases(),
    ]
    print(f"| text | ends | {' | '.join(systems)} |\n|{'---|' * (len(systems) + 2)}")
    hard = dict.fromkeys(systems, (0, 0, 0))
    for name, language, paragraphs in sets:
        counts = {
            system: f1(SYSTEMS[system](language), paragraphs, name, options.wrong and system == systems[0])
            for system in systems
        }
        if name.startswith("hard "):
            hard = {system: tuple(map(sum, zip(hard[system], counts[system], strict=True))) for system in systems}
            continue
        scores = [f"{score(*counts[system]):.1f}" for system in systems]
        print(f"| {name} | {counts[systems[0]][2]} | {' | '.join(scores)} |", flush=True)
    print(f"| hard cases | {hard[systems[0]][2]} | {' | '.join(f'{score(*hard[system]):.1f}' for system in systems)} |")
    for system in systems:
        text = " ".join(
            sentence
            for _, language, paragraphs in sets
            if language == "en"
            for paragraph in paragraphs
            for sentence in paragraph
        )[:100_000]
        split, begin = SYSTEMS[system]("en"), time.process_time()
        for _ in split(text):
            pass
        print(
            f"{system}: {time.process_time() - begin:.2f} s of processor time for {len(text):,} characters of English"
        )


if __name__ == "__main__":
    main()
