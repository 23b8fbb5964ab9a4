"""Random sentences and a tokenizer of few subwords, small enough to be made in every test run."""

from __future__ import annotations

import functools
import io
import random
from typing import Any

import sentencepiece

_ENGLISH = "the a cat dog house tree sees runs reads green old quick small book river under over and not in on"
_GERMAN = "der die das ein Haus Hund Katze Baum sieht läuft liest grün alt schnell klein Buch Fluss unter über und"
WORDS = f"{_ENGLISH} {_GERMAN}".split()


def sentences(count: int, seed: int = 0) -> list[str]:
    """Random strings of words, 1 to 12 words long."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) + rng.choice(".!?") for _ in range(count)]


def tokenizer_model(**options: Any) -> bytes:
    """A serialised SentencePiece model of about 350 subwords; `options` override those of the trainer."""
    return _tokenizer_model(tuple(sorted(options.items())))


@functools.cache
def _tokenizer_model(options: tuple[tuple[str, Any], ...]) -> bytes:
    model = io.BytesIO()
    settings = {"byte_fallback": True, "pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, **dict(options)}
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences(400)),
        model_writer=model,
        vocab_size=350,
        hard_vocab_limit=False,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
        **settings,
    )
    return model.getvalue()
