"""Scoring of given translations by a frontend whose engine answers what a test wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from dragoman_service.bundle.languages import Languages
from dragoman_service.engine.request import Event, Finished, FinishReason, Hypothesis, Request
from dragoman_service.engine.restrictions import Exactly
from dragoman_service.errors import InvalidInput, Overloaded, ShuttingDown
from dragoman_service.repository.models import ServedModel
from dragoman_service.translation.dispatch import Asked, Dispatcher
from dragoman_service.translation.frontend import Frontend
from support.fake_workers import CharacterTokenizer, FakeWorkers, served
from translation.test_dispatch import FRENCH, GERMAN, make_call, on_dispatcher

UNWRITABLE = "\u2603"


def write(request: Request) -> list[Event]:
    """Write what the request is restricted to, up to the first token that no model writes."""
    (restriction,) = request.restrictions
    assert isinstance(restriction, Exactly)
    text = CharacterTokenizer().decode(restriction.tokens)
    tokens = restriction.tokens[: len(text.partition(UNWRITABLE)[0])]
    return [Finished(request.id, (Hypothesis(tokens, (-0.5,) * len(tokens), -1.0, FinishReason.STOP, -0.25),))]


def model(source: str = "de", workers: FakeWorkers | None = None) -> ServedModel:
    return served(workers or FakeWorkers(write), name=f"{source}-en", languages=Languages(((source, "en"),)))


def score(models: Sequence[ServedModel], texts: Sequence[str], translations: Sequence[str]) -> list[Hypothesis]:
    async def work(dispatcher: Dispatcher, _: Frontend) -> list[Hypothesis]:
        ways = await dispatcher.ways(Asked("", "", "en"), texts, "client")
        return await dispatcher.score(ways, texts, translations, make_call)

    found: list[Hypothesis] = on_dispatcher(models, work)
    return found


def test_a_refused_translation_is_named_by_its_place_in_the_call() -> None:
    with pytest.raises(InvalidInput) as caught:
        score([model("de"), model("fr")], [GERMAN, FRENCH, GERMAN], ["a", "b", ""])
    assert caught.value.field == "translations[2]"
    assert not caught.value.after_work


def test_a_refusal_after_some_have_been_scored_counts_as_work() -> None:
    with pytest.raises(
        InvalidInput, match=r"translations\[0\]: got '\u2603'; allowed: text that the model can write"
    ) as caught:
        score([model()], [GERMAN], [f"a {UNWRITABLE} b"])
    assert caught.value.after_work
    workers = FakeWorkers()
    workers.refuse_after = 0
    with pytest.raises(Overloaded) as overloaded:
        score([model("de"), model("fr", workers)], [GERMAN, FRENCH], ["a", "b"])
    assert overloaded.value.after_work


def test_the_end_of_the_longest_translation_is_scored() -> None:
    limit = model().description.max_target_tokens
    (found,) = score([model()], ["a"], ["b" * (limit - 1)])
    assert found.end_score == -0.25
    with pytest.raises(InvalidInput, match=rf"translations\[0\]: got '{limit} tokens'; allowed: at most {limit - 1}"):
        score([model()], ["a"], ["b" * limit])


def test_nothing_is_tokenised_for_a_call_that_is_not_admitted() -> None:
    class Untouched(CharacterTokenizer):
        def encode(self, text: str) -> list[int]:
            raise AssertionError

    closed = replace(model(), tokenizer=Untouched())
    closed.engine.close()
    with pytest.raises(ShuttingDown):
        score([closed], ["a"], ["b"])
