"""A bundled model in this process, without engine and server, and pairs of sentences that it was not trained with."""

from __future__ import annotations

import lzma
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.lanes import one_lane
from dragoman_service.engine.request import DecodingOptions, Hypothesis, Request
from dragoman_service.engine.settings import EngineSettings
from dragoman_service.repository.loading import describe
from dragoman_service.repository.models import Route, ServedModel
from dragoman_service.repository.settings import ModelSettings
from dragoman_service.runtime.golden import normalisation_of, translate
from dragoman_service.runtime.runner import OrtRunner
from dragoman_service.text.segmenter import EncodedPiece
from dragoman_service.translation.prepare import PreparedText, prepare

SETS = ("tatoeba-valid", "dialogue-valid", "newstest2013")
ROWS = 64


class Model:
    """Prepares texts as a server does, and translates their pieces by greedy search."""

    def __init__(self, path: Path) -> None:
        self.bundle = Bundle.load(path)
        self.manifest = self.bundle.manifest
        self.source, self.target = self.manifest.languages.pairs[0]
        self._runner = OrtRunner(self.bundle, max_rows=ROWS, threads=2, prove=False)
        description = describe(self.bundle, one_lane(EngineSettings()), "cpu", ModelSettings())
        nothing: Any = None  # requests go to the runner
        self.route = Route(ServedModel(description, self.bundle.tokenizer, nothing), self.source, self.target)

    def prepared(self, text: str) -> PreparedText:
        """The text as a server prepares it."""
        return prepare(text, "", self.route, DecodingOptions(), lambda piece: None)

    def translated(self, pieces: Sequence[EncodedPiece]) -> list[Hypothesis]:
        """The translation of each piece, with its alignment."""
        tokenizer = self.bundle.tokenizer
        requests = [
            Request(
                id=number,
                source=tokenizer.source(piece.tokens, self.source, self.target),
                max_length=min(self.manifest.limits.max_target_tokens, 3 * len(piece.tokens) + 8),
                options=DecodingOptions(never_empty=True),
                forced=tokenizer.forced(self.target),
                normalisation=normalisation_of(self.manifest),
                alignments=True,
            )
            for number, piece in enumerate(pieces)
        ]
        size = self.manifest.vocab_size
        return translate(self._runner, requests, ROWS, self.manifest.special_ids, vocab_size=size)

    def text(self, hypothesis: Hypothesis) -> str:
        """What a hypothesis says."""
        return self.bundle.tokenizer.decode(hypothesis.tokens)

    def development_pairs(self, data: Path) -> Iterator[tuple[str, str]]:
        """Source and reference of the development sets."""
        for name in SETS:
            sides = [(data / f"dev/{name}.en-de.{it}").read_text("utf-8") for it in (self.source, self.target)]
            yield from zip(*(side.splitlines() for side in sides), strict=True)

    def unseen_pairs(self, data: Path) -> Iterator[tuple[str, str]]:
        """Source and reference of corpora that the model was not trained with, of 20 to 300 characters, shuffled."""
        seen = {corpus["corpus"] for corpus in self.manifest.training["data"]}
        found = []
        with lzma.open(data / "train/en-de.tsv.xz", "rt", encoding="utf-8") as file:
            for line in file:
                english, german, corpus, _ = line.rstrip("\n").split("\t")
                if corpus not in seen and 20 <= len(english) <= 300 and not corpus.startswith("ding"):
                    found.append((english, german) if self.source == "en" else (german, english))
        random.Random(1).shuffle(found)
        yield from found
