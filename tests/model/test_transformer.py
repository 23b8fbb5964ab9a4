from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dragoman_model.positions import SinusoidalPositions
from dragoman_model.transformer import (
    DecoderLayer,
    EncoderLayer,
    MultiHeadAttention,
    Ragged,
    Transformer,
    source_mask,
)
from support.tiny_model import make_model

VARIANTS = pytest.mark.parametrize(
    "variant",
    [{"norm": norm, "positions": positions} for norm in ("post", "pre") for positions in ("sinusoidal", "learned")],
    ids=lambda variant: "-".join(variant.values()),
)
SOURCE = torch.tensor([[5, 9, 6, 2, 0, 0], [7, 8, 11, 12, 10, 2]])
TARGET = torch.tensor([[1, 20, 21, 22, 23], [1, 30, 31, 32, 33]])


@VARIANTS
def test_shapes(variant: dict[str, Any]) -> None:
    model = make_model(**variant)
    assert model.encode(SOURCE).shape == (2, 6, 16)
    assert model(SOURCE, TARGET).shape == (2, 5, 40)
    cross = model.project_cross(model.encode(SOURCE))
    assert [(key.shape, value.shape) for key, value in cross] == [((2, 2, 6, 8), (2, 2, 6, 8))] * 2


@VARIANTS
def test_future_target_positions_do_not_matter(variant: dict[str, Any]) -> None:
    model = make_model(**variant)
    changed = TARGET.clone()
    changed[:, 3:] = 39
    before, after = model(SOURCE, TARGET), model(SOURCE, changed)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


@VARIANTS
def test_padding_does_not_matter(variant: dict[str, Any]) -> None:
    model = make_model(**variant)
    alone = model(SOURCE[:1, :4], TARGET[:1])
    torch.testing.assert_close(model(SOURCE, TARGET)[:1], alone, rtol=1e-5, atol=1e-5)


@VARIANTS
def test_every_source_and_target_position_matters(variant: dict[str, Any]) -> None:
    model = make_model(**variant)
    before = model(SOURCE, TARGET)
    for column in range(6):
        changed = SOURCE.clone()
        changed[1, column] = 39
        assert not torch.allclose(model(changed, TARGET)[1], before[1])
    swapped = TARGET[:, [0, 2, 1, 3, 4]]
    assert not torch.allclose(model(SOURCE, swapped)[:, 3:], before[:, 3:]), (
        "the order of the tokens makes no difference"
    )


@VARIANTS
def test_cached_steps_equal_the_full_decoder(variant: dict[str, Any]) -> None:
    model = make_model(**variant)
    expected = model(SOURCE, TARGET)
    mask, past = source_mask(SOURCE), None
    cross = model.project_cross(model.encode(SOURCE))
    for position in range(TARGET.size(1)):
        logits, past = model.decode_step(TARGET[:, position], past, cross, mask)
        torch.testing.assert_close(logits, expected[:, position], rtol=1e-5, atol=1e-5)


