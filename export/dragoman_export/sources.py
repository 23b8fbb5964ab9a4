"""Which source sentences an export takes: to verify with, to calibrate with, and to keep as golden ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dragoman_export.sentences import BUILT_IN
from dragoman_model.checkpoint import Checkpoint
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.errors import InvalidInput


class Source(NamedTuple):
    """A source sentence for one target language."""

    text: str
    ids: tuple[int, ...]
    """What the model reads of it."""


class Sources:
    """The sentences that a model can take. Several pairs of languages take turns, so that the first few are of all."""

    def __init__(self, tokenizer: Tokenizer, language_pairs: Sequence[tuple[str, str]], max_tokens: int) -> None:
        """`max_tokens` are those of a source at most, its tag and its end included."""
        self._tokenizer = tokenizer
        self._pairs = language_pairs
        self._room = max_tokens - tokenizer.source_overhead
        self.languages = list(dict.fromkeys(source for source, _ in language_pairs))
        """Source languages."""

    @classmethod
    def of(cls, checkpoint: Checkpoint, max_tokens: int) -> Sources:
        """Those of a checkpoint."""
        return cls(checkpoint.tokenizer, checkpoint.config.language_pairs, max_tokens)

    def read(self, path: Path, field: str) -> list[Source]:
        """The sentences of a file, one a line, for every target language; those that are too long are left out.

        Raises:
            InvalidInput: the file cannot be read, or there are none.
        """
        texts = self._fitting(read_text(path, field).splitlines())
        if not texts:
            raise InvalidInput(field, str(path), f"at least one sentence of at most {self._room} subwords")
        targets = dict.fromkeys(target for _, target in self._pairs)
        return [self._source(text, target) for text in texts for target in targets]

    def golden(self, given: Path | Mapping[str, Path] | None, sentences: Path | None) -> list[Source]:
        """The sentences to choose golden ones from: each in its own language, for every language that it goes into.

        Args:
            given: A file of sentences, one a line; or source language -> such a file. Languages without one take
                those of `sentences` if there is but one source language, or else the built-in ones.
            sentences: See `read`.

        Raises:
            InvalidInput: a language has none, or a line is not allowed.
        """
        if given is None and sentences is not None and len(self.languages) == 1:
            return self.read(sentences, "sentences")
        files = self._by_language(given)
        texts = {
            language: self._lines(files[language]) if language in files else self._built_in(language)
            for language in self.languages
        }
        most = max(map(len, texts.values()))
        return [
            self._source(texts[source][place], target)
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
                allowed = f"LANGUAGE=FILE, as the model reads several languages: {known}"
                raise InvalidInput("golden", str(given), allowed)
            return {self.languages[0]: given}
        for language in given:
            if language not in self.languages:
                raise InvalidInput("golden", language, f"a source language of the model: {known}")
        return given

    def _built_in(self, language: str) -> list[str]:
        texts = BUILT_IN.get(language.partition("-")[0])
        if texts is None:
            option = "--golden FILE" if len(self.languages) == 1 else f"--golden {language}=FILE"
            allowed = (
                f"sentences in the source language {language}, one a line, by {option}; "
                f"there are built-in ones for {', '.join(sorted(BUILT_IN))} only"
            )
            raise InvalidInput("golden", None, allowed)
        fitting = self._fitting(texts)
        if not fitting:
            raise InvalidInput(
                "golden", "the built-in ones", f"at least one sentence of at most {self._room} subwords, by --golden"
            )
        return fitting

    def _lines(self, path: Path) -> list[str]:
        """All lines of a file; unlike those of `read`, each must do, for they say what the bundle must give."""
        lines = read_text(path, "golden").split("\n")
        if lines[-1] == "":
            lines.pop()  # what ends with a line break has no line behind it
        lines = [line.removesuffix("\r") for line in lines]
        if not lines:
            raise InvalidInput("golden", str(path), "a file with at least one sentence, one a line")
        for number, line in enumerate(lines, start=1):
            count = len(self._tokenizer.encode(line))
            if not 1 <= count <= self._room:
                allowed = f"a sentence of 1 to {self._room} subwords; this line has {count}"
                raise InvalidInput(f"golden, {path}, line {number}", line, allowed)
        return list(dict.fromkeys(lines))

    def _fitting(self, texts: Sequence[str]) -> list[str]:
        return [text for text in dict.fromkeys(texts) if 0 < len(self._tokenizer.encode(text)) <= self._room]

    def _source(self, text: str, target: str) -> Source:
        return Source(text, self._tokenizer.source(self._tokenizer.encode(text), target))


def read_text(path: Path, field: str) -> str:
    """The contents of a file that somebody named.

    Raises:
        InvalidInput: it cannot be read, or is not UTF-8: then with the line.
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
