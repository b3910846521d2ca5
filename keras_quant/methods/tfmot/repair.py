"""What TF-MOT 0.8.1 cannot load again of what Keras saved, mended in its classes.

Only loading is changed: a model computes, and is saved, as TF-MOT has it.

* A .keras file builds each layer twice, so that its variables were made twice, and then did not
  fit what was saved: "expected 5 variables, but received 3".
* There a wrapper's variables begin with those of the layer that it wraps, some of them twice; how
  many depends on whether that was built before. They end with the kernels, the step and the ranges.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_quant.errors import warn
from keras_quant.methods.layers import variable_name
from keras_quant.methods.tfmot.door import quantize_layer, quantize_wrapper, tfmot
from keras_quant.tf import keras

FIRST_RANGE = (-6.0, 6.0)
"""Where TF-MOT's moving averages begin."""


def custom_objects() -> dict[str, Any]:
    """What Keras has to know to load a model of TF-MOT's layers, by name."""
    scope = tfmot.quantization.keras.quantize_scope()
    return {name: value for objects in scope.custom_objects for name, value in objects.items()}


@functools.cache
def repair_tfmot() -> None:
    """Repairs how TF-MOT's layers are loaded, once, for this process."""
    wrappers = (quantize_wrapper.QuantizeWrapper, quantize_wrapper.QuantizeWrapperV2)
    for cls in (quantize_layer.QuantizeLayer, *wrappers):
        cls.build = _built_once(cls.build)
        cls.load_own_variables = _load_own_variables


def settle(model: keras.Model) -> None:
    """Warns of a loaded model whose ranges are those that TF-MOT begins with."""
    layers = model._flatten_layers(include_self=False, recursive=True)
    wrappers = [layer for layer in layers if isinstance(layer, quantize_wrapper.QuantizeWrapper)]
    ranges: dict[str, list[float]] = {}
    for layer in wrappers:
        for variable in layer._non_trainable_weights:
            name = variable_name(variable)
            if name.endswith(("activation_min", "activation_max", "output_min", "output_max")):
                ranges.setdefault(f"{layer.name}/{name[:-4]}", []).append(float(variable))
    first = [name for name, values in ranges.items() if tuple(values) == FIRST_RANGE]
    if first:
        warn(
            f"model {model.name}: {len(first)} of {len(ranges)} ranges of activations are -6 to "
            f"6, where TF-MOT begins, so that they seem never to have been trained: "
            f"{', '.join(first[:5])}{', ...' if len(first) > 5 else ''}"
        )


def _built_once(build: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    @functools.wraps(build)
    def once(self: Any, input_shape: Any) -> None:
        if not hasattr(self, "optimizer_step"):
            build(self, input_shape)

    return once


def _load_own_variables(self: Any, store: Any) -> None:
    """Takes the last of the saved variables, of which those in front are in the layer's own store.

    Raises:
        ValueError: they are fewer, or of other shapes.
    """
    kernels = [weight for weight, _, _ in getattr(self, "_weight_vars", ())]
    variables = [*kernels, *self._non_trainable_weights]
    more = len(store) - len(variables)
    if more < 0:
        raise ValueError(
            f"layer {self.name} has {len(variables)} variables, of which {len(store)} were saved"
        )
    for place, variable in enumerate(variables):
        variable.assign(np.asarray(store[str(more + place)]))
