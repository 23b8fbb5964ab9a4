"""One page of metrics for all processes of a server.

Counters and histograms are sums. What a process has counted stays in them when it has ended, as of its last scrape, so
that they never fall. `prometheus_client` has a mode for several processes, over files. It is not used: it cannot remove
the series of a token or version that is gone, has no metrics of processes, and leaves files behind when it is killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from dragoman_service.server.fronts.control import Family

ENGINE = "engine"
_SMALLEST = frozenset({
    "process_start_time_seconds", "process_max_fds", "dragoman_tls_certificate_expiry_timestamp_seconds",
})  # fmt: skip
_SUMS = frozenset({
    "process_virtual_memory_bytes", "process_resident_memory_bytes", "dragoman_requests_running",
})  # fmt: skip
"""Gauges that are added, or of which the smallest counts; of others the largest does."""
_HEALTHY, _INFO = "dragoman_engine_healthy", "dragoman_model_info"

_Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(slots=True)
class _Process:
    """The place of a process, and of those that follow it there."""

    ended: dict[str, dict[_Key, float]] = field(default_factory=dict)
    """Family -> what processes that have ended had counted."""
    last: dict[str, dict[_Key, float]] = field(default_factory=dict)
    """Family -> the newest values of the process that runs."""


def families_of(registry: CollectorRegistry) -> tuple[Family, ...]:
    """All metrics of a process."""
    return tuple(
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            tuple((it.name, tuple(sorted(it.labels.items())), it.value) for it in metric.samples),
        )
        for metric in registry.collect()
    )


class Pages:
    """The metrics of processes, by the names of their places. For one thread at a time."""

    def __init__(self, names: Iterable[str]) -> None:
        self._processes = {name: _Process() for name in names}
        self._families: dict[str, Family] = {}

    def take_in(self, name: str, families: Iterable[Family]) -> None:
        """Replace the values of a process by newer ones."""
        last: dict[str, dict[_Key, float]] = {}
        for family in families:
            self._families[family.name] = family
            last[family.name] = {(sample, labels): value for sample, labels, value in family.samples}
        self._processes[name].last = last

    def gone(self, name: str) -> None:
        """A process has ended: keep what it had counted."""
        process = self._processes[name]
        for family, values in process.last.items():
            if self._is_sum(family):
                ended = process.ended.setdefault(family, {})
                for key, value in values.items():
                    ended[key] = ended.get(key, 0.0) + value
        # An alert must see that the engine is gone.
        healthy = process.last.get(_HEALTHY, {}) if name == ENGINE else {}
        process.last = {_HEALTHY: dict.fromkeys(healthy, 0.0)} if healthy else {}

    def metrics(self) -> Iterator[Metric]:
        """The page."""
        for family in self._families.values():
            self._forget(family.name)
            metric = Metric(family.name, family.help, family.kind)
            for (sample, labels), value in self._merged(family.name).items():
                metric.add_sample(sample, dict(labels), value)
            yield metric

    def _is_sum(self, family: str) -> bool:
        return self._families[family].kind in ("counter", "histogram")

    def _merged(self, family: str) -> Mapping[_Key, float]:
        if self._is_sum(family):
            # Place by place, in one order: a sum of floats must not fall by a rounding error either.
            merged: dict[_Key, float] = {}
            for process in self._processes.values():
                ended, last = process.ended.get(family, {}), process.last.get(family, {})
                for key in {**last, **ended}:
                    merged[key] = merged.get(key, 0.0) + (ended.get(key, 0.0) + last.get(key, 0.0))
            return merged
        values: dict[_Key, list[float]] = {}
        for process in self._processes.values():
            for key, value in process.last.get(family, {}).items():
                values.setdefault(key, []).append(value)
        combine = _combination(family)
        return {key: combine(its) for key, its in values.items()}

    def _forget(self, family: str) -> None:
        """Forget what ended processes counted of a token or version that no process has any more."""
        serving = {
            (labels["model"], labels["version"])
            for _, its in self._processes[ENGINE].last.get(_INFO, {})
            for labels in [dict(its)]
        }
        living = {key for process in self._processes.values() for key in process.last.get(family, {})}
        for process in self._processes.values():
            ended = process.ended.get(family, {})
            for key in [key for key in ended if key not in living]:
                labels = dict(key[1])
                version = (labels.get("model", ""), labels.get("version", ""))
                gone = "version" in labels and version not in serving and bool(serving)
                if "token" in labels or gone:
                    del ended[key]


def _combination(family: str) -> Callable[[list[float]], float]:
    return sum if family in _SUMS else min if family in _SMALLEST else max
