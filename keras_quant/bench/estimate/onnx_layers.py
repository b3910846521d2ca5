"""The fused layers of any ONNX file, so that files of others can be estimated too.

Only what decides over time is read: shapes, kernels' sizes, and where Q and DQ nodes make an
operand one of codes. The result is a graph in the sense of `graph.ir`, one that computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from keras_quant.bench.estimate.fusion import FusedLayer, fuse
from keras_quant.errors import ModelError, UsageError
from keras_quant.graph.ir import Graph, Node, Shape, Tensor, Weight
from keras_quant.qparams import signed
from keras_quant.targets.check import load_onnx
from keras_quant.targets.onnx_model import OnnxModel

_QDQ = ("QuantizeLinear", "DequantizeLinear")
_MOVED = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast")
_COPIED = ("Transpose", "Slice", "Split", "Expand", "Tile", "DepthToSpace", "SpaceToDepth")
_EPILOGUES = ("Relu", "Clip", "LeakyRelu", "PRelu")
_FUNCTIONS = (
    *("Sigmoid", "Tanh", "Elu", "Selu", "HardSigmoid", "HardSwish", "Softplus", "Softsign"),
    *("Exp", "Log", "Sqrt", "Erf", "Gelu", "Mish", "Swish", "Round", "Abs", "Neg"),
    *("LRN", "InstanceNormalization", "LayerNormalization"),
)
_OPS = {
    **dict.fromkeys(_MOVED, "reshape"),
    **dict.fromkeys(_COPIED, "transpose"),
    **dict.fromkeys(_EPILOGUES, "relu"),
    **dict.fromkeys(_FUNCTIONS, "pointwise"),
    **dict.fromkeys(("MaxPool", "AveragePool"), "max_pool"),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "ReduceMean"), "mean"),
    **dict.fromkeys(("Softmax", "LogSoftmax"), "softmax"),
    **dict.fromkeys(("Resize", "Upsample"), "upsample"),
    "Concat": "concat",
    "Pad": "pad",
}
_TWO = {"Add": "add", "Sub": "add", "Sum": "add", "Max": "add", "Min": "add"}
_TWO |= {"Mul": "multiply", "Div": "multiply", "Pow": "multiply"}
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_CODES = signed(8, 1.0, narrow_range=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxLayers:
    """What a child process tells of a file."""

    layers: tuple[FusedLayer, ...]


def read_layers(path: Path, input_shapes: Mapping[str, Sequence[int]] | None = None) -> OnnxLayers:
    """Reads a file's fused layers; to be called in a child process, as onnx is native code.

    Args:
        input_shapes: with the batch, of inputs in which the file leaves sizes open.
    Raises:
        ModelError: the file is damaged, leaves a size open, or has operators that are not known
            here; all of them at once.
    """
    model = load_onnx(path)
    for name, shape in (input_shapes or {}).items():
        _set_shape(model.graph, name, shape, str(path))
    try:
        known = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        raise ModelError(f"{path}: its shapes cannot be found ({error})") from error
    return OnnxLayers(layers=fuse(_Reading(known, str(path)).graph()))


def _set_shape(graph: onnx.GraphProto, name: str, shape: Sequence[int], where: str) -> None:
    """Gives an input its sizes, where the file leaves them open or has the same."""
    given = next((one for one in graph.input if one.name == name), None)
    sizes = [] if given is None else given.type.tensor_type.shape.dim
    if len(sizes) != len(shape) or any(
        size.dim_value not in (0, wanted) for size, wanted in zip(sizes, shape, strict=True)
    ):
        raise UsageError(
            f"{where}: --input-shape {name}={'x'.join(map(str, shape))} fits no input; it has "
            f"{', '.join(f'{one.name} {list(_sizes(one))}' for one in graph.input)}"
        )
    for size, wanted in zip(sizes, shape, strict=True):
        size.dim_value = wanted


class _Reading:
    """A model on its way to a graph; values by the names that they have behind Q and DQ."""

    def __init__(self, model: onnx.ModelProto, where: str) -> None:
        self.model, self.where = OnnxModel(model), where
        self.proto = model.graph
        self.shapes = _shapes(model.graph)
        self.constants = {tensor.name for tensor in model.graph.initializer}
        self.roots: dict[str, str] = {}
        self.codes: set[str] = set()
        self.nodes: list[Node] = []
        self.problems: list[str] = []

    def graph(self) -> Graph:
        inputs = [one.name for one in self.proto.input if one.name not in self.constants]
        for name in inputs:
            self._shape(name)
        for place, node in enumerate(self.proto.node):
            self._read(node, node.name or f"{node.op_type}_{place}")
        if self.problems:
            raise ModelError("\n".join(f"{self.where}: {one}" for one in self.problems))
        names = dict.fromkeys(
            (*inputs, *(name for node in self.nodes for name in (*node.inputs, node.output)))
        )
        return Graph(
            name=self.where,
            inputs=tuple(inputs),
            outputs=tuple(self._root(one.name) for one in self.proto.output),
            tensors={
                name: Tensor(
                    name=name,
                    shape=self._shape(name),
                    qparams=_CODES if name in self.codes else None,
                )
                for name in names
            },
            nodes=tuple(self.nodes),
        )

    def _read(self, node: onnx.NodeProto, name: str) -> None:
        computed = [value for value in node.input if value and value not in self.constants]
        if not computed:
            self.constants |= set(node.output)
        elif node.op_type in _QDQ:
            self.roots[node.output[0]] = self._root(node.input[0])
            if node.op_type == "DequantizeLinear":
                self.codes.add(self._root(node.input[0]))
        elif node.op_type in _WEIGHTED:
            self._weighted(node, name)
        elif node.op_type == "BatchNormalization":
            self._norm(node, name)
        elif node.op_type in _OPS or node.op_type in _TWO:
            op = _OPS.get(node.op_type) or _TWO[node.op_type]
            # One operand is a constant: a bias, or a scale, in the layer before it.
            op = "relu" if node.op_type in _TWO and len(computed) == 1 else op
            several = op in ("add", "multiply", "concat")
            self._add(node, name, op, computed if several else computed[:1])
        else:
            self.problems.append(
                f"{name}: {node.op_type} is not estimated; known are "
                f"{', '.join((*_WEIGHTED, 'BatchNormalization', *_OPS, *_TWO))}"
            )

    def _add(
        self,
        node: onnx.NodeProto,
        name: str,
        op: str,
        inputs: list[str],
        weight: Weight | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        settings = dict(attrs or {})
        if op == "max_pool":
            settings["pool_size"] = tuple(self.model.attribute(node, "kernel_shape", ()))
        output = node.output[0]
        self._shape(output)
        self.nodes.append(
            Node(
                name=name,
                op=op,
                inputs=tuple(map(self._root, inputs)),
                output=output,
                attrs=settings,
                weight=weight,
            )
        )
        for other in node.output[1:]:  # of a Split
            self.roots[other] = output

    def _weighted(self, node: onnx.NodeProto, name: str) -> None:
        kernel = self.model.shape(node.input[1]) or self._computed_shape(node.input[1])
        if kernel is None or node.input[1] not in self.constants:
            self.problems.append(f"{name}: {node.op_type} multiplies by what is computed")
            return
        in_codes = self._in_codes(node.input[1])
        groups = int(self.model.attribute(node, "group", 1))
        attrs: dict[str, Any] = {}
        if node.op_type in ("Gemm", "MatMul"):
            turned = self.model.attribute(node, "transB", 0)
            op, shape = "dense", kernel[::-1] if turned else kernel
        elif len(kernel) != 4:
            self.problems.append(f"{name}: {node.op_type} of {len(kernel) - 2} dimensions; 2 are")
            return
        elif node.op_type == "ConvTranspose":
            op, shape = "conv2d_transpose", (*kernel[2:], kernel[0] // groups, kernel[1] * groups)
        else:
            op, shape = "conv2d", (*kernel[2:], kernel[1], kernel[0])
        if op != "dense":
            attrs["strides"] = tuple(self.model.attribute(node, "strides", (1, 1)))
            attrs["groups"] = groups
        self._add(node, name, op, [node.input[0]], _weight(shape, in_codes=in_codes), attrs)

    def _norm(self, node: onnx.NodeProto, name: str) -> None:
        """A batch norm: in the convolution before it, or a pass of its own."""
        before = self.model.producer(node.input[0])
        if before is not None and before.op_type in _WEIGHTED:
            self._add(node, name, "relu", [node.input[0]])
            return
        channels = self._shape(self._root(node.input[0]))[-1:]
        weight = _weight((1, 1, *channels), in_codes=False)
        self._add(node, name, "depthwise_conv2d", [node.input[0]], weight)

    def _in_codes(self, weight: str) -> bool:
        """Whether a kernel comes from a DequantizeLinear, whatever moves its values behind that."""
        producer = self.model.producer(weight)
        while producer is not None and producer.op_type in ("Transpose", "Reshape", "Identity"):
            producer = self.model.producer(producer.input[0])
        return producer is not None and producer.op_type == "DequantizeLinear"

    def _computed_shape(self, value: str) -> Shape | None:
        """The shape of what is computed of constants alone; None where it is not known."""
        sizes = self.shapes.get(value)
        if not sizes or None in sizes:
            return None
        return tuple(size for size in sizes if size is not None)

    def _root(self, value: str) -> str:
        return self.roots.get(value, value)

    def _shape(self, value: str) -> Shape:
        """The shape for one image, channels last; () with a problem where a size is open."""
        found = self.shapes.get(value)
        if found is None or None in found[1:]:
            shown = (
                "unknown"
                if found is None
                else ", ".join("any" if n is None else str(n) for n in found)
            )
            problem = f"{value!r} has the shape ({shown}); times depend on what is left open. "
            self.problems.append(problem + "Write the file with fixed sizes")
            return ()
        image = tuple(size for size in found[1:] if size is not None)
        return image if len(image) != 3 else (*image[1:], image[0])


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int | None, ...]]:
    """Sizes of the values that are known."""
    return {
        one.name: _sizes(one)
        for one in (*graph.input, *graph.value_info, *graph.output)
        if one.type.tensor_type.HasField("shape")
    }


def _sizes(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """A value's sizes; None for one that is left open."""
    return tuple(size.dim_value or None for size in value.type.tensor_type.shape.dim)


def _weight(shape: tuple[int, ...], *, in_codes: bool) -> Weight:
    """A kernel of a shape, whose values take no memory."""
    return Weight(
        values=np.broadcast_to(np.int8(1) if in_codes else np.float32(1), shape),
        scale=np.ones(1) if in_codes else None,
        bits=8 if in_codes else 32,
    )
