from __future__ import annotations

import functools

import pytest
from prometheus_client import CollectorRegistry

from dragoman_model.evaluation.systems import LocalSystem
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.request import DecodingOptions
from dragoman_service.repository import loading
from dragoman_service.repository.loading import load_models
from dragoman_service.runtime import runners
from dragoman_service.runtime.cuda_runner import CudaRunner
from dragoman_service.runtime.device import DeviceError
from dragoman_service.server.metrics import Metrics
from dragoman_service.server.settings import ServiceConfig
from support.fake_cuda import FakeCuda


def test_a_model_on_a_gpu_is_served_like_any_other(tiny_fp16_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda("random")
    monkeypatch.setattr(loading, "choose_device", lambda wanted, precision: (wanted, ""))
    monkeypatch.setattr(runners, "cuda_runtime", lambda: None)
    monkeypatch.setattr(runners, "Cuda", lambda runtime: cuda)
    monkeypatch.setattr(runners, "CudaRunner", functools.partial(CudaRunner, open_session=cuda.open_session))
    answers = []
    for device in ("cpu", "cuda"):
        config = ServiceConfig.of(model_paths=(tiny_fp16_bundle.path,), device=device, max_rows=16, threads=1)
        (model,) = load_models(config.model_paths, config.model, Metrics(CollectorRegistry()))
        with LocalSystem(model, DecodingOptions(beam_size=2), ("en", "de")) as system:
            answers.append(system.translate(["abc def", "ghi", "jkl mno pqr"], lambda: None))
        assert (model.description.device, model.description.lanes) == (device, 1)
    assert answers[0] == answers[1]
    assert not cuda.runtime.blocks


def test_a_gpu_with_too_little_memory_is_left_as_it_was(
    tiny_fp16_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = FakeCuda(memory=4 << 20)
    monkeypatch.setattr(loading, "choose_device", lambda wanted, precision: (wanted, ""))
    monkeypatch.setattr(runners, "cuda_runtime", lambda: None)
    monkeypatch.setattr(runners, "Cuda", lambda runtime: cuda)
    monkeypatch.setattr(runners, "CudaRunner", functools.partial(CudaRunner, open_session=cuda.open_session))
    config = ServiceConfig.of(model_paths=(tiny_fp16_bundle.path,), device="cuda", max_rows=64)
    with pytest.raises(DeviceError, match="out of memory"):
        load_models(config.model_paths, config.model, Metrics(CollectorRegistry()))
    assert not cuda.runtime.blocks
