"""Worker for Dragoman's `Trainer`, of this checkout or of another, set up as by `dragoman train`."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import worker


def prepare(settings: worker.Settings) -> Callable[[], worker.Round]:
    """Set up a trainer before its first update."""
    # The modules of the requested checkout must come before installed ones.
    sys.path[:0] = [str(Path(settings.checkout) / layer) for layer in ("protos", "service", "model")]
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    import dragoman_model  # noqa: PLC0415
    from dragoman_model.recipe import parse_recipe  # noqa: PLC0415

    corpus_kind, data_kind, trainer_kind, tokenizer_kind = (
        _find(name, *places)
        for name, places in (
            ("TokenizedCorpus", ("dragoman_model.data.batches", "dragoman_model.batches")),
            ("PreparedData", ("dragoman_model.data.prepare", "dragoman_model.prepare")),
            ("Trainer", ("dragoman_model.training.train", "dragoman_model.train")),
            ("Tokenizer", ("dragoman_service.bundle.tokenizer", "dragoman_service.tokenizer")),
        )
    )
    if not Path(str(dragoman_model.__file__)).is_relative_to(Path(settings.checkout).resolve()):
        raise ImportError(f"{dragoman_model.__file__} is not in {settings.checkout}")
    with contextlib.suppress(ImportError):  # older checkouts do not have it
        _find("keep_freed_memory", "dragoman_model.training.memory", "dragoman_model.memory")()
    torch.set_num_threads(settings.threads)
    folder = Path(settings.folder)
    recipe = parse_recipe(
        {
            "model": {"preset": "small", "norm": "pre", "dropout": 0.1},
            "tokenizer": {"vocab_size": worker.read_ids(settings).vocabulary},
            "data": {
                "source_language": "en",
                "target_language": "de",
                "max_tokens": 256,
                "train": [{"path": "text.tsv"}],
                "validation": [{"path": "text.tsv"}],
            },
            "training": {"batch_tokens": settings.batch_tokens, "precision": settings.precision},
        }
    )
    model = (folder / "tokenizer.model").read_bytes()
    lines = (folder / "text.tsv").read_text(encoding="utf-8").rstrip("\n").split("\n")
    pairs = [(source, target) for source, target in (line.split("\t") for line in lines)]
    tokenizer = tokenizer_kind(model)
    train = corpus_kind(pairs, tokenizer, recipe.data.max_tokens, ["de"] * len(pairs))
    data = data_kind(tokenizer, model, train, np.ones(len(train)), (), [], {"data": {}})
    trainer = trainer_kind(recipe, data, folder, torch.device("cpu"))
    # Not the whole training loop, because that also validates, reports and saves, which the other trainers do not do.
    if hasattr(trainer, "_batches"):
        batches = trainer._batches()
    else:
        batches = _find("planned", "dragoman_model.training.epochs")(data, recipe.training, trainer.progress)
    return worker.rounds_of(lambda: trainer._update([next(batches)])[1], settings)


def _find(name: str, *places: str) -> Any:
    """Import `name` from the first of `places` that the checkout has. Raises ImportError."""
    for place in places:
        with contextlib.suppress(ModuleNotFoundError):
            return getattr(importlib.import_module(place), name)
    raise ImportError(f"no {name} in any of {', '.join(places)}")


if __name__ == "__main__":
    worker.serve(prepare, ["torch"])
