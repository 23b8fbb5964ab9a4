"""The base class of graph builders. `Fp32Builder`, `Fp16Builder` and `Int8Builder` add the matrix products.

Operators without a domain are those of ONNX opset 21. Operators of the domain `com.microsoft` are specified in ONNX
Runtime's docs/ContribOperators.md. The letters of tensor shapes are those of `graphs`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dragoman_export.joints import DECODER, ENCODER
from dragoman_export.weights import Weights, embedding_matrices, position_tables
from dragoman_model.config import ModelConfig

OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
IR_VERSION = 10
_SIGMOID_FACTOR = {"swish": 1.0, "gelu_sigmoid": 1.702}
"""Activation functions of the form x sigmoid(alpha x) -> alpha."""


class GraphBuilder(ABC):
    """Collects nodes and initializers. Every method that adds nodes returns the name of the output.

    Activations of the encoder are [N, D], those of the decoder [R, 1, D]. A subclass with another layout of the decoder
    converts them in `rows` and `queries`.
    """

    cache_type: int = TensorProto.FLOAT
    """The type of the cached keys and values."""
    causal: int = 0
    """The attribute `causal` of the decoder's attention. With one query per row it does not change the result, but it
    selects the kernel. With 0, CPUs run all rows in one parallel loop instead of one after the other."""
    flat: bool = False
    """Whether activations of the decoder are matrices [R, D]. The output of an attention never is."""
    in_blocks: bool = True
    """Whether candidates are searched in two stages, which is faster on CPUs."""

    returns_weights: bool = True
    """Whether the kernel of the decoder's attention can return the weights of the attention."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self.config = config
        self.weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._shapes: list[onnx.ValueInfoProto] = []

    def node(self, op: str, inputs: Sequence[str], outputs: str | Sequence[str] = "", **attributes: Any) -> str:
        """Add a node. Without `outputs`, its output gets the name of the node."""
        name = f"{op}_{len(self._nodes)}"
        outputs = [outputs or name] if isinstance(outputs, str) else list(outputs)
        self._nodes.append(helper.make_node(op, list(inputs), outputs, name=name, **attributes))
        return outputs[0]

    def named(self, x: str, name: str) -> str:
        """Rename `x`, the output of the last node. It is then a joint, at which `joints` can cut the graph.

        Raises:
            ValueError: `x` is not the output of the last node.
        """
        if list(self._nodes[-1].output) != [x]:
            raise ValueError(f"{name}: {x} is not the output of the last node")
        self._nodes[-1].output[0] = name
        return name

    def shaped(self, x: str, shape: Sequence[str | int]) -> str:
        """Declare the shape of an fp32 tensor, which ONNX Runtime cannot find out, for its memory planner."""
        self._shapes.append(helper.make_tensor_value_info(x, TensorProto.FLOAT, list(shape)))
        return x

    def contrib(self, op: str, inputs: Sequence[str], outputs: str | Sequence[str] = "", **attributes: Any) -> str:
        """Add a node with one of ONNX Runtime's own operators."""
        return self.node(op, inputs, outputs, domain="com.microsoft", **attributes)

    def constant(self, name: str, value: Any, dtype: Any) -> str:
        """A tensor stored in the graph itself."""
        self._initializers.setdefault(name, numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def parameter(self, *parts: str, shape: Sequence[int] | None = None) -> str:
        """A tensor of the weights file. Several `parts` must be neighbours in the file, and become one tensor.

        The tensor has the shape `shape`, if it is given.
        """
        name = parts[0] if len(parts) == 1 else f"{parts[0]}..{parts[-1]}"
        if shape is not None:
            name += "_as_" + "x".join(map(str, shape))
        if name not in self._initializers:
            self._initializers[name] = self.weights.initializer(name, parts, shape)
        return name

    def reshape(self, x: str, *shape: int) -> str:
        """Add a Reshape. In `shape`, 0 keeps a dimension and -1 infers it."""
        name = "shape_" + "_".join(map(str, shape))
        return self.node("Reshape", [x, self.constant(name, shape, np.int64)])

    def table_of_positions(self, stack: str) -> str:
        """The name of the table of positions of a stack."""
        tables = position_tables(self.config)
        return tables.get(stack, tables[ENCODER])

    def decoder_positions(self) -> str:
        """The decoder's table of positions, [max_positions, 1, D]."""
        name = self.table_of_positions(DECODER)
        table = self.weights.tensors[name]
        return self.parameter(name, shape=(table.shape[0], 1, table.shape[1]))

    def embedding(self, use: str) -> str:
        """The name of the embedding matrix for a use, without `.weight`; see `weights.EMBEDDING_USES`."""
        return embedding_matrices(self.config)[use]

    @property
    def num_words(self) -> int:
        """The padded V."""
        return int(self.weights.tensors[f"{self.embedding('output')}.weight"].shape[0])

    def activation(self, x: str, module: str) -> str:
        """The activation function of the feed-forward network `module`, for a graph without a cheaper one.

        Except for ReLU, the output is a joint: see `joints.Stack`.
        """
        kind = self.config.activation
        if kind == "relu":
            return self.node("Relu", [x])
        if kind in _SIGMOID_FACTOR:  # x sigmoid(alpha x)
            return self.contrib("QuickGelu", [x], f"{module}.active", alpha=_SIGMOID_FACTOR[kind])
        return self.node("Gelu", [x], f"{module}.active", approximate="tanh" if kind == "gelu_tanh" else "none")

    def masked_output_bias(self) -> np.ndarray:
        """[padded V] The output bias, with minus infinity for the ids that no translation contains.

        So the search needs no list of these ids.
        """
        bias = np.full(self.num_words, -np.inf, np.float32)
        bias[: self.config.vocab_size] = self.weights.tensors["output_bias"]
        bias[list(self.config.banned_ids)] = -np.inf
        return bias

    @abstractmethod
    def embed(self, ids: str, positions: str, use: str) -> str:
        """Embed ids [...] and add their position vectors, [..., D] (sections 3.4 and 3.5).

        `use` is `source` or `target`.
        """

    @abstractmethod
    def linear(self, x: str, *modules: str) -> str:
        """[..., in] -> [..., out]: the output of an `nn.Linear`, or the concatenated outputs of several."""

    @abstractmethod
    def feed_forward(self, x: str, module: str) -> str:
        """The feed-forward network (section 3.3), [..., D] -> [..., D]."""

    @abstractmethod
    def logits(self, x: str) -> str:
        """[..., D] -> logits [..., padded V], through the transposed embedding matrix (section 3.4)."""

    def rows(self, x: str, width: int) -> str:
        """Convert the output of an attention of the decoder, [R, 1, width], to an activation."""
        return x

    def queries(self, x: str, width: int) -> str:
        """Convert an activation of a decoder step to the input of an attention, [R, 1, width]."""
        return x

    def source_lengths(self) -> list[str]:
        """Add the nodes that compute what `source_attention` reads of the lengths of the sources."""
        return [self.node("Sub", ["source_lengths", self.constant("one", 1, np.int32)]), "total_source_length"]

    def source_attention(self, packed: str, lengths: Sequence[str], **attributes: Any) -> str:
        """Self-attention of padded sources: query, key and value [B, S, 3 H K] -> [B, S, H K].

        GroupQueryAttention reads as many keys of a source as the source has, whatever the length of the longest one. So
        the result of a source is the same to the last bit beside any others.
        """
        inputs, heads = [packed, "", "", "", "", *lengths], self.config.num_heads
        return self.contrib("GroupQueryAttention", inputs, num_heads=heads, kv_num_heads=heads, causal=0, **attributes)

    def attended_most(self, weights: str, query: str, layer: int, head: int) -> str:
        """The output `aligned` [R, 1]: the source position with the largest weight in a head of cross-attention.

        Args:
            weights: The weights of the attention, [R, H, 1, positions], if `returns_weights`.
            query: Its queries, [R, 1, H K].
            layer: The decoder layer.
            head: The head.
        """
        of_head = self.node("Gather", [weights, self.constant("aligned_head", head, np.int64)], axis=1)
        return self.node("ArgMax", [of_head], "aligned", axis=-1, keepdims=0)

    def cached(self, x: str) -> str:
        """Convert keys and values of cross-attention, [N, 2 L H K], to the type of the cache."""
        return x

    def cache_scales(self, attention: str) -> tuple[list[str], dict[str, Any]]:
        """The inputs and attributes of GroupQueryAttention for a cache with another type than the queries."""
        return [], {}

    def model(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """The finished graph."""
        graph = helper.make_graph(
            self._nodes, name, inputs, outputs, list(self._initializers.values()), value_info=self._shapes
        )
        return helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION, producer_name="dragoman")
