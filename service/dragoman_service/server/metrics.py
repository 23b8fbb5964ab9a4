"""All Prometheus metrics of the server, except those of the GPU (`gpu_metrics`), with their labels and buckets.

Labels have small, closed sets of values: never a text, an address, or a caller's key. Names of tokens come from the
operator.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from dragoman_service.engine import stats
from dragoman_service.engine.stats import EngineStats, Totals
from dragoman_service.repository.models import ModelDescription
from dragoman_service.repository.observer import WatchedEngine
from dragoman_service.repository.registry import ModelEntry
from dragoman_service.server.gpu_metrics import gpu_collector

LATENCY_BUCKETS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_VERSION = ("model", "version")
_CALL = ("api", "method")
"""The interface of a call, such as `dragoman_v1`, and its method."""


class Metrics:
    """The metrics of one server process, in `registry`."""

    def __init__(self, registry: CollectorRegistry, *, engines: bool = True) -> None:
        """Make the metrics. `engines` says whether those of engines are reported by this process."""
        self.registry = registry
        self._gpu_watched = False
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)  # process_* and python_*
        self.requests = self._counter("requests", "Calls ended, by interface and gRPC status code.", *_CALL, "code")
        self.requests_running = self._gauge("requests_running", "Calls being answered.", *_CALL)
        self.request_seconds = self._histogram(
            "request_duration_seconds", "From a call's arrival to its end.", LATENCY_BUCKETS, *_CALL
        )
        self.first_chunk_seconds = self._histogram(
            "time_to_first_token_seconds",
            "From the arrival of a streaming call to its first piece of text.",
            LATENCY_BUCKETS,
            *_VERSION,
        )
        self.rejections = self._counter("rejections", "Calls refused or failed, by reason.", "reason")
        self.cancellations = self._counter(
            "cancellations", "Calls cancelled by the caller, or ended by their deadline.", "reason"
        )
        self.tls_certificate_expiry = self._gauge(
            "tls_certificate_expiry_timestamp_seconds",
            "End of the certificate in use: server (--tls-cert), or client_ca (the last of --tls-client-ca to end).",
            "certificate",
        )
        self.documents = self._counter("documents", "Documents whose translation has ended, by state.", "state")
        for state in ("DONE", "FAILED"):
            self.documents.labels(state)
        self._declare_models()
        self._declare_tokens()
        self._engines = _Engines()
        if engines:
            registry.register(self._engines)

    def _declare_models(self) -> None:
        self.model_aliases = self._gauge("model_alias", "1 for each alias of a version in service.", *_VERSION, "alias")
        self.model_files_changed = self._gauge(
            "model_files_changed",
            "Files of the bundle that differ from those that the version was loaded from.",
            *_VERSION,
        )
        self.model_loads = self._counter(
            "model_loads", "Attempts to load a version, by result: success or failure.", "model", "result"
        )
        self.load_seconds = self._histogram(
            "model_load_duration_seconds",
            "Time to load and verify a version, while the previous one serves.",
            LATENCY_BUCKETS,
            "model",
        )
        self.repository_errors = self._counter("repository_errors", "Failed attempts to read the repository.")

    def _declare_tokens(self) -> None:
        # Bounded by the file of tokens: `server.access` makes the series of its names, and removes those of others.
        self.token_requests = self._counter(
            "token_requests", "Calls of a token that its quotas admitted and that have ended.", "token"
        )
        self.token_characters = self._counter(
            "token_characters", "Characters of these calls, in texts and target prefixes.", "token"
        )
        self.token_quota_refusals = self._counter(
            "token_quota_refusals", "Calls of a token that were refused because a quota was used up.", "token"
        )
        self.token_file_damaged = self._gauge(
            "token_file_damaged", "1 while the file of tokens cannot be read, and its earlier tokens are valid."
        )

    def watch(self, model: ModelDescription, engine: WatchedEngine) -> None:
        """Report the engine of a version at every scrape, in place of an engine that the version had before."""
        self._engines.watch(model, engine)

    def forget(self, model: ModelDescription, engine: WatchedEngine) -> None:
        """Stop reporting an engine. Its version is reported on if another engine of the version is watched."""
        if not self._engines.forget(model, engine):
            for metric in (self.first_chunk_seconds, self.model_files_changed):
                metric.remove_by_labels({"model": model.name, "version": model.version})

    def first_chunk(self, model: ModelDescription, seconds: float) -> None:
        """Count the first piece of a stream, unless the version is no longer reported."""
        if self._engines.has(model):
            self.first_chunk_seconds.labels(model.name, model.version).observe(seconds)

    def show_changed_files(self, model: ModelDescription, count: int) -> None:
        """Report how many files of a version's bundle have changed."""
        self.model_files_changed.labels(model.name, model.version).set(count)

    def show_aliases(self, name: str, entry: ModelEntry | None) -> None:
        """Replace the reported aliases of a model by those of `entry`."""
        self.model_aliases.remove_by_labels({"model": name})
        for alias, value in entry.aliases.items() if entry else ():
            self.model_aliases.labels(name, value.version, alias).set(1)

    def loaded(self, name: str, seconds: float, *, good: bool) -> None:
        """Count an attempt to load a version, with its duration."""
        self.model_loads.labels(name, "success" if good else "failure").inc()
        self.load_seconds.labels(name).observe(seconds)

    def repository_failed(self) -> None:
        """Count a failed attempt to read the repository."""
        self.repository_errors.inc()

    def watch_gpu(self, bus_id: str) -> None:
        """Report the GPU with this PCI bus id. Only the first GPU is reported."""
        if not self._gpu_watched and (collector := gpu_collector(bus_id)):
            self.registry.register(collector)
            self._gpu_watched = True

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"dragoman_{name}", help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"dragoman_{name}", help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"dragoman_{name}", help_text, labels, buckets=buckets, registry=self.registry)


