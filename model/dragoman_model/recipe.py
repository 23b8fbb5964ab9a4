"""A recipe: everything that decides a training run, read from one TOML file and checked before anything is done."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dragoman_model.config import ModelConfig
from dragoman_model.parts import with_parts
from dragoman_model.settings import apply_override, build, check, without_absent
from dragoman_service.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Corpus:
    """Parallel text: a TSV file, or a pair of files whose lines correspond. `.gz`, `.bz2` and `.xz` are unpacked."""

    path: str
    """The TSV file, or the source side of a pair of files; relative to the data folder."""
    target_path: str | None = None
    """The target side of a pair of files; None for a TSV file."""
    source_column: int = 0
    """TSV column of the source text, from 0."""
    target_column: int = 1
    """TSV column of the target text."""
    where_column: int | None = None
    """TSV column that tells which lines to take; None takes all."""
    where: str = ""
    """The value that `where_column` must have. A recipe may list several, which become a corpus each."""
    weight: float = 1.0
    """How often each pair is seen in an epoch; 0.5 draws another half of the corpus every time."""
    limit: int | None = None
    """Take so many pairs at most, drawn at random from the cleaned corpus."""
    source_language: str | None = None
    """ISO 639-1 code, where it is another than that of the data."""
    target_language: str | None = None
    """Likewise. With several target languages, a tag tells the model into which to translate."""

    def __post_init__(self) -> None:
        for name in ("source_column", "target_column", "where_column"):
            column = getattr(self, name)
            check(f"corpus.{name}", column, column is None or column >= 0, "0 or more")
        check("corpus.weight", self.weight, 0 < self.weight <= 1000, "above 0, at most 1000")
        check("corpus.limit", self.limit, self.limit is None or self.limit >= 1, "1 or more")

    @property
    def name(self) -> str:
        """How reports call this corpus."""
        return self.where or Path(self.path).name


@dataclass(frozen=True, slots=True)
class Cleaning:
    """Which pairs are dropped from training text."""

    max_characters: int = 500
    """On either side."""
    max_ratio: float = 2.5
    """Of the longer side's characters to the shorter's, 10 added to both so that short pairs may differ."""
    min_script_share: float = 0.5
    """Of letters that must be in a script that the language is written in."""
    drop_duplicates: bool = True
    """Keep a pair once per corpus."""
    drop_copies: bool = True
    """Drop pairs whose sides are equal and longer than one word: usually untranslated text."""

    def __post_init__(self) -> None:
        check("data.cleaning.max_characters", self.max_characters, self.max_characters >= 1, "1 or more")
        check("data.cleaning.max_ratio", self.max_ratio, self.max_ratio >= 1, "1 or more")
        check("data.cleaning.min_script_share", self.min_script_share, 0 <= self.min_script_share <= 1, "0 to 1")


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Pairs made from others and added to them, for what collections of text lack; see `augment`.

    Each field but `numbers` is a share: 0.05 adds a twentieth of every corpus again in the changed form.
    """

    lower: float = 0.0
    """The source without capitals, the target as it is."""
    unpunctuated: float = 0.0
    """Both sides without the punctuation at their ends."""
    joined: float = 0.0
    """Two or three pairs as one."""
    swapped: float = 0.0
    """Names that both sides have, replaced by others or by addresses on both."""
    numbers: float = 0.0
    """So many times each pair that has numbers or times of day on both sides, with others as either language writes
    them. They are too few for a share."""

    def __post_init__(self) -> None:
        for name in ("lower", "unpunctuated", "joined", "swapped"):
            share = getattr(self, name)
            check(f"data.augmentation.{name}", share, 0 <= share <= 1, "0 to 1")
        check("data.augmentation.numbers", self.numbers, 0 <= self.numbers <= 20, "0 to 20")

    @property
    def adds_anything(self) -> bool:
        """Whether any of it is on."""
        return any(dataclasses.astuple(self))


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    """How the SentencePiece model is trained."""

    vocab_size: int = 8000
    """Subwords, the 4 special ones and 256 bytes included."""
    algorithm: Literal["bpe", "unigram"] = "bpe"
    """Byte-pair encoding (Sennrich et al. 2016) or a unigram language model (Kudo 2018)."""
    character_coverage: float = 0.9995
    """Share of the text's characters that get a subword of their own; the rest are spelt in bytes."""
    sample_sentences: int = 1_000_000
    """Lines of text, both sides counted, to train on at most."""
    bpe_dropout: float = 0.0
    """Probability that a merge is passed over when training text is segmented, anew in every epoch (Provilkov et al.
    2020); the paper takes 0.1. Validation text and what is served are always segmented without."""

    def __post_init__(self) -> None:
        check("tokenizer.vocab_size", self.vocab_size, self.vocab_size > 260, "more than 260: 256 bytes, 4 special ids")
        coverage = self.character_coverage
        check("tokenizer.character_coverage", coverage, 0 < coverage <= 1, "above 0, at most 1")
        check("tokenizer.sample_sentences", self.sample_sentences, self.sample_sentences >= 1, "1 or more")
        check("tokenizer.bpe_dropout", self.bpe_dropout, 0 <= self.bpe_dropout < 1, "0 up to, not including, 1")
        merges = self.algorithm == "bpe" or not self.bpe_dropout
        check("tokenizer.bpe_dropout", self.bpe_dropout, merges, f"0 with algorithm {self.algorithm!r}")


