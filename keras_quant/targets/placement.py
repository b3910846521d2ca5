"""Where Q/DQ stand in an ONNX file, as far as that decides what TensorRT fuses."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from keras_quant.targets.onnx_model import OnnxModel

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What belongs to a weighted operator, where its other input is constant.
_FOLDED = ("Add", "BatchNormalization")
_RECTIFIERS = ("Relu", "Clip")


def separated_rectifiers(model: OnnxModel) -> Iterator[tuple[onnx.NodeProto, str]]:
    """Finds Q/DQ pairs between a weighted operator and a Relu or Clip, which keep them unfused.

    A pair that others read too is needed for them, and is left alone.

    Yields: the QuantizeLinear, and what it separates.
    """
    for node in model.nodes:
        if node.op_type not in _RECTIFIERS:
            continue
        dequantize = _only_source(model, node, "DequantizeLinear")
        quantize = dequantize and _only_source(model, dequantize, "QuantizeLinear")
        weighted = quantize and _weighted_source(model, quantize.input[0])
        if quantize and weighted:
            names = [f"{item.op_type} {item.name or item.output[0]!r}" for item in (weighted, node)]
            yield quantize, f"stands with its DequantizeLinear between {' and '.join(names)}"


def separated_additions(model: OnnxModel) -> Iterator[tuple[onnx.NodeProto, str]]:
    """Finds Q/DQ pairs between a weighted operator and an addition, of which one is enough.

    A kernel adds what lies in memory to its own sums, if these go on without being rounded; where
    two weighted operators are added, one of them has to be in memory.

    Yields: the QuantizeLinear, and what it separates.
    """
    for node in model.nodes:
        if node.op_type != "Add" or any(map(model.is_weight, node.input)):
            continue
        if any(_weighted_source(model, value) for value in node.input):
            continue
        for value in node.input:
            pair = _pair_behind(model, value)
            weighted = pair and _weighted_source(model, pair.input[0])
            if pair and weighted:
                names = [f"{one.op_type} {one.name or one.output[0]!r}" for one in (weighted, node)]
                yield pair, f"stands with its DequantizeLinear between {' and '.join(names)}"
                break


def _pair_behind(model: OnnxModel, value: str) -> onnx.NodeProto | None:
    """The QuantizeLinear of a pair that gives a value, and nothing else."""
    source = model.producer(value)
    if source is None or source.op_type != "DequantizeLinear" or len(model.consumers(value)) > 1:
        return None
    return _only_source(model, source, "QuantizeLinear")


def _only_source(model: OnnxModel, node: onnx.NodeProto, op: str) -> onnx.NodeProto | None:
    """The node of an operator that gives the first input of a node, and gives it to no other."""
    value = node.input[0]
    source = model.producer(value)
    if source is None or source.op_type != op or len(model.consumers(value)) > 1:
        return None
    return source


def _weighted_source(model: OnnxModel, value: str) -> onnx.NodeProto | None:
    """The weighted operator that gives a value, behind its bias and its batch norm."""
    source = model.producer(value)
    while source is not None and source.op_type in _FOLDED:
        computed = [name for name in source.input if not model.is_weight(name)]
        source = model.producer(computed[0]) if len(computed) == 1 else None
    return source if source is not None and source.op_type in WEIGHTED else None
