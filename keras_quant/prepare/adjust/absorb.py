"""Absorbing high biases: what nearly all values of a channel have in common goes further."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_quant.methods.twins import float_kernel
from keras_quant.model.operations import Operation
from keras_quant.model.topology import layers_by_name
from keras_quant.prepare.adjust.correct_bias import (
    add_bias,
    norms_behind,
    through,
)
from keras_quant.prepare.adjust.pairs import Pair, find_pairs
from keras_quant.prepare.plan import Plan
from keras_quant.tf import keras

# Deviations below the mean where a channel is taken to begin, section 4.1.3: 0.135 % of its values
# are less.
DEVIATIONS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Absorbed:
    """A float model with other biases.

    Attributes:
        model: a new one.
        channels: by the name of each tensor that was moved how many of its channels were.
    """

    model: keras.Model
    channels: dict[str, int]


def absorb_biases(plan: Plan, source: keras.Model) -> Absorbed:
    """Takes c = max(0, beta - 3 gamma) from channels in front of a ReLU, and gives it to readers.

    Nagel et al., "Data-Free Quantization" (2019), section 4.1.3, eq. 12 to 15. Behind the ReLU a
    channel that hardly reaches 0 is then smaller by c, and so is the range of the tensor; the
    layers that read it add W c. What computes the same but for values below c, which are cut off,
    is done only: between a batch norm with a ReLU without a bound, and layers that read its tensor
    itself, without padding, whose 0 would be another value, and that can add something.
    """
    model = keras.models.clone_model(source)
    model.set_weights(source.get_weights())
    layers = layers_by_name(model)
    moved = {}
    for pair in find_pairs(plan.operations):
        if not _takes(plan, pair):
            continue
        norm = layers[[o for o in pair.block if o.kind == "batch_norm"][-1].layer_name]
        beta, gamma = np.asarray(norm.beta, np.float64), np.abs(np.asarray(norm.gamma, np.float64))
        excess = np.maximum(0.0, beta - DEVIATIONS * gamma)
        if not excess.any():
            continue
        norm.beta.assign((beta - excess).astype(np.float32))
        for reader in pair.readers:
            kernel = float_kernel(layers[reader.layer_name])
            add_bias(plan, layers, reader, through(reader, kernel, excess))
        moved[pair.tensor] = int(np.count_nonzero(excess))
    return Absorbed(model=model, channels=moved)


def _takes(plan: Plan, pair: Pair) -> bool:
    norms = [operation.layer for operation in pair.block if operation.kind == "batch_norm"]
    relu = pair.block[-1]
    if not norms or relu.kind != "relu" or pair.bound is not None:
        return False
    if not (norms[-1].center and norms[-1].scale):
        return False
    direct = plan.operations.readers[pair.tensor]
    return {o.name for o in direct} == {o.name for o in pair.readers} and all(
        _adds(plan, reader) and not _pads(reader.layer) for reader in pair.readers
    )


def _adds(plan: Plan, reader: Operation) -> bool:
    if reader.kind == "batch_norm":
        return False
    return bool(reader.layer.use_bias or norms_behind(plan.operations, reader))


def _pads(layer: keras.layers.Layer) -> bool:
    size = getattr(layer, "kernel_size", 1)
    single = np.prod(size) == 1
    return not single and layer.padding != "valid"