@dataclass(frozen=True, slots=True)
class Data:
    """What is learned from, and what progress is measured on."""

    source_language: str
    """ISO 639-1 code."""
    target_language: str
    """ISO 639-1 code."""
    train: tuple[Corpus, ...]
    """Corpora to learn from."""
    validation: tuple[Corpus, ...]
    """Corpora to measure on, each by itself; never learned from."""
    validation_limit: int = 500
    """Take so many pairs of each, from the start."""
    cleaning: Cleaning = field(default_factory=Cleaning)
    augmentation: Augmentation = field(default_factory=Augmentation)
    held_out: tuple[str, ...] = ()
    """Text files, in either language: training pairs with a side that stands in one of them, or in the validation text,
    are dropped."""
    max_tokens: int = 100
    """Pairs longer than this, in subwords on either side with the end of the sentence, are dropped. It becomes the
    limit in service: nothing longer has been learned."""

    def languages(self, corpus: Corpus) -> tuple[str, str]:
        """Of a corpus: source and target."""
        return corpus.source_language or self.source_language, corpus.target_language or self.target_language

    @property
    def language_pairs(self) -> tuple[tuple[str, str], ...]:
        """All that is learned, (source, target), the data's own first."""
        own = (self.source_language, self.target_language)
        learned = dict.fromkeys(self.languages(corpus) for corpus in self.train)
        return tuple(sorted(learned, key=lambda pair: pair != own))

    @property
    def target_tags(self) -> tuple[str, ...]:
        """The languages that need a tag: all target languages, if there are several."""
        targets = sorted({target for _, target in self.language_pairs})
        return tuple(targets) if len(targets) > 1 else ()

    def __post_init__(self) -> None:
        shown = ", ".join("-".join(learned) for learned in self.language_pairs)
        for pair in map(self.languages, self.validation):
            check("data.validation", "-".join(pair), pair in self.language_pairs, f"a pair that is learned: {shown}")
        check("data.validation_limit", self.validation_limit, self.validation_limit >= 1, "1 or more")
        check("data.max_tokens", self.max_tokens, self.max_tokens >= 2, "2 or more")


