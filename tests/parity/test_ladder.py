"""The ladder of proofs, from the definition to the served engine: each rung must give the tokens of the one below."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import sacrebleu
import torch

from dragoman_export.exporter import ExportOptions, export_checkpoint
from dragoman_export.precision import prepare
from dragoman_export.read_back import read_model
from dragoman_export.verify import verify_graphs
from dragoman_model.evaluation.greedy import greedy_cached
from dragoman_model.evaluation.reference_decode import greedy_uncached, search_uncached
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.request import DecodingOptions
from support.parity import GREEDY, MAX_LENGTH, NUM_REAL, encode, real_pairs, real_sentences, served, shipped_bundle
from support.tiny import sentences
from support.tiny_checkpoint import random_model, write_checkpoint

TIE = 1e-3
"""Log-probability: choices closer than this are ties, which the rungs may break differently."""

OPTIONS = {
    "greedy": GREEDY,
    "constrained": DecodingOptions(min_length=6, max_length=20, no_repeat_ngram_size=2, repetition_penalty=1.4),
    "beam": DecodingOptions(beam_size=4, num_hypotheses=3, patience=1.5, never_empty=True),
    "constrained beam": DecodingOptions(
        beam_size=3, num_hypotheses=2, min_length=4, no_repeat_ngram_size=3, repetition_penalty=1.2, length_penalty=1.0
    ),
}


@dataclass(frozen=True)
class Pair:
    """A model in PyTorch and the same one exported."""

    model: Transformer
    bundle: Bundle
    sources: list[list[int]]


@pytest.fixture(
    scope="module",
    params=[
        ("post", "sinusoidal"),
        pytest.param(("post", "learned"), marks=pytest.mark.slow),
        pytest.param(("pre", "sinusoidal"), marks=pytest.mark.slow),
        ("pre", "learned"),
    ],
    ids=" ".join,
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    norm, positions = request.param
    model = random_model(seed=1, norm=norm, positions=positions, decoder_layers=3)
    folder = tmp_path_factory.mktemp("parity")
    write_checkpoint(folder / "checkpoint", model)
    bundle, _ = export_checkpoint(folder / "checkpoint", folder / "parity" / "1", ExportOptions("parity", "1"))
    return Pair(model, bundle, encode(bundle, sentences(16, seed=9)))


def uncached(model: Transformer, sources: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    for source in sources:
        tokens, _ = greedy_uncached(model, source, MAX_LENGTH)
        yield tokens[:-1] if tokens[-1] == 2 else tokens


def test_cached_equals_uncached(pair: Pair) -> None:
    assert greedy_cached(pair.model, pair.sources, MAX_LENGTH) == list(uncached(pair.model, pair.sources))


def test_onnx_equals_torch(pair: Pair) -> None:
    prepared = prepare(pair.model, "fp32", pair.sources, MAX_LENGTH)
    report = verify_graphs(prepared, pair.model, pair.bundle, pair.sources, max_rows=1, max_length=MAX_LENGTH)
    assert report.mismatches == ()
    assert report.ties == ()
    assert report.distance.log_prob_error < 5e-4


@pytest.mark.parametrize("max_rows", [2, 16])
def test_a_crowded_batch_equals_one_alone(pair: Pair, max_rows: int) -> None:
    """To the last bit of every score, whoever else is there."""
    alone = served(pair.bundle, pair.sources, 1)
    order = list(range(len(pair.sources)))
    random.Random(0).shuffle(order)
    crowded = served(pair.bundle, [pair.sources[i] for i in order], max_rows)
    assert [alone[i] for i in order] == crowded


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_search_equals_the_oracle(pair: Pair, options: DecodingOptions) -> None:
    sources = pair.sources[:8]
    found = served(pair.bundle, sources, 16, options)
    for source, best in zip(sources, found, strict=True):
        expected = search_uncached(pair.model, source, options.max_length or MAX_LENGTH, options)[0]
        assert list(best.tokens) == list(expected.tokens)
        assert best.score == pytest.approx(expected.score, abs=TIE)
        assert best.finish_reason == expected.finish_reason


@pytest.mark.slow
def test_the_shipped_model_on_real_sentences() -> None:
    """Uncached torch == cached torch, but for ties, which are few; ONNX alone == ONNX in crowded batches."""
    bundle = Bundle.load(shipped_bundle())
    model = read_model(bundle.path, bundle.manifest.architecture)
    texts = real_sentences(bundle, NUM_REAL)
    sources = encode(bundle, texts)
    assert served(bundle, sources, 1) == served(bundle, sources, 48)
    with torch.inference_mode():
        rungs = zip(uncached(model, sources), cached(model, sources), strict=True)
        parted = [(i, first, other) for i, (first, other) in enumerate(rungs) if first != other]
    margins = {texts[i]: margin_where_they_part(model, sources[i], first, other) for i, first, other in parted}
    assert all(margin < TIE for margin in margins.values()), margins
    assert len(margins) <= NUM_REAL // 100


@pytest.mark.slow
def test_the_shipped_model_loses_nothing_to_int8() -> None:
    """BLEU within 0.2 of the same weights multiplied in fp32, and mostly the same tokens."""
    bundle = Bundle.load(shipped_bundle())
    if bundle.manifest.precision != "int8":
        pytest.skip("the shipped model is not int8")
    texts, references = zip(*real_pairs(bundle), strict=True)
    sources = encode(bundle, texts)
    model = read_model(bundle.path, bundle.manifest.architecture)
    exact = cached(model, sources)
    rounded = [list(best.tokens) for best in served(bundle, sources, 48)]
    bleu = [
        sacrebleu.corpus_bleu([bundle.tokenizer.decode(ids) for ids in found], [list(references)]).score
        for found in (exact, rounded)
    ]
    same = sum(a == b for a, b in zip(exact, rounded, strict=True)) / len(texts)
    print(f"{len(texts)} sentences: BLEU {bleu[0]:.2f} in fp32, {bleu[1]:.2f} in int8; {same:.1%} have the same tokens")
    assert abs(bleu[1] - bleu[0]) <= 0.2
    assert same > 0.8


def cached(model: Transformer, sources: Sequence[Sequence[int]]) -> list[list[int]]:
    return [ids for i in range(0, len(sources), 25) for ids in greedy_cached(model, sources[i : i + 25], MAX_LENGTH)]


def margin_where_they_part(model: Transformer, source: list[int], ours: list[int], theirs: list[int]) -> float:
    """How much likelier than theirs the model finds our token where the two part."""
    both = list(zip([*ours, 2], [*theirs, 2], strict=False))
    place = next(i for i, (a, b) in enumerate(both) if a != b)
    with torch.inference_mode():
        logits = model(torch.tensor([source]), torch.tensor([[1, *ours[:place]]]))[0, -1]
    a, b = both[place]
    return float((logits[a] - logits[b]).abs())
