"""Worker for JoeyNMT's `TrainManager`, with its data sets, batches and steps.

JoeyNMT's sampler takes sentences in random order, whatever their lengths. With the setting `sorted`, batches have
sentences of similar length, as Dragoman's have; users of JoeyNMT would have to write such a sampler themselves. JoeyNMT
has no setting for bf16 on a CPU (`fp16` is refused there), but its `TrainManager` accepts it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import worker


def prepare(settings: worker.Settings) -> Callable[[], worker.Round]:
    """Set up a `TrainManager` before its first update."""
    import torch  # noqa: PLC0415
    from joeynmt.config import parse_global_args  # noqa: PLC0415
    from joeynmt.prediction import prepare as prepare_all  # noqa: PLC0415
    from joeynmt.training import TrainManager  # noqa: PLC0415

    torch.set_num_threads(settings.threads)
    folder = Path(tempfile.mkdtemp(dir=settings.folder))
    ids = worker.read_ids(settings)
    args = parse_global_args(_config(settings, ids, folder), mode="train")
    model, train, _, _ = prepare_all(args, rank=0, mode="train")
    bf16 = {"device_type": "cpu", "enabled": settings.precision == "bf16", "dtype": torch.bfloat16}
    manager = TrainManager(
        rank=0,
        model=model,
        model_dir=folder,
        device=args.device,
        autocast=bf16,
        train_args=args.train,
        dev_args=args.test,
    )

    def own_batches() -> Iterator[Any]:
        loader = train.make_iter(
            batch_size=settings.batch_tokens,
            batch_type="token",
            shuffle=True,
            pad_index=model.pad_index,
            eos_index=model.eos_index,
            device=args.device,
        )
        while True:
            yield from loader

    def sorted_batches() -> Iterator[Any]:
        for indices in worker.batches_for_ever(ids, settings.batch_tokens):
            yield train.collate_fn([train[i] for i in indices], model.pad_index, model.eos_index, args.device)

    batches = sorted_batches() if settings.sorted else own_batches()

    def update() -> int:
        """One iteration of the loop in `TrainManager.train_and_validate`."""
        batch = next(batches)
        manager._train_step(batch)
        manager.clip_grad_fun(parameters=model.parameters())
        manager.optimizer.step()
        manager.scheduler.step(manager.stats.steps)
        model.zero_grad()
        manager.stats.steps += 1
        return int(batch.ntokens)

    return worker.rounds_of(update, settings)


def _config(settings: worker.Settings, ids: worker.Ids, folder: Path) -> dict[str, Any]:
    """Write the text and the vocabulary to `folder`. Returns the contents of JoeyNMT's YAML file."""
    for language, sentences in (("en", ids.source), ("de", ids.target)):
        lines = (" ".join(f"w{i}" for i in sentence) for sentence in sentences)
        (folder / f"text.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    # JoeyNMT puts its own four special words before these.
    (folder / "vocabulary").write_text("".join(f"w{i}\n" for i in range(4, ids.vocabulary)), encoding="utf-8")
    side = {"level": "word", "max_length": 256, "voc_file": str(folder / "vocabulary")}
    layers = {
        "type": "transformer",
        "num_heads": 4,
        "embeddings": {"embedding_dim": 256, "scale": True, "dropout": 0.1},
        "hidden_size": 256,
        "ff_size": 1024,
        "dropout": 0.1,
        "layer_norm": "pre",
        "activation": "relu",
    }
    return {
        "name": "speed",
        "model_dir": str(folder),
        "use_cuda": False,
        "data": {
            "train": str(folder / "text"),
            "src": {"lang": "en", **side},
            "trg": {"lang": "de", **side},
            "dataset_type": "plain",
        },
        "model": {
            "tied_embeddings": True,
            "tied_softmax": True,
            "encoder": {**layers, "num_layers": 6},
            "decoder": {**layers, "num_layers": 2},
        },
        "training": {
            "optimizer": "adam",
            "adam_betas": [0.9, 0.98],
            "learning_rate": 1e-4,
            "scheduling": "warmupinversesquareroot",
            "learning_rate_warmup": 4000,
            "clip_grad_norm": 1.0,
            "label_smoothing": 0.1,
            "loss": "crossentropy",
            "normalization": "tokens",
            "batch_size": settings.batch_tokens,
            "batch_type": "token",
        },
        "testing": {},
    }


if __name__ == "__main__":
    worker.serve(prepare, ["torch", "joeynmt"])
