"""Puts the preprocessing of images into a graph, which then takes raw pixels.

Where the codes of a graph's input are the pixels themselves, nothing is to be done. Elsewhere a
1x1 convolution makes codes of pixels: mean and divisor of each channel are its bias and its scale,
and the order of the channels is in its kernel. It is proven for all 256 pixels of each channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from keras_quant.errors import GraphError
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.passes.realize import realize
from keras_quant.graph.reference import run_reference
from keras_quant.graph.rounding import to_codes
from keras_quant.pixels import constants, reals_of_pixels
from keras_quant.preprocessing import PIXEL_MAX, Preprocessing, describe
from keras_quant.qparams import unsigned

SUFFIX = "_pixels"
"""What is added to an input's name where it takes pixels in place of the model's reals."""
PIXELS = unsigned(8, 1.0)
# Of the kernel, as it is stored: no target packs it.
_BITS = 8


def takes_pixels(graph: Graph) -> bool:
    """Whether `take_pixels` made the graph's input."""
    return graph.inputs[0].endswith(SUFFIX)


def take_pixels(graph: Graph, preprocessing: Preprocessing) -> Graph:
    """Gives a graph of the same codes that takes pixels of 0 to 255, as reals.

    Args:
        graph: realized, with one input, an image that quantize nodes alone read.
        preprocessing: what becomes of pixels in front of the given graph.
    Returns: the graph itself where its codes are the pixels already.
    Raises:
        GraphError: the input is no image, or is read as float; or integers cannot say what
            becomes of pixels.
    """
    problem = _problem(graph, preprocessing)
    readers = graph.consumers(graph.inputs[0])
    if not problem and all(_passes_pixels(graph, node, preprocessing) for node in readers):
        return graph
    shape = graph.tensors[graph.inputs[0]].shape
    if not problem and len(shape) != 3:
        problem = f"input {graph.inputs[0]!r} is {shape}; (height, width, channels) is needed"
    if problem:
        raise GraphError(f"graph {graph.name!r} cannot take pixels: {problem}")
    made = _with_convolutions(graph, readers, preprocessing)
    makers = {node.output: node for node in made.nodes}
    for node in readers:
        _check(made, makers[node.output], preprocessing)
    return made


def _problem(graph: Graph, preprocessing: Preprocessing) -> str:
    """Why a graph cannot even be asked for the codes of pixels; "" where it can."""
    if len(graph.inputs) != 1:
        return f"it has inputs {', '.join(graph.inputs)}; one is needed"
    name = graph.inputs[0]
    channels = graph.tensors[name].shape[-1]
    if preprocessing.channels not in (None, channels):
        return f"input {name!r} has {channels} channels; {describe(preprocessing)} has others"
    floats = [node.name for node in graph.consumers(name) if node.op != "quantize"]
    return f"input {name!r} is read as float by {', '.join(floats)}" if floats else ""


def _passes_pixels(graph: Graph, node: Node, preprocessing: Preprocessing) -> bool:
    """Whether the codes that a quantize node gives are the pixels, all 256 of them, in order."""
    codes = _codes(graph, node, preprocessing)
    qparams = graph.tensors[node.output].grid
    wanted = np.arange(PIXEL_MAX + 1)[:, None] + qparams.qmin
    return preprocessing.order == "rgb" and bool((codes == wanted).all())


def _codes(graph: Graph, node: Node, preprocessing: Preprocessing) -> np.ndarray:
    """The code of each pixel and channel, (256, channels), in the model's order."""
    channels = graph.tensors[node.output].shape[-1]
    qparams = graph.tensors[node.output].grid
    return to_codes(
        reals_of_pixels(preprocessing, channels) / np.float32(qparams.scale), qparams
    ).astype(np.int32)


def _with_convolutions(
    graph: Graph, readers: Sequence[Node], preprocessing: Preprocessing
) -> Graph:
    """The graph with a convolution of pixels in place of each node that quantizes its input."""
    shape = graph.tensors[graph.inputs[0]].shape
    given = Tensor(name=graph.inputs[0] + SUFFIX, shape=shape)
    pixels = Tensor(name=f"{given.name}/codes", shape=shape, qparams=PIXELS)
    first = Node(name=pixels.name, op="quantize", inputs=(given.name,), output=pixels.name)
    made = {node.name: _convolution(node, pixels, preprocessing) for node in readers}
    tensors = {name: t for name, t in graph.tensors.items() if name != graph.inputs[0]}
    changed = replace(
        graph,
        inputs=(given.name,),
        tensors={given.name: given, pixels.name: pixels, **tensors},
        nodes=(first, *(made.get(node.name, node) for node in graph.nodes)),
    )
    return realize(changed, snap=False).graph


def _convolution(node: Node, pixels: Tensor, preprocessing: Preprocessing) -> Node:
    """An ideal node with a quantize node's name, layers and output."""
    channels = pixels.shape[-1]
    mean, std = (
        np.broadcast_to(v.astype(np.float64), (channels,)) for v in constants(preprocessing)
    )
    attrs = {"strides": (1, 1), "padding": "valid", "dilation": (1, 1)}
    if preprocessing.order == "rgb":
        op, kernel = "depthwise_conv2d", np.ones((1, 1, channels), np.int8)
    else:
        op, kernel = "conv2d", np.eye(channels, dtype=np.int8)[None, None, ::-1]
    return replace(
        node,
        op=op,
        inputs=(pixels.name,),
        attrs=attrs,
        weight=Weight(values=kernel, scale=1 / std, bits=_BITS),
        bias=-mean / std,
    )


def _check(graph: Graph, node: Node, preprocessing: Preprocessing) -> None:
    """Compares what a convolution gives for all pixels with what the model rounds them to.

    Raises:
        GraphError: some of them differ.
    """
    channels = graph.tensors[node.output].shape[-1]
    shape = (PIXEL_MAX + 1, 1, channels)
    names = (graph.inputs[0], node.inputs[0], node.output)
    small = replace(
        graph,
        outputs=(node.output,),
        tensors={name: replace(graph.tensors[name], shape=shape) for name in names},
        nodes=(graph.nodes[0], node),
    )
    pixels = np.broadcast_to(np.arange(PIXEL_MAX + 1, dtype=np.float32)[:, None, None], shape)
    found = run_reference(small, {graph.inputs[0]: pixels[None]})[node.output][0, :, 0]
    wrong = int((found != _codes(graph, node, preprocessing)).any(axis=1).sum())
    if wrong:
        raise GraphError(
            f"graph {graph.name!r} cannot take pixels: {wrong} of {PIXEL_MAX + 1} would get "
            f"another code than the model gives them ({describe(preprocessing)}). Export it with "
            "float inputs"
        )
