"""What a file for TensorRT cannot say exactly, found before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from keras_quant.emit.onnx_tensorrt.emission import is_odd, shift, stored_zero
from keras_quant.emit.shared.limits import Sources, problems_of
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.rounding import reals_of
from keras_quant.graph.windows import window_of
from keras_quant.qparams import QParams, dequantize
from keras_quant.targets.tensorrt import TensorRTOptions

# The float32 operations of an average and its quantization, each with an error of half a unit
# in the last place of at most 255, stay below 2**-14. A mean this far from a tie is rounded right.
_CLEAR_OF_TIE = 2.0**-12

# The share of sums of two codes that may be rounded to another code than the reference's. Measured
# are 4 of 65,536 at most, in 200 triples of random scales, where sums come near ties by chance.
# They lie on ties where scales are as 1 to 2 and no powers of two: 13 to 17 % of them then differ.
MAX_OTHER_SUMS = 1e-4

# Activations of up to this many bits are narrow: few sums come near a tie.
NARROW_BITS = 6
NARROW_SHARE, WIDE_SHARE = 1e-5, 1e-2
"""Largest share of codes that may differ, with narrow and with wide activations.

What ONNX Runtime computes from Q/DQ without optimizations are sums of floats, and one that ends
within their rounding error of a tie falls to the next code; later layers spread it. Where gains
could be moved away from ties (passes.room), 10,000 images had 0 such codes of cnn, ds_cnn,
mobilenet_v2 and resnet20 at up to w4a8, at w8a8 4e-6 (mobilenet_v2) and 6e-6 (resnet20), and 7e-7
of a net of 9 layers of which 8 have no batch norm right behind them; before they were, up to 1.3e-2
(mobilenet_v2, w4a8), and 4e-4 of that net, which kernels with a fixed step may still have.
TensorRT's int8 kernels add integers, so their codes differ less.
"""


def codes_tolerance(graph: Graph, *, options: TensorRTOptions) -> float:
    """The share of codes that may differ from the reference's, where floats compute them."""
    if any(node.op == "add" and not _adds_exactly(graph, node) for node in graph.nodes):
        return WIDE_SHARE
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
    size = source.shape[:2] if node.op == "mean" else window_of(node).size
    count = size[0] * size[1]
    scales = (source.grid.scale, output.grid.scale, float(count))
    if all(np.frexp(scale)[0] == 0.5 for scale in scales):
        return True
    low, high = (q - source.grid.zero_point for q in (source.grid.qmin, source.grid.qmax))
    means = np.arange(low * count, high * count + 1) * (scales[0] / scales[1] / count)
    return bool(np.abs(means - np.floor(means) - 0.5).min() > _CLEAR_OF_TIE)


def add_is_exact(first: QParams, second: QParams, output: QParams) -> bool:
    """Whether float32 sums of what DequantizeLinear gives are rounded to the reference's codes."""
    sums = np.add.outer(_stored_reals(first), _stored_reals(second))
    kept, zero = (
        (0.0, output.zero_point) if is_odd(output) else (shift(output), stored_zero(output))
    )
    sums += np.float32(shift(first) + shift(second) - kept)
    codes = np.rint(sums / np.float32(output.scale)) + zero
    return _share_of_others(codes, first, second, output) == 0


def _node(graph: Graph, node: Node, sources: Sources, output: QParams) -> Iterator[str]:
    if node.op == "add":
        share = _share_of_other_sums(sources[0], sources[1], output)
        if share > MAX_OTHER_SUMS:
            yield (
                f"adds codes of scale {sources[0].scale:g} and {sources[1].scale:g} to scale "
                f"{output.scale:g}; float32 rounds {share:.2%} of the sums to another code, as "
                "they lie on ties. Give the three tensors one scale, or scales that are powers of "
                "two."
            )


def _adds_exactly(graph: Graph, node: Node) -> bool:
    grids = [graph.tensors[name].qparams for name in (*node.inputs, node.output)]
    first, second, output = grids
    if first is None or second is None or output is None:
        return True
    return _share_of_other_sums(first, second, output) == 0


def _share_of_other_sums(first: QParams, second: QParams, output: QParams) -> float:
    """The share of pairs of codes that `emit.onnx_tensorrt.ops.emit_add` adds to another code."""
    if add_is_exact(first, second, output):
        return 0.0
    sums = np.add.outer(reals_of(first), reals_of(second))
    codes = np.rint(sums * (np.float32(1) / np.float32(output.scale))) + output.zero_point
    return _share_of_others(codes, first, second, output)


def _share_of_others(codes: np.ndarray, first: QParams, second: QParams, output: QParams) -> float:
    """The share of all pairs of codes whose sum, not clamped yet, is not the reference's."""
    reals = [dequantize(np.arange(q.qmin, q.qmax + 1), q) for q in (first, second)]
    exact = np.rint(np.add.outer(*reals) / output.scale) + output.zero_point
    ends = output.qmin, output.qmax
    return float((np.clip(exact, *ends) != np.clip(codes, *ends)).mean())


def _stored_reals(qparams: QParams) -> np.ndarray:
    """What the file's DequantizeLinear gives for each code, in float32."""
    stored = np.arange(qparams.qmin, qparams.qmax + 1) - stored_zero(qparams)
    reals: np.ndarray = stored.astype(np.float32) * np.float32(qparams.scale)
    return reals
