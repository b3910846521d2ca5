"""What a Keras model's quantizers put out, as codes, beside what the graph says."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_quant.graph.ir import Graph
from keras_quant.graph.reference import run_reference
from keras_quant.methods.readers import read_activation
from keras_quant.tf import keras


def keras_codes(model: keras.Model, images: Any) -> dict[str, np.ndarray]:
    """Codes of each quantizing layer, by its name."""
    read = {layer.name: read_activation(layer, layer.name) for layer in model.layers}
    found = {name: act.qparams for name, act in read.items() if act and act.qparams}
    if isinstance(images, dict):
        images = [images[tensor.node.layer.name] for tensor in model.inputs]
    probe = keras.Model(model.inputs, {name: model.get_layer(name).output for name in found})
    outputs = probe(images, training=False) if found else {}
    return {
        name: np.rint(np.asarray(outputs[name], np.float64) / grid.scale).astype(int)
        + grid.zero_point
        for name, grid in found.items()
    }


def count_differences(model: keras.Model, graph: Graph, images: Any) -> tuple[int, int]:
    """How many codes of the model are not the graph's, and how many were compared.

    Args:
        images: float32 (images, *shape), or by the input's name where there are several.
    """
    codes = {n: c for n, c in keras_codes(model, images).items() if n in graph.tensors}
    given = images if isinstance(images, dict) else {graph.inputs[0]: images}
    found = run_reference(graph, given, keep=list(codes))
    # The graph holds sequences and vectors as images.
    pairs = [(found[n], c.reshape(found[n].shape)) for n, c in codes.items()]
    different = sum(int(np.count_nonzero(a != b)) for a, b in pairs)
    return different, sum(c.size for c in codes.values())
