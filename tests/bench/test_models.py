from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.peers import models
from bench.peers.grow import grow, grow_tokenizer, without_end

from dragoman_model.evaluation.greedy import greedy_cached
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.tokenizer import SPECIAL_IDS, Tokenizer
from support.tiny import tokenizer_model
from support.tiny_checkpoint import random_model, write_checkpoint

EXTRA_WORDS = 100
SOURCES = [[5, 9, 300, 41, 2], [270, 2], [17, 18, 19, 20, 21, 22, 23, 280, 2], [260, 261, 262, 2]]


@pytest.fixture(scope="module")
def small() -> Transformer:
    return random_model()


@pytest.fixture(scope="module")
def grown(small: Transformer) -> Transformer:
    config = small.config
    larger = dataclasses.replace(
        config,
        vocab_size=config.vocab_size + EXTRA_WORDS,
        d_model=2 * config.d_model,
        num_heads=2 * config.num_heads,
        d_ff=4 * config.d_ff,
        encoder_layers=config.encoder_layers + 3,
        decoder_layers=config.decoder_layers + 1,
    )
    return grow(small, larger)


@torch.no_grad()
def test_a_grown_model_computes_the_same_function(small: Transformer, grown: Transformer) -> None:
    source, target = torch.tensor([[5, 9, 300, 41, 2]]), torch.tensor([[1, 7, 280, 33]])
    expected, got = small(source, target), grown(source, target)
    assert (got[..., : small.config.vocab_size] - expected).abs().max() < 1e-4 * expected.abs().max()
    assert got.isfinite().all()


def test_a_grown_model_gives_the_same_translations(small: Transformer, grown: Transformer) -> None:
    expected = greedy_cached(small, SOURCES, 20)
    assert greedy_cached(grown, SOURCES, 20) == expected
    assert len({tuple(ids) for ids in expected}) == len(SOURCES)


def test_what_does_not_grow(small: Transformer) -> None:
    for field, value in (("d_model", 48), ("d_ff", 96), ("encoder_layers", 1), ("vocab_size", 100)):
        with pytest.raises(ValueError, match=r"multiple|less|head_dim"):
            grow(small, dataclasses.replace(small.config, **{field: value}))
    with pytest.raises(ValueError, match="pre-norm"):
        grow(random_model(norm="post"), small.config)


def test_without_its_end_a_model_goes_on() -> None:
    model = random_model(seed=1)
    assert min(map(len, greedy_cached(model, SOURCES, 20))) < 20
    endless = without_end(model, SPECIAL_IDS["end_id"])
    assert list(map(len, greedy_cached(endless, SOURCES, 20))) == [20] * len(SOURCES)


def test_a_grown_tokenizer_splits_texts_as_before() -> None:
    old = Tokenizer(tokenizer_model())
    new = Tokenizer(grow_tokenizer(tokenizer_model(), old.vocab_size + EXTRA_WORDS))
    assert new.vocab_size == old.vocab_size + EXTRA_WORDS
    for text in ("Twenty-two birds.", "<unused_0> <unused_99>", "日本語"):
        assert new.encode(text) == old.encode(text)
    assert new.pieces([old.vocab_size]) == ["<unused_0>"]


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_ctranslate2_gives_the_same_translations(norm: str, tmp_path: Path) -> None:
    """The sources of benchmarks end with `</s>`; `tests/export/elsewhere` proves the folder itself."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    model = random_model(seed=1, norm=norm)
    pieces = Tokenizer(tokenizer_model()).pieces(range(model.config.vocab_size))
    models.write_ct2(write_checkpoint(tmp_path / "checkpoint", model), tmp_path / "model")
    translator = ctranslate2.Translator(str(tmp_path / "model"), compute_type="float32", intra_threads=1)
    sources = [[pieces[i] for i in source] for source in SOURCES]
    results = translator.translate_batch(sources, beam_size=1, min_decoding_length=0, max_decoding_length=20)
    expected = greedy_cached(model, SOURCES, 20)
    assert [result.hypotheses[0] for result in results] == [[pieces[i] for i in ids] for ids in expected]


def test_bundles_are_exported_anew_when_the_code_that_makes_them_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(models, "_digest", lambda *paths: read.extend(paths) or "digest")
    models._code_digest()
    assert {"manifest.py", "bundle.py", "tokenizer.py", "graphs.py", "quantise.py", "grow.py"} <= {
        it.name for it in read
    }
    assert all(path.is_file() for path in read)


def test_a_digest_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        models._digest(tmp_path / "moved.py")