class _Sample(NamedTuple):
    """The state of a version at a scrape."""

    model: ModelDescription
    healthy: bool
    counts: EngineStats
    totals: Totals


_Family: TypeAlias = GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily


class _Metric(NamedTuple):
    """A metric of engines. `read` returns its values by the labels that it has besides model and version."""

    kind: type[_Family]
    name: str
    help: str
    read: Callable[[_Sample], Mapping[tuple[str, ...], float | stats.Histogram]]
    labels: tuple[str, ...] = ()


_ENGINE_METRICS = (
    _Metric(
        GaugeMetricFamily,
        "model_info",
        "1 for each version of a model in service.",
        lambda sample: {(sample.model.precision, sample.model.device): 1},
        ("precision", "device"),
    ),
    _Metric(
        GaugeMetricFamily,
        "slots_used",
        "Rows of the running batch that are taken.",
        lambda sample: {(): sample.counts.rows_used},
    ),
    _Metric(
        GaugeMetricFamily,
        "slots_total",
        "Rows that the running batch can have.",
        lambda sample: {(): sample.model.max_rows},
    ),
    _Metric(
        GaugeMetricFamily,
        "kv_cache_tokens",
        "Positions in use in the self- and cross-attention caches, over all rows.",
        lambda sample: {(): sample.counts.cached_positions},
    ),
    _Metric(
        GaugeMetricFamily,
        "kv_cache_capacity_tokens",
        "Positions that these caches can have, all rows at their limits.",
        lambda sample: {(): sample.model.max_rows * (sample.model.max_source_tokens + sample.model.max_target_tokens)},
    ),
    _Metric(
        GaugeMetricFamily,
        "queue_depth",
        "Sentences waiting for a place in the running batch.",
        lambda sample: {(): sample.counts.waiting},
    ),
    _Metric(
        GaugeMetricFamily,
        "engine_healthy",
        "1 while the engine works, 0 once it is dead and while it hangs.",
        lambda sample: {(): sample.healthy},
    ),
    _Metric(
        CounterMetricFamily,
        "source_tokens",
        "Tokens of translated sentences.",
        lambda sample: {(): sample.totals.source_tokens},
    ),
    _Metric(
        CounterMetricFamily,
        "target_tokens",
        "Tokens of translations (best hypothesis).",
        lambda sample: {(): sample.totals.target_tokens},
    ),
    _Metric(
        CounterMetricFamily,
        "failed_steps",
        "Steps that raised; their sentences were run again, or one of them failed.",
        lambda sample: {(): sample.totals.failed_steps},
    ),
    _Metric(
        CounterMetricFamily,
        "interruptions",
        "Sentences interrupted, to be run again, because another client held fewer rows.",
        lambda sample: {(): sample.totals.interrupted},
    ),
    _Metric(
        CounterMetricFamily,
        "finished",
        "Sentences translated, by how they ended.",
        lambda sample: {("stop",): sample.totals.stopped, ("length",): sample.totals.cut},
        ("reason",),
    ),
    _Metric(
        HistogramMetricFamily,
        "step_duration_seconds",
        "Duration of a step by phase: encode, decode, or schedule (all the rest).",
        lambda sample: {
            ("encode",): sample.totals.encode_seconds,
            ("decode",): sample.totals.decode_seconds,
            ("schedule",): sample.totals.schedule_seconds,
        },
        ("phase",),
    ),
    _Metric(
        HistogramMetricFamily,
        "step_rows",
        "Rows of the running batch in a step.",
        lambda sample: {(): sample.totals.step_rows},
    ),
    _Metric(
        HistogramMetricFamily,
        "queue_duration_seconds",
        "Wait of a sentence for a place in the running batch.",
        lambda sample: {(): sample.totals.queue_seconds},
    ),
    _Metric(
        HistogramMetricFamily,
        "inter_token_latency_seconds",
        "Mean time between a sentence's tokens.",
        lambda sample: {(): sample.totals.token_seconds},
    ),
)


