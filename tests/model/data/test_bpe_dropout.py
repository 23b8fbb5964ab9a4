"""Training text that is segmented anew for every epoch."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch

from dragoman_model.data.batches import TokenizedCorpus
from dragoman_model.data.bpe_dropout import BpeDropout
from dragoman_model.data.prepare import PreparedData, prepare
from dragoman_model.recipe import Recipe
from dragoman_model.training.epochs import planned
from dragoman_model.training.train import Trainer
from dragoman_model.training.training_state import Progress
from dragoman_model.training.validation import measure
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.errors import InvalidInput
from support.tiny import sentences, tokenizer_model
from support.tiny_model import make_recipe, write_corpus

CPU = torch.device("cpu")
MODEL = tokenizer_model(model_type="bpe")
TEXTS = sentences(100, seed=4)


def recipe(rate: float = 0.1, **tables: Any) -> Recipe:
    return make_recipe(**{**tables, "tokenizer": {"bpe_dropout": rate, **tables.get("tokenizer", {})}})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def data(corpus: Path) -> PreparedData:
    return prepare(recipe(), corpus, None, corpus / "cache")


def ids(data: PreparedData, epoch: int) -> list[tuple[list[int], list[int]]]:
    text = data.epoch(epoch)
    return [(source.tolist(), target.tolist()) for source, target in map(text.ids, range(len(text)))]


def plain_ids(text: str) -> np.ndarray:
    return np.array(Tokenizer(MODEL).encode(text))


def test_merges_without_dropout_are_those_of_sentencepiece() -> None:
    dropout = BpeDropout(MODEL, 0.1)
    for text in TEXTS:
        ids = plain_ids(text)
        word_by_word = [
            dropout._merged(dropout._word(tuple(word)).symbols, 10**6, random.Random(1))
            for word in words_of(ids.tolist(), dropout)
        ]
        assert list(itertools.chain(*word_by_word)) == ids.tolist()


def words_of(ids: list[int], dropout: BpeDropout) -> list[list[int]]:
    words = list[list[int]]()
    for token in ids:
        if dropout._begins_word[token] or not words:
            words.append([])
        words[-1].append(token)
    return words


PINNED = ["▁ s m a l l ▁sieht ▁ i n ▁ d o g .", "▁d ie ▁ q u i c k ▁ un d ▁ c a t ▁ d er ▁r i v er ▁l ie s t ."]


def test_segmentations_are_pinned() -> None:
    """They must be the same in every process, version and machine: a run is resumed anywhere."""
    dropout, tokenizer = BpeDropout(MODEL, 0.3), Tokenizer(MODEL)
    rng = random.Random("1 0 0")
    assert [" ".join(tokenizer.pieces(dropout.segment(plain_ids(text), rng))) for text in TEXTS[:2]] == PINNED


def test_the_rate_is_that_of_merges_passed_over() -> None:
    """A word of one merge is made with a probability of 1 - rate; one of several as in the paper."""
    dropout, rng = BpeDropout(MODEL, 0.2), random.Random(3)
    ids = plain_ids("the cat")
    found = Counter(tuple(dropout.segment(ids, rng)) for _ in range(6000))
    expected = Counter(tuple(by_the_paper("\u2581the", rng) + by_the_paper("\u2581cat", rng)) for _ in range(6000))
    assert found.keys() == expected.keys()
    for segmentation, count in expected.most_common(8):
        assert found[segmentation] == pytest.approx(count, abs=5 * count**0.5)


def by_the_paper(word: str, rng: random.Random, rate: float = 0.2) -> list[int]:
    """Algorithm 1, to the letter."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=MODEL)
    symbols = list(word)
    while True:
        merges = [
            (-processor.get_score(processor.piece_to_id(left + right)), place)
            for place, (left, right) in enumerate(itertools.pairwise(symbols))
            if not processor.is_unknown(processor.piece_to_id(left + right))
        ]
        merges = [merge for merge in merges if rng.random() >= rate]
        if not merges:
            return [processor.piece_to_id(symbol) for symbol in symbols]
        _, place = min(merges)
        symbols[place : place + 2] = ["".join(symbols[place : place + 2])]


