"""Detection of languages on an event loop: the model is loaded once, on a thread, when it is first needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from dragoman_service.text.detection import SAMPLE_CHARACTERS, Candidate, Detector, load_detector
from dragoman_service.translation.text_worker import Steps, TextWorker, run_inline

_INLINE_CHARACTERS = 2_000
"""More characters are looked at on a thread, so that it does not block the event loop."""
_CHARACTERS_PER_TEXT = 50
"""As many characters as a text takes time by itself."""


class Detection:
    """Detects languages for the calls of one event loop."""

    def __init__(self, worker: TextWorker, load: Callable[[], Detector] = load_detector) -> None:
        self._worker = worker
        self._load = load
        self._loading: asyncio.Future[Detector] | None = None

    async def detector(self) -> Detector:
        """The detector. Loads it if this has not been done."""
        loading = self._loading
        if loading is None or (loading.done() and (loading.cancelled() or loading.exception())):
            loading = self._loading = asyncio.ensure_future(asyncio.to_thread(self._load))
        return await asyncio.shield(loading)  # others may wait for it too

    async def detect(self, client: str, texts: Sequence[str], languages: Sequence[str]) -> list[list[Candidate]]:
        """For each text of a client, the languages that it may be in. See `Detector.detect`."""
        detector = await self.detector()

        def steps() -> Steps[list[list[Candidate]]]:
            found = []
            for text in texts:
                found.append(detector.detect(text, languages))
                yield
            return found

        characters = sum(_CHARACTERS_PER_TEXT + min(len(text), SAMPLE_CHARACTERS) for text in texts)
        if characters <= _INLINE_CHARACTERS:
            return run_inline(steps())
        return await self._worker.run(client, steps())
