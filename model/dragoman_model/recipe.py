"""Recipes: all settings of a training run, read from one TOML file. All values are checked when it is read."""

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
    """Parallel text: a TSV file, or two files whose lines correspond. `.gz`, `.bz2` and `.xz` are decompressed."""

    path: str
    """The TSV file, or the source side of two files; relative to the data folder."""
    target_path: str | None = None
    """The target side of two files; None for a TSV file."""
    source_column: int = 0
    """TSV column of the source text, from 0."""
    target_column: int = 1
    """TSV column of the target text."""
    where_column: int | None = None
    """TSV column that selects the lines; None selects all."""
    where: str = ""
    """The value of `where_column` in the selected lines. A recipe may give a list: each item becomes a corpus."""
    weight: float = 1.0
    """How often each pair occurs in an epoch. 0.5 draws half of the corpus, anew for every epoch."""
    limit: int | None = None
    """Largest number of pairs, drawn at random from the cleaned corpus; None: all."""
    source_language: str | None = None
    """ISO 639-1 code; None: that of `Data`."""
    target_language: str | None = None
    """ISO 639-1 code; None: that of `Data`. If a recipe has several target languages, the first token of every source
    is a tag, which names the target language."""

    def __post_init__(self) -> None:
        for name in ("source_column", "target_column", "where_column"):
            column = getattr(self, name)
            check(f"corpus.{name}", column, column is None or column >= 0, "0 or more")
        check("corpus.weight", self.weight, 0 < self.weight <= 1000, "above 0, at most 1000")
        check("corpus.limit", self.limit, self.limit is None or self.limit >= 1, "1 or more")

    @property
    def name(self) -> str:
        """The name of this corpus in reports."""
        return self.where or Path(self.path).name


