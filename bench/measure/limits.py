"""Upper limits of this machine: bytes copied and multiply-add operations a second, measured with minimal programs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.measure.common import Timing, interleaved, seconds_per_call
from dragoman_service.runtime.ort import onnxruntime

LARGE = 256 * 2**20
"""Bytes of a copy that does not fit in the processor's caches."""
MATRIX = 1024
"""Rows, columns and inner size of the matrix product."""


def measure_limits(precision: str, bytes_of: dict[int, int], threads: int, repeats: int) -> dict[object, float]:
    """Measure rates on one thread and on `threads`. Each rate is the best of the rounds, because it is a limit.

    Args:
        precision: Precision of the matrix product: fp32 or int8.
        bytes_of: Key of a result -> bytes of its copy, which the caches may hold.
        threads: Threads of the second rate.
        repeats: Rounds.

    Returns:
        Bytes read and written per second by a copy: ("large", threads), and for each key of `bytes_of`, on one thread.
        Multiply-add operations per second: ("matrix", threads).
    """
    work: dict[object, tuple[float, Callable[[], object]]] = {}
    for count in (1, threads):
        work["large", count] = (2 * LARGE, _copy(LARGE, count))
        work["matrix", count] = (MATRIX**3, matrix_product(precision, count))
    for key, size in bytes_of.items():
        work[key] = (2 * size, _copy(size, 1))
    timings = interleaved(
        {key: lambda call=call: seconds_per_call(call, at_least=0.03) for key, (_, call) in work.items()}, repeats
    )
    return {key: amount / _best(timings[key]) for key, (amount, _) in work.items()}


def matrix_product(precision: str, threads: int) -> Callable[[], object]:
    """A product of square matrices in ONNX Runtime. The second one is constant, as the weights of a layer are."""
    rng = np.random.default_rng(0)
    if precision == "fp32":
        left = rng.standard_normal((MATRIX, MATRIX), np.float32)
        constants = {"weight": rng.standard_normal((MATRIX, MATRIX), np.float32)}
        node = helper.make_node("MatMul", ["x", "weight"], ["y"])
    else:
        left = rng.integers(0, 256, (MATRIX, MATRIX)).astype(np.uint8)
        constants = {
            "weight": rng.integers(-127, 128, (MATRIX, MATRIX)).astype(np.int8),
            "x_scale": np.float32(0.01),
            "weight_scale": np.full(MATRIX, 0.01, np.float32),
            "x_zero": np.uint8(128),
            "weight_zero": np.int8(0),
        }
        inputs = ["x", "weight", "x_scale", "weight_scale", "x_zero", "weight_zero"]
        node = helper.make_node("MatMulIntegerToFloat", inputs, ["y"], domain="com.microsoft")
    kind = TensorProto.FLOAT if precision == "fp32" else TensorProto.UINT8
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", kind, [MATRIX, MATRIX])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [MATRIX, MATRIX])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": left})


def _copy(size: int, threads: int) -> Callable[[], object]:
    """A function that copies `size` bytes, divided among threads. NumPy releases the interpreter lock meanwhile."""
    parts = [(np.ones(size // threads // 8), np.zeros(size // threads // 8)) for _ in range(threads)]
    if threads == 1:
        return lambda: np.copyto(parts[0][1], parts[0][0])
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(lambda part: np.copyto(part[1], part[0]), parts))


def _best(timing: Timing) -> float:
    return min(timing.rounds)
