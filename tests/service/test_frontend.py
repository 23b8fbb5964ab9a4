from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from dragoman_service.config import RequestLimits
from dragoman_service.errors import (
    DeadlineExceeded,
    DragomanError,
    EngineFailure,
    InvalidInput,
    NotFound,
    Overloaded,
    ShuttingDown,
)
from dragoman_service.frontend import Call, Frontend
from dragoman_service.models import ServedModel
from dragoman_service.prepare import Sender, TextResult
from dragoman_service.registry import ModelRegistry
from dragoman_service.request import DecodingOptions, Event, Failed, FinishReason, Request, Sampling
from support.fake_engine import FIRST, CharacterTokenizer, FakeEngine, served, shout

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


def test_order_spacing_and_counts() -> None:
    texts = ("One. Two!\n\n  three\t", "", " \n", "four", "***")
    results = translate(served(FakeEngine()), *texts)
    assert [result.hypotheses[0].text for result in results] == ["ONE. TWO!\n\n  THREE\t", "", " \n", "FOUR", "***"]
    assert [result.sentences for result in results] == [3, 0, 0, 1, 0]
    assert [result.source_tokens for result in results] == [4 + 1 + 4 + 1 + 5 + 1, 0, 0, 5, 0]
    assert all(result.hypotheses[0].finish_reason is FinishReason.STOP for result in results)


def test_hypotheses_join_by_rank_and_scores_add_up() -> None:
    options = DecodingOptions(beam_size=2, num_hypotheses=2)
    (result,) = translate(served(FakeEngine()), "a\nb", options=options)
    assert [(hypothesis.text, hypothesis.score) for hypothesis in result.hypotheses] == [
        ("A\nB", -2.0),
        ("A!\nB!", -4.0),
    ]
    assert len(result.hypotheses[1].tokens) == len(result.hypotheses[1].token_scores) == 4


def test_timings_are_the_longest_of_each() -> None:
    (result,) = translate(served(FakeEngine()), "abcdefghi\nb")
    assert (result.timings.queue, result.timings.encode, result.timings.decode) == (0.25, 0.5, 9 / 8)


def test_one_cut_sentence_makes_the_text_cut() -> None:
    results = translate(served(FakeEngine()), "a\nbcdef\ng", "a", options=DecodingOptions(max_length=3))
    assert [result.hypotheses[0].finish_reason for result in results] == [FinishReason.LENGTH, FinishReason.STOP]


def test_prefix_goes_to_the_first_sentence_of_its_text() -> None:
    model = served(FakeEngine())
    results = translate(model, " ***\na\nb", "c", target_prefixes=("X", ""))
    assert [result.hypotheses[0].text for result in results] == [" ***\nXA\nB", "C"]


def test_overlong_sentence_is_split_and_nothing_is_lost() -> None:
    engine = FakeEngine()
    text = "word " * 50 + "x" * 300
    (result,) = translate(served(engine, max_source_tokens=21), text)
    assert result.hypotheses[0].text == text.upper()
    assert all(len(request.source) <= 21 for request in engine.submitted)


@pytest.mark.parametrize(
    ("texts", "fields", "field"),
    [
        ((), {}, "texts"),
        (("a",) * 9, {}, "texts"),
        (("a", "b" * 1_001), {}, "texts[1]"),
        (("a", "b"), {"target_prefixes": ("x",)}, "target_prefixes"),
        ((" ",), {"target_prefixes": ("x",)}, "target_prefix"),
        (("a",), {"target_prefixes": ("x" * 200,)}, "target_prefix"),
        (("a",), {"options": DecodingOptions(max_length=201)}, "max_length"),
        (("a",), {"options": DecodingOptions(min_length=201)}, "min_length"),
        (("a",), {"options": DecodingOptions(beam_size=16)}, "beam_size"),
        (("a",), {"options": DecodingOptions(num_hypotheses=16, sampling=Sampling())}, "num_hypotheses"),
        (("a",), {"options": DecodingOptions(sampling=Sampling(top_k=13))}, "sampling.top_k"),
        (("a",), {"options": DecodingOptions(beam_size=7)}, "beam_size"),
    ],
)
def test_bad_input_names_the_field_and_reaches_no_engine(
    texts: tuple[str, ...], fields: dict[str, Any], field: str
) -> None:
    engine = FakeEngine()
    model = served(engine, max_rows=8, max_candidates=12)
    with pytest.raises(InvalidInput) as caught:
        translate(model, *texts, **fields)
    assert caught.value.field == field
    assert engine.submitted == []
    assert model.permits.free == model.permits.capacity