@dataclass(frozen=True, slots=True)
class Training:
    """The optimiser's settings: section 5 of Vaswani et al. 2017."""

    batch_tokens: int = 4096
    """Padded tokens of a batch on its longer side."""
    accumulate: int = 1
    """Batches whose gradients are added up before an update."""
    max_steps: int = 100_000
    """Updates, unless early stopping comes first."""
    warmup_steps: int = 4000
    """Updates over which the learning rate rises linearly."""
    schedule: Literal["inverse_sqrt", "constant"] = "inverse_sqrt"
    """Of the learning rate behind the warm-up: the paper's, or constant until the cooldown."""
    cooldown_steps: int = 0
    """Updates before `max_steps` over which the learning rate falls linearly to nothing (Hägele et al. 2024): worth a
    lot where the run is short. 0, as in the paper, is off."""
    learning_rate_scale: float = 1.0
    """Factor on the paper's rate, d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5), whose peak is
    (d_model * warmup_steps)**-0.5."""
    label_smoothing: float = 0.1
    """Probability mass spread over the vocabulary."""
    clip_norm: float = 1.0
    """Largest norm of the whole gradient; 0 is off."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of matrix products; parameters, optimiser, loss and normalisation stay in fp32. `auto` takes bf16 where
    it is the faster of the two: on GPUs and on processors with AMX, on AMD's with AVX512_BF16, on Arm's with bf16."""
    validate_every: int = 1000
    """Updates between measuring validation loss and BLEU and writing a checkpoint."""
    patience: int = 10
    """Stop after so many measurements without a better BLEU; 0 is off."""
    average_checkpoints: int = 5
    """Checkpoints kept, and averaged at the end (section 6.1)."""
    seed: int = 1
    """Of initialisation, order of the text and dropout."""

    def __post_init__(self) -> None:
        counts = ("batch_tokens", "accumulate", "max_steps", "warmup_steps", "validate_every", "average_checkpoints")
        for name in counts:
            check(f"training.{name}", getattr(self, name), getattr(self, name) >= 1, "1 or more")
        for name in ("patience", "clip_norm", "seed", "cooldown_steps"):
            check(f"training.{name}", getattr(self, name), getattr(self, name) >= 0, "0 or more")
        scale, smoothing = self.learning_rate_scale, self.label_smoothing
        check("training.learning_rate_scale", scale, 0 < scale < float("inf"), "above 0")
        check("training.label_smoothing", smoothing, 0 <= smoothing < 1, "0 up to, not including, 1")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training run."""

    model: ModelConfig
    tokenizer: TokenizerConfig
    data: Data
    training: Training

    def to_json(self) -> dict[str, Any]:
        """As nested JSON-ready values, to be kept with the run."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, settings: dict[str, Any]) -> Recipe:
        """Read back what `to_json` gave, also that of an older version: fields that it lacks have their defaults.

        Raises:
            InvalidInput: a field that there is not, or a value that is not allowed.
        """
        return build(cls, without_absent(settings), "recipe")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: TOML file with the tables `model`, `tokenizer`, `data` and `training`.
        overrides: `table.field=value`, the value in TOML; a bare word is taken as text.

    Raises:
        InvalidInput: names the table and field that is missing, unknown or has a value that is not allowed.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput("recipe", str(path), f"a readable TOML file ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("recipe", str(path), f"valid TOML ({error})") from error
    for override in overrides:
        apply_override(settings, override)
    return parse_recipe(settings)


def parse_recipe(settings: dict[str, Any]) -> Recipe:
    """Build a recipe from the tables of a TOML file; see `load_recipe`."""
    unknown = set(settings) - {"model", "tokenizer", "data", "training"}
    if unknown:
        raise InvalidInput("recipe", ", ".join(sorted(unknown)), "the tables model, tokenizer, data, training")
    tokenizer = build(TokenizerConfig, settings.get("tokenizer", {}), "tokenizer")
    training = build(Training, settings.get("training", {}), "training")
    data = build(Data, with_parts(settings.get("data", {})), "data")
    model = _model(settings.get("model", {}), tokenizer)
    allowed = f"at most model.max_positions, {model.max_positions}"
    check("data.max_tokens", data.max_tokens, data.max_tokens <= model.max_positions, allowed)
    return Recipe(model, tokenizer, data, training)


def _model(settings: Any, tokenizer: TokenizerConfig) -> ModelConfig:
    if not isinstance(settings, dict):
        raise InvalidInput("model", settings, "a table")
    if "vocab_size" in settings:
        raise InvalidInput("model.vocab_size", settings["vocab_size"], "tokenizer.vocab_size, which decides it")
    return ModelConfig.from_settings({"preset": "base", **settings, "vocab_size": tokenizer.vocab_size})
