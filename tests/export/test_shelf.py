"""Where an export keeps the tensors of its models."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch

from dragoman_export import shelf as shelves
from dragoman_export.shelf import FileShelf, Shelf, copied, put, shelve
from support.tiny_checkpoint import random_model


@pytest.fixture(params=["memory", "file"])
def shelf(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    if request.param == "memory":
        yield Shelf()
        return
    monkeypatch.setattr(shelves, "_BLOCK", 64 * 1024)  # several blocks, and tensors larger than one
    with FileShelf() as found:
        yield found


def test_what_is_kept_is_a_copy_that_may_be_changed(shelf: Shelf) -> None:
    given = [torch.randn(size) for size in ((3,), (200, 300), (7, 5, 3), (0, 4), (100, 100))]
    given.append(torch.randn(30, 40).T)
    given.append(torch.arange(-5, 6, dtype=torch.int8))
    kept = [shelf.keep(it) for it in given]
    assert all(torch.equal(one, other) and one.is_contiguous() for one, other in zip(kept, given, strict=True))
    kept[1].mul_(2)
    shelf.release()
    assert torch.equal(kept[1], given[1] * 2)
    assert all(torch.equal(one, other) for one, other in zip(kept[2:], given[2:], strict=True))


def test_tensors_outlive_the_shelf() -> None:
    given = torch.randn(10, 10)
    with FileShelf() as shelf:
        kept = shelf.keep(given)
    del shelf
    gc.collect()
    assert torch.equal(kept, given)


def test_a_copy_shares_what_is_not_replaced() -> None:
    model = random_model()
    changed = copied(model)
    put(changed.encoder[0].feed_forward.inner, "weight", torch.zeros_like(model.encoder[0].feed_forward.inner.weight))
    assert changed.embedding.weight is model.embedding.weight
    assert model.encoder[0].feed_forward.inner.weight.any()
    assert not changed.encoder[0].feed_forward.inner.weight.any()


def test_a_shelved_model_computes_the_same(shelf: Shelf) -> None:
    model, source, target = random_model(), torch.tensor([[5, 6, 7, 2]]), torch.tensor([[1, 8, 9]])
    with torch.no_grad():
        before = model(source, target)
        shelve(model, shelf)
        shelf.release()
        assert torch.equal(model(source, target), before)
