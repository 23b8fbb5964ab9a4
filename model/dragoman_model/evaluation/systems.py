"""The systems that can be evaluated: a checkpoint, a bundle or a running server, with one interface.

A checkpoint or a bundle runs in this process, with the frontend, scheduler and engine of the server. So all systems
split texts into sentences and search in the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from dragoman_service.bundle.languages import Languages
from dragoman_service.client.client import TranslationClient
from dragoman_service.client.connection import Tls, Token
from dragoman_service.client.values import Options
from dragoman_service.engine.engine import Engine
from dragoman_service.engine.lane import Lane
from dragoman_service.engine.lanes import Lanes
from dragoman_service.engine.request import DecodingOptions
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.engine.search.utf8 import BytePieces
from dragoman_service.engine.settings import EngineSettings
from dragoman_service.repository.models import ModelDescription, ServedModel
from dragoman_service.repository.registry import ModelRegistry
from dragoman_service.repository.settings import ModelSettings
from dragoman_service.translation.frontend import Call, Frontend
from dragoman_service.translation.settings import RequestLimits

MAX_QUEUE = 1024
MAX_QUEUE_TOKENS = 65_536


class System(Protocol):
    """A system that translates. A context manager."""

    def translate(self, texts: Sequence[str], done: Callable[[], object]) -> list[str]:
        """Translate texts, in order. `done` is called after each text."""
        ...

    def __enter__(self) -> System:
        """Return the system itself."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Free the resources of the system."""
        ...


class LocalSystem:
    """A model in this process."""

    def __init__(self, model: ServedModel, options: DecodingOptions, languages: tuple[str, str]) -> None:
        """Take a model whose engine is running. The engine is closed with the system.

        Args:
            model: The model.
            options: Options of the search.
            languages: Source and target; empty ones stand for those of the model.
        """
        self._model, self._options, self._languages = model, options, languages

    def translate(self, texts: Sequence[str], done: Callable[[], object]) -> list[str]:
        """Translate texts, in order. `done` is called after each text."""
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
    """A running server."""

    def __init__(self, address: str, options: Options, *, tls: bool | Tls = False, token: str | Token = "") -> None:
        """Connect to the server. `options` name the model, if the server has several; `tls` and `token` are those of
        TranslationClient.
        """
        self._client = TranslationClient(address, texts_per_call=16, attempts=5, tls=tls, token=token)
        self._options = options

    def translate(self, texts: Sequence[str], done: Callable[[], object]) -> list[str]:
        """Translate texts, in order. `done` is called after each text.

        Raises one of the errors in `dragoman_service.client.errors`.
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
    """Load a bundle on ONNX Runtime, as the server does, with the check of its golden sentences.

    Raises:
        BundleErrors: the bundle cannot be used. The error has every problem.
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
    """Load a checkpoint in PyTorch.

    Raises:
        InvalidInput: the checkpoint is missing or damaged.
    """
    from dragoman_model.checkpoint import load_checkpoint  # noqa: PLC0415 - PyTorch is not needed for the other systems
    from dragoman_model.evaluation.torch_runner import TorchRunner  # noqa: PLC0415

    checkpoint = load_checkpoint(folder)
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    runner = TorchRunner(checkpoint.model.to(device), max_rows=max_rows)
    scheduler = Scheduler(
        max_rows=max_rows,
        begin_id=tokenizer.begin_id,
        end_id=tokenizer.end_id,
        vocab_size=config.model.vocab_size,
        byte_pieces=BytePieces(tokenizer.byte_ids),
    )
    lanes = Lanes([Lane(scheduler, runner)])
    lanes.start()
    engine = Engine(lanes, max_queue=MAX_QUEUE, max_queue_tokens=MAX_QUEUE_TOKENS)
    description = ModelDescription(
        name=folder.name,
        version="0",
        description="",
        languages=Languages(config.language_pairs),
        precision="fp32",
        device=device,
        max_source_tokens=config.max_source_tokens,
        max_target_tokens=config.max_target_tokens - 1,  # without the end of the sentence
        max_rows=max_rows,
        max_candidates=config.model.vocab_size,
    )
    return LocalSystem(ServedModel(description, tokenizer, engine), options, languages)
