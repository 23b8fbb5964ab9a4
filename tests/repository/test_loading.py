from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.manifest import Generation, tensor_names_of_format_2
from dragoman_service.client.client import TranslationClient
from dragoman_service.client.values import Options
from dragoman_service.engine.engine import Engine
from dragoman_service.engine.lanes import one_lane
from dragoman_service.engine.request import DecodingOptions
from dragoman_service.engine.settings import EngineSettings
from dragoman_service.errors import InvalidInput
from dragoman_service.repository import loading
from dragoman_service.repository.loading import BundleErrors, load_models
from dragoman_service.repository.settings import ModelSettings
from dragoman_service.runtime.runner import OrtRunner
from dragoman_service.server.metrics import Metrics
from dragoman_service.server.settings import ServiceConfig
from support.format_2 import bundle_of_format_2
from support.parity import served
from support.server_thread import serving


def load(*paths: Path) -> Any:
    return load_models(paths, ModelSettings(engine=EngineSettings(threads=1, max_rows=4)), Metrics(CollectorRegistry()))


def changed(bundle: Bundle, path: Path, **fields: Any) -> Path:
    """A copy of a bundle whose manifest says something else."""
    shutil.copytree(bundle.path, path)
    value = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**value, **fields}))
    return path


@pytest.mark.parametrize("cache", [{"num_heads": 2000}, {"head_dim": 10**9}, {"num_heads": 10**7, "head_dim": 10**4}])
def test_a_cache_that_is_not_the_models_is_a_problem_of_the_bundle(
    tiny_bundle: Bundle, tmp_path: Path, cache: dict[str, int]
) -> None:
    layout = {**dataclasses.asdict(tiny_bundle.manifest.cache), **cache}
    # The architecture says nothing, so that only running it can tell.
    path = changed(tiny_bundle, tmp_path / "odd", architecture={}, cache=layout)
    with pytest.raises(BundleErrors, match="the model cannot be run as its manifest says"):
        load(path)


@pytest.mark.parametrize("failure", [MemoryError(), KeyboardInterrupt()])
def test_models_that_have_started_are_closed_on_any_failure(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    closed: list[Engine] = []
    start, close = loading._start, Engine.close

    def start_one(*arguments: Any) -> Any:
        if arguments[0].manifest.name == "second":
            raise failure
        return start(*arguments)

    def noted(engine: Engine) -> None:
        closed.append(engine)
        close(engine)

    monkeypatch.setattr(loading, "_start", start_one)
    monkeypatch.setattr(Engine, "close", noted)
    with pytest.raises(type(failure)):
        load(tiny_bundle.path, changed(tiny_bundle, tmp_path / "second", name="second"))
    assert len(closed) == 1


def test_two_models_of_one_name_are_refused_before_any_is_started(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_start", lambda *arguments: pytest.fail("started"))
    with pytest.raises(InvalidInput, match="tiny"):
        load(tiny_bundle.path, tiny_bundle.path)


@pytest.mark.parametrize(
    ("of_model", "of_operator", "beam"),
    [(None, None, 4), (2, None, 2), (2, 1, 1), (None, 1, 1), (6, None, 6), (16, None, 8), (2, 7, 7)],
)
def test_the_default_beam_is_the_operators_then_the_models_then_four(
    tiny_bundle: Bundle, of_model: int | None, of_operator: int | None, beam: int
) -> None:
    generation = Generation(of_model, 0.3)
    bundle = dataclasses.replace(
        tiny_bundle, manifest=dataclasses.replace(tiny_bundle.manifest, generation=generation, licence="MIT")
    )
    settings = ModelSettings(engine=EngineSettings(max_rows=8, lanes=1), default_beam_size=of_operator)
    description = loading.describe(bundle, one_lane(settings.engine), "cpu", settings)
    assert (description.default_beam_size, description.default_length_penalty) == (beam, 0.3)
    assert (description.licence, description.languages) == ("MIT", tiny_bundle.manifest.languages)


def test_a_bundle_of_format_2_is_served_and_translates_as_alone(tmp_path: Path) -> None:
    bundle = bundle_of_format_2(tmp_path / "tiny" / "1")
    assert bundle.manifest.tensors == tensor_names_of_format_2(bundle.manifest.cache.decoder_layers)
    models = load(bundle.path)
    with serving(models) as server, TranslationClient(server.address) as client:
        for golden in bundle.golden:
            options = Options(beam_size=golden.beam_size, length_penalty=golden.length_penalty,
                              max_length=golden.max_length, return_tokens=True)  # fmt: skip
            (found,) = client.translate([golden.source], options)
            search = DecodingOptions(
                beam_size=golden.beam_size, length_penalty=golden.length_penalty, max_length=golden.max_length
            )
            (alone,) = served(bundle, [golden.source_ids], golden.beam_size, search, as_texts=True)
            assert found.hypotheses[0].tokens == tuple(bundle.tokenizer.pieces(alone.tokens)), golden.source
    models[0].engine.close()


def test_lanes_share_one_set_of_weights_and_are_closed_together(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[OrtRunner] = []
    init = OrtRunner.__init__

    def noted(runner: OrtRunner, *arguments: Any, **options: Any) -> None:
        made.append(runner)
        init(runner, *arguments, **options)

    monkeypatch.setattr(OrtRunner, "__init__", noted)
    config = ServiceConfig.of(model_paths=(tiny_bundle.path,), threads=3, lanes=3, max_rows=13)
    (model,) = load_models(config.model_paths, config.model, Metrics(CollectorRegistry()))
    assert len({id(runner.graphs) for runner in made[:3]}) == 1
    assert [runner.max_rows for runner in made] == [5, 5, 5, 1], "the last one tries the limits"
    assert (model.description.max_rows, model.description.max_request_rows) == (15, 5)
    assert model.engine.permits.capacity == config.model.engine.max_queue
    model.engine.close()
    assert not any(hasattr(runner, "graphs") for runner in made)


def test_a_runner_that_fails_closes_those_made_before(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[OrtRunner] = []

    def warm_up(runner: OrtRunner) -> None:
        made.append(runner)
        if len(made) == 2:
            raise MemoryError

    monkeypatch.setattr(OrtRunner, "warm_up", warm_up)
    config = ServiceConfig.of(model_paths=(tiny_bundle.path,), threads=2, lanes=2)
    with pytest.raises(BundleErrors, match="MemoryError"):
        load_models(config.model_paths, config.model, Metrics(CollectorRegistry()))
    assert len(made) == 2
    assert not any(hasattr(runner, "graphs") for runner in made)