def test_a_sentence_has_the_rows_of_one_lane() -> None:
    model = served(FakeEngine(), max_rows=8, lanes=2)
    assert translate(model, "a", options=DecodingOptions(beam_size=4))
    with pytest.raises(InvalidInput, match="beam_size: got 5; allowed: 1 to 4"):
        translate(served(FakeEngine(), max_rows=8, lanes=2), "a", options=DecodingOptions(beam_size=5))


def test_a_call_keeps_to_its_window() -> None:
    engine = FakeEngine()
    model = served(engine)
    (result,) = translate(model, "\n".join("abcdefghij"))
    assert result.hypotheses[0].text == "\n".join("ABCDEFGHIJ")
    assert engine.most_running <= LIMITS.window
    assert model.permits.free == model.permits.capacity


def test_full_queue_refuses_at_once_and_few_permits_only_slow_down() -> None:
    engine = FakeEngine(held=True)
    model = served(engine, permits=6)

    async def work(frontend: Frontend) -> None:
        big = asyncio.create_task(frontend.translate(call(model, *"abcdef")))
        await until(lambda: engine.running == 4)  # its window
        rest = asyncio.create_task(frontend.translate(call(model, *"uvwxyz", sender=Sender("another"))))
        await until(lambda: engine.running == 5)  # what there was for it
        third = asyncio.create_task(frontend.translate(call(model, "q", sender=Sender("third"))))
        await until(lambda: engine.running == 6)
        with pytest.raises(Overloaded):
            await frontend.translate(call(model, "q", sender=Sender("fourth")))
        engine.release()
        assert [result.hypotheses[0].text for result in await big] == list("ABCDEF")
        assert [result.hypotheses[0].text for result in await rest] == list("UVWXYZ")
        await third

    on_frontend(model, work)
    assert model.permits.free == 6


