"""The choice of the head that aligns."""

from __future__ import annotations

import torch

from dragoman_export.alignment import agreement, attention_weights, choose_head
from support.tiny_checkpoint import random_model

PAIRS = [([5, 6, 7, 2], [9, 10]), ([8, 2], [11, 12, 13])]


def test_weights_are_those_of_every_head_in_every_step() -> None:
    model = random_model(seed=1, decoder_layers=3)
    weights = attention_weights(model, *PAIRS[0])
    assert weights.shape == (3, model.config.num_heads, 3, 4)
    assert torch.allclose(weights.sum(-1), torch.ones(weights.shape[:3]))


def test_the_head_that_agrees_most_with_all_heads_is_chosen() -> None:
    model = random_model(seed=1, decoder_layers=3)
    expected = {}
    for layer in range(3):
        for head in range(model.config.num_heads):
            same = total = 0
            for source, target in PAIRS:
                weights = attention_weights(model, source, target)
                for step in range(1, len(target)):  # the first is forced
                    same += int(weights[layer, head, step].argmax() == weights[:, :, step].mean((0, 1)).argmax())
                    total += 1
            expected[layer, head] = same / total
    found = agreement(model, PAIRS, forced=1)
    assert {place: round(share, 5) for place, share in found.items()} == {
        place: round(share, 5) for place, share in expected.items()
    }
    assert expected[choose_head(model, PAIRS, forced=1)] == max(expected.values())
