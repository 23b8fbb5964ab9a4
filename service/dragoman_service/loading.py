"""From the folders of bundles to models in service: load, check, warm up, prove, start."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dragoman_service.bundle import Bundle
from dragoman_service.config import ServiceConfig
from dragoman_service.engine import Engine
from dragoman_service.errors import BundleError, DragomanError
from dragoman_service.lanes import Division, Lanes, divide
from dragoman_service.metrics import Metrics
from dragoman_service.models import ModelDescription, ServedModel, check_names
from dragoman_service.observer import EngineObserver
from dragoman_service.permits import Permits
from dragoman_service.runner import OrtRunner
from dragoman_service.scheduler import Scheduler


class BundleErrors(DragomanError):
    """Bundles that cannot be served; the message has every problem of every bundle, a line each."""

    reason = "bundle_error"

    def __init__(self, errors: Sequence[BundleError]) -> None:
        super().__init__("\n  ".join(["these models cannot be served:", *(line for e in errors for line in _lines(e))]))
        self.errors = tuple(errors)


def load_models(config: ServiceConfig, metrics: Metrics) -> list[ServedModel]:
    """Load all models, the default first.

    Raises BundleErrors, or InvalidInput for two models of one name or more lanes than threads; then nothing is left
    running.
    """
    division = divide(config, _num_cores())
    bundles = _load_bundles(config.model_paths)
    check_names([bundle.manifest.name for bundle in bundles])  # before minutes are spent on the first of them
    models: list[ServedModel] = []
    try:
        for bundle in bundles:
            models.append(_start(bundle, config, metrics, division))
    except BaseException as error:
        for model in models:
            model.engine.close()
        if isinstance(error, BundleError):
            raise BundleErrors([error]) from error
        raise
    return models


def _load_bundles(paths: Sequence[Path]) -> list[Bundle]:
    bundles: list[Bundle] = []
    errors: list[BundleError] = []
    for path in paths:
        try:
            bundles.append(Bundle.load(path))
        except BundleError as error:
            errors.append(error)
    if errors:
        raise BundleErrors(errors)
    return bundles


def _start(bundle: Bundle, config: ServiceConfig, metrics: Metrics, division: Division) -> ServedModel:
    """Take a bundle into service once its golden sentences come out right on this machine."""
    description = describe(bundle, division)
    runners = _make_runners(bundle, config.device, division)
    try:
        problems = runners[0].verify_golden()  # of the graphs, which are those of the others too
        if problems:
            raise BundleError(bundle.path, problems)
        observer = metrics.observer(description.name)
        lanes = Lanes([_make_engine(bundle, runner, observer, division, config.stream_interval) for runner in runners])
    except BaseException:
        _close(runners)
        raise
    metrics.watch(description, lanes.stats, lambda: lanes.healthy)
    lanes.start()
    return ServedModel(description, bundle.tokenizer, lanes, Permits(config.max_queue))


def _make_engine(
    bundle: Bundle, runner: OrtRunner, observer: EngineObserver, division: Division, stream_interval: float
) -> Engine:
    """The engine of one lane."""
    scheduler = Scheduler(
        max_rows=division.rows,
        max_queue=division.queue,
        begin_id=bundle.tokenizer.begin_id,
        end_id=bundle.tokenizer.end_id,
        stream_interval=stream_interval,
    )
    return Engine(scheduler, runner, observer=observer)


def _make_runners(bundle: Bundle, device: str, division: Division) -> list[OrtRunner]:
    """A runner for each lane, over the same weights, that has run once.

    Raises BundleError if that does not work with what the bundle says of itself.
    """
    runners: list[OrtRunner] = []
    try:
        for _ in range(division.lanes):
            graphs = runners[0].graphs if runners else None
            runners.append(
                OrtRunner(bundle, max_rows=division.rows, threads=division.threads, device=device, graphs=graphs)
            )
            runners[-1].warm_up()
    except BaseException as error:
        _close(runners)
        if isinstance(error, Exception) and not isinstance(error, DragomanError):
            # Of NumPy and ONNX Runtime, whose errors share no base class: shapes that do not fit, too little memory.
            reason = f"{type(error).__name__}: {error}"
            raise BundleError(bundle.path, [f"the model cannot be run as its manifest says ({reason})"]) from error
        raise
    return runners


def _close(runners: Sequence[OrtRunner]) -> None:
    for runner in runners:
        runner.close()


def describe(bundle: Bundle, division: Division) -> ModelDescription:
    """What the world is told about a bundle."""
    manifest = bundle.manifest
    return ModelDescription(
        name=manifest.name,
        version=manifest.version,
        description=manifest.description,
        language_pairs=manifest.language_pairs,
        precision=manifest.precision,
        max_source_tokens=manifest.limits.max_source_tokens,
        max_target_tokens=manifest.limits.max_target_tokens,
        max_candidates=manifest.limits.max_candidates,
        max_rows=division.lanes * division.rows,
        lanes=division.lanes,
        scores=manifest.scores,
    )


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # a container may be confined to some of the cores
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _lines(error: BundleError) -> list[str]:
    return [f"{error.args[0].split(': ', 1)[0]}: {problem}" for problem in error.problems]