def test_cancelling_a_call_cancels_all_its_sentences() -> None:
    engine = FakeEngine(held=True)
    model = served(engine)

    async def work(frontend: Frontend) -> None:
        task = asyncio.create_task(frontend.translate(call(model, "a\nb\nc", "d")))
        await until(lambda: engine.running == 4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.running == 0
        assert len(engine.cancelled) == 4
        await until(lambda: model.permits.free == model.permits.capacity)

    on_frontend(model, work)


@pytest.mark.parametrize("stream", [False, True])
def test_permits_of_a_cancelled_call_come_back_when_the_engine_has_let_go(stream: bool) -> None:
    engine = FakeEngine(held=True)
    engine.deaf = True
    model = served(engine, permits=3)

    async def work(frontend: Frontend) -> None:
        wanted = call(model, "a\nb")
        task = asyncio.create_task(collect(frontend.stream(wanted)) if stream else frontend.translate(wanted))
        await until(lambda: engine.running == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(engine.cancelled) == 2
        assert model.permits.free == 1  # else a call admitted now would be refused by the engine, halfway
        engine.release()
        await until(lambda: model.permits.free == 3)

    on_frontend(model, work)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_gives_permits_back_as_fewer_sentences_remain(stream: bool) -> None:
    last = FIRST + ord("d")

    def script(request: Request) -> list[Event]:
        return [] if request.source[0] == last else shout(request)

    engine = FakeEngine(script)
    model = served(engine)

    async def work(frontend: Frontend) -> None:
        wanted = call(model, "a\nb\nc\nd")
        task = asyncio.create_task(collect(frontend.stream(wanted)) if stream else frontend.translate(wanted))
        await until(lambda: model.permits.free == model.permits.capacity - 1)
        assert engine.running == 1
        task.cancel()

    on_frontend(model, work)


def test_one_failed_sentence_fails_the_call_and_cancels_the_others() -> None:
    failure = EngineFailure("out of luck")

    def script(request: Request) -> list[Event]:
        return [Failed(request.id, failure)] if request.source[0] == FIRST + ord("b") else []

    engine = FakeEngine(script)
    model = served(engine)

    async def work(frontend: Frontend) -> None:
        with pytest.raises(EngineFailure, match="out of luck"):
            await frontend.translate(call(model, "a", "b", "c"))
        assert engine.running == 0
        assert len(engine.cancelled) == 2

    on_frontend(model, work)


def test_failures_after_the_first_give_their_permits_back_and_trouble_nobody() -> None:
    engine = FakeEngine(lambda request: [Failed(request.id, EngineFailure(f"number {request.id}"))], held=True)
    model = served(engine)
    trouble: list[object] = []

    async def work(frontend: Frontend) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: trouble.append(context))
        engine.deaf = True  # the others fail by themselves, and not because they are cancelled
        task = asyncio.create_task(frontend.translate(call(model, "a", "b", "c")))
        await until(lambda: engine.running == 3)
        engine.release()
        with pytest.raises(EngineFailure, match="number 0"):
            await task
        await until(lambda: model.permits.free == model.permits.capacity)

    on_frontend(model, work)
    assert trouble == []


def test_engine_that_refuses_midway_fails_the_call_and_leaves_nothing() -> None:
    engine = FakeEngine(held=True)
    engine.refuse_after = 2
    model = served(engine)

    async def work(frontend: Frontend) -> None:
        with pytest.raises(Overloaded):
            await frontend.translate(call(model, "a\nb\nc\nd"))
        assert engine.running == 0

    on_frontend(model, work)


@pytest.mark.parametrize("text", ["One. Two!\n\n three ", "", " \n", "a", "*** a ***"])
@pytest.mark.parametrize("options", [DecodingOptions(), DecodingOptions(beam_size=3, num_hypotheses=3)])
def test_stream_put_together_is_the_result(text: str, options: DecodingOptions) -> None:
    model = served(FakeEngine())
    *chunks, result = on_frontend(model, lambda f: collect(f.stream(call(model, text, options=options))))
    assert "".join(chunks) == result.hypotheses[0].text == text.upper()
    assert all(chunks)
    assert len(result.hypotheses) == options.num_hypotheses


@pytest.mark.parametrize("stream", [False, True])
def test_line_breaks_of_the_model_do_not_shift_lines(stream: bool) -> None:
    def script(request: Request) -> list[Event]:
        return shout(replace(request, source=tuple(FIRST + ord(c) for c in "x\n\0\u2028y ")))

    model = served(FakeEngine(script))
    if stream:
        *chunks, result = on_frontend(model, lambda frontend: collect(frontend.stream(call(model, "a\n\tb"))))
        assert "".join(chunks) == result.hypotheses[0].text
    else:
        (result,) = translate(model, "a\n\tb")
    assert result.hypotheses[0].text == "X   Y\n\tX   Y"


def test_stream_left_early_cancels_all_its_sentences() -> None:
    engine = FakeEngine(held=True)
    model = served(engine)

    async def work(frontend: Frontend) -> None:
        async with aclosing(frontend.stream(call(model, "abc\nd\ne"))) as pieces:
            assert await anext(pieces) == "A"
            assert engine.running == 3
        assert engine.running == 0
        await until(lambda: model.permits.free == model.permits.capacity)

    on_frontend(model, work)


def test_stream_keeps_to_its_window() -> None:
    engine = FakeEngine()
    model = served(engine)
    *_, result = on_frontend(model, lambda f: collect(f.stream(call(model, "\n".join("abcdefghij")))))
    assert result.hypotheses[0].text == "\n".join("ABCDEFGHIJ")
    assert engine.most_running <= LIMITS.window


def test_draining_refuses_new_calls_and_waits_for_running_ones() -> None:
    engine = FakeEngine(held=True)
    model = served(engine)

    async def work(frontend: Frontend) -> None:
        async def answer() -> list[TextResult]:
            with frontend.counted():
                return await frontend.translate(call(model, "a"))

        running = asyncio.create_task(answer())
        await until(lambda: engine.running == 1)
        frontend.stop_accepting()
        with pytest.raises(ShuttingDown), frontend.counted():
            pass
        assert not await frontend.wait_idle(0.01)
        engine.release()
        assert await frontend.wait_idle(30)
        assert (await running)[0].hypotheses[0].text == "A"

    on_frontend(model, work)


def test_big_input_is_prepared_off_the_loop() -> None:
    model = served(FakeEngine())
    limits = RequestLimits(max_characters=100_000)
    text = "x" * 100_000

    async def work(frontend: Frontend) -> tuple[str, int]:
        task = asyncio.create_task(frontend.translate(call(model, text)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()
        (result,) = await task
        return result.hypotheses[0].text, result.sentences

    assert on_frontend(model, work, limits) == (text.upper(), 1024)


def test_requests_are_made_as_their_turn_comes() -> None:
    engine = FakeEngine(held=True)
    model = served(engine)

    async def work(frontend: Frontend) -> None:
        task = asyncio.create_task(frontend.translate(call(model, "a\n" * 500)))
        await until(lambda: engine.running == LIMITS.window)
        assert frontend._receivers.new_id() <= LIMITS.window + 1
        task.cancel()

    on_frontend(model, work)


@pytest.mark.parametrize("stream", [False, True])
def test_big_answers_are_put_together_off_the_loop(stream: bool) -> None:
    model = served(FakeEngine())
    decoding: set[str] = set()

    class Tokenizer(CharacterTokenizer):
        def decode(self, ids: Sequence[int]) -> str:
            decoding.add(threading.current_thread().name.split("_")[0])
            return super().decode(ids)

        def stream_decoder(self) -> CharacterTokenizer:
            return CharacterTokenizer()

    model = replace(model, tokenizer=Tokenizer())
    wanted = call(model, "a\n" * 400)
    if stream:
        *_, result = on_frontend(model, lambda frontend: collect(frontend.stream(wanted)))
    else:
        (result,) = on_frontend(model, lambda frontend: frontend.translate(wanted))
    assert result.hypotheses[0].text == "A\n" * 400
    assert decoding == {"tokenise"}


@pytest.mark.parametrize("texts", [("a\nb\nc", "d", "e"), ("abcdefghij" * 30, "b")])
def test_too_many_sentences_are_refused(texts: tuple[str, ...]) -> None:
    engine = FakeEngine()
    model = served(engine, max_source_tokens=101)
    limits = RequestLimits(max_sentences=4)
    with pytest.raises(InvalidInput, match="texts: got 'more than 4 sentences'; allowed: at most 4"):
        on_frontend(model, lambda frontend: frontend.translate(call(model, *texts)), limits)
    assert engine.submitted == []
    allowed = served(FakeEngine())
    results = on_frontend(allowed, lambda frontend: frontend.translate(call(allowed, "a\nb\n***", "c", "d")), limits)
    assert [result.sentences for result in results] == [2, 1, 1]


class SlowTokenizer(CharacterTokenizer):
    """Waits in `encode` until it is let on, and counts."""

    def __init__(self) -> None:
        self.encoded = 0
        self.go_on = threading.Event()

    def encode(self, text: str) -> list[int]:
        self.encoded += 1
        assert self.go_on.wait(30)
        return super().encode(text)


def test_preparing_ends_with_the_call() -> None:
    tokenizer = SlowTokenizer()
    model = replace(served(FakeEngine()), tokenizer=tokenizer)

    async def work(frontend: Frontend) -> None:
        task = asyncio.create_task(frontend.translate(call(model, "a\n" * 5_000)))
        await until(lambda: tokenizer.encoded == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        tokenizer.go_on.set()
        await frontend.compute(lambda: None, translations=1_000)
        await frontend.compute(lambda: None, translations=1_000)

    on_frontend(model, work, RequestLimits())
    assert tokenizer.encoded < 100


def test_preparing_ends_with_the_deadline() -> None:
    tokenizer = SlowTokenizer()
    tokenizer.go_on.set()
    model = replace(served(FakeEngine()), tokenizer=tokenizer)

    async def work() -> None:
        frontend = Frontend(ModelRegistry([model]), RequestLimits(), clock=lambda: tokenizer.encoded)
        with pytest.raises(DeadlineExceeded):
            await frontend.translate(call(model, "a\n" * 5_000, sender=Sender(deadline=10)))
        frontend.close()

    asyncio.run(work())
    assert tokenizer.encoded == 10


def test_deadline_and_stream_flag_reach_the_engine() -> None:
    engine = FakeEngine()
    translate(served(engine), "a", sender=Sender(deadline=1e12))
    assert [(request.deadline, request.stream) for request in engine.submitted] == [(1e12, False)]


@pytest.mark.parametrize(
    ("name", "source", "target", "expected"),
    [
        ("", "", "", ("two", "en", "de")),
        ("", "EN", "", ("two", "en", "de")),
        ("", "", "fr", ("three", "en", "fr")),
        ("three", "fr", "", ("three", "fr", "en")),
        ("", "fr", "en", ("three", "fr", "en")),
    ],
)
def test_route_finds_what_is_meant(name: str, source: str, target: str, expected: tuple[str, str, str]) -> None:
    route = two_models().route(name, source, target)
    assert (route.model.description.name, route.source_language, route.target_language) == expected


@pytest.mark.parametrize(
    ("name", "source", "target", "error", "message"),
    [
        ("four", "", "", NotFound, "two, three"),
        ("", "en", "xx", NotFound, "two: en to de; three: en to fr, fr to en"),
        ("two", "en", "fr", NotFound, "two: en to de"),
        ("three", "", "", InvalidInput, "en to fr, fr to en"),
    ],
)
def test_route_says_what_there_is(
    name: str, source: str, target: str, error: type[DragomanError], message: str
) -> None:
    with pytest.raises(error, match=message):
        two_models().route(name, source, target)


def two_models() -> ModelRegistry:
    three = served(FakeEngine(shout), name="three", language_pairs=(("en", "fr"), ("fr", "en")))
    return ModelRegistry([served(FakeEngine(shout), name="two"), three])


def test_two_models_of_one_name_are_refused() -> None:
    model = served(FakeEngine())
    with pytest.raises(InvalidInput, match="loud"):
        ModelRegistry([model, model])
