"""Plain kinds of .onnx files: a Cast of float16, and integers that are quantized as they run.

| kind | layers with weights | which of them stay in float |
|---|---|---|
| fp16 | float16 weights and biases behind a Cast, which is computed once | none |
| dynamic | DynamicQuantizeLinear, then MatMulInteger of int8 or ConvInteger of uint8 around 128,
which ONNX Runtime computes 8 times as fast as that of int8 | transposed and grouped ones |

There is no w8a16: ONNX Runtime's CPU has integer kernels of 8 bits only, and would compute int16
between Q and DQ in floats.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from keras_quant.emit.plain.kinds import DYNAMIC, FP16, W8A16, PlainFile, fits_half, int8_channels
from keras_quant.errors import EmitError

_KERNELS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_UINT8_ZERO = 128


def make_plain(content: bytes, kind: str) -> PlainFile:
    """Writes a float .onnx file of ours anew, in a plain kind.

    Args:
        kind: of `kinds.KINDS`.
    Raises:
        EmitError: the kind is W8A16.
    """
    if kind == W8A16:
        raise EmitError(
            "onnx cannot be written as w8a16: ONNX Runtime's CPU has no integer kernel for int16 "
            "activations, and would compute in floats what the file says in codes. Write it for "
            "tflite, or choose --kind dynamic or fp16"
        )
    file = _File(content)
    for node in list(file.model.graph.node):
        if node.op_type not in _KERNELS:
            continue
        if kind == FP16:
            file.halve(node)
        else:
            assert kind == DYNAMIC, kind
            file.make_dynamic(node)
    return PlainFile(content=file.pack(), changed=tuple(file.changed), kept=file.kept)


class _File:
    """A model that is changed node by node."""

    def __init__(self, content: bytes) -> None:
        self.model = onnx.load_model_from_string(content)
        self._constants = {one.name: one for one in self.model.graph.initializer}
        self._instead: dict[str, list[onnx.NodeProto]] = {}
        self._casts: dict[str, onnx.NodeProto] = {}
        self.changed: list[str] = []
        self.kept: dict[str, str] = {}

    def halve(self, node: onnx.NodeProto) -> None:
        """Weights and bias become float16, behind a Cast."""
        for place, name in enumerate(node.input):
            values = self._floats(name)
            if place == 0 or values is None:
                continue
            if not fits_half(values):
                self.kept[node.name] = "its weights are beyond float16's range"
                continue
            if name not in self._casts:
                half = self._add(f"{name}/half", values.astype(np.float16))
                self._casts[name] = helper.make_node(
                    "Cast", [half], [f"{name}/real"], name=f"{name}/real", to=onnx.TensorProto.FLOAT
                )
            node.input[place] = self._casts[name].output[0]
            if place == 1:
                self.changed.append(node.name)

    def make_dynamic(self, node: onnx.NodeProto) -> None:
        """Weights become codes; the input is quantized by its own range as it comes."""
        values = self._floats(node.input[1])
        attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        why = _why_not(node.op_type, values, attributes)
        if why:
            self.kept[node.name] = why
            return
        assert values is not None, node.name
        is_conv = node.op_type == "Conv"
        codes, scales = int8_channels(values, 0 if is_conv else values.ndim - 1)
        name, output = node.name or node.output[0], node.output[0]
        read = [f"{name}/codes", f"{name}/input_scale", f"{name}/input_zero_point"]
        nodes = [helper.make_node("DynamicQuantizeLinear", [node.input[0]], read, name=f"{name}/q")]
        if is_conv:
            stored = (codes.astype(np.int16) + _UINT8_ZERO).astype(np.uint8)
            zero = self._add(f"{name}/weight_zero_point", np.array(_UINT8_ZERO, np.uint8))
            shape: tuple[int, ...] = (1, -1, *[1] * (values.ndim - 2))
        else:
            stored, shape = codes, (-1,)
            zero = self._add(f"{name}/weight_zero_point", np.array(0, np.int8))
        weight = self._add(f"{name}/weight_codes", stored)
        op = "ConvInteger" if is_conv else "MatMulInteger"
        given = [read[0], weight, read[2], zero]
        settings = attributes if is_conv else {}
        nodes.append(helper.make_node(op, given, [f"{name}/sum"], name=f"{name}/sum", **settings))
        floats = onnx.TensorProto.FLOAT
        nodes.append(helper.make_node("Cast", [f"{name}/sum"], [f"{name}/float"], to=floats))
        scale = self._add(f"{name}/weight_scale", scales.reshape(shape))
        nodes.append(helper.make_node("Mul", [read[1], scale], [f"{name}/unit"]))
        has_bias = len(node.input) > 2 and node.input[2]
        scaled = f"{name}/scaled" if has_bias else output
        nodes.append(helper.make_node("Mul", [f"{name}/float", f"{name}/unit"], [scaled]))
        if has_bias:
            bias = node.input[2]
            values = self._floats(bias)
            if values is not None and is_conv:
                bias = self._add(f"{name}/bias_laid_out", values.reshape(shape))
            nodes.append(helper.make_node("Add", [scaled, bias], [output]))
        for number, one in enumerate(nodes):
            one.name = one.name or f"{name}/{number}"
        self._instead[output] = nodes
        self.changed.append(node.name)

    def pack(self) -> bytes:
        """Gives the file's bytes, without constants that nothing reads any more."""
        graph = self.model.graph
        nodes = [*self._casts.values()]
        for node in graph.node:
            nodes += self._instead.get(node.output[0], [node])
        read = {name for node in nodes for name in node.input}
        del graph.node[:]
        graph.node.extend(nodes)
        kept = [one for one in self._constants.values() if one.name in read]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        onnx.checker.check_model(self.model)
        content: bytes = self.model.SerializeToString(deterministic=True)
        return content

    def _floats(self, name: str) -> np.ndarray | None:
        stored = self._constants.get(name)
        if stored is None or stored.data_type != onnx.TensorProto.FLOAT:
            return None
        return numpy_helper.to_array(stored)

    def _add(self, name: str, values: np.ndarray) -> str:
        self._constants[name] = numpy_helper.from_array(values, name)
        return name


def _why_not(op: str, values: np.ndarray | None, attributes: dict[str, object]) -> str:
    """Why a node stays in float; "" where it does not."""
    if values is None:
        return "its kernel is no constant of floats"
    if op == "ConvTranspose":
        return "ONNX has no transposed convolution of integers"
    if op == "Conv" and attributes.get("group", 1) != 1:
        return "ONNX Runtime computes grouped convolutions of integers slower than those of floats"
    scaled = [attributes.get(name, 1.0) != 1.0 for name in ("alpha", "beta")]
    if op == "Gemm" and (any(scaled) or attributes.get("transA") or attributes.get("transB")):
        return "it is scaled or transposed"
    return ""
