"""The ends of a file: floats, or the codes that they stand for."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from keras_quant.emit.tflite.emission import Emission
from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.emit.tflite.packing import stored_limits
from keras_quant.errors import EmitError
from keras_quant.graph.ir import Graph, Tensor
from keras_quant.graph.passes.integer_head import integer_head, measured_ranges
from keras_quant.graph.passes.pixels import take_pixels
from keras_quant.preprocessing import Preprocessing
from keras_quant.qparams import INT8_CODES


def take_codes(graph: Graph) -> tuple[Graph, Mapping[str, str]]:
    """Gives a graph whose inputs are the codes that its first nodes make of floats.

    Codes of 8-bit pixels (0 to 255, scale 1/255) are the pixels: rounding float32(k / 255) to
    this grid gives k for each of them, so nothing else changes.

    Args:
        graph: legal; every input is read by quantize nodes alone, to one grid of 256 codes.
    Returns: the graph without these nodes, and the input that each tensor they wrote is.
    Raises:
        EmitError: names the inputs that are read otherwise.
    """
    problems: list[str] = []
    codes: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for name in graph.inputs:
        readers = graph.consumers(name)
        grids = {_grid(graph, node.output): node.output for node in readers}
        floats = [node.name for node in readers if node.op != "quantize"]
        if floats:
            problems.append(f"input {name!r} is read as float by {', '.join(floats)}")
        elif len(grids) != 1 or next(iter(grids))[0] != INT8_CODES:
            counts = " and ".join(f"{count} codes of scale {scale:g}" for count, scale, _ in grids)
            problems.append(f"input {name!r} is rounded to {counts}; one grid of 256 is needed")
        else:
            qparams = graph.tensors[readers[0].output].qparams
            codes[name] = replace(graph.tensors[name], qparams=qparams)
            aliases |= {node.output: name for node in readers}
    if problems:
        lines = "".join(f"\n  {line}" for line in problems)
        raise EmitError(
            f"graph {graph.name!r} cannot take codes:{lines}\n"
            "Export it with float inputs, or train it with 8 bits at the input."
        )
    nodes = tuple(node for node in graph.nodes if node.output not in aliases)
    return replace(graph, nodes=nodes, tensors={**graph.tensors, **codes}), aliases


def _grid(graph: Graph, tensor: str) -> tuple[int, float, int]:
    qparams = graph.tensors[tensor].qparams
    if qparams is None:
        return 0, 0.0, 0
    return qparams.qmax - qparams.qmin + 1, qparams.scale, qparams.zero_point


def with_asked_ends(
    graph: Graph,
    inputs: Mapping[str, np.ndarray],
    preprocessing: Preprocessing | None = None,
    *,
    options: TFLiteOptions,
) -> Graph:
    """Gives the graph itself, or one with the ends that the options ask for.

    An int8 head gives codes; where uint8 is asked for, the graph takes pixels, whatever becomes
    of them in front of the model.

    Args:
        inputs: by name, float32 (images, *shape); over these the outputs' ranges are measured.
        preprocessing: what becomes of pixels; None for nothing known, and then uint8 is the codes
            of the input as they are.
    Raises:
        GraphError: names the outputs that no integer weights give, or why pixels cannot be taken.
    """
    if options.head != "float":
        limits = functools.partial(stored_limits, options=options)
        graph = integer_head(graph, measured_ranges(graph, inputs), limits=limits)
    if options.input == "uint8" and preprocessing is not None:
        graph = take_pixels(graph, preprocessing)
    return graph


def emit_input(emission: Emission, name: str) -> tuple[int, int]:
    """Emits an input of the file.

    Returns: the file's tensor that the caller fills, and the one that operators read.
    """
    tensor = emission.graph.tensors[name]
    if emission.options.input != "uint8" or tensor.qparams is None:
        index = emission.define(tensor)
        return index, index
    qparams = tensor.qparams
    given = emission.file.activation(
        name,
        tensor.shape,
        scale=qparams.scale,
        zero_point=qparams.zero_point - qparams.qmin,
        element_type="uint8",
    )
    # Between equal scales QUANTIZE flips the highest bit.
    return given, emission.write(
        replace(tensor, name=f"{name}/int8"), "QUANTIZE", [given], version=2
    )
