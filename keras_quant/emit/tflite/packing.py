"""Which kernels are stored in 4 or 2 bits, and how.

XNNPACK computes FULLY_CONNECTED from packed codes exactly as from int8, and as fast. It takes
no packed convolution: those fall to the builtin kernels, which round twice and are 3 to 5
times as slow (up to 2 codes in 1,000 differed on layers of 16 to 576 channels). A convolution
is a fully connected layer of the patches of its input, so that is what a packed one becomes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.windows import padding_of, window_of

INT4, INT2 = "int4", "int2"
BITS = {INT4: 4, INT2: 2}
"""Bits of the element types that numpy lacks."""
PACKED_VERSIONS = {INT4: 12, INT2: 14}
"""The lowest version of FULLY_CONNECTED that takes them, a scale for each channel."""

# What the operators that cut patches cost in a file: measured, 810 bytes for each of the
# 3x3 convolutions of a ResNet-20.
PATCHES_BYTES = 800

HALF = 1e-6
"""How near to a half what float64 makes of one is: it is right to 2**-52 of 10,000 sums."""

_DEFAULTS = TFLiteOptions()


def pack_codes(codes: np.ndarray, bits: int) -> bytes:
    """Puts 8 / bits codes in each byte, the first in its lowest bits; zeros fill the last.

    Args:
        codes: int8 of any shape, each in [-2**(bits - 1), 2**(bits - 1) - 1].
        bits: 4 or 2.
    """
    a_byte = 8 // bits
    padded = np.append(codes.ravel(), np.zeros(-codes.size % a_byte, codes.dtype))
    fields = (padded.astype(np.uint8) & (2**bits - 1)).reshape(-1, a_byte)
    shifts = np.arange(a_byte, dtype=np.uint8) * bits
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(fields << shifts, axis=1)
    return packed.tobytes()


def narrowest_type(codes: np.ndarray, *, columns: int = 0) -> str | None:
    """The narrowest element type that holds all codes; None where that is int8.

    Args:
        columns: inputs of a FULLY_CONNECTED that XNNPACK shall compute; it takes only whole
            bytes of them.
    """
    for name, bits in sorted(BITS.items(), key=lambda item: item[1]):
        fits = -(2 ** (bits - 1)) <= codes.min(initial=0) and codes.max(initial=0) < 2 ** (bits - 1)
        if fits and columns % (8 // bits) == 0:
            return name
    return None


def packed_type(graph: Graph, node: Node, pack: str) -> str | None:
    """The element type in which a node's kernel is stored; None means int8, or a float.

    Args:
        graph: ideal or realized.
        pack: see `emit.tflite.options.TFLiteOptions`.
    """
    source, output = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    if pack == "none" or node.op not in ("conv2d", "dense") or node.weight is None:
        return None
    if source.qparams is None or output.qparams is None:
        return None
    values = node.weight.values
    if node.op == "conv2d" and values.shape[2] != source.shape[2]:
        return None  # one group reads not all channels
    element_type = narrowest_type(values, columns=values.size // values.shape[-1])
    if element_type is None or node.op == "dense" or reads_single_pixels(graph, node):
        return element_type
    saved = values.size - values.size * BITS[element_type] // 8
    return element_type if pack == "smallest" and saved > PATCHES_BYTES else None


def reads_single_pixels(graph: Graph, node: Node) -> bool:
    """Whether a convolution computes each output pixel from the one input pixel at its place."""
    window = window_of(node)
    height, width, _ = graph.tensors[node.inputs[0]].shape
    unpadded = padding_of(window, (height, width)) == ((0, 0), (0, 0))
    return window.size == window.strides == (1, 1) and unpadded


def stored_limits(graph: Graph, *, options: TFLiteOptions = _DEFAULTS) -> Mapping[str, int]:
    """The largest stored code, by node, with which a file can be packed.

    `graph.passes.realize` multiplies codes up to it; a node that is not named has int8's room.

    Args:
        graph: ideal.
        options: how kernels are packed.
    """
    types = {node.name: packed_type(graph, node, options.pack) for node in graph.nodes}
    halves = {n.name for n in graph.nodes if types[n.name] == INT2 and _adds_halves(graph, n)}
    types |= dict.fromkeys(halves, INT4)
    return {name: 2 ** (BITS[kind] - 1) - 1 for name, kind in types.items() if kind}


def _adds_halves(graph: Graph, node: Node) -> bool:
    """Whether biases are half-way between what its codes add up to, as those of signs are.

    Integers then need codes multiplied by 2, for which 2 bits have no room (`lower.signs`).
    """
    scale, grid = node.kernel.scale, graph.tensors[node.inputs[0]].qparams
    if node.bias is None or scale is None or grid is None:
        return False
    offset = node.bias / (scale * grid.scale)
    return bool((np.abs(offset - np.floor(offset) - 0.5) < HALF).all())
