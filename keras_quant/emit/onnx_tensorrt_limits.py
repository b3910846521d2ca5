"""What a file for TensorRT cannot say exactly, found before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from keras_quant.emit.limits import Sources, problems_of
from keras_quant.emit.onnx_tensorrt_emission import is_odd, shift, stored_zero
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.windows import window_of
from keras_quant.qparams import QParams
from keras_quant.targets.tensorrt import TensorRTOptions

# The float32 operations of an average and its quantization, each with an error of half a unit
# in the last place of at most 255, stay below 2**-14. A mean this far from a tie is rounded right.
_CLEAR_OF_TIE = 2.0**-12


# Activations of up to this many bits are narrow: few sums come near a tie.
NARROW_BITS = 6
NARROW_SHARE, WIDE_SHARE = 1e-5, 1e-2
"""Largest share of codes that may differ, with narrow and with wide activations.

What ONNX Runtime computes from Q/DQ without optimizations are sums of floats, and one that ends
within their rounding error of a tie falls to the next code; later layers spread it. Measured on
Fashion-MNIST (cnn, 10,000 images): 3e-8 of all codes at w2a2, 1e-4 at w4a8. TensorRT's int8
kernels add integers, so their codes differ less.
"""


def codes_tolerance(graph: Graph, *, options: TensorRTOptions) -> float:
    """The share of codes that may differ from the reference's, where floats compute them."""
    computed = [
        graph.tensors[node.output].qparams
        for node in graph.nodes
        if node.weight or (node.op == "quantize" and node.inputs[0] not in graph.inputs)
    ]
    widths = [qparams.bits for qparams in computed if qparams is not None]
    if not widths:
        return 0.0
    return WIDE_SHARE if max(widths) > NARROW_BITS else NARROW_SHARE


def find_problems(graph: Graph, ops: Collection[str]) -> list[str]:
    """Gives one line for each thing that cannot be written, naming its node or tensor.

    Args:
        ops: the operations that can be written at all.
    """
    return problems_of(graph, ops, _node, language="ONNX", stored="int8")


def average_is_exact(graph: Graph, node: Node) -> bool:
    """Whether no average of codes comes near a tie; or all float32 operations are exact."""
    source, output = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    assert source.qparams is not None and output.qparams is not None, node.name
    size = source.shape[:2] if node.op == "mean" else window_of(node).size
    count = size[0] * size[1]
    scales = (source.qparams.scale, output.qparams.scale, float(count))
    if all(np.frexp(scale)[0] == 0.5 for scale in scales):
        return True
    low, high = (q - source.qparams.zero_point for q in (source.qparams.qmin, source.qparams.qmax))
    means = np.arange(low * count, high * count + 1) * (scales[0] / scales[1] / count)
    return bool(np.abs(means - np.floor(means) - 0.5).min() > _CLEAR_OF_TIE)


def _node(graph: Graph, node: Node, sources: Sources, output: QParams) -> Iterator[str]:
    if node.op == "add":
        yield from _add(sources[0], sources[1], output)


def _add(first: QParams, second: QParams, output: QParams) -> Iterator[str]:
    """Compares all sums of two codes, computed in float32 as the file will, and exactly."""
    a, b = (np.arange(q.qmin, q.qmax + 1) for q in (first, second))
    reals = [(a - first.zero_point) * first.scale, (b - second.zero_point) * second.scale]
    exact = np.rint(np.add.outer(*reals) / output.scale) + output.zero_point
    single = np.add.outer(_stored_reals(a, first), _stored_reals(b, second))
    kept, zero = (
        (0.0, output.zero_point) if is_odd(output) else (shift(output), stored_zero(output))
    )
    single += np.float32(shift(first) + shift(second) - kept)
    codes = np.rint(single / np.float32(output.scale)) + zero
    limits = output.qmin, output.qmax
    differing = int((np.clip(exact, *limits) != np.clip(codes, *limits)).sum())
    if differing:
        yield (
            f"adds codes of scale {first.scale:g} and {second.scale:g} to scale "
            f"{output.scale:g}; float32 rounds {differing} of {exact.size} sums to another code. "
            "Give the three tensors one scale, or scales that are powers of two."
        )


def _stored_reals(codes: np.ndarray, qparams: QParams) -> np.ndarray:
    """What the file's DequantizeLinear gives, in float32."""
    stored = (codes - stored_zero(qparams)).astype(np.float32)
    return stored * np.float32(qparams.scale)
