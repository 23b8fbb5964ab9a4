"""The script for GPUs, from its first line to its last, on one made of host memory: what it prints is no speed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.peers import gpu_parity

from bench import gpu
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.runtime.cuda_runner import CudaRunner
from dragoman_service.runtime.settings import GpuOptions
from support.fake_cuda import FakeCuda

TITLES = (
    "## On a GPU",
    "### Parity, greedy",
    "### Parity, beam 4",
    "### A step of `small`",
    "### Tokens a second of `small`",
    "### Served over gRPC",
    "### Memory of the GPU",
)
OPTIONS = "--models small --rows 1,4 --clients 1,2 --sentences 20 --repeats 1 --device cpu --peers"


@pytest.fixture
def imaginary(
    tiny_bundle: Bundle, tiny_fp16_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> pytest.MonkeyPatch:
    """Small models, few sentences, and no real GPU."""

    def make_runner(bundle: Bundle, rows: int, options: GpuOptions, cuda: FakeCuda | None = None) -> CudaRunner:
        cuda = cuda or FakeCuda("eager")
        return CudaRunner(bundle, cuda, max_rows=rows, options=options, open_session=cuda.open_session)

    def bundle_path(model: str, precision: str, *_: Any, **__: Any) -> Path:
        return (tiny_bundle if precision == "fp32" else tiny_fp16_bundle).path

    everyday = tmp_path / "everyday.txt"
    everyday.write_text("".join(f"{word} and so on\n" for word in ("one", "two", "three", "four", "five")))
    for module in (gpu, gpu_parity):
        monkeypatch.setattr(module, "make_runner", make_runner)
        monkeypatch.setattr(module, "open_cuda", lambda: FakeCuda("eager"))
        monkeypatch.setattr(module, "bundle_path", bundle_path)
        monkeypatch.setattr(module, "EVERYDAY", everyday)
    monkeypatch.setattr(gpu, "make_sources", lambda count, _: [[5, 6, 7, 2]] * count)
    monkeypatch.setattr(gpu, "cuda_problem", lambda: "")
    monkeypatch.setattr(gpu, "SETTLED", slice(None))
    return monkeypatch


def run(monkeypatch: pytest.MonkeyPatch, output: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--output", str(output), *OPTIONS.split(), ""])
    gpu.main()


@pytest.mark.slow
def test_all_tables_are_printed_and_saved(imaginary: pytest.MonkeyPatch, tmp_path: Path) -> None:
    imaginary.setattr(gpu_parity, "SAME_TOKENS", 0.5)  # random weights have many ties
    run(imaginary, tmp_path / "gpu.md")
    text = (tmp_path / "gpu.md").read_text()
    places = [text.index(title) for title in TITLES]
    assert places == sorted(places)


def test_nothing_is_timed_when_translations_are_wrong(imaginary: pytest.MonkeyPatch, tmp_path: Path) -> None:
    imaginary.setattr(gpu_parity, "SAME_TOKENS", 1.1)
    with pytest.raises(SystemExit, match="the translations are wrong"):
        run(imaginary, tmp_path / "gpu.md")
    assert "### A step" not in (tmp_path / "gpu.md").read_text()


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "cuda_problem", lambda: "there is none")
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="no GPU to measure: there is none"):
        gpu.main()
