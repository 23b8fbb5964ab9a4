"""CTranslate2 behind gRPC with dynamic batching: calls are collected for a limited time, then translated together.

    python bench/peers/ct2_server.py MODEL TOKENIZER --batch-size 32 --wait-ms 5 --workers 2 --threads 1

It implements the `Translate` call of dragoman.v1, one text a call, so that Dragoman's client can call it. It prints its
address and "ready".
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.measure.calls import Search
from bench.peers.ct2_direct import Ct2Translator, Layout, Translated
from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc


class _Waiting(NamedTuple):
    text: str
    search: Search
    arrived: float
    answer: asyncio.Future[Translated]


class Batcher:
    """Forms batches of at most `batch_size` waiting calls, in one loop for each worker.

    A call waits at most `wait` seconds for others. Calls with different beam size, maximum length or length penalty
    never share a batch.
    """

    def __init__(self, translator: Ct2Translator, workers: int, batch_size: int, wait: float) -> None:
        self._translator = translator
        self._batch_size = batch_size
        self._wait = wait
        self._queues: dict[Search, asyncio.Queue[_Waiting]] = {}
        self._threads = ThreadPoolExecutor(workers)
        self._workers = workers
        self._loops: list[asyncio.Task[None]] = []

    async def translate(self, text: str, search: Search) -> Translated:
        """Queue a text and wait for its translation."""
        loop = asyncio.get_running_loop()
        if search not in self._queues:
            self._queues[search] = asyncio.Queue()
            self._loops += [loop.create_task(self._work(self._queues[search])) for _ in range(self._workers)]
        waiting = _Waiting(text, search, loop.time(), loop.create_future())
        self._queues[search].put_nowait(waiting)
        return await waiting.answer

    async def _work(self, queue: asyncio.Queue[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await queue.get()]
            deadline = batch[0].arrived + self._wait
            while len(batch) < self._batch_size:
                if queue.empty():
                    if loop.time() >= deadline:
                        break
                    try:
                        async with asyncio.timeout_at(deadline):
                            batch.append(await queue.get())
                    except TimeoutError:
                        break
                else:
                    batch.append(queue.get_nowait())
            texts = [waiting.text for waiting in batch]
            try:
                found = await loop.run_in_executor(self._threads, self._translator.translate, texts, batch[0].search)
            except Exception as error:  # passed on to the callers
                for waiting in batch:
                    waiting.answer.set_exception(error)
                continue
            for waiting, translated in zip(batch, found, strict=True):
                if not waiting.answer.done():  # the caller may have cancelled
                    waiting.answer.set_result(translated)


class Ct2Servicer(translation_pb2_grpc.TranslationServicer):
    """Answers `Translate` calls of one text."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    async def Translate(  # noqa: N802 - the name in the interface
        self, request: pb.TranslateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.TranslateResponse:
        """Translate one text. The request must have beam_size, max_length and length_penalty."""
        options = request.options
        if len(request.texts) != 1 or not (options.beam_size and options.max_length):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "one text, with beam_size and max_length")
        search = Search(options.beam_size, options.max_length, options.length_penalty)
        found = await self._batcher.translate(request.texts[0], search)
        translation = pb.TextTranslation(
            hypotheses=[pb.Hypothesis(text=found.text)],
            source_tokens=found.source_tokens,
            target_tokens=found.target_tokens,
            sentences=1,
        )
        return pb.TranslateResponse(translations=[translation])


async def serve(args: argparse.Namespace) -> None:
    """Serve until killed."""
    layout = Layout(args.workers, args.threads)
    translator = Ct2Translator(args.model, args.tokenizer, args.compute_type, layout)
    batcher = Batcher(translator, args.workers, args.batch_size, args.wait_ms / 1000)
    server = grpc.aio.server()
    translation_pb2_grpc.add_TranslationServicer_to_server(Ct2Servicer(batcher), server)
    port = server.add_insecure_port(f"127.0.0.1:{args.port}")
    await server.start()
    print(f"gRPC     127.0.0.1:{port}\nready", flush=True)
    await server.wait_for_termination()


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a CTranslate2 model")
    parser.add_argument("tokenizer", type=Path, help="its SentencePiece model")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default: 0)")
    parser.add_argument("--batch-size", type=int, default=32, help="most sentences in a batch (default: 32)")
    parser.add_argument("--wait-ms", type=float, default=5.0, help="longest wait for other calls (default: 5)")
    parser.add_argument("--workers", type=int, default=1, help="batches translated in parallel (default: 1)")
    parser.add_argument("--threads", type=int, default=0, help="threads of each; 0: one for each core (default: 0)")
    parser.add_argument("--compute-type", default="int8", help="CTranslate2's compute type (default: int8)")
    return parser


def main() -> int:
    """Run from the command line."""
    asyncio.run(serve(argument_parser().parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
