from __future__ import annotations

import pytest
import torch

from dragoman_export.calibration import Ranges, calibrate
from dragoman_export.equalise import equalised
from dragoman_export.shelf import Shelf
from dragoman_model.transformer import Transformer
from support.tiny_checkpoint import random_model, random_sources

LENGTH = 20
LOUD = 3
"""A channel that is made `TIMES` as large as the others."""
TIMES = 20.0

NORMS = ("pre", "post")


@pytest.fixture(scope="module", params=NORMS)
def model(request: pytest.FixtureRequest) -> Transformer:
    """With one loud channel wherever channels can be made more equal."""
    model = random_model(seed=2, norm=request.param, decoder_layers=3)
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith((".inner", ".value")) or (request.param == "pre" and name in norms_that_are_read(model)):
                module.weight[LOUD] *= TIMES
                module.bias[LOUD] *= TIMES
                # Where it is read, it counts for as much as before.
                for reader in readers_of(model, name):
                    reader.weight[:, LOUD] /= TIMES
    return model


def norms_that_are_read(model: Transformer) -> set[str]:
    return {name for name, _ in model.named_modules() if name.endswith(".norm")} | {"encoder_norm"}


def readers_of(model: Transformer, name: str) -> list[torch.nn.Linear]:
    """All `nn.Linear` that read what a module gives, by names written down here once more."""
    modules = dict(model.named_modules())
    layer, _, part = name.rpartition(".")
    if part == "inner":
        names = [f"{layer}.outer"]
    elif part == "value":
        names = [f"{layer}.output"]
    elif name == "encoder_norm":
        names = [other for other in modules if other.endswith(("cross_attention.key", "cross_attention.value"))]
    elif layer.endswith("cross_attention_residual"):
        names = [f"{layer.removesuffix('_residual')}.query"]
    elif layer.endswith("feed_forward_residual"):
        names = [f"{layer.removesuffix('_residual')}.inner"]
    else:
        names = [f"{layer.removesuffix('_residual')}.{part}" for part in ("query", "key", "value")]
    return [modules[name] for name in names]  # type: ignore[misc]


@pytest.fixture(scope="module")
def sources(model: Transformer) -> list[list[int]]:
    return random_sources(model, 8)


@pytest.fixture(scope="module")
def ranges(model: Transformer, sources: list[list[int]]) -> Ranges:
    return calibrate(model, sources, LENGTH)


@pytest.fixture(scope="module")
def balanced(model: Transformer, ranges: Ranges) -> tuple[Transformer, Ranges]:
    return equalised(model, ranges, Shelf())


def test_what_the_model_computes_stays_the_same(
    model: Transformer, balanced: tuple[Transformer, Ranges], sources: list[list[int]]
) -> None:
    rng = torch.Generator().manual_seed(0)
    for source in sources:
        target = torch.randint(4, model.config.vocab_size, (1, 15), generator=rng)
        with torch.no_grad():
            before, after = (each(torch.tensor([source]), target).log_softmax(-1) for each in (model, balanced[0]))
        assert (before - after).abs().max() < 1e-4


def test_channels_become_more_equal(model: Transformer, ranges: Ranges, balanced: tuple[Transformer, Ranges]) -> None:
    """The loud channel stands out less, by half at least, from all activations that can be helped; none gets worse."""

    def loudness(ranges: Ranges, name: str) -> float:
        channels = ranges.inputs[name]
        return float(channels[LOUD] / channels.median().clamp(min=1e-3))

    helped = [name for name in ranges.inputs if name.endswith(".outer") or name.endswith("attention.output")]
    if model.config.norm == "pre":
        helped += [name for name in ranges.inputs if name.endswith((".query", ".key", ".value", ".inner"))]
    for name in helped:
        before, after = loudness(ranges, name), loudness(balanced[1], name)
        if before > 5:  # a channel that ReLU has switched off is not loud
            assert after < before / 2, name
    assert sum(loudness(ranges, name) > 5 for name in helped) > len(helped) * 0.7
    left_alone = set(ranges.inputs) - set(helped)
    assert left_alone >= {"output"}
    assert all(torch.equal(ranges.inputs[name], balanced[1].inputs[name]) for name in left_alone)


def test_the_ranges_returned_are_those_that_calibration_finds(
    balanced: tuple[Transformer, Ranges], sources: list[list[int]]
) -> None:
    again = calibrate(balanced[0], sources, LENGTH)
    for found, measured in ((balanced[1].inputs, again.inputs), (balanced[1].outputs, again.outputs)):
        assert found.keys() == measured.keys()
        for name, channels in measured.items():
            torch.testing.assert_close(found[name], channels, rtol=1e-3, atol=1e-4, msg=name)


def test_no_matrix_becomes_much_larger(model: Transformer, balanced: tuple[Transformer, Ranges]) -> None:
    """Factors have a geometric mean of 1: what one channel is divided by, others are multiplied by."""
    before, after = model.state_dict(), balanced[0].state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    for name in changed:
        if name.endswith((".outer.weight", "attention.output.weight")):
            assert before[name].shape == after[name].shape
            ratios = (after[name] / before[name])[0]
            assert ratios.log().mean().abs() < 1e-4, name
    assert any(name.endswith("_residual.norm.weight") for name in changed) == (model.config.norm == "pre")


def test_the_model_itself_and_its_ranges_are_left_as_they_were(sources: list[list[int]]) -> None:
    model = random_model(seed=2)
    ranges = calibrate(model, sources[:2], 5)
    inputs = {name: tensor.clone() for name, tensor in ranges.inputs.items()}
    equalised(model, ranges, Shelf())
    assert all(torch.equal(tensor, model.state_dict()[n]) for n, tensor in random_model(seed=2).state_dict().items())
    assert all(torch.equal(tensor, ranges.inputs[name]) for name, tensor in inputs.items())


def test_dead_channels_do_no_harm() -> None:
    """A channel that was never anything but zero, or that no matrix reads."""
    model = random_model(seed=2)
    sources = random_sources(model, 3)
    with torch.no_grad():
        model.encoder[0].feed_forward.inner.weight[0] = 0
        model.encoder[0].feed_forward.inner.bias[0] = -1
        model.decoder[1].feed_forward.outer.weight[:, 1] = 0
    balanced, ranges = equalised(model, calibrate(model, sources, LENGTH), Shelf())
    assert all(torch.isfinite(tensor).all() for tensor in [*balanced.state_dict().values(), *ranges.inputs.values()])
    with torch.no_grad():
        before, after = (
            each(torch.tensor(sources[:1]), torch.tensor([[1, 5, 6]])).log_softmax(-1) for each in (model, balanced)
        )
    assert (before - after).abs().max() < 1e-4
