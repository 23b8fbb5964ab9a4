"""Every Prometheus metric of the server, its labels, and its buckets: this page is their list.

The registry is passed in. Labels have small, closed sets of values: never a text, an address, or a caller's key.
"""

from __future__ import annotations

import threading

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from dragoman_service.engine.observer import EngineObserver, EngineStats
from dragoman_service.engine.plan import StepPlan, StepResult
from dragoman_service.engine.request import Event, Finished, FinishReason, Request
from dragoman_service.repository.models import ModelDescription
from dragoman_service.repository.observer import WatchedEngine
from dragoman_service.repository.registry import ModelEntry
from dragoman_service.server.gpu_metrics import gpu_collector

# Steps and tokens of small models take well under a millisecond, whole documents many seconds.
STEP_BUCKETS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024)
LATENCY_BUCKETS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
QUEUE_BUCKETS = (0.001, *LATENCY_BUCKETS)
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


_VERSION = ("model", "version")


class Metrics:
    """The metrics of one server process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._gpu_watched = False
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)  # process_* and python_*
        self.requests = self._counter("requests", "Calls ended, by gRPC status code.", "method", "code")
        self.requests_running = self._gauge("requests_running", "Calls being answered.", "method")
        self.request_seconds = self._histogram(
            "request_duration_seconds", "From a call's arrival to its end.", LATENCY_BUCKETS, "method"
        )
        self.first_chunk_seconds = self._histogram(
            "time_to_first_token_seconds",
            "From the arrival of a streaming call to its first piece of text.",
            LATENCY_BUCKETS,
            *_VERSION,
        )
        self.rejections = self._counter("rejections", "Calls refused or failed, by reason.", "reason")
        self.cancellations = self._counter(
            "cancellations", "Calls given up: cancelled by the caller, or past their deadline.", "reason"
        )
        self.queue_seconds = self._histogram(
            "queue_duration_seconds", "Wait of a sentence for a place in the running batch.", QUEUE_BUCKETS, *_VERSION
        )
        self.token_seconds = self._histogram(
            "inter_token_latency_seconds", "Mean time between a sentence's tokens.", STEP_BUCKETS, *_VERSION
        )
        self.step_seconds = self._histogram(
            "step_duration_seconds",
            "Duration of a step by phase: encode, decode, or schedule (all the rest).",
            STEP_BUCKETS,
            *_VERSION,
            "phase",
        )
        self.step_rows = self._histogram("step_rows", "Rows of the running batch in a step.", ROW_BUCKETS, *_VERSION)
        self.slots_used = self._gauge("slots_used", "Rows of the running batch that are taken.", *_VERSION)
        self.slots_total = self._gauge("slots_total", "Rows that the running batch can have.", *_VERSION)
        self.kv_cache_tokens = self._gauge(
            "kv_cache_tokens", "Positions in use in the self- and cross-attention caches, over all rows.", *_VERSION
        )
        self.kv_cache_capacity = self._gauge(
            "kv_cache_capacity_tokens", "Positions that these caches can have, all rows at their limits.", *_VERSION
        )
        self.queue_depth = self._gauge("queue_depth", "Sentences waiting for a place in the running batch.", *_VERSION)
        self.engine_healthy = self._gauge("engine_healthy", "1 while the engine works, 0 once it is dead.", *_VERSION)
        self.source_tokens = self._counter("source_tokens", "Tokens of translated sentences.", *_VERSION)
        self.target_tokens = self._counter("target_tokens", "Tokens of translations (best hypothesis).", *_VERSION)
        self.failed_steps = self._counter(
            "failed_steps", "Steps that raised; their sentences were run again, or one of them failed.", *_VERSION
        )
        self.finished = self._counter("finished", "Sentences translated, by how they ended.", *_VERSION, "reason")
        self._declare_models()
        self._watched: dict[tuple[str, str], list[tuple[ModelDescription, WatchedEngine]]] = {}
        """By model and version: what serves it, or is about to, in the order in which they came."""
        self._lock = threading.Lock()

    def _declare_models(self) -> None:
        self.model_info = self._gauge(
            "model_info", "1 for each version of a model in service.", *_VERSION, "precision", "device"
        )
        self.model_aliases = self._gauge("model_alias", "1 for each alias of a version in service.", *_VERSION, "alias")
        self.model_loads = self._counter(
            "model_loads", "Versions taken from the repository, by result: success or failure.", "model", "result"
        )
        self.load_seconds = self._histogram(
            "model_load_duration_seconds",
            "Time to load a version and prove it, while the one before it serves.",
            LATENCY_BUCKETS,
            "model",
        )
        self.repository_errors = self._counter("repository_errors", "Looks at the repository that failed.")

    def observer(self, model: ModelDescription) -> EngineObserver:
        """The observer to give to the engine of a model."""
        return _ModelObserver(self, model)

    def watch(self, model: ModelDescription, engine: WatchedEngine) -> None:
        """Report a version of a model, and its engine at every scrape; in place of the engine that it had before."""
        with self._lock:
            self._watched.setdefault((model.name, model.version), []).append((model, engine))
            self._report(model, engine)

    def _report(self, model: ModelDescription, engine: WatchedEngine) -> None:
        labels = (model.name, model.version)
        self.model_info.remove_by_labels(dict(zip(_VERSION, labels, strict=True)))
        self.model_info.labels(*labels, model.precision, model.device).set(1)
        self.slots_total.labels(*labels).set(model.max_rows)
        self.slots_used.labels(*labels).set_function(lambda: engine.stats().rows_used)
        self.kv_cache_tokens.labels(*labels).set_function(lambda: engine.stats().cached_positions)
        longest = model.max_source_tokens + model.max_target_tokens
        self.kv_cache_capacity.labels(*labels).set(model.max_rows * longest)
        self.queue_depth.labels(*labels).set_function(lambda: engine.stats().waiting)
        self.engine_healthy.labels(*labels).set_function(lambda: float(engine.healthy))

    def forget(self, model: ModelDescription, engine: object) -> None:
        """Report an engine no more: its version is then that of the one that came before or after, if there is one.

        None is the engine of a version that could not be started.
        """
        labels = (model.name, model.version)
        with self._lock:
            left = [watched for watched in self._watched.pop(labels, []) if watched[1] is not engine]
            if left:
                self._watched[labels] = left
                self._report(*left[-1])
            else:
                self._remove(labels)

    def _remove(self, labels: tuple[str, str]) -> None:
        for metric in (
            self.model_info,
            self.slots_total,
            self.slots_used,
            self.kv_cache_tokens,
            self.kv_cache_capacity,
            self.queue_depth,
            self.engine_healthy,
            self.first_chunk_seconds,
            self.queue_seconds,
            self.token_seconds,
            self.step_seconds,
            self.step_rows,
            self.source_tokens,
            self.target_tokens,
            self.finished,
            self.failed_steps,
        ):
            metric.remove_by_labels(dict(zip(_VERSION, labels, strict=True)))

    def show_aliases(self, name: str, entry: ModelEntry | None) -> None:
        """Report the aliases of a model, and no others."""
        self.model_aliases.remove_by_labels({"model": name})
        for alias, value in entry.aliases.items() if entry else ():
            self.model_aliases.labels(name, value.version, alias).set(1)

    def loaded(self, name: str, seconds: float, *, good: bool) -> None:
        """Count a version that was loaded, or could not be."""
        self.model_loads.labels(name, "success" if good else "failure").inc()
        self.load_seconds.labels(name).observe(seconds)

    def repository_failed(self) -> None:
        """Count a look at the repository that failed."""
        self.repository_errors.inc()

    def watch_gpu(self, bus_id: str) -> None:
        """Report the GPU at a place of the bus; once is enough."""
        if not self._gpu_watched and (collector := gpu_collector(bus_id)):
            self.registry.register(collector)
            self._gpu_watched = True

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"dragoman_{name}", help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"dragoman_{name}", help_text, labels, registry=self.registry)

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"dragoman_{name}", help_text, labels, buckets=buckets, registry=self.registry)


class _ModelObserver(EngineObserver):
    """Counts what one engine does. Called on its thread between steps, so the label look-ups are done beforehand."""

    def __init__(self, metrics: Metrics, model: ModelDescription) -> None:
        labels = (model.name, model.version)
        self._encode, self._decode, self._schedule = (
            metrics.step_seconds.labels(*labels, phase) for phase in ("encode", "decode", "schedule")
        )
        self._rows = metrics.step_rows.labels(*labels)
        self._failed_steps = metrics.failed_steps.labels(*labels)
        self._queue = metrics.queue_seconds.labels(*labels)
        self._token = metrics.token_seconds.labels(*labels)
        self._source_tokens = metrics.source_tokens.labels(*labels)
        self._target_tokens = metrics.target_tokens.labels(*labels)
        self._finished = {reason: metrics.finished.labels(*labels, reason.value) for reason in FinishReason}

    def step(self, plan: StepPlan, result: StepResult, seconds: float, stats: EngineStats) -> None:
        if plan.joins:
            self._encode.observe(result.encode_seconds)
        others = max(0.0, seconds - result.encode_seconds - result.decode_seconds)
        for _ in range(plan.num_steps):
            self._decode.observe(result.decode_seconds / plan.num_steps)
            self._schedule.observe(others / plan.num_steps)
            self._rows.observe(len(plan.tokens))

    def step_failed(self, error: Exception) -> None:
        self._failed_steps.inc()

    def event(self, request: Request, event: Event) -> None:
        if not isinstance(event, Finished):
            return
        best = event.hypotheses[0]
        self._queue.observe(event.timings.queue)
        self._token.observe(event.timings.decode / max(1, len(best.tokens)))
        self._source_tokens.inc(len(request.source))
        self._target_tokens.inc(len(best.tokens))
        self._finished[best.finish_reason].inc()
