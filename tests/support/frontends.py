"""Helpers that run a frontend on its own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from dragoman_service.engine.request import DecodingOptions
from dragoman_service.repository.models import ServedModel
from dragoman_service.repository.registry import ModelRegistry
from dragoman_service.translation.assembly import TextResult
from dragoman_service.translation.frontend import Call, Frontend
from dragoman_service.translation.settings import RequestLimits

LIMITS = RequestLimits(max_texts=8, max_characters=1_000, window=4)


def on_frontend(
    model: ServedModel, work: Callable[[Frontend], Coroutine[Any, Any, Any]], limits: RequestLimits = LIMITS
) -> Any:
    """Run `work` with a frontend on a fresh event loop."""

    async def run() -> Any:
        frontend = Frontend(ModelRegistry([model]), limits)
        try:
            return await asyncio.wait_for(work(frontend), 30)
        finally:
            frontend.close()
            model.engine.close()

    return asyncio.run(run())


def call(model: ServedModel, *texts: str, **fields: Any) -> Call:
    route = ModelRegistry([model]).route("", "", "")
    return Call(**{"texts": texts, "route": route, "options": DecodingOptions(), **fields})


def translate(model: ServedModel, *texts: str, **fields: Any) -> list[TextResult]:
    return on_frontend(model, lambda frontend: frontend.translate(call(model, *texts, **fields)))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def collect(items: AsyncIterator[str | TextResult]) -> list[str | TextResult]:
    return [item async for item in items]
