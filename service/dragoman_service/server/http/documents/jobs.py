"""Documents that are translated in the background."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import time
from collections import Counter
from contextlib import suppress
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.errors import NotFound, Overloaded, ShuttingDown
from dragoman_service.server.call_lifecycle import Context
from dragoman_service.server.document_settings import DocumentSettings
from dragoman_service.server.http.context import Aborted
from dragoman_service.server.http.documents.job import Job, Problem, State
from dragoman_service.server.http.documents.process import DocumentFailed, DocumentProcess
from dragoman_service.server.http.documents.spool import Spool
from dragoman_service.server.http.documents.translation import DocumentCalls, Services
from dragoman_service.server.http.failure import Failure
from dragoman_service.translation.frontend import begun

_RUNNING = 4
"""Documents that this process translates at once."""
_RUNNING_OF_CLIENT = 2
"""Of one client: those of others need not wait for all of its documents."""
_RETRY_SECONDS = 30.0
"""After which a client may try again that has too many documents."""
_WRITE_SECONDS = 0.5
"""Least time between two reports of the progress of a job."""
_CLEAN_SECONDS = 10.0
_POLL_SECONDS = 0.25
"""Time between two looks at a job that another process may run."""

_log = logging.getLogger(__name__)


class DocumentJobs:
    """The documents of a server, seen from one of its processes. For one event loop."""

    def __init__(self, services: Services, spool: Spool, settings: DocumentSettings) -> None:
        self._services = services
        self._spool = spool
        self._settings = settings
        self._running: dict[str, asyncio.Task[None]] = {}
        self._arriving: dict[asyncio.Task[Any], str] = {}
        """The task of each request whose document arrives, and its client."""
        self._room = asyncio.Lock()
        """Held while documents are counted, so that none is counted twice or not at all."""
        self._places = asyncio.Semaphore(_RUNNING)
        self._places_of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._cleaning = asyncio.create_task(self._clean())
        self._stopping = False

    @property
    def max_bytes(self) -> int:
        """Largest document."""
        return self._settings.max_bytes

    async def expect(self, client: str) -> None:
        """Count the document that the current task is about to read, until it is added or the task has ended.

        Raises:
            Overloaded: the client may not send a further document now.
            ShuttingDown: nobody may.
        """
        task = _current_task()
        async with self._room:
            await self._check_room(client)
            self._arriving[task] = client
        task.add_done_callback(lambda _: self._arriving.pop(task, None))

    async def _check_room(self, client: str) -> None:
        """Check that there is room for one more document of a client, beside those that others send or have sent."""
        if self._stopping:
            raise ShuttingDown("the server is shutting down")
        of_clients = await asyncio.to_thread(lambda: Counter(job.owner for job in self._spool.jobs()))
        own = _current_task()
        of_clients.update(other for task, other in self._arriving.items() if task is not own)
        most = self._settings.max_documents
        if of_clients.total() >= most or of_clients[client] >= max(1, most // 2):
            message = f"too many documents: {most} are kept, and {max(1, most // 2)} of one client; delete some"
            raise Overloaded(message, retry_after=_RETRY_SECONDS)

    async def add(self, job: Job, document: BinaryIO, context: Context, template: pb.TranslateRequest) -> None:
        """Begin to translate a document that the current task was told to `expect`.

        Args:
            job: What is known of it.
            document: All of it, from its beginning.
            context: Of the call that brought it.
            template: How its texts are translated.

        Raises:
            Overloaded: the client may not send a further document now, or the disk is full.
            ShuttingDown: the server ends.
        """
        calls = DocumentCalls(self._services, context, template)
        # If this process ends before the job does, its folder must go too.
        job.expires = time.time() + self._settings.document_timeout + self._settings.document_ttl
        try:
            async with self._room:
                await self._check_room(job.owner)  # by now the client may have shown a token
                lock = self._spool.add(job)
                self._arriving.pop(_current_task(), None)
            try:
                await asyncio.to_thread(self._keep, job, document)
            except BaseException:
                self._spool.remove(job.id)
                os.close(lock)
                raise
        except OSError as error:
            _log.error("a document cannot be kept: %s", error)
            raise Overloaded(f"the server cannot keep documents now: {error.strerror}", _RETRY_SECONDS) from None
        running = asyncio.create_task(self._run(job, calls, lock))
        self._running[job.id] = running
        running.add_done_callback(lambda _: self._running.pop(job.id, None))

    def _keep(self, job: Job, document: BinaryIO) -> None:
        with self._spool.input(job).open("xb") as file:
            shutil.copyfileobj(document, file)

    def find(self, name: str, client: str) -> Job:
        """A job of a client as it is now. Raises NotFound."""
        job = self._spool.find(name)
        if job is None or job.owner != client:
            raise _no_document()
        return job

    def find_by_key(self, name: str, key: str) -> Job:
        """A job of whoever knows its key. Raises NotFound."""
        job = self._spool.find(name)
        if job is None or not secrets.compare_digest(job.key.encode(), key.encode(errors="replace")):
            raise _no_document()
        return job

    def find_by_id(self, name: str) -> Job:
        """A job of whoever knows its id. Raises NotFound."""
        job = self._spool.find(name)
        if job is None:
            raise _no_document()
        return job

    async def wait(self, job: Job, seconds: float) -> Job:
        """The job when it has ended, or as it is after so many seconds. Raises NotFound if it has been removed."""
        end = time.monotonic() + seconds
        while not job.state.is_final and time.monotonic() < end:
            if (task := self._running.get(job.id)) is not None:
                await asyncio.wait((task,), timeout=end - time.monotonic())
            else:
                await asyncio.sleep(_POLL_SECONDS)
            job = self.find_by_id(job.id)
        return job

    async def translated(self, job: Job) -> bytes:
        """The translated document. Raises NotFound if there is none, or not yet."""
        if job.state is not State.DONE:
            raise NotFound(f"the document has failed: {job.error}" if job.error else "it is not translated yet")
        try:
            return await asyncio.to_thread(self._spool.output(job).read_bytes)
        except FileNotFoundError:
            raise _no_document() from None

    def remove(self, job: Job) -> None:
        """Remove a document and its translation. What is being translated is stopped."""
        self._spool.remove(job.id)
        if (task := self._running.get(job.id)) is not None:
            task.cancel()

    async def stop(self, seconds: float) -> None:
        """Take no more documents. Those that are being translated have so many seconds; then they fail."""
        self._stopping = True
        self._cleaning.cancel()
        if self._running:
            await asyncio.wait(list(self._running.values()), timeout=seconds)
        for task in list(self._running.values()):
            task.cancel()
        while self._running:
            await asyncio.wait(list(self._running.values()))

    async def _run(self, job: Job, calls: DocumentCalls, lock: int) -> None:
        begun.set(True)
        try:
            async with asyncio.timeout(self._settings.document_timeout):
                own = self._places_of.setdefault(job.owner, asyncio.Semaphore(_RUNNING_OF_CLIENT))
                async with own, self._places:
                    await self._translate(job, calls)
            job.state = State.DONE
        except asyncio.CancelledError:
            job.error = "the server was stopped"
        except TimeoutError:
            job.error = f"it took longer than {self._settings.document_timeout:g} s"
        except FileNotFoundError:  # it has been removed
            job.error = "it was deleted"
        except Aborted as aborted:
            job.error = Failure(aborted.status, had_key=False).message
        except DocumentFailed as error:
            job.error = str(error)
        except OSError as error:
            _log.error("a document cannot be kept: %s", error)
            job.error = f"the server cannot keep it: {error.strerror}"
        except Exception:
            _log.exception("document %s failed", job.id)
            job.error = f"internal error; the server's log has it under document {job.id}"
        finally:
            self._end(job, lock)

    def _end(self, job: Job, lock: int) -> None:
        if job.error:
            job.state = State.FAILED
        job.expires = time.time() + self._settings.document_ttl
        with suppress(OSError):
            self._spool.input(job).unlink()
            self._spool.write(job)
        os.close(lock)
        self._services.metrics.documents.labels(job.state.value).inc()

    async def _translate(self, job: Job, calls: DocumentCalls) -> None:
        job.state = State.RUNNING
        self._spool.write(job)
        data = await asyncio.to_thread(self._spool.input(job).read_bytes)
        async with DocumentProcess(job.format, self._settings.max_bytes) as process:
            texts = await process.read(data)
            del data
            job.texts, job.characters = len(texts.texts), sum(map(len, texts.texts))
            if not job.source_language and texts.texts:
                job.source_language = await calls.detect(texts)
            self._spool.write(job)
            translations: list[str | None] = []
            reported = time.monotonic()
            async for outcome in calls.translated(texts):
                if outcome.problem:
                    job.add_problem(Problem(texts.places[len(translations)], outcome.problem))
                translations.append(outcome.text)
                job.texts_done = len(translations)
                if time.monotonic() - reported >= _WRITE_SECONDS:
                    self._spool.write(job)
                    reported = time.monotonic()
            written = await process.write(translations)
        await asyncio.to_thread(self._spool.output(job).write_bytes, written)

    async def _clean(self) -> None:
        while True:
            await asyncio.sleep(min(_CLEAN_SECONDS, self._settings.document_ttl))
            try:
                await asyncio.to_thread(self._spool.clean)
            except OSError as error:
                _log.warning("documents cannot be removed: %s", error)


def _no_document() -> NotFound:
    return NotFound("no such document, or no more: it may have expired, been deleted, or be of another client")


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task