@dataclass(frozen=True, slots=True)
class Cleaning:
    """The filters of training text. A pair is dropped if a filter does not accept it."""

    max_characters: int = 500
    """Largest number of characters of either side."""
    max_ratio: float = 2.5
    """Largest ratio of the sides' lengths, (longer + 10) / (shorter + 10) characters. The 10 tolerates short pairs."""
    min_script_share: float = 0.5
    """Least share of a side's letters that are in a script of its language."""
    drop_duplicates: bool = True
    """Keep only one of several equal pairs of a corpus."""
    drop_copies: bool = True
    """Drop a pair whose sides are equal and longer than one word. It is usually untranslated text."""

    def __post_init__(self) -> None:
        check("data.cleaning.max_characters", self.max_characters, self.max_characters >= 1, "1 or more")
        check("data.cleaning.max_ratio", self.max_ratio, self.max_ratio >= 1, "1 or more")
        check("data.cleaning.min_script_share", self.min_script_share, 0 <= self.min_script_share <= 1, "0 to 1")


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Changed copies of pairs, which are added to a corpus for kinds of text that it lacks; see `augment`.

    Each field except `numbers` is a share: 0.05 adds changed copies of a twentieth of every corpus.
    """

    lower: float = 0.0
    """Copies with the source in lower case and the target unchanged."""
    unpunctuated: float = 0.0
    """Copies without the punctuation at the end of both sides."""
    joined: float = 0.0
    """Two or three neighbouring pairs joined to one."""
    swapped: float = 0.0
    """Copies in which the names that both sides share are replaced by other names, or by addresses, on both sides."""
    numbers: float = 0.0
    """Number of copies of each pair with numbers or times of day on both sides. The copies have other numbers, in the
    notation of each language. It is no share, because such pairs are rare."""

    def __post_init__(self) -> None:
        for name in ("lower", "unpunctuated", "joined", "swapped"):
            share = getattr(self, name)
            check(f"data.augmentation.{name}", share, 0 <= share <= 1, "0 to 1")
        check("data.augmentation.numbers", self.numbers, 0 <= self.numbers <= 20, "0 to 20")

    @property
    def adds_anything(self) -> bool:
        """Whether any field is above 0."""
        return any(dataclasses.astuple(self))


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    """Settings of the vocabulary: the training of the SentencePiece model, and BPE-dropout."""

    vocab_size: int = 8000
    """Number of subwords, the 4 special ones and 256 bytes included."""
    algorithm: Literal["bpe", "unigram"] = "bpe"
    """Byte-pair encoding (Sennrich et al. 2016) or a unigram language model (Kudo 2018)."""
    character_coverage: float = 0.9995
    """Share of the text's characters whose character gets a subword of its own. The others are encoded as bytes."""
    sample_sentences: int = 1_000_000
    """Largest number of lines to train on, the lines of both sides counted."""
    bpe_dropout: float = 0.0
    """Probability that a merge is skipped in the segmentation of training text, which is done anew for every epoch
    (Provilkov et al. 2020, who use 0.1). Validation text and text in service are segmented without it."""

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
    """The text of a run: what is learned from, and what is measured on."""

    source_language: str
    """ISO 639-1 code."""
    target_language: str
    """ISO 639-1 code."""
    train: tuple[Corpus, ...]
    """Corpora to learn from."""
    validation: tuple[Corpus, ...]
    """Corpora to measure on, each as a set of its own. They are not learned from."""
    validation_limit: int = 500
    """Largest number of pairs of each validation set, taken from the start of the corpus."""
    cleaning: Cleaning = field(default_factory=Cleaning)
    augmentation: Augmentation = field(default_factory=Augmentation)
    held_out: tuple[str, ...] = ()
    """Text files in either language. A training pair is dropped if one of its sides is a line of these files or is in
    the validation text."""
    max_tokens: int = 100
    """Largest number of tokens of either side, the end of the sentence and the tag included. Longer pairs are dropped.
    It is the limit in service, too, because the model has learned nothing longer."""

    def languages(self, corpus: Corpus) -> tuple[str, str]:
        """Source and target language of a corpus."""
        return corpus.source_language or self.source_language, corpus.target_language or self.target_language

    @property
    def language_pairs(self) -> tuple[tuple[str, str], ...]:
        """All learned pairs, (source, target). The data's own pair is the first, if it is among them."""
        own = (self.source_language, self.target_language)
        learned = dict.fromkeys(self.languages(corpus) for corpus in self.train)
        return tuple(sorted(learned, key=lambda pair: pair != own))

    @property
    def target_tags(self) -> tuple[str, ...]:
        """The languages with a tag: all target languages if there are several, else none."""
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
    """Settings of the optimisation: section 5 of Vaswani et al. 2017."""

    batch_tokens: int = 4096
    """Largest size of a batch: its pairs times the tokens of the longest side, padding included."""
    accumulate: int = 1
    """Batches per update, whose gradients are summed."""
    max_steps: int = 100_000
    """Updates of the run. Early stopping may end it sooner."""
    warmup_steps: int = 4000
    """Updates over which the learning rate rises linearly."""
    schedule: Literal["inverse_sqrt", "constant"] = "inverse_sqrt"
    """The learning rate after the warm-up: as in the paper, or constant until the cooldown."""
    cooldown_steps: int = 0
    """Updates before `max_steps` over which the learning rate falls linearly to zero (Hägele et al. 2024). A short run
    gains most from it. 0, as in the paper, is off."""
    learning_rate_scale: float = 1.0
    """Factor of the paper's rate, d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5), whose peak is
    (d_model * warmup_steps)**-0.5."""
    label_smoothing: float = 0.1
    """Probability mass spread over the vocabulary."""
    clip_norm: float = 1.0
    """Largest norm of the gradient of all parameters; 0 is off."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of matrix products. Parameters, optimiser, loss and normalisation stay in fp32. `auto` chooses bf16
    where it is faster: on GPUs and on processors with AMX, on AMD's with AVX512_BF16, and on Arm's with bf16."""
    validate_every: int = 1000
    """Updates between two validations (loss and BLEU). A checkpoint is written at each."""
    patience: int = 10
    """Early stopping: the number of validations without a better BLEU that ends the run; 0 is off."""
    average_checkpoints: int = 5
    """Number of checkpoints that are kept, and averaged at the end (section 6.1)."""
    seed: int = 1
    """Seed of initialisation, order of the text and dropout."""

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
    """The settings of a training run."""

    model: ModelConfig
    tokenizer: TokenizerConfig
    data: Data
    training: Training

    def to_json(self) -> dict[str, Any]:
        """The settings as nested JSON-ready values, which are stored with the run."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, settings: dict[str, Any]) -> Recipe:
        """Read the result of `to_json`, of this version or an older one. Missing fields get their defaults.

        Raises:
            InvalidInput: an unknown field, or a value that is not allowed.
        """
        return build(cls, without_absent(settings), "recipe")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: TOML file with the tables `model`, `tokenizer`, `data` and `training`.
        overrides: `table.field=value`. The value is TOML; if it is not valid TOML, it is taken as text.

    Raises:
        InvalidInput: a table or field is missing or unknown, or has a value that is not allowed. The message names it.
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


_IMPORTED = ("source_vocab_size", "pad_id", "begin_id", "end_id", "unknown_id", "banned_ids")


def _model(settings: Any, tokenizer: TokenizerConfig) -> ModelConfig:
    if not isinstance(settings, dict):
        raise InvalidInput("model", settings, "a table")
    if "vocab_size" in settings:
        raise InvalidInput("model.vocab_size", settings["vocab_size"], "tokenizer.vocab_size, which decides it")
    for name in _IMPORTED:
        if name in settings:
            raise InvalidInput(f"model.{name}", settings[name], "no value: only imported checkpoints have it")
    if settings.get("positions") == "table":
        raise InvalidInput(
            "model.positions", "table", "'sinusoidal' or 'learned': only imported checkpoints have tables"
        )
    return ModelConfig.from_settings({"preset": "base", **settings, "vocab_size": tokenizer.vocab_size})
