"""What will cost time in an engine of a valid file, seen in the file before anything is built.

Each is judged by NVIDIA's builder in the tests: what its engine for compute capability 8.6 does
with a small file of each sort.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx

from keras_quant.targets.onnx_model import OnnxModel
from keras_quant.targets.placement import WEIGHTED, separated_additions

_LANES = 4
"""Codes that an int8 instruction multiplies at a time (dp4a, and the parts of imma)."""

_TILE = 16
"""Rows and columns of the least int8 tile of a tensor core."""

_QDQ = ("QuantizeLinear", "DequantizeLinear")
# What moves values, or takes the largest of them, and so computes with codes as they are.
_MOVING = (
    *("MaxPool", "GlobalMaxPool", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"),
    *("Identity", "Concat", "Split", "Slice", "Pad", "Gather", "Expand", "Tile", "Cast"),
    *("DepthToSpace", "SpaceToDepth", "Resize", "Upsample"),
)
# What becomes one kernel with the Q and DQ around it, which reads codes and gives codes.
_POINTWISE = (
    *("Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Sigmoid"),
    *("HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign", "Mish", "Gelu", "Erf", "Exp"),
    *("Log", "Sqrt", "Reciprocal", "Abs", "Neg", "Sign", "Round", "Floor", "Ceil", "Pow", "Add"),
    *("Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean", "Where", "BatchNormalization"),
)
_FLOWING = (*_MOVING, *_POINTWISE)
_NO_COPY = ("QuantizeLinear", "Shape")

Found = Iterator[tuple[str, onnx.NodeProto, str]]


def predict_costs(model: OnnxModel) -> Found:
    """Finds what will cost time in a file of codes; nothing in one of floats.

    Yields: the key of `rules.RULES`, the node, and what was found.
    """
    if any(node.op_type == "DequantizeLinear" for node in model.nodes):
        for rule in _RULES:
            yield from rule(model)


def _float_islands(model: OnnxModel) -> Found:
    """Operators that TensorRT computes in kernels of their own, between codes and codes."""
    for node in model.nodes:
        known = (*_FLOWING, *WEIGHTED, *_QDQ, "Constant", "Shape")
        if node.op_type in known or not node.input:
            continue
        if _comes_from_codes(model, node) and _becomes_codes(model, node):
            what = f"{node.op_type} reads and gives floats between layers of codes"
            yield "float-island", node, what


def _float_copies(model: OnnxModel) -> Found:
    """Values that are kept as codes and as floats, as some of their readers take either."""
    for node in model.nodes:
        if node.op_type != "QuantizeLinear":
            continue
        value = node.input[0]
        source = model.producer(value)
        if source is None or source.op_type in _QDQ or model.is_weight(value):
            continue
        others = [one for one in model.consumers(value) if one.op_type not in _NO_COPY]
        if others and _comes_from_codes(model, source):
            names = ", ".join(f"{one.op_type} {_name(one)!r}" for one in others)
            yield "float-copy", node, f"quantizes {value!r}, which {names} reads as floats"


def _requantized(model: OnnxModel) -> Found:
    """Codes that become codes of another scale, with nothing computed between."""
    for node in model.nodes:
        if node.op_type != "QuantizeLinear":
            continue
        source = model.producer(node.input[0])
        while source is not None and source.op_type in _MOVING:
            source = model.producer(source.input[0])
        if source is None or source.op_type != "DequantizeLinear" or model.is_weight(node.input[0]):
            continue
        scales = [model.constant(one.input[1]) for one in (source, node)]
        if any(scale is None for scale in scales) or np.array_equal(*scales):  # type: ignore[arg-type]
            continue
        what = f"gives the codes of {_name(source)!r} another scale, with nothing computed between"
        yield "requantized", node, what


def _additions(model: OnnxModel) -> Found:
    """Branches that are rounded before they are added."""
    for node, what in separated_additions(model):
        yield "separated-addition", node, what


def _channels(model: OnnxModel) -> Found:
    """Convolutions in codes that read a number of channels which is no multiple of the lanes."""
    for node in model.nodes:
        shape = model.shape(node.input[1]) if node.op_type == "Conv" else None
        if shape is None or not _multiplies_codes(model, node):
            continue
        groups = int(model.attribute(node, "group", 1))
        if shape[1] % _LANES:
            padded = -(-shape[1] // _LANES) * _LANES
            what = (
                f"reads {shape[1]} channel{'s' * (shape[1] > 1)}"
                f"{f' in each of {groups} groups' if groups > 1 else ''}; int8 kernels take "
                f"{_LANES} at a time, so {padded} are multiplied"
            )
            yield "padded-channels", node, what


def _small_products(model: OnnxModel) -> Found:
    """Matrix products in codes that are smaller than a tile."""
    for node in model.nodes:
        shape = model.shape(node.input[1]) if node.op_type in ("Gemm", "MatMul") else None
        if shape is None or len(shape) < 2 or not _multiplies_codes(model, node):
            continue
        turned = node.op_type == "Gemm" and model.attribute(node, "transB", 0)
        size, count = reversed(shape[-2:]) if turned else shape[-2:]
        small = [
            f"{name} is {value}" for name, value in (("K", size), ("N", count)) if value < _TILE
        ]
        if small:
            what = f"{' and '.join(small)} (K inputs, N outputs); a tile has {_TILE} of each"
            yield "small-product", node, what


def _multiplies_codes(model: OnnxModel, node: onnx.NodeProto) -> bool:
    weight = model.producer(node.input[1])
    return (
        weight is not None
        and weight.op_type == "DequantizeLinear"
        and model.is_weight(weight.input[0])
        and _source_op(model, node.input[0]) == "DequantizeLinear"
    )


def _source_op(model: OnnxModel, value: str) -> str:
    source = model.producer(value)
    while source is not None and source.op_type in _MOVING:
        source = model.producer(source.input[0])
    return "" if source is None else source.op_type


def _comes_from_codes(model: OnnxModel, node: onnx.NodeProto) -> bool:
    """Whether something that a node reads was computed from codes, by layers that are fused."""
    waiting, seen = [node], {id(node)}
    while waiting:
        for value in waiting.pop().input:
            source = model.producer(value)
            if source is None or _is_constant(model, source) or id(source) in seen:
                continue
            if source.op_type in (*WEIGHTED, "DequantizeLinear"):
                return True
            if source.op_type in _FLOWING:
                seen.add(id(source))
                waiting.append(source)
    return node.op_type in WEIGHTED


def _is_constant(model: OnnxModel, node: onnx.NodeProto) -> bool:
    """Whether a node gives a weight: of floats, or of codes behind a DequantizeLinear."""
    return any(map(model.is_weight, (*node.output, *node.input[:1])))


def _becomes_codes(model: OnnxModel, node: onnx.NodeProto) -> bool:
    """Whether what a node gives is quantized, behind what is fused with that."""
    waiting, seen = [node], {id(node)}
    while waiting:
        for value in waiting.pop().output:
            for reader in model.consumers(value):
                if reader.op_type == "QuantizeLinear":
                    return True
                if reader.op_type in _FLOWING and id(reader) not in seen:
                    seen.add(id(reader))
                    waiting.append(reader)
    return False


def _name(node: onnx.NodeProto) -> str:
    return str(node.name or next(iter(node.output), ""))


_RULES: tuple[Callable[[OnnxModel], Found], ...] = (
    _float_islands,
    _float_copies,
    _requantized,
    _additions,
    _channels,
    _small_products,
)
