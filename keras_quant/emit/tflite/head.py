"""A head of floats that is computed from integers: codes times integer weights, then scales.

A FULLY_CONNECTED of floats with integer weights quantizes each row of its input to 256 codes
over that row's own range. Rounding loses nothing where that range is the one of the codes that
the floats came from; so two features are appended that reach to its ends, with weights 0. The
sums are then exact integers (logits within 5e-8 of the reference, where a product of floats
gave 7e-8), in a sixth of the time (1280 features, 1000 classes: 13 us, not 78 us).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_quant.emit.tflite.emission import Emission
from keras_quant.emit.tflite.packing import PACKED_VERSIONS, narrowest_type
from keras_quant.graph.ir import Graph, Node
from keras_quant.qparams import INT8_CODES, QParams

# XNNPACK takes whole bytes of packed codes; four of 2 bits make one.
_FEATURES_MULTIPLE = 4


def codes_before(graph: Graph, node: Node) -> QParams | None:
    """The codes that a node's floats were dequantized from; None where they are other floats."""
    producer = graph.producer(node.inputs[0])
    if producer is None or producer.op != "dequantize":
        return None
    return graph.tensors[producer.inputs[0]].qparams


def emit_head(emission: Emission, node: Node, codes: QParams, *, activation: int) -> int:
    """Emits a dense node of dequantized codes with integer weights.

    Args:
        codes: see codes_before.
        activation: of the schema's ActivationFunctionType.
    """
    source, output, file = emission.source(node), emission.output(node), emission.file
    features, classes = node.kernel.values.shape
    added = 2 + -(features + 2) % _FEATURES_MULTIPLE
    scale = np.float32(codes.scale)
    low = scale * np.float32(codes.qmin - codes.zero_point)
    ends = np.zeros(features + added, np.float32)
    ends[features : features + 2] = low, low + scale * np.float32(INT8_CODES - 1)
    ranged = replace(source, name=f"{node.name}/ranged", shape=ends.shape)
    margins = file.constant(f"{node.name}/padding", np.array([(0, 0), (0, added)], np.int32))
    inputs = [*emission.inputs(node), margins]
    padded = emission.write(ranged, "PAD", inputs, options=schema.PadOptionsT())
    inputs = [padded, file.constant(f"{node.name}/ends", ends)]
    index = emission.write(ranged, "ADD", inputs, options=schema.AddOptionsT())
    values = np.pad(node.kernel.values, ((0, added), (0, 0))).T
    element_type = narrowest_type(values) if emission.options.pack != "none" else None
    bias = np.zeros(classes, np.float32) if node.bias is None else node.bias.astype(np.float32)
    inputs = [
        index,
        file.constant(
            f"{node.name}/weight", values, scale=node.kernel.code_scale, element_type=element_type
        ),
        file.constant(f"{node.name}/bias", bias),
    ]
    options = schema.FullyConnectedOptionsT(
        fusedActivationFunction=activation, asymmetricQuantizeInputs=True
    )
    version = 12 if element_type is None else PACKED_VERSIONS[element_type]
    return emission.write(output, "FULLY_CONNECTED", inputs, options=options, version=version)
