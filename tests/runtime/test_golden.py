from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import pytest

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.bundle.tokenizers.protocol import SpecialIds
from dragoman_service.engine.plan import StepPlan, StepResult
from dragoman_service.engine.request import DecodingOptions, Normalisation
from dragoman_service.runtime import golden
from dragoman_service.runtime.runner import OrtRunner
from support.builders import make_request
from support.fake_runner import FakeRunner

LONG = DecodingOptions(min_length=10**6)


@pytest.fixture(scope="module")
def runner(tiny_bundle: Bundle) -> OrtRunner:
    return OrtRunner(tiny_bundle, max_rows=8, threads=1)


class SlightlyWrong:
    """A runner whose every log-probability is off by the same amount."""

    def __init__(self, runner: OrtRunner, error: float) -> None:
        self.runner, self.error = runner, error

        self.max_positions = runner.max_positions

    def run(self, plan: StepPlan) -> StepResult:
        result = self.runner.run(plan)
        return dataclasses.replace(result, log_probs=[[x + self.error for x in row] for row in result.log_probs])

    def close(self) -> None:
        pass


class Broken:
    max_positions = 64

    def run(self, plan: StepPlan) -> StepResult:
        raise RuntimeError("kernel missing")

    def close(self) -> None:
        pass


def test_both_searches_are_golden_and_some_translations_end_by_themselves(tiny_bundle: Bundle) -> None:
    assert {sentence.beam_size for sentence in tiny_bundle.golden} == {1, 4}
    assert len({len(sentence.target_ids) for sentence in tiny_bundle.golden}) > 3
    for sentence in tiny_bundle.golden:
        assert sentence.source_ids == (*tiny_bundle.tokenizer.encode(sentence.source), tiny_bundle.tokenizer.end_id)
        assert len(sentence.token_scores) == len(sentence.target_ids)


@pytest.mark.parametrize("max_rows", [1, 4, 8])
def test_nothing_is_wrong_with_a_right_runner(tiny_bundle: Bundle, runner: OrtRunner, max_rows: int) -> None:
    assert golden.verify(tiny_bundle, runner, max_rows=max_rows) == []


def test_rounding_is_no_problem_and_more_than_rounding_is(tiny_bundle: Bundle, runner: OrtRunner) -> None:
    assert golden.verify(tiny_bundle, SlightlyWrong(runner, 1e-6), max_rows=8) == []
    problems = golden.verify(tiny_bundle, SlightlyWrong(runner, 0.01), max_rows=8)
    assert len(problems) == len(tiny_bundle.golden)
    assert all("score" in problem for problem in problems)


def test_other_tokens_and_other_source_ids_are_named(tiny_bundle: Bundle, runner: OrtRunner) -> None:
    first, second, *rest = tiny_bundle.golden
    wrong = (
        dataclasses.replace(first, target_ids=(*first.target_ids[:-1], 5)),
        dataclasses.replace(second, source="another text"),
        *rest,
    )
    problems = golden.verify(dataclasses.replace(tiny_bundle, golden=wrong), runner, max_rows=8)
    assert len(problems) == 2
    assert "another text" in problems[0]
    assert "the tokenizer gives other ids" in problems[0]
    assert "token ids" in problems[1]


class _Forcing(Tokenizer):
    """A tokenizer whose model is told the target language by ids that the decoder is fed."""

    target_overhead = 1

    def forced(self, target_language: str) -> tuple[int, ...]:
        return (7,)


def test_forced_ids_are_fed_and_take_a_position(tiny_bundle: Bundle) -> None:
    tokenizer = _Forcing((tiny_bundle.path / "tokenizer.model").read_bytes())
    bundle = dataclasses.replace(tiny_bundle, tokenizer=tokenizer)
    forcing = OrtRunner(bundle, max_rows=8, threads=1)
    assert forcing.max_positions == bundle.manifest.limits.max_target_tokens + 1
    problems = golden.verify(bundle, forcing, max_rows=8)
    assert len(problems) == len(bundle.golden)
    assert all("the tokenizer gives other ids" in problem for problem in problems)

    blanks = [dataclasses.replace(each, forced_ids=(7,)) for each in bundle.golden]
    requests = [golden.request_for(blank, i, bundle.manifest) for i, blank in enumerate(blanks)]
    found = golden.translate(forcing, requests, 8, bundle.manifest.special_ids)
    made = tuple(
        dataclasses.replace(blank, target_ids=it.tokens, token_scores=it.token_scores, score=it.score)
        for blank, it in zip(blanks, found, strict=True)
    )
    OrtRunner(dataclasses.replace(bundle, golden=made), max_rows=8, threads=1).prepare()
    assert {it.target_ids for it in made} != {it.target_ids for it in bundle.golden}

    longest = dataclasses.replace(requests[0], max_length=bundle.manifest.limits.max_target_tokens, options=LONG)
    (cut,) = golden.translate(forcing, [longest], 8, bundle.manifest.special_ids)
    assert len(cut.tokens) == bundle.manifest.limits.max_target_tokens


def test_the_length_penalty_is_that_of_the_manifest(
    tiny_bundle: Bundle, runner: OrtRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert golden.normalisation_of(tiny_bundle.manifest) is Normalisation.GNMT
    generation: Any = SimpleNamespace(generation=SimpleNamespace(normalisation="power"))
    assert golden.normalisation_of(generation) is Normalisation.POWER
    monkeypatch.setattr(golden, "normalisation_of", lambda manifest: Normalisation.POWER)
    problems = golden.verify(tiny_bundle, runner, max_rows=8)
    assert len(problems) == len(tiny_bundle.golden)


def test_the_special_ids_are_those_of_the_manifest() -> None:
    fake = FakeRunner(8)
    request = make_request()
    (found,) = golden.translate(fake, [request], 8, SpecialIds(pad=4, begin=9, end=6, unknown=0))
    assert list(fake.plans[0].tokens) == [9]
    assert 6 not in found.tokens
    (other,) = golden.translate(FakeRunner(8), [request], 8, SpecialIds(pad=4, begin=9, end=7, unknown=0))
    assert other.tokens != found.tokens


def test_not_a_number_is_a_problem(tiny_bundle: Bundle, runner: OrtRunner) -> None:
    wrong = tuple(dataclasses.replace(sentence, score=math.nan) for sentence in tiny_bundle.golden[:1])
    assert golden.verify(dataclasses.replace(tiny_bundle, golden=wrong), runner, max_rows=8)


def test_a_runner_that_raises_is_a_problem_not_a_crash(tiny_bundle: Bundle) -> None:
    assert golden.verify(tiny_bundle, Broken(), max_rows=8) == ["golden sentences cannot be translated: kernel missing"]


def test_decoding_begins_and_ends_with_the_ids_of_the_manifest(tiny_bundle: Bundle, runner: OrtRunner) -> None:
    begun: set[int] = set()

    class Noted(SlightlyWrong):
        def run(self, plan: StepPlan) -> StepResult:
            begun.update(token for token, position in zip(plan.tokens, plan.positions, strict=True) if not position)
            return super().run(plan)

    special = SpecialIds(pad=7, begin=7, end=2, unknown=3)
    other = dataclasses.replace(tiny_bundle, manifest=dataclasses.replace(tiny_bundle.manifest, special_ids=special))
    assert golden.verify(other, Noted(runner, 0.0), max_rows=8) != []
    assert begun == {7}
