"""From the folders of bundles to models in service: load, check, warm up, prove, start."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.private_copy import PrivateCopy
from dragoman_service.engine.engine import Engine
from dragoman_service.engine.lane import Lane
from dragoman_service.engine.lanes import Division, Lanes, divide, one_lane
from dragoman_service.engine.plan import Runner
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.engine.search.utf8 import BytePieces
from dragoman_service.errors import BundleError, DragomanError
from dragoman_service.repository.models import ModelDescription, ServedModel
from dragoman_service.repository.observer import ModelObserver
from dragoman_service.repository.registry import check_names
from dragoman_service.repository.repository import Listed, Repository
from dragoman_service.repository.settings import ModelSettings
from dragoman_service.runtime.device import choose_device
from dragoman_service.runtime.golden import normalisation_of
from dragoman_service.runtime.processor import num_cores
from dragoman_service.runtime.runners import make_runners

_log = logging.getLogger(__name__)


class BundleErrors(DragomanError):
    """Bundles that cannot be served; the message has every problem of every bundle, a line each."""

    reason = "bundle_error"

    def __init__(self, errors: Sequence[BundleError]) -> None:
        super().__init__("\n  ".join(["these models cannot be served:", *(line for e in errors for line in _lines(e))]))
        self.errors = tuple(errors)


def load_models(paths: Sequence[Path], settings: ModelSettings, observer: ModelObserver) -> list[ServedModel]:
    """Load all models, the default first.

    Raises BundleErrors, or InvalidInput for two models of one name or more lanes than threads; then nothing is left
    running.
    """
    cores = num_cores()
    divide(settings.engine, cores)  # complains of too many lanes before a bundle is read
    models: list[ServedModel] = []
    with ExitStack() as copies:
        bundles = _load_bundles(paths, copies)
        check_names([bundle.manifest.name for bundle in bundles])  # before minutes are spent on the first of them
        try:
            for bundle in bundles:
                models.append(_start(bundle, settings, observer, cores))
        except BaseException as error:
            for model in models:
                model.engine.close()
            if isinstance(error, BundleError):
                raise BundleErrors([error]) from error
            raise
    return models


def load_version(
    repository: Repository, name: str, version: str, listed: Listed, settings: ModelSettings, observer: ModelObserver
) -> ServedModel:
    """Load a version of a model from a repository, and prove it.

    Raises BundleError, RepositoryError, or InvalidInput for settings of the model that are not allowed.
    """
    settings = settings.with_settings(listed.settings)
    path = repository.fetch(name, version, listed.versions[version])
    try:
        with PrivateCopy(path) as copy:
            served = _load_as(name, version, path, copy, settings, observer)
    except BundleError:
        repository.discard(path)
        raise
    # The cache is this server's own: bundles go from it when the repository no longer has them.
    return served if repository.is_local else replace(served, copy=None)


def _load_as(
    name: str, version: str, path: Path, copy: PrivateCopy, settings: ModelSettings, observer: ModelObserver
) -> ServedModel:
    bundle = Bundle.load(path, copy)
    for field, value, wanted in (("name", bundle.manifest.name, name), ("version", bundle.manifest.version, version)):
        if value != wanted:
            raise BundleError(path, [f"{field}: got {value!r}; allowed: {wanted!r}, as its folder is called"])
    return _start(bundle, settings, observer, num_cores())


def _load_bundles(paths: Sequence[Path], copies: ExitStack) -> list[Bundle]:
    bundles: list[Bundle] = []
    errors: list[BundleError] = []
    for path in paths:
        try:
            bundles.append(Bundle.load(path, copies.enter_context(PrivateCopy(path))))
        except BundleError as error:
            errors.append(error)
    if errors:
        raise BundleErrors(errors)
    return bundles


def _start(bundle: Bundle, settings: ModelSettings, models: ModelObserver, cores: int) -> ServedModel:
    """Take a bundle into service once its golden sentences come out right on this machine."""
    device, problem = choose_device(settings.device, bundle.manifest.precision)
    if problem:
        _log.warning("%s runs on the CPU: %s", bundle.manifest.name, problem)
    division = divide(settings.engine, cores) if device == "cpu" else one_lane(settings.engine)
    description = describe(bundle, division, device, settings)
    with _as_problems_of(bundle):
        runners = make_runners(bundle, settings.gpu, device, division, models.watch_gpu)
        if bundle.copy:  # now, so that little is left behind by a process that is killed while it loads
            bundle.copy.remove()
        lanes = Lanes([_make_lane(bundle, runner, division, settings, device) for runner in runners])
        try:
            lanes.start()
        except BaseException:
            lanes.close()
            raise
    engine = Engine(lanes, max_queue=settings.engine.max_queue, max_queue_tokens=settings.engine.max_queue_tokens)
    models.watch(description, engine)
    return ServedModel(description, bundle.tokenizer, engine, bundle.copy)


@contextmanager
def _as_problems_of(bundle: Bundle) -> Iterator[None]:
    """Make BundleErrors of what NumPy and ONNX Runtime raise, whose errors share no base class: shapes that do not fit
    what the manifest says, too little memory. BundleErrors name the bundle, not its copy."""
    try:
        yield
    except BundleError as error:
        problems = [problem.replace(str(bundle.folder), str(bundle.path)) for problem in error.problems]
        raise BundleError(bundle.path, problems) from error
    except DragomanError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise BundleError(bundle.path, [f"the model cannot be run as its manifest says ({reason})"]) from error


def _make_lane(bundle: Bundle, runner: Runner, division: Division, settings: ModelSettings, device: str) -> Lane:
    on_gpu = device == "cuda"
    scheduler = Scheduler(
        max_rows=division.rows,
        begin_id=bundle.manifest.special_ids.begin,
        end_id=bundle.manifest.special_ids.end,
        stream_interval=settings.engine.stream_interval,
        max_steps=settings.gpu.steps if on_gpu else 1,
        look_ahead=on_gpu,
        max_positions=runner.max_positions,
        max_client_rows=division.client_rows,
        vocab_size=bundle.manifest.vocab_size,
        byte_pieces=BytePieces(bundle.tokenizer.byte_ids),
    )
    return Lane(scheduler, runner, step_timeout=settings.engine.step_timeout)


def describe(bundle: Bundle, division: Division, device: str, settings: ModelSettings) -> ModelDescription:
    """What the world is told about a bundle."""
    manifest, caps, generation = bundle.manifest, settings.caps, bundle.manifest.generation
    if settings.default_beam_size is not None:
        generation = replace(generation, beam_size=settings.default_beam_size)
    return ModelDescription(
        name=manifest.name,
        version=manifest.version,
        description=manifest.description,
        languages=manifest.languages,
        precision=manifest.precision,
        device=device,
        max_source_tokens=manifest.limits.max_source_tokens,
        max_target_tokens=min(manifest.limits.max_target_tokens, caps.max_length or manifest.limits.max_target_tokens),
        max_candidates=manifest.limits.max_candidates,
        max_rows=division.lanes * division.rows,
        lanes=division.lanes,
        normalisation=normalisation_of(manifest),
        scores=manifest.scores,
        licence=manifest.licence,
        stand_ins=manifest.stand_ins,
        alignments=manifest.alignments,
        generation=generation,
        caps=caps,
    )


def _lines(error: BundleError) -> list[str]:
    return [f"{error.args[0].split(': ', 1)[0]}: {problem}" for problem in error.problems]