@VARIANTS
def test_rows_may_stand_at_different_positions(variant: dict[str, Any]) -> None:
    model = make_model(**variant)
    expected = model(SOURCE, TARGET)
    mask = source_mask(SOURCE)
    cross = model.project_cross(model.encode(SOURCE))
    past = None
    for position in range(4):
        _, past = model.decode_step(TARGET[:, position], past, cross, mask)
    assert past is not None
    positions = torch.tensor([2, 4])  # row 0 goes back: what is cached behind it must not show
    past_mask = torch.cat((torch.arange(4) < positions[:, None], torch.ones(2, 1, dtype=torch.bool)), dim=1)[
        :, None, None
    ]
    tokens = torch.stack((TARGET[0, 2], TARGET[1, 4]))
    logits, _ = model.decode_step(tokens, past, cross, mask, Ragged(positions.unsqueeze(1), past_mask))
    torch.testing.assert_close(logits, torch.stack((expected[0, 2], expected[1, 4])), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_encoder_layer_equals_pytorchs(norm: str) -> None:
    model = make_model(norm=norm)
    layer = model.encoder[0]
    assert isinstance(layer, EncoderLayer)
    oracle = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=norm == "pre").eval()
    with torch.no_grad():
        copy_attention(oracle.self_attn, layer.self_attention)
        copy_feed_forward(oracle, layer)
    oracle.norm1, oracle.norm2 = layer.self_attention_residual.norm, layer.feed_forward_residual.norm
    x = torch.randn(2, 6, 16)
    real = source_mask(SOURCE)
    expected = oracle(x, src_key_padding_mask=~real[:, 0, 0])
    valid = real[:, 0, 0]
    torch.testing.assert_close(layer(x, real)[valid], expected[valid], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_decoder_layer_equals_pytorchs(norm: str) -> None:
    model = make_model(norm=norm)
    layer = model.decoder[0]
    assert isinstance(layer, DecoderLayer)
    oracle = nn.TransformerDecoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=norm == "pre").eval()
    with torch.no_grad():
        copy_attention(oracle.self_attn, layer.self_attention)
        copy_attention(oracle.multihead_attn, layer.cross_attention)
        copy_feed_forward(oracle, layer)
    oracle.norm1, oracle.norm2 = layer.self_attention_residual.norm, layer.cross_attention_residual.norm
    oracle.norm3 = layer.feed_forward_residual.norm
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 6, 16)
    causal = torch.ones(5, 5, dtype=torch.bool).tril()
    real = source_mask(SOURCE)
    expected = oracle(x, memory, tgt_mask=~causal, memory_key_padding_mask=~real[:, 0, 0])
    y, _ = layer(x, None, layer.cross_attention.project_key_value(memory), causal, real)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


def test_sinusoids_are_the_papers() -> None:
    table = SinusoidalPositions(make_model().config).table
    assert isinstance(table, Tensor)
    position, i = 7, 3
    angle = torch.tensor(position / 10000 ** (2 * i / 16))
    torch.testing.assert_close(table[position, 2 * i], angle.sin())
    torch.testing.assert_close(table[position, 2 * i + 1], angle.cos())


def test_one_embedding_serves_source_target_and_output() -> None:
    model = make_model()
    assert [name for name, p in model.named_parameters() if p.dim() == 2 and 40 in p.shape] == ["embedding.weight"]
    before = model(SOURCE, TARGET)
    with torch.no_grad():
        model.embedding.weight[39] += 1.0  # occurs neither in source nor in target: only its own logit can change
    difference = (model(SOURCE, TARGET) - before).abs().amax(dim=(0, 1))
    assert difference.nonzero().flatten().tolist() == [39]


def test_dropout_acts_in_training_alone() -> None:
    model = make_model(dropout=0.5)
    assert torch.equal(model(SOURCE, TARGET), model(SOURCE, TARGET))
    model.train()
    assert not torch.equal(model(SOURCE, TARGET), model(SOURCE, TARGET))


def test_padding_row_is_never_learned() -> None:
    model = make_model().train()
    assert torch.count_nonzero(Transformer(model.config).embedding.weight[0]) == 0
    model.encode(SOURCE).sum().backward()
    gradient = model.embedding.weight.grad
    assert gradient is not None
    assert torch.count_nonzero(gradient[0]) == 0


def copy_attention(oracle: nn.MultiheadAttention, ours: MultiHeadAttention) -> None:
    weights = torch.cat((ours.query.weight, ours.key.weight, ours.value.weight))
    biases = torch.cat((ours.query.bias, ours.key.bias, ours.value.bias))
    oracle.in_proj_weight.copy_(weights)
    oracle.in_proj_bias.copy_(biases)
    oracle.out_proj.weight.copy_(ours.output.weight)
    oracle.out_proj.bias.copy_(ours.output.bias)


def copy_feed_forward(oracle: Any, ours: EncoderLayer | DecoderLayer) -> None:
    oracle.linear1.load_state_dict(ours.feed_forward.inner.state_dict())
    oracle.linear2.load_state_dict(ours.feed_forward.outer.state_dict())


@pytest.mark.parametrize("kind", ["attention_dropout", "activation_dropout"])
def test_dropout_inside_of_sublayers_is_off_by_default_and_acts_in_training_alone(kind: str) -> None:
    source, target = torch.tensor([[5, 9, 2]]), torch.tensor([[1, 20, 21]])
    model = make_model(**{kind: 0.5})
    expected = make_model()(source, target)
    torch.testing.assert_close(model(source, target), expected)
    assert not torch.allclose(model.train()(source, target), expected)
    torch.testing.assert_close(make_model().train()(source, target), expected)
