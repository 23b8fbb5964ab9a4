"""How a server is set up. Only the command line reads arguments; everything else is handed this value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dragoman_service.engine.request import MAX_BEAM_SIZE
from dragoman_service.errors import InvalidInput

DEVICES = ("auto", "cpu", "cuda")
"""Where models can run; auto is the GPU for bundles that are made for it, where there is one, and else the CPU."""
ARENAS = ("same-as-requested", "power-of-two")
"""By how much the memory of a GPU's session grows."""
ATTENTION_KERNELS = ("auto", "flash", "efficient", "cudnn", "math")
"""Of ONNX Runtime, on a GPU."""


MODEL_SETTINGS = ("threads", "lanes", "max_rows", "max_queue", "max_queue_tokens")
"""What a model of a repository may have of its own."""


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """How a model uses a GPU."""

    memory_limit: int = 0
    """MiB that ONNX Runtime may take for each graph of a model, weights included; 0 is all there is. The caches of
    keys and values come on top: see the server's log."""
    arena: str = "same-as-requested"
    """By how much that memory grows when it is too little, one of `ARENAS`."""
    attention: str = "flash"
    """Kernels of attention, one of `ATTENTION_KERNELS`; steps of one token a row choose their own where they can."""
    graph_rows: tuple[int, ...] = ()
    """Numbers of rows for which steps are captured as CUDA graphs, at the start; a step takes the next larger one.
    Left empty: 1, 2, 4, 8 ... and `max_rows`."""
    graphs: bool = True
    """Whether steps are captured at all."""
    steps: int = 4
    """Steps between two looks at what came out, where all sentences are decoded greedily and nobody waits for a piece
    of one: looking costs a moment in which the GPU idles."""

    def __post_init__(self) -> None:
        _at_least("gpu.memory_limit", self.memory_limit, 0)
        _at_least("gpu.steps", self.steps, 1)
        if self.arena not in ARENAS:
            raise InvalidInput("gpu.arena", self.arena, ", ".join(ARENAS))
        if self.attention not in ATTENTION_KERNELS:
            raise InvalidInput("gpu.attention", self.attention, ", ".join(ATTENTION_KERNELS))
        for rows in self.graph_rows:
            _at_least("gpu.graph_rows", rows, 1)


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one call may ask for."""

    max_texts: int = 1024
    """Texts in one call."""
    max_characters: int = 100_000
    """Characters (Unicode code points) in one text."""
    max_sentences: int = 20_000
    """Sentences in one call, in all its texts."""
    window: int = 64
    """Sentences of one call that may be in the engine at once, so that a call with thousands cannot fill the queue."""

    def __post_init__(self) -> None:
        _at_least("max_texts", self.max_texts, 1)
        _at_least("max_characters", self.max_characters, 1)
        _at_least("max_sentences", self.max_sentences, 1)
        _at_least("window", self.window, 1)


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """A server: which models, on which machine, at which addresses."""

    model_paths: tuple[Path, ...] = ()
    """Folders of the bundles to serve; where a request names no model, the first that has its language pair is used."""
    repository: str = ""
    """Path or URL of a model repository, whose models are served beside these; empty: none."""
    watch: float = 5.0
    """Seconds between looks at the repository; 0: it is looked at when the server starts, and on request."""
    cache: Path = Path()
    """Where bundles of a repository that is not on this machine are kept; `Path()` is a folder of the user's."""
    admin: str = ""
    """Address of the interface for operators, HOST:PORT or unix:PATH; empty: there is none."""
    client_header: str = ""
    """Metadata key in which calls say whose they are, for the queue to be fair; empty: it goes by network address."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every address of the machine."""
    port: int = 50051
    """Port for gRPC; 0 takes a free one."""
    metrics_port: int = 9090
    """Port for Prometheus metrics; 0 takes a free one."""
    device: str = "cpu"
    """Where the models run, one of `DEVICES`."""
    gpu: GpuOptions = field(default_factory=GpuOptions)
    """How they use a GPU."""
    threads: int = 0
    """Threads that compute for each model, in all its lanes; 0 is one for each core."""
    lanes: int = 0
    """Running batches of each model that run side by side, each on a thread of its own, with the same weights.

    Rows and queue are divided among them, and a request has all its rows in one. 0 is one for each thread, but at most
    4, and no more than leave each the rows of the widest beam; threads beyond the lanes help inside their steps.
    """
    max_rows: int = 64
    """Rows of a model's running batches: sentences decoded side by side, each taking `beam_size` rows."""
    max_queue: int = 1024
    """Sentences of each model in the engine at once, waiting or running; more are refused."""
    max_queue_tokens: int = 65_536
    """Source tokens of each model in the engine at once; beyond them no call begins, and those that run slow down."""
    default_beam_size: int = 4
    """Beam size of requests that do not choose one; 1 is greedy search."""
    grace: float = 30.0
    """Seconds that running calls are given to end after SIGTERM."""
    lame_duck: float = 0.0
    """Seconds after SIGTERM in which the server says that it is not ready and still takes calls, so that load balancers
    can hear of it; `grace` begins after them."""
    step_timeout: float = 60.0
    """Seconds of one step after which an engine is taken to hang, and the server says that it is not alive."""
    write_timeout: float = 30.0
    """Seconds that a stream waits for its reader to take a piece; then it is given up, for others to have its place."""
    stream_interval: float = 0.1
    """Seconds between two pieces of a stream, at least: nobody reads faster, and a piece costs as much as decoding
    several tokens."""
    limits: RequestLimits = field(default_factory=RequestLimits)
    """What one call may ask for."""

    def __post_init__(self) -> None:
        if not self.model_paths and not self.repository:
            raise InvalidInput("model_paths", self.model_paths, "a folder of a model bundle, or a repository")
        if not 0 <= self.watch <= 86_400:
            raise InvalidInput("watch", self.watch, "0 to 86400 seconds")
        _port("port", self.port)
        _port("metrics_port", self.metrics_port)
        if self.port and self.port == self.metrics_port:
            raise InvalidInput("metrics_port", self.metrics_port, "a port other than that of gRPC")
        if self.device not in DEVICES:
            raise InvalidInput("device", self.device, ", ".join(DEVICES))
        _at_least("threads", self.threads, 0)
        _at_least("max_rows", self.max_rows, 1)
        if not 0 <= self.lanes <= self.max_rows:
            raise InvalidInput("lanes", self.lanes, f"0 to {self.max_rows} (no more than max_rows)")
        _at_least("max_queue", self.max_queue, 1)
        _at_least("max_queue_tokens", self.max_queue_tokens, 1)
        most = min(MAX_BEAM_SIZE, -(-self.max_rows // max(1, self.lanes)))
        if not 1 <= self.default_beam_size <= most:
            allowed = f"1 to {most} (no more than max_rows for each lane)"
            raise InvalidInput("default_beam_size", self.default_beam_size, allowed)
        if not 0 <= self.grace <= 86_400:
            raise InvalidInput("grace", self.grace, "0 to 86400 seconds")
        if not 0 <= self.lame_duck <= 3_600:
            raise InvalidInput("lame_duck", self.lame_duck, "0 to 3600 seconds")
        if not 0 < self.step_timeout <= 86_400:
            raise InvalidInput("step_timeout", self.step_timeout, "above 0, at most 86400 seconds")
        if not 0 < self.write_timeout <= 86_400:
            raise InvalidInput("write_timeout", self.write_timeout, "above 0, at most 86400 seconds")
        if not 0 <= self.stream_interval <= 60:
            raise InvalidInput("stream_interval", self.stream_interval, "0 to 60 seconds")

    def with_settings(self, settings: Mapping[str, Any]) -> ServiceConfig:
        """This, with the settings of one model. Raises InvalidInput."""
        for name, value in settings.items():
            if name not in MODEL_SETTINGS:
                raise InvalidInput(name, value, f"one of {', '.join(MODEL_SETTINGS)}")
            if type(value) is not int:
                raise InvalidInput(name, value, "a whole number")
        return replace(self, **settings)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InvalidInput(name, value, f"{least} or more")


def _port(name: str, value: int) -> None:
    if not 0 <= value <= 65_535:
        raise InvalidInput(name, value, "0 to 65535")
