"""Scores of translations: BLEU and chrF of sacreBLEU (Post 2018), with their signatures."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from tqdm import tqdm

from dragoman_model.data.corpus import Pair, read_pairs
from dragoman_model.evaluation.systems import System
from dragoman_model.recipe import Corpus
from dragoman_service.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class TestSet:
    """A file of sentences and a file of their translations, line by line."""

    source: Path
    target: Path
    pairs: tuple[Pair, ...]

    __test__ = False
    """Keeps pytest from collecting this class, whose name begins with Test."""


@dataclass(frozen=True, slots=True)
class Score:
    """A score, and the sacreBLEU signature of its settings."""

    value: float
    signature: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The translations of a test set by a system, and their scores."""

    test_set: TestSet
    translations: tuple[str, ...]
    bleu: Score
    chrf: Score
    seconds: float
    """Wall-clock time of all translations."""

    def to_json(self) -> list[dict[str, Any]]:
        """The scores in the format of a bundle's manifest."""
        return [
            {
                "test_set": self.test_set.source.name,
                "metric": metric,
                "value": score.value,
                "signature": score.signature,
            }
            for metric, score in (("BLEU", self.bleu), ("chrF", self.chrf))
        ]

    @property
    def sentences_per_second(self) -> float:
        """Sentences per second of wall-clock time."""
        return len(self.translations) / max(self.seconds, 1e-9)


def read_test_sets(sources: Sequence[Path], targets: Sequence[Path]) -> list[TestSet]:
    """Read all test sets, so that an error in a file is found before the first translation.

    Raises:
        InvalidInput: the numbers of source and target files differ; a file is missing, is empty or is not UTF-8; or the
            two files of a test set differ in length.
    """
    if len(sources) != len(targets):
        raise InvalidInput("--target", f"{len(targets)} files", f"{len(sources)}, one for each --source")
    return [_read_test_set(source, target) for source, target in zip(sources, targets, strict=True)]


def evaluate(system: System, test_set: TestSet, *, lowercase: bool = False, tokenize: str = "13a") -> Evaluation:
    """Translate a test set and score the translations. Shows a progress bar if standard error is a terminal.

    Args:
        system: The system that translates.
        test_set: The sentences and their references.
        lowercase: Ignore upper and lower case.
        tokenize: sacreBLEU's tokenizer for BLEU.

    Raises:
        InvalidInput: there is no such tokenizer.
    """
    if tokenize not in BLEU.TOKENIZERS:
        raise InvalidInput("--tokenize", tokenize, ", ".join(sorted(BLEU.TOKENIZERS)))
    sources = [source for source, _ in test_set.pairs]
    started = time.perf_counter()
    name = test_set.source.name
    with tqdm(total=len(sources), unit=" sentences", desc=name, file=sys.stderr, disable=None) as bar:
        translations = system.translate(sources, bar.update)
    seconds = time.perf_counter() - started
    references = [[target for _, target in test_set.pairs]]
    bleu, chrf = BLEU(lowercase=lowercase, tokenize=tokenize), CHRF(lowercase=lowercase)
    # The values must be computed before the signatures, which are complete only after scoring.
    bleu_value = bleu.corpus_score(translations, references).score
    chrf_value = chrf.corpus_score(translations, references).score
    return Evaluation(
        test_set,
        tuple(translations),
        Score(bleu_value, str(bleu.get_signature())),
        Score(chrf_value, str(chrf.get_signature())),
        seconds,
    )


def table(evaluations: Sequence[Evaluation]) -> str:
    """The scores as text: a line for each test set, then the signatures of BLEU and chrF."""
    width = max(len("test set"), *(len(evaluation.test_set.source.name) for evaluation in evaluations))
    lines = [f"{'test set':{width}}  sentences    BLEU    chrF   seconds  sentences/s"]
    lines += [
        f"{e.test_set.source.name:{width}}  {len(e.translations):9,}  {e.bleu.value:6.2f}  {e.chrf.value:6.2f}  "
        f"{e.seconds:8.1f}  {e.sentences_per_second:11.1f}"
        for e in evaluations
    ]
    lines += sorted({f"BLEU: {e.bleu.signature}" for e in evaluations})
    lines += sorted({f"chrF: {e.chrf.signature}" for e in evaluations})
    return "\n".join(lines)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write one line for each text. A line break in a text becomes a space, so that the lines still correspond.

    Raises:
        InvalidInput: the file cannot be written.
    """
    try:
        path.write_text("".join(" ".join(line.splitlines()) + "\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise InvalidInput("output", str(path), f"a file that can be written ({error.strerror})") from error


def _read_test_set(source: Path, target: Path) -> TestSet:
    pairs = tuple(read_pairs(Corpus(path=str(source), target_path=str(target)), Path()))
    if not pairs:
        raise InvalidInput("--source", str(source), "a file with at least one line")
    return TestSet(source, target, pairs)
