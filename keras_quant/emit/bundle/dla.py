"""What a deep learning accelerator needs beside a file of floats: scales, and what it leaves out.

A DLA takes no Q/DQ; it gets the scale of each tensor from a calibration cache, in which a scale
is real / code for codes -127 to 127. Unsigned codes of 8 bits do not fit these: they get
a scale twice as large and lose their lowest bit. Signed codes of fewer bits get a scale whose
codes end where theirs do, as a DLA takes no Clip below 0: saturation then cuts them off, and they
are rounded less coarsely than in training.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from keras_quant.emit.onnx_tensorrt.emission import INT8_MAX, Emission
from keras_quant.emit.onnx_tensorrt.floats import is_clipped_on_dla
from keras_quant.graph.ir import Graph, Node, Shape
from keras_quant.graph.windows import window_of
from keras_quant.qparams import QParams

# https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/dla-layer-restrictions.html
MAX_KERNEL, MAX_CONV_STRIDE, MAX_DILATION = 32, 8, 32
MAX_POOL, MAX_POOL_STRIDE = 8, 16
_ON_GPU = {
    "pad": "padding that is a layer of its own",
    "reshape": "a reshape",
    "softmax": "a softmax",
    "lookup": "a table of codes",
}
# Functions that consist of what a DLA takes: Sigmoid, TanH, and products.
_ON_DLA = ("sigmoid", "tanh", "swish")
# Operators that a DLA, or TensorRT before it, moves values through without a scale of their own.
_PASSING = ("Relu", "Clip", "Transpose", "Reshape", "Flatten", "Identity")


def dla_scale(qparams: QParams) -> float:
    """Real step of codes -127 to 127: the codes' own, or one with which these end as they do."""
    reach = max(qparams.qmax - qparams.zero_point, qparams.zero_point - qparams.qmin)
    if is_clipped_on_dla(qparams) or reach in (INT8_MAX, INT8_MAX + 1):
        return qparams.scale
    return qparams.scale * reach / INT8_MAX


def calibration_cache(graph: Graph, emission: Emission, *, header: str) -> str:
    """Gives the text of a calibration cache: "name: bits of the scale as a float32" a line.

    Args:
        graph: the graph of codes, whose scales are given.
        emission: the emission of the same graph without codes.
        header: first line, which names TensorRT's version and the calibrator.
    """
    scales = {emission.reals[name]: scale for name, scale in _scales(graph, emission)}
    sources = emission.file.sources()
    for value in list(scales):
        scale = scales[value]
        while value in sources and sources[value][0] in _PASSING:
            value = sources[value][1]
            scales.setdefault(value, scale)
    lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in scales.items()]
    return "\n".join([header, *lines, ""])


def dla_fallbacks(graph: Graph) -> tuple[str, ...]:
    """Names what will run on the GPU, with the reason, a line each.

    Args:
        graph: one of floats.
    """
    return tuple(
        f"{node.name}: {reason}" for node in graph.nodes for reason in _reasons(graph, node)
    )


def _scales(graph: Graph, emission: Emission) -> Iterator[tuple[str, float]]:
    """Tensors of the float graph, each with its scale; a real that is quantized has its codes'."""
    for node in graph.nodes:
        qparams = graph.tensors[node.output].qparams
        if qparams is None:
            continue
        if node.output in emission.reals:
            yield node.output, dla_scale(qparams)
        elif node.op == "quantize" and node.inputs[0] in emission.reals:
            yield node.inputs[0], dla_scale(qparams)


def _reasons(graph: Graph, node: Node) -> Iterator[str]:
    shape = graph.tensors[node.inputs[0]].shape
    if node.op in _ON_GPU:
        yield _ON_GPU[node.op]
    elif node.op in ("conv2d", "depthwise_conv2d"):
        window = window_of(node)
        yield from _too_large("kernel", window.size, MAX_KERNEL)
        yield from _too_large("strides", window.strides, MAX_CONV_STRIDE)
        yield from _too_large("dilation", window.dilation, MAX_DILATION)
    elif node.op in ("max_pool", "avg_pool"):
        yield from _too_large("pool", window_of(node).size, MAX_POOL)
        yield from _too_large("strides", window_of(node).strides, MAX_POOL_STRIDE)
    elif node.op == "pointwise" and node.attrs["function"] not in _ON_DLA:
        yield f"{node.attrs['function']}, a function that it does not have"
    elif node.op == "mean":
        yield from _too_large("pool", shape[:2], MAX_POOL)
    elif node.op == "dense" and graph.tensors[node.output].name in graph.outputs:
        yield "its output is float and has no scale"


def _too_large(what: str, size: Shape, limit: int) -> Iterator[str]:
    if max(size) > limit:
        yield f"{what} {size[0]}x{size[1]}, at most {limit}"
