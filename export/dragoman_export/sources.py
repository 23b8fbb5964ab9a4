"""The source sentences of an export: for verification, for calibration, and as golden sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dragoman_export.sentences import BUILT_IN, CALIBRATION, built_in_language
from dragoman_service.bundle.languages import Languages
from dragoman_service.bundle.tokenizers.protocol import Tokenizer
from dragoman_service.errors import InvalidInput

MOST_PAIRS = 12
"""Language pairs of a model with sets of languages that an export translates."""


MOST_CALIBRATED = 256
"""Sentences of a calibration, if there are enough of them for every pair of languages."""


class Source(NamedTuple):
    """A source sentence for one target language."""

    text: str
    ids: tuple[int, ...]
    """Its token ids, with the tag and the end of the sentence."""
    forced: tuple[int, ...] = ()
    """Target ids that the decoder is fed before any is chosen."""
    languages: tuple[str, ...] = ()
    """Its language and that of the translation."""


class Sources:
    """Reads source sentences for a model. The language pairs alternate, so that the first sentences cover all pairs."""

    def __init__(self, tokenizer: Tokenizer, language_pairs: Sequence[tuple[str, str]], max_tokens: int) -> None:
        """`max_tokens` is the largest number of tokens of a source, its tag and the end of the sentence included."""
        self._tokenizer = tokenizer
        self._pairs = language_pairs
        self._room = max_tokens - tokenizer.source_overhead
        self.languages = list(dict.fromkeys(source for source, _ in language_pairs))
        """The source languages of the model."""

    def read(self, path: Path, field: str) -> list[Source]:
        """Read a file of sentences, one per line. Each is returned for every target language.

        If these were more than `MOST_CALIBRATED`, each is returned for one target language, which take turns.
        Sentences that are too long are left out.

        Raises:
            InvalidInput: the file cannot be read, or no sentence is left.
        """
        texts = self._fitting(read_text(path, field).splitlines())
        if not texts:
            raise InvalidInput(field, str(path), f"at least one sentence of at most {self._room} subwords")
        targets: dict[str, str] = {}
        for source, target in self._pairs:
            targets.setdefault(target, source)
        pairs = [(source, target) for target, source in targets.items()]
        if len(texts) * len(pairs) > MOST_CALIBRATED:
            return [self._source(text, *pairs[place % len(pairs)]) for place, text in enumerate(texts)]
        return [self._source(text, *pair) for text in texts for pair in pairs]

    def typical(self) -> list[Source]:
        """Built-in sentences of all kinds, in the source languages that have some, for every target language.

        They are at most about `MOST_CALIBRATED`, evenly taken from all.
        """
        found: list[Source] = []
        every = math.ceil(len(self._pairs) * len(CALIBRATION["en"]) / MOST_CALIBRATED)
        for number, (source, target) in enumerate(self._pairs):
            language = built_in_language(source)
            texts = self._fitting(CALIBRATION[language])[number % every :: every] if language else []
            found += [self._source(text, source, target) for text in texts]
        return found

    def golden(self, given: Path | Mapping[str, Path] | None, sentences: Path | None) -> list[Source]:
        """The sentences to choose golden sentences from, each for every target language of its source language.

        Args:
            given: A file of sentences, one per line, or source language -> such a file. A language without a file has
                the built-in ones.
            sentences: A file for `read`, which is taken if nothing is given.

        Raises:
            InvalidInput: a language has no sentences, or a line is not allowed.
        """
        if given is None and sentences is not None:
            return self.read(sentences, "sentences")
        files = self._by_language(given)
        texts = {
            language: self._lines(files[language]) if language in files else self._built_in(language)
            for language in self.languages
        }
        most = max(map(len, texts.values()))
        return [
            self._source(texts[source][place], source, target)
            for place in range(most)
            for source, target in self._pairs
            if place < len(texts[source])
        ]

    def _by_language(self, given: Path | Mapping[str, Path] | None) -> Mapping[str, Path]:
        if given is None:
            return {}
        known = ", ".join(self.languages)
        if isinstance(given, Path):
            if len(self.languages) > 1:
                allowed = f"LANGUAGE=FILE, as the model has several languages: {known}"
                raise InvalidInput("golden", str(given), allowed)
            return {self.languages[0]: given}
        for language in given:
            if language not in self.languages:
                raise InvalidInput("golden", language, f"a source language of the model: {known}")
        return given

    def _built_in(self, language: str) -> list[str]:
        found = built_in_language(language)
        if found is None:
            option = "--golden FILE" if len(self.languages) == 1 else f"--golden {language}=FILE"
            allowed = (
                f"sentences in the source language {language}, one per line, with {option}; "
                f"there are built-in ones for {', '.join(sorted(BUILT_IN))} only"
            )
            raise InvalidInput("golden", None, allowed)
        fitting = self._fitting(BUILT_IN[found])
        if not fitting:
            raise InvalidInput(
                "golden", "the built-in ones", f"at least one sentence of at most {self._room} subwords, with --golden"
            )
        return fitting

    def _lines(self, path: Path) -> list[str]:
        """All lines of a file. In contrast to `read`, a line that is empty or too long is an error."""
        lines = read_text(path, "golden").split("\n")
        if lines[-1] == "":
            lines.pop()  # the file ends with a line break
        lines = [line.removesuffix("\r") for line in lines]
        if not lines:
            raise InvalidInput("golden", str(path), "a file with at least one sentence, one per line")
        for number, line in enumerate(lines, start=1):
            count = len(self._tokenizer.encode(line))
            if not 1 <= count <= self._room:
                allowed = f"a sentence of 1 to {self._room} subwords; this line has {count}"
                raise InvalidInput(f"golden, {path}, line {number}", line, allowed)
        return list(dict.fromkeys(lines))

    def _fitting(self, texts: Sequence[str]) -> list[str]:
        return [text for text in dict.fromkeys(texts) if 0 < len(self._tokenizer.encode(text)) <= self._room]

    def _source(self, text: str, source: str, target: str) -> Source:
        tokenizer = self._tokenizer
        ids = tokenizer.source(tokenizer.encode(text), source, target)
        return Source(text, ids, tokenizer.forced(target), (source, target))


def read_text(path: Path, field: str) -> str:
    """Read a text file.

    Raises:
        InvalidInput: the file cannot be read, or is not UTF-8. In the latter case the message names the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(field, str(path), f"a readable UTF-8 file ({error})") from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInput(field, str(path), f"a readable UTF-8 file (line {line}: {error})") from error


def sample_pairs(languages: Languages) -> list[tuple[str, str]]:
    """The pairs of a model; of sets of languages, at most `MOST_PAIRS`: sources with built-in sentences, all over both.

    Models such as NLLB have 40,602 pairs, whose sentences all pass the same graphs.
    """
    if len(languages) <= MOST_PAIRS or not languages.sources:
        return list(languages.all_pairs())
    sources = [it for it in languages.all_sources if built_in_language(it)] or list(languages.all_sources)
    targets = languages.all_targets
    pairs: dict[tuple[str, str], None] = {}
    for number in range(4 * MOST_PAIRS):
        source = sources[number * len(sources) // MOST_PAIRS % len(sources)]
        target = targets[(number * len(targets) // MOST_PAIRS + number) % len(targets)]
        if languages.translates(source, target) and len(pairs) < MOST_PAIRS:
            pairs[source, target] = None
    return list(pairs)
