from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from dragoman_model.data.batches import TokenizedCorpus, plan_epoch
from dragoman_service.bundle.tokenizer import Tokenizer
from support.tiny import sentences, tokenizer_model

TOKENIZER = Tokenizer(tokenizer_model())
PAIRS = [(text, " ".join(reversed(text.split()))) for text in sentences(300, seed=8)]


def lengths_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 40, size=(count, 2))


def test_batches_keep_to_the_budget() -> None:
    lengths = lengths_of(500)
    plan = plan_epoch(lengths, np.ones(500), 100, seed=1)
    for batch in plan:
        assert lengths[batch].max() * len(batch) <= 100
    assert len(plan) < 250, "batches should be about full"


def test_a_pair_longer_than_the_budget_is_a_batch_by_itself() -> None:
    lengths = np.array([[5, 5], [300, 5], [5, 5]])
    plan = plan_epoch(lengths, np.ones(3), 100, seed=1)
    assert sorted(sorted(batch.tolist()) for batch in plan) == [[0, 2], [1]]


def test_every_pair_comes_exactly_as_often_as_it_weighs() -> None:
    weights = np.repeat([1.0, 3.0, 2.0], 100)
    plan = plan_epoch(lengths_of(300), weights, 200, seed=4)
    counts = Counter(np.concatenate(plan).tolist())
    assert [counts[i] for i in range(300)] == weights.tolist()


def test_a_fraction_of_a_weight_is_drawn_anew_each_epoch() -> None:
    weights = np.full(1000, 1.25)
    epochs = [Counter(np.concatenate(plan_epoch(lengths_of(1000), weights, 500, seed)).tolist()) for seed in (1, 2)]
    for counts in epochs:
        assert set(counts.values()) == {1, 2}
        assert sum(counts.values()) == pytest.approx(1250, rel=0.05)
    assert epochs[0] != epochs[1]


def test_nothing_drawn_is_an_epoch_without_batches() -> None:
    assert list(plan_epoch(lengths_of(3), np.zeros(3), 100, seed=1)) == []


def test_the_seed_decides() -> None:
    def plan(seed: int) -> list[list[int]]:
        return [batch.tolist() for batch in plan_epoch(lengths_of(200), np.full(200, 1.5), 100, seed)]

    assert plan(1) == plan(1)
    assert plan(1) != plan(2)


def test_padding_is_at_most_two_percent_of_the_multiplications() -> None:
    """Lengths as translation has them; the costs of a token are those of the preset `small`, in multiplications."""
    generator = np.random.default_rng(0)
    source = generator.geometric(0.08, 60_000).clip(2, 100)
    target = np.rint(source * generator.normal(1.1, 0.15, len(source))).astype(int).clip(2, 110)
    lengths = np.stack((source, target), axis=1)
    plan = plan_epoch(lengths, np.ones(len(lengths)), 2048, seed=1)
    by_source, by_target, by_word = 5.0, 1.84, 2.05  # encoder and cross keys and values; decoder; output, never padded
    work = sum(
        len(batch) * (by_source * lengths[batch, 0].max() + by_target * lengths[batch, 1].max())
        + by_word * lengths[batch, 1].sum()
        for batch in plan
    )
    needed = (by_source * lengths[:, 0] + (by_target + by_word) * lengths[:, 1]).sum()
    assert work / needed <= 1.02


def test_tokens_come_back_as_they_were() -> None:
    corpus = TokenizedCorpus(PAIRS, TOKENIZER, 100, ["de"] * len(PAIRS))
    assert len(corpus) == len(PAIRS)
    batch = corpus.batch([3, 0])
    for row, index in enumerate((3, 0)):
        source, target = PAIRS[index]
        source_ids, target_ids = TOKENIZER.encode(source), TOKENIZER.encode(target)
        assert batch.source[row][batch.source[row] != 0].tolist() == [*source_ids, 2]
        assert batch.target[row][batch.target[row] != 0].tolist() == [1, *target_ids, 2]
        assert corpus.lengths[index].tolist() == [len(source_ids) + 1, len(target_ids) + 1]
    assert batch.num_tokens == corpus.lengths[[3, 0], 1].sum()
    assert batch.source.dtype is torch.int64


def test_long_and_empty_pairs_are_left_out_and_named() -> None:
    pairs = [
        ("the cat", "die Katze"),
        ("the " * 50, "der"),
        ("", "der"),
        ("a dog", "Hund " * 50),
        ("a dog", "ein Hund"),
    ]
    corpus = TokenizedCorpus(pairs, TOKENIZER, 20, ["de"] * len(pairs))
    assert corpus.kept == [0, 4]
    assert len(corpus) == 2


def test_the_limit_counts_the_end_of_the_sentence() -> None:
    length = len(TOKENIZER.encode("the cat sees a dog"))
    pair = [("the cat sees a dog", "der Hund")]
    assert len(TokenizedCorpus(pair, TOKENIZER, length + 1, ["de"])) == 1
    assert len(TokenizedCorpus(pair, TOKENIZER, length, ["de"])) == 0