def test_what_is_spelt_in_bytes_stays_so() -> None:
    dropout, tokenizer = BpeDropout(MODEL, 0.9), Tokenizer(MODEL)
    for text in ("the 🦊 sees", "🦊", "", "Ω the", "а", "12 34"):
        for seed in range(5):
            assert tokenizer.decode(dropout.segment(plain_ids(text).astype(int), random.Random(seed))) == text


def test_each_epoch_is_segmented_in_its_own_way_and_is_the_same_text(data: PreparedData, corpus: Path) -> None:
    plain = [(source.tolist(), target.tolist()) for source, target in map(data.train.ids, range(len(data.train)))]
    first, second = ids(data, 0), ids(data, 1)
    assert len({json.dumps(segmented) for segmented in (plain, first, second)}) == 3
    assert ids(data, 0) == first == ids(prepare(recipe(), corpus), 0)
    for epoch in (first, second):
        for segmented, whole in zip(epoch, plain, strict=True):
            for got, side in zip(segmented, whole, strict=True):
                assert data.tokenizer.decode(got) == data.tokenizer.decode(side)
                assert (got[-1], got.count(1), got.count(2)) == (side[-1], side.count(1), 1)
        assert sum(segmented == whole for segmented, whole in zip(epoch, plain, strict=True)) < len(plain) / 2
    lengths = data.epoch(1).lengths.tolist()
    assert lengths == [[len(source), len(target) - 1] for source, target in second]
    other_seed = prepare(recipe(training={"seed": 2}), corpus, data.tokenizer_model)
    assert ids(other_seed, 0) != first


