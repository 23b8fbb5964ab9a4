from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from dragoman_export.calibration import Ranges, calibrate
from dragoman_model.evaluation import greedy
from dragoman_model.evaluation.greedy import greedy_cached
from dragoman_model.transformer import source_mask
from support.tiny_checkpoint import random_model, random_sources

MODEL = random_model()
LENGTH = 20
SOURCES = random_sources(MODEL, 9)


def assert_equal(found: Ranges, expected: Ranges) -> None:
    """To the last bit."""
    for got, wanted in ((found.inputs, expected.inputs), (found.outputs, expected.outputs)):
        assert got.keys() == wanted.keys()
        assert [name for name in got if not torch.equal(got[name], wanted[name])] == []


def widest(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([part[name] for part in parts]).amax(0) for name in parts[0]}


@pytest.fixture(scope="module")
def ranges() -> Ranges:
    return calibrate(MODEL, SOURCES, LENGTH)


def test_which_ranges_there_are(ranges: Ranges) -> None:
    linears = {name: module for name, module in MODEL.named_modules() if isinstance(module, nn.Linear)}
    assert set(ranges.inputs) == {*linears, "output"}
    assert set(ranges.outputs) == {name for name in linears if name.endswith((".key", ".value"))}
    for name, linear in linears.items():
        assert ranges.inputs[name].shape == (linear.in_features,)
    assert ranges.inputs["output"].shape == (MODEL.config.d_model,)
    assert all((tensor > 0).any() for tensor in (ranges.inputs | ranges.outputs).values())


@torch.no_grad()
def test_ranges_are_the_largest_absolute_numbers_of_a_sentence() -> None:
    source = SOURCES[0]
    ranges = calibrate(MODEL, [source], LENGTH)
    (target,) = greedy_cached(MODEL, [source], LENGTH)
    batch = torch.tensor([source])
    memory = MODEL.encode(batch)
    decoded = MODEL.decode(torch.tensor([[1, *target]]), MODEL.project_cross(memory), source_mask(batch))
    assert torch.equal(ranges.inputs["decoder.1.cross_attention.key"], memory[0].abs().amax(0))
    assert torch.equal(ranges.inputs["output"], decoded[0].abs().amax(0))
    keys = MODEL.decoder[1].cross_attention.key(memory)
    assert torch.equal(ranges.outputs["decoder.1.cross_attention.key"], keys[0].abs().amax(0))


def test_neighbours_and_their_padding_widen_no_range(ranges: Ranges) -> None:
    """Side by side, all but the longest sentence are padded."""
    assert len({len(source) for source in SOURCES}) > 3
    single = [calibrate(MODEL, [source], LENGTH) for source in SOURCES]
    inputs, outputs = widest([part.inputs for part in single]), widest([part.outputs for part in single])
    assert_equal(ranges, Ranges(inputs, outputs))


def test_the_order_of_sentences_does_not_matter(ranges: Ranges) -> None:
    assert_equal(calibrate(MODEL, SOURCES[::-1], LENGTH), ranges)


def test_nor_does_how_many_are_translated_side_by_side(ranges: Ranges, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greedy, "BATCH", 2)
    assert_equal(calibrate(MODEL, SOURCES, LENGTH), ranges)


def test_more_of_the_target_is_seen_with_a_longer_limit(ranges: Ranges) -> None:
    short = calibrate(MODEL, SOURCES, 2)
    name = "decoder.0.self_attention.query"
    assert (short.inputs[name] <= ranges.inputs[name]).all()
    assert (short.inputs[name] < ranges.inputs[name]).any()


def test_nobody_watches_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    calibrate(model, SOURCES[:1], 3)
    assert not any(module._forward_hooks for module in model.modules())

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(model, "source_mask", fail)
    with pytest.raises(MemoryError):
        calibrate(model, SOURCES[:1], 3)
    assert not any(module._forward_hooks for module in model.modules())
