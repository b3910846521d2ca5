"""Training that leaves pruned weights at 0.

A pruned kernel has zeros that compress; an update of training would move them. Here each is set
back to 0 after every update, as in Zhu and Gupta, "To Prune, or Not to Prune" (2017), section 3,
once the final sparsity is reached. What TF-MOT calls pruning-preserving quantization (PQAT).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_quant.errors import UsageError
from keras_quant.methods.readers import is_quantized, read_kernel
from keras_quant.model.topology import layers_by_name, variables_by_name
from keras_quant.tf import keras, tf


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pruned:
    """A kernel with zeros.

    Attributes:
        layer: the name of the layer that has it.
        variable: what is trained.
        kept: 1 where the weight is trained, 0 where it stays 0, in the variable's shape.
    """

    layer: str
    variable: Any
    kept: np.ndarray


def pruned_kernels(model: keras.Model) -> list[Pruned]:
    """Finds the trainable kernels of a model that have zeros.

    Args:
        model: as it is before training, quantized or not.
    """
    kept = [(name, variable, variable.numpy() != 0) for name, variable in trained_kernels(model)]
    return [
        Pruned(layer=name, variable=variable, kept=where)
        for name, variable, where in kept
        if not where.all()
    ]


def trained_kernels(model: keras.Model) -> list[tuple[str, Any]]:
    """Lists the kernels that training moves, each with the name of the first layer that has it."""
    found: dict[str, tuple[str, Any]] = {}
    for name, layer in layers_by_name(model).items():
        trained = {variable._unique_id for variable in layer.trainable_weights}
        for own, variable in variables_by_name(layer).items():
            # Slopes and steps have as many axes, and connect nothing.
            if variable._unique_id in trained and own.endswith("kernel"):
                found.setdefault(variable._unique_id, (name, variable))  # once, where widths share
    return list(found.values())


def check_zeros(model: keras.Model, pruned: list[Pruned]) -> None:
    """Checks that there are zeros, and that a model's quantizers leave them 0.

    Raises:
        UsageError: there are none, or a kernel's codes have no 0.
    """
    if not pruned:
        raise UsageError(
            "--keep-zeros: no kernel has a weight that is 0; give a pruned model, as --model FILE "
            "or --from RUN"
        )
    layers, moved = layers_by_name(model), []
    for each in pruned:
        layer = layers[each.layer]
        weight = read_kernel(layer) if is_quantized(layer) else None
        if weight is not None and np.any(weight.values[~each.kept]):
            moved.append(each.layer)
    if moved:
        raise UsageError(
            f"--keep-zeros: the codes of {', '.join(moved)} have no 0, so that pruned weights "
            "would come back. They need 2 bits or more"
        )


def keep_zeros(optimizer: keras.optimizers.Optimizer, pruned: list[Pruned]) -> None:
    """Lets each update of an optimizer end with the pruned weights at 0."""
    masks = [(each.variable, tf.constant(each.kept, each.variable.dtype)) for each in pruned]
    apply = optimizer.apply_gradients

    def apply_gradients(*given: Any, **named: Any) -> Any:
        done = apply(*given, **named)
        for variable, mask in masks:
            variable.assign(tf.convert_to_tensor(variable) * mask)
        return done

    optimizer.apply_gradients = apply_gradients
