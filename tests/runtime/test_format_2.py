"""Bundles of format 2 are served as before.

`format_2` has the graphs, weights and golden sentences of a model of random weights in fp16, exported by the last
release that wrote format 2. It has no tokenizer, which the runners do not need.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.manifest import tensor_names_of_format_2
from dragoman_service.bundle.manifest_reader import read_manifest
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.engine.plan import Join, Masks, Runner, StepPlan
from dragoman_service.engine.request import DecodingOptions, Request
from dragoman_service.runtime.cuda_runner import CudaRunner
from dragoman_service.runtime.golden import SCORE_TOLERANCE, translate
from dragoman_service.runtime.runner import OrtRunner
from dragoman_service.runtime.settings import GpuOptions
from support.fake_cuda import FakeCuda
from support.tiny import tokenizer_model

FOLDER = Path(__file__).parent / "format_2"
ROWS = 8


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    manifest, problems = read_manifest((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    assert manifest is not None, problems
    assert manifest.tensors == tensor_names_of_format_2(1)
    return Bundle(FOLDER, manifest, Tokenizer(tokenizer_model()), ())


@pytest.fixture(scope="module", params=["CPU", "GPU", "GPU without graphs"])
def runner(request: pytest.FixtureRequest, bundle: Bundle) -> Iterator[Runner]:
    made: Runner
    if request.param == "CPU":
        made = OrtRunner(bundle, max_rows=ROWS, threads=1)
    else:
        cuda = FakeCuda("lazy")
        options = GpuOptions(graphs=request.param == "GPU")
        made = CudaRunner(bundle, cuda, max_rows=ROWS, options=options, open_session=cuda.open_session)
    yield made
    made.close()


def test_golden_sentences_have_the_translations_of_the_release_that_wrote_them(runner: Runner, bundle: Bundle) -> None:
    golden = json.loads((FOLDER / "golden.json").read_text(encoding="utf-8"))["sentences"]
    requests = [
        Request(
            index,
            tuple(sentence["source_ids"]),
            sentence["max_length"],
            DecodingOptions(beam_size=sentence["beam_size"], length_penalty=sentence["length_penalty"]),
        )
        for index, sentence in enumerate(golden)
    ]
    found = translate(runner, requests, ROWS, bundle.manifest.special_ids)
    for sentence, hypothesis in zip(golden, found, strict=True):
        assert list(hypothesis.tokens) == sentence["target_ids"]
        assert hypothesis.score == pytest.approx(sentence["score"], abs=SCORE_TOLERANCE["fp16"])


def test_selected_rows_have_what_graphs_that_know_them_give(runner: Runner, bundle: Bundle) -> None:
    sources = [(5, 6, 2), (7, 2), (8, 9, 10, 11, 2)]
    joins = tuple(Join(source, (row,)) for row, source in enumerate(sources))
    lengths = tuple(map(len, sources))
    plan = StepPlan((), joins, (1, 1, 1), (0, 0, 0), lengths, bundle.manifest.limits.max_candidates)
    everything = runner.run(plan)
    ids, log_probs = np.array(everything.token_ids), np.array(everything.log_probs)
    allowed = np.arange(bundle.manifest.vocab_size)[None] % 5 == 0
    selecting = dataclasses.replace(
        plan, num_candidates=2, masks=Masks(np.array([1]), allowed), wide_rows=(2, 0), num_wide_candidates=9
    )
    found = runner.run(selecting)
    kept = allowed[0][ids[1]]
    assert found.token_ids.tolist() == [ids[0, :2].tolist(), ids[1][kept][:2].tolist(), ids[2, :2].tolist()]
    assert found.log_probs[1].tolist() == log_probs[1][kept][:2].tolist()
    assert np.array_equal(found.wide_ids, ids[[2, 0], :9])
    assert np.array_equal(found.wide_log_probs, log_probs[[2, 0], :9])
    assert found.aligned == ()