@dataclass(slots=True, eq=False)
class _Watched:
    """An engine of a version, or the totals of one that has been closed."""

    model: ModelDescription
    engine: WatchedEngine | None
    """None once it is closed."""
    ended: Totals = field(default_factory=Totals)
    """Those of a closed engine."""


class _Version:
    """The engines of a version, oldest first, and the totals of its engines that have been closed.

    A sum of floats depends on the order of addition, so the totals of a closed engine keep their place in the sum. To
    Prometheus a total that falls, even by a rounding error, means that the server was restarted.
    """

    def __init__(self) -> None:
        self._engines: list[_Watched] = []
        self._ended = Totals()  # of closed engines older than these

    def add(self, model: ModelDescription, engine: WatchedEngine) -> None:
        self._engines.append(_Watched(model, engine))

    def remove(self, engine: WatchedEngine) -> bool:
        """Keep the totals of an engine that is closed; returns whether there is another one."""
        for watched in self._engines:
            if watched.engine is engine:
                watched.engine, watched.ended = None, engine.stats().totals
        while self._engines and self._engines[0].engine is None:
            self._ended += self._engines.pop(0).ended
        return any(watched.engine is not None for watched in self._engines)

    def sample(self) -> _Sample:
        """Read the counts of the newest engine, and the totals of all engines of this version."""
        totals = self._ended
        sample: _Sample | None = None
        for watched in self._engines:
            if watched.engine is None:
                totals += watched.ended
            else:
                counts = watched.engine.stats()
                totals += counts.totals
                sample = _Sample(watched.model, watched.engine.healthy, counts, totals)
        assert sample is not None  # a version without engines is not reported
        return sample._replace(totals=totals)


class _Engines(Collector):
    """Reads the counts of the engines at a scrape, so that the engines need not know Prometheus."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], _Version] = {}
        self._lock = threading.Lock()

    def watch(self, model: ModelDescription, engine: WatchedEngine) -> None:
        with self._lock:
            self._versions.setdefault((model.name, model.version), _Version()).add(model, engine)

    def forget(self, model: ModelDescription, engine: WatchedEngine) -> bool:
        """Remove an engine; returns whether its version has another one."""
        labels = (model.name, model.version)
        with self._lock:
            version = self._versions.get(labels)
            if version is None:
                return False
            left = version.remove(engine)
            if not left:
                del self._versions[labels]
            return left

    def has(self, model: ModelDescription) -> bool:
        """Whether a version is reported."""
        with self._lock:
            return (model.name, model.version) in self._versions

    def describe(self) -> Iterator[Metric]:
        """Declare no names, so that registration does not call `collect`."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of all engines."""
        with self._lock:
            samples = {labels: version.sample() for labels, version in self._versions.items()}
        for metric in _ENGINE_METRICS:
            family = metric.kind(f"dragoman_{metric.name}", metric.help, labels=(*_VERSION, *metric.labels))
            for labels, sample in samples.items():
                for more, value in metric.read(sample).items():
                    _add(family, (*labels, *more), value)
            yield family


def _add(family: _Family, labels: tuple[str, ...], value: float | stats.Histogram) -> None:
    if isinstance(family, HistogramMetricFamily):
        assert isinstance(value, stats.Histogram)
        bounds = [floatToGoString(bound) for bound in (*value.bounds, float("inf"))]  # type: ignore[no-untyped-call]
        # Buckets of Prometheus are cumulative.
        family.add_metric(labels, list(zip(bounds, accumulate(value.counts), strict=True)), value.sum)
    else:
        assert not isinstance(value, stats.Histogram)
        family.add_metric(labels, value)
