"""What can be evaluated: a checkpoint, a bundle, or a running server, all behind one method.

The first two run in this process behind the very frontend, scheduler and engine of the server, so that the same text
is cut into the same sentences and searched in the same way everywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from dragoman_service.client.client import TranslationClient
from dragoman_service.client.values import Options
from dragoman_service.engine.engine import Engine
from dragoman_service.engine.lane import Lane
from dragoman_service.engine.lanes import Lanes
from dragoman_service.engine.request import DecodingOptions
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.engine.settings import EngineSettings
from dragoman_service.repository.models import ModelDescription, ServedModel
from dragoman_service.repository.registry import ModelRegistry
from dragoman_service.repository.settings import ModelSettings
from dragoman_service.translation.frontend import Call, Frontend
from dragoman_service.translation.settings import RequestLimits

MAX_QUEUE = 1024
MAX_QUEUE_TOKENS = 65_536


class System(Protocol):
    """Something that translates."""

    def translate(self, texts: Sequence[str], done: Callable[[], object]) -> list[str]:
        """Translate texts, in order; `done` is called whenever one more is ready."""
        ...

    def __enter__(self) -> System:
        """Return the system itself."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Free what it holds."""
        ...


class LocalSystem:
    """A model in this process."""

    def __init__(self, model: ServedModel, options: DecodingOptions, languages: tuple[str, str]) -> None:
        """Take a model whose engine runs; it is closed with the system. Empty languages are those it has."""
        self._model, self._options, self._languages = model, options, languages

    def translate(self, texts: Sequence[str], done: Callable[[], object]) -> list[str]:
        """Translate texts, in order; `done` is called whenever one more is ready."""
        return asyncio.run(self._translate(texts, done))

    async def _translate(self, texts: Sequence[str], done: Callable[[], object]) -> list[str]:
        registry = ModelRegistry([self._model])
        route = registry.route("", *self._languages)
        frontend = Frontend(registry, RequestLimits())
        places = asyncio.Semaphore(2 * self._model.description.max_rows)  # enough to keep all rows busy

        async def translate(text: str) -> str:
            async with places:
                (result,) = await frontend.translate(Call((text,), route, self._options))
            done()
            return result.hypotheses[0].text

        try:
            return list(await asyncio.gather(*map(translate, texts)))
        finally:
            frontend.close()

    def __enter__(self) -> LocalSystem:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._model.engine.close()


class ServerSystem:
    """A server somewhere."""

    def __init__(self, address: str, options: Options) -> None:
        """`options` name the model, if the server has several."""
        self._client = TranslationClient(address, texts_per_call=16, attempts=5)
        self._options = options

    def translate(self, texts: Sequence[str], done: Callable[[], object]) -> list[str]:
        """Translate texts, in order; `done` is called whenever one more is ready.

        Raises one of `dragoman_service.client.errors`.
        """
        translations = []
        for translation in self._client.translate_many(texts, self._options):
            translations.append(translation.text)
            done()
        return translations

    def __enter__(self) -> ServerSystem:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._client.close()


def load_bundle_system(
    folder: Path, options: DecodingOptions, *, device: str, threads: int, languages: tuple[str, str] = ("", "")
) -> LocalSystem:
    """A bundle on ONNX Runtime, loaded as the server does it: its golden sentences must come out right first.

    Raises:
        BundleErrors: with every problem of the bundle.
    """
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - the runtime is not needed for the other systems

    from dragoman_service.repository.loading import load_models  # noqa: PLC0415
    from dragoman_service.server.metrics import Metrics  # noqa: PLC0415

    settings = ModelSettings(device=device, engine=EngineSettings(threads=threads, max_queue=MAX_QUEUE))
    (model,) = load_models([folder], settings, Metrics(CollectorRegistry()))
    return LocalSystem(model, options, languages)


def load_checkpoint_system(
    folder: Path,
    options: DecodingOptions,
    *,
    device: str,
    max_rows: int = 32,
    languages: tuple[str, str] = ("", ""),
) -> LocalSystem:
    """A checkpoint in PyTorch.

    Raises:
        InvalidInput: no such checkpoint, or it is damaged.
    """
    from dragoman_model.checkpoint import load_checkpoint  # noqa: PLC0415 - PyTorch is not needed for the other systems
    from dragoman_model.evaluation.torch_runner import TorchRunner  # noqa: PLC0415

    checkpoint = load_checkpoint(folder)
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    runner = TorchRunner(checkpoint.model.to(device), max_rows=max_rows)
    scheduler = Scheduler(max_rows=max_rows, begin_id=tokenizer.begin_id, end_id=tokenizer.end_id)
    lanes = Lanes([Lane(scheduler, runner)])
    lanes.start()
    engine = Engine(lanes, max_queue=MAX_QUEUE, max_queue_tokens=MAX_QUEUE_TOKENS)
    description = ModelDescription(
        name=folder.name,
        version="0",
        description="",
        language_pairs=config.language_pairs,
        precision="fp32",
        device=device,
        max_source_tokens=config.max_source_tokens,
        max_target_tokens=config.max_target_tokens - 1,  # the checkpoint counts the end of the sentence
        max_rows=max_rows,
        max_candidates=config.model.vocab_size,
    )
    return LocalSystem(ServedModel(description, tokenizer, engine), options, languages)
