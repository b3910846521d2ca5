"""Checks any ONNX file against what TensorRT takes, without TensorRT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from keras_quant.errors import ModelError
from keras_quant.files import check_is_file
from keras_quant.targets.builder import build
from keras_quant.targets.jetson import BOARDS
from keras_quant.targets.onnx_model import OnnxModel
from keras_quant.targets.placement import WEIGHTED, separated_rectifiers
from keras_quant.targets.predict import predict_costs
from keras_quant.targets.report import BuilderReport, Finding, RulesReport
from keras_quant.targets.rules import RULES
from keras_quant.targets.tensorrt import VERSIONS, TensorRTOptions, plan

_QDQ = ("QuantizeLinear", "DequantizeLinear")
_INTEGER_OPS = ("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QGemm")
_INTEGER_PREFIX = "QLinear"
# What TensorRT moves quantization across, as it changes no value.
_PASSING = ("MaxPool", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
_INT4 = (TensorProto.INT4, TensorProto.UINT4)
_INT8_TYPES = (TensorProto.INT8, *_INT4, TensorProto.FLOAT8E4M3FN)
# TensorRT has plugins, which onnx does not know.
_UNKNOWN_OPERATOR = "No Op registered for"
_OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1}


Found = Iterator[tuple[str, onnx.NodeProto | None, str]]


def load_onnx(path: Path) -> onnx.ModelProto:
    """Reads an .onnx file, with the weights that lie in its folder.

    Raises:
        ModelError: it is missing or damaged, or no valid ONNX.
    """
    check_is_file(path, ModelError, give="give an .onnx file")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf has many errors and no base of its own
        raise ModelError(f"{path}: not an ONNX file that can be read ({error})") from error
    if not model.graph.node:
        raise ModelError(f"{path}: not an ONNX file, or one without any operator")
    try:
        onnx.checker.check_model(path)
    except Exception as error:
        if _UNKNOWN_OPERATOR not in str(error):
            raise ModelError(f"{path}: not valid ONNX ({error}). Export it again") from error
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise ModelError(f"{path}: its weights cannot be read ({error})") from error
    return model


def check_file(path: Path, *, version: str | None, board: str | None, dla: bool) -> RulesReport:
    """Reads a file and checks it, see `load_onnx` and `check_tensorrt`."""
    options = TensorRTOptions(version=version, board=board, dla=dla)
    return RulesReport(findings=check_tensorrt(load_onnx(path), options))


def build_file(path: Path) -> BuilderReport:
    """Reads a file and has NVIDIA's builder build it, see `load_onnx` and `builder.build`."""
    return build(load_onnx(path))


def check_tensorrt(model: onnx.ModelProto, options: TensorRTOptions) -> tuple[Finding, ...]:
    """Finds what TensorRT would reject, run in float without a word, or not fuse; and costs.

    Raises:
        UsageError: the options do not go together.
    """
    plan(options)  # refuses options that do not go together
    seen = OnnxModel(model)
    return tuple(_finding(*found) for check in _CHECKS for found in check(seen, options))


def _finding(rule: str, node: onnx.NodeProto | None, what: str) -> Finding:
    known = RULES[rule]
    return Finding(
        rule=rule,
        effect=known.effect,
        node="" if node is None else node.name or next(iter(node.output), ""),
        op="" if node is None else node.op_type,
        what=what,
        remedy=known.remedy,
        source=known.source,
    )


def _opset(model: OnnxModel, options: TensorRTOptions) -> Found:
    version = plan(options).version
    low, high = VERSIONS[version].opsets
    if not low <= model.opset <= high:
        what = f"opset is {model.opset}; TensorRT {version} is documented to take {low} to {high}"
        yield "opset", None, what


def _operators(model: OnnxModel, options: TensorRTOptions) -> Found:
    for node in model.nodes:
        if node.op_type in _INTEGER_OPS or node.op_type.startswith(_INTEGER_PREFIX):
            yield "integer-operator", node, f"TensorRT has no {node.op_type}"


def _hardware(model: OnnxModel, options: TensorRTOptions) -> Found:
    first = next((node for node in model.nodes if node.op_type in _QDQ), None)
    if first is None:
        return
    if options.board is not None and not BOARDS[options.board].int8:
        what = f"the file has Q/DQ; the GPU of {options.board} has no int8"
        yield "quantized-on-float-board", first, what
    if options.dla:
        yield "quantized-on-dla", first, "the file has Q/DQ; a DLA takes none"


