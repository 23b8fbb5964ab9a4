"""Collects the nodes of a graph. What multiplies numbers is left to `Fp32Builder`, `Fp16Builder` and `Int8Builder`.

Operators without a domain are those of ONNX opset 21; those of `com.microsoft` are specified in ONNX Runtime's
docs/ContribOperators.md. Tensor letters are those of `graphs`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dragoman_export.weights import POSITIONS, Weights
from dragoman_model.config import ModelConfig
from dragoman_model.evaluation.reference_decode import NEVER_PRODUCED

OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
IR_VERSION = 10


class GraphBuilder(ABC):
    """Collects nodes and initializers; every method that adds nodes returns the name of the output.

    Activations are [N, T, D], unless a subclass has them otherwise: then `rows`, `queries` and `sequences` are what it
    converts with.
    """

    cache_type: int = TensorProto.FLOAT
    """Of the keys and values kept."""
    causal: int = 0
    """Of the decoder's attention. At one query a row it changes no result, but chooses the kernel: with 0, CPUs run all
    rows in one parallel loop rather than one after the other."""
    flat: bool = False
    """Whether activations are matrices [N, D]; what comes out of an attention never is."""
    in_blocks: bool = True
    """Whether candidates are looked for in two stages, which pays on CPUs."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self.config = config
        self.weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, inputs: Sequence[str], outputs: str | Sequence[str] = "", **attributes: Any) -> str:
        """Add a node; the output is named after it unless named by the caller."""
        name = f"{op}_{len(self._nodes)}"
        outputs = [outputs or name] if isinstance(outputs, str) else list(outputs)
        self._nodes.append(helper.make_node(op, list(inputs), outputs, name=name, **attributes))
        return outputs[0]

    def named(self, x: str, name: str) -> str:
        """Call the output of the last node, `x`, otherwise: a joint, where `joints` can take the graph apart.

        Raises:
            ValueError: `x` is not what the last node gives.
        """
        if list(self._nodes[-1].output) != [x]:
            raise ValueError(f"{name}: {x} is not the output of the last node")
        self._nodes[-1].output[0] = name
        return name

    def contrib(self, op: str, inputs: Sequence[str], outputs: str | Sequence[str] = "", **attributes: Any) -> str:
        """Add a node of ONNX Runtime's own operators."""
        return self.node(op, inputs, outputs, domain="com.microsoft", **attributes)

    def constant(self, name: str, value: Any, dtype: Any) -> str:
        """A tensor stored in the graph itself."""
        self._initializers.setdefault(name, numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def parameter(self, *parts: str, shape: Sequence[int] | None = None) -> str:
        """A tensor of the weights file, if need be under another shape; several neighbours make one."""
        name = parts[0] if len(parts) == 1 else f"{parts[0]}..{parts[-1]}"
        if shape is not None:
            name += "_as_" + "x".join(map(str, shape))
        if name not in self._initializers:
            self._initializers[name] = self.weights.initializer(name, parts, shape)
        return name

    def reshape(self, x: str, *shape: int) -> str:
        """A new shape over the same memory; 0 keeps a dimension, -1 takes what is left."""
        name = "shape_" + "_".join(map(str, shape))
        return self.node("Reshape", [x, self.constant(name, shape, np.int64)])

    def positions(self) -> str:
        """The table of positions, [max_positions, 1, D]."""
        table = self.weights.tensors[POSITIONS]
        return self.parameter(POSITIONS, shape=(table.shape[0], 1, table.shape[1]))

    def masked_output_bias(self) -> np.ndarray:
        """[padded V]: minus infinity for what is never produced, so that no one who searches need know of it."""
        bias = np.full(self.weights.tensors["embedding.weight"].shape[0], -np.inf, np.float32)
        bias[: self.config.vocab_size] = self.weights.tensors["output_bias"]
        bias[list(NEVER_PRODUCED)] = -np.inf
        return bias

    @abstractmethod
    def embed(self, ids: str, positions: str) -> str:
        """Ids [N, T], and vectors of their positions broadcastable to [N, T, D], -> their sum (sections 3.4, 3.5)."""

    @abstractmethod
    def linear(self, x: str, *modules: str) -> str:
        """[..., in] -> [..., out]: the outputs of one `nn.Linear`, or side by side those of several that read `x`."""

    @abstractmethod
    def feed_forward(self, x: str, module: str) -> str:
        """[..., D] -> [..., D] (section 3.3)."""

    @abstractmethod
    def logits(self, x: str) -> str:
        """[..., D] -> [N, padded V], through the transposed embedding matrix (section 3.4)."""

    def rows(self, x: str) -> str:
        """Attention's output [N, T, D] -> an activation."""
        return x

    def queries(self, x: str, width: int) -> str:
        """An activation of rows at one position each -> [R, 1, width], as attention wants it."""
        return x

    def sequences(self, x: str, ids: str) -> str:
        """An activation of the encoder -> [B, S, width], with B and S those of `ids`."""
        return x

    def cached(self, x: str) -> str:
        """Keys and values of cross-attention [B, S, 2 L D] -> the same in the type of the cache."""
        return x

    def cache_scales(self, attention: str) -> tuple[list[str], dict[str, Any]]:
        """What GroupQueryAttention is told of a cache in another type than its queries: inputs and attributes."""
        return [], {}

    def model(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """The finished graph."""
        graph = helper.make_graph(self._nodes, name, inputs, outputs, list(self._initializers.values()))
        return helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION, producer_name="dragoman")