def test_several_processes_segment_as_one_does(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dragoman_model.data.epoch_text._TOGETHER", 2)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    alone = ids(prepare(recipe(), corpus), 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.delattr("dragoman_model.data.bpe_dropout.BpeDropout.segment")  # only other processes have it
    assert ids(prepare(recipe(), corpus), 0) == alone


def test_processes_that_segment_start_without_pytorch() -> None:
    script = "import sys, dragoman_model.data.bpe_dropout; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_without_dropout_every_epoch_is_the_text(corpus: Path) -> None:
    plain = prepare(recipe(0.0), corpus)
    assert plain.epoch(0) is plain.epoch(5) is plain.train


def test_the_vocabulary_does_not_depend_on_it(data: PreparedData, corpus: Path) -> None:
    assert prepare(recipe(0.0), corpus).tokenizer_model == data.tokenizer_model


def test_rates_share_the_text_of_the_cache_and_it_keeps_one_epoch(corpus: Path, tmp_path: Path) -> None:
    for rate, epochs in ((0.1, 3), (0.2, 2)):
        prepared = prepare(recipe(rate), corpus, None, tmp_path / "cache")
        for epoch in range(epochs):
            prepared.epoch(epoch)
    found = sorted(path.name.partition("-")[2] for path in (tmp_path / "cache").iterdir() if path.is_dir())
    assert found == ["", "1", "2"]


def test_no_pair_gets_longer_than_the_limit(corpus: Path) -> None:
    """One that would keeps its segmentation without dropout: every epoch has all pairs."""
    limit = 30
    short = prepare(recipe(0.5, data={"max_tokens": limit}), corpus)
    found = [short.epoch(epoch).lengths for epoch in range(3)]
    assert {len(lengths) for lengths in found} == {len(short.train)}
    assert max(int(lengths.max()) for lengths in found) == limit
    as_before = [bool((lengths == short.train.lengths).all(axis=1).any()) for lengths in found]
    assert any(as_before)


def test_a_tag_stays_before_the_source(corpus: Path) -> None:
    back = {"source_column": 1, "target_column": 0, "source_language": "de", "target_language": "en"}
    tokenizer = {"vocab_size": 322}
    both = prepare(
        recipe(data={"train": [{"path": "train.tsv"}, {"path": "train.tsv", **back}]}, tokenizer=tokenizer), corpus
    )
    tags = both.tokenizer.target_tags
    segmented, half = ids(both, 0), len(both.train) // 2
    assert {source[0] for source, _ in segmented[:half]} == {tags["de"]}
    assert {source[0] for source, _ in segmented[half:]} == {tags["en"]}


def test_validation_is_never_segmented_so(data: PreparedData, corpus: Path, tmp_path: Path) -> None:
    plain = prepare(recipe(0.0), corpus)
    trainer = Trainer(recipe(), data, tmp_path, CPU)
    training = recipe().training
    scores = measure(trainer.model, data, training, CPU)
    data.epoch(1)
    assert scores == measure(trainer.model, data, training, CPU) == measure(trainer.model, plain, training, CPU)


def test_a_resumed_run_learns_what_one_without_a_break_does(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off within the second epoch; the rest by another process, so to speak: another cache, nothing at hand."""
    settings = recipe(training={"accumulate": 2, "max_steps": 18})
    whole = Trainer(settings, prepare(settings, corpus, None, tmp_path / "one"), tmp_path / "whole", CPU)
    whole.run()
    assert whole.progress.epoch > 1
    first = Trainer(settings, prepare(settings, corpus, None, tmp_path / "two"), tmp_path / "parts", CPU)
    update = first._update

    def stopped(batches: Any) -> tuple[float, int]:
        if first.progress.epoch == 1 and first.progress.batch > 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(batches)

    monkeypatch.setattr(first, "_update", stopped)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    again = prepare(settings, corpus, first.data.tokenizer_model, tmp_path / "three")
    second = Trainer(settings, again, tmp_path / "parts", CPU)
    second.resume()
    second.run()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], tensor), name
    plain = recipe(0.0, training={"accumulate": 2, "max_steps": 18})
    other = Trainer(plain, prepare(plain, corpus), tmp_path / "plain", CPU)
    other.run()
    assert not torch.equal(other.model.state_dict()["output_bias"], whole.model.state_dict()["output_bias"])


def test_batches_are_of_the_text_of_their_epoch(data: PreparedData) -> None:
    progress, seen = Progress(), dict[int, TokenizedCorpus]()
    for text, _ in planned(data, recipe().training, progress):
        seen.setdefault(progress.epoch, text)
        if progress.epoch == 2:
            break
    found = [text.batch([0, 1]).source.tolist() for text in seen.values()]
    assert found == [data.epoch(epoch).batch([0, 1]).source.tolist() for epoch in range(3)]
    assert found[0] != found[1] != found[2]


def test_an_update_that_two_epochs_share_has_the_text_of_both(data: PreparedData, tmp_path: Path) -> None:
    seen = [(data.epoch(0), np.array([0, 1])), (data.epoch(1), np.array([0, 1]))]
    trainer = Trainer(recipe(), data, tmp_path, CPU)
    _, tokens = trainer._update(seen)
    assert tokens == sum(int(text.lengths[:2, 1].sum()) for text, _ in seen)


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"bpe_dropout": 1.0}, "0 up to, not including, 1"),
        ({"bpe_dropout": -0.1}, "0 up to, not including, 1"),
        ({"bpe_dropout": float("nan")}, "0 up to, not including, 1"),
        ({"bpe_dropout": 0.1, "algorithm": "unigram"}, "0 with algorithm 'unigram'"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], allowed: str) -> None:
    with pytest.raises(InvalidInput, match=rf"tokenizer\.bpe_dropout: got .*; allowed: {allowed}"):
        make_recipe(tokenizer=settings)


def test_a_vocabulary_without_merges_is_refused(corpus: Path, tmp_path: Path) -> None:
    given = tokenizer_model()
    assert prepare(recipe(0.0), corpus, given).tokenizer_model == given
    with pytest.raises(InvalidInput, match=r"tokenizer\.bpe_dropout: got 0\.1; allowed: 0, as the vocabulary"):
        prepare(recipe(), corpus, given, tmp_path)