def _zero_points(model: OnnxModel, options: TensorRTOptions) -> Found:
    version = plan(options).version
    for node in _quantizing(model):
        if len(node.input) < 3 or not node.input[2]:
            if version.startswith("8."):
                yield "zero-point-missing", node, f"two inputs; TensorRT {version} wants three"
            continue
        points = model.constant(node.input[2])
        if points is None:
            yield "zero-point", node, "the zero point is not a constant"
        elif np.any(points.astype(np.float64)):
            worst = float(np.abs(points.astype(np.float64)).max())
            yield "zero-point", node, f"zero point {worst:g}; 0 is allowed"


def _types(model: OnnxModel, options: TensorRTOptions) -> Found:
    version = plan(options).version
    for node in _quantizing(model):
        element = model.element_type(node)
        name = TensorProto.DataType.Name(element).lower()
        if element not in _INT8_TYPES or element == TensorProto.UINT4:
            yield "type", node, f"quantizes to {name}; int8 is allowed"
        elif element in _INT4:
            shape = model.shape(node.input[0])
            if not model.is_weight(node.input[0]):
                yield "int4", node, "int4 for what is no constant weight"
            elif shape is not None and len(shape) != 2:
                yield "int4", node, f"int4 weight of shape {shape}; 2-D is allowed"
            if version.startswith("8."):
                yield "int4", node, f"int4 with TensorRT {version}"


def _scales(model: OnnxModel, options: TensorRTOptions) -> Found:
    takes_computed = plan(options).version == "11"
    for node in _quantizing(model):
        scales = model.constant(node.input[1])
        if scales is None:
            if not takes_computed:
                yield "scale-not-constant", node, f"scale {node.input[1]!r} is computed"
            continue
        if not np.all((scales > 0) & np.isfinite(scales)):
            yield "scale-not-positive", node, f"a scale is {scales.min():g}"
        if model.is_weight(node.input[0]):
            continue
        if scales.size > 1:
            what = f"{scales.size} scales for an activation; 1 is allowed"
            yield "per-channel-activation", node, what
        elif scales.ndim:
            yield "scale-rank", node, f"the scale has shape {scales.shape}; () is allowed"


def _compute(model: OnnxModel, options: TensorRTOptions) -> Found:
    """Layers that would run in float, in a file that is quantized at all."""
    if not any(node.op_type == "DequantizeLinear" for node in model.nodes):
        return
    for node in model.nodes:
        if node.op_type not in WEIGHTED:
            continue
        behind = _what_feeds(model, node.input[0])
        if behind != "DequantizeLinear":
            what = f"reads {node.input[0]!r} straight from {behind}, so it runs in float"
            yield "float-input", node, what
        weight = model.producer(node.input[1])
        if weight is None and model.constant(node.input[1]) is not None:
            yield "float-weight", node, f"weight {node.input[1]!r} is float, so it runs in float"
        elif weight is not None and weight.op_type == "DequantizeLinear":
            yield from _weight_axis(model, node, weight)


def _weight_axis(model: OnnxModel, node: onnx.NodeProto, weight: onnx.NodeProto) -> Found:
    scales, shape = model.constant(weight.input[1]), model.shape(weight.output[0])
    if scales is None or scales.size == 1 or shape is None:
        return
    axis = model.attribute(weight, "axis", 1) % len(shape)
    wanted = _OUTPUT_AXIS.get(node.op_type, len(shape) - 1)
    if node.op_type == "Gemm":
        wanted = 0 if model.attribute(node, "transB", 0) else 1
    if axis != wanted:
        what = f"weight scales lie along axis {axis}; {wanted} is needed, so it runs in float"
        yield "weight-axis", node, what


def _placement(model: OnnxModel, options: TensorRTOptions) -> Found:
    for node, what in separated_rectifiers(model):
        yield "separated-activation", node, what


def _costs(model: OnnxModel, options: TensorRTOptions) -> Found:
    yield from predict_costs(model)


def _what_feeds(model: OnnxModel, value: str) -> str:
    """The operator that gives a value, behind those that only move values; "an input"."""
    producer = model.producer(value)
    while producer is not None and producer.op_type in _PASSING:
        producer = model.producer(producer.input[0])
    return "an input" if producer is None else producer.op_type


def _quantizing(model: OnnxModel) -> Iterator[onnx.NodeProto]:
    return (node for node in model.nodes if node.op_type in _QDQ)


_CHECKS: tuple[Callable[[OnnxModel, TensorRTOptions], Found], ...] = (
    _opset,
    _operators,
    _hardware,
    _zero_points,
    _types,
    _scales,
    _compute,
    _placement,
    _costs,
)
