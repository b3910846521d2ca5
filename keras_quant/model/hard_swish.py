"""Hard swish as keras.applications writes it, x * (relu6(x + 3) * 1/6), as the one layer it is.

`x + 3` and `* 1/6` are TFOpLambda layers, which call functions of TensorFlow by name: there is no
lowering of these. Likewise hard sigmoid, relu6(x + 3) * 1/6. Howard et al., "Searching for
MobileNetV3" (2019), section 5.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_quant.model.pointwise import hard_sigmoid_keras3, hard_swish
from keras_quant.tf import keras, tf

_ADD, _MULTIPLY = "__operators__.add", "math.multiply"
_CLOSE = 1e-6


def with_hard_swish(model: keras.Model) -> keras.Model:
    """Gives a functional model in which each of these is an Activation; weights are shared.

    Returns: the model itself where it has none.
    """
    if not any(_symbol(layer) for layer in model.layers):
        return model
    rebuilt = _Rebuilt(model)
    return keras.Model(rebuilt.inputs, rebuilt.outputs, name=model.name)


class _Rebuilt:
    """The calls of a model, made again one after the other.

    Attributes:
        inputs, outputs: of the new model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._new: dict[int, Any] = {}
        self._shifted: dict[int, Any] = {}  # x, by what x + 3 is in the new model
        self._cut: dict[int, Any] = {}  # x, by relu6(x + 3)
        self._gates: dict[int, Any] = {}  # x, by hard sigmoid of x
        self.inputs = []
        for tensor in model.inputs:
            given = keras.Input(tensor.shape[1:], name=tensor.node.layer.name)
            self._new[id(tensor)] = given
            self.inputs.append(given)
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if not node.is_input:
                    self._add(node)
        self.outputs = [self._new[id(tensor)] for tensor in model.outputs]

    def _add(self, node: Any) -> None:
        arguments, settings = tf.nest.map_structure(
            lambda value: self._new.get(id(value), value), (node.call_args, node.call_kwargs)
        )
        made = self._instead(node.layer, arguments, settings)
        made = node.layer(*arguments, **settings) if made is None else made
        old, new = tf.nest.flatten(node.outputs), tf.nest.flatten(made)
        self._new |= {id(tensor): value for tensor, value in zip(old, new, strict=True)}

    def _instead(self, layer: Any, arguments: Any, settings: Any) -> Any:
        """What stands for a call that is part of a pattern; None for others."""
        first = arguments[0]
        if _symbol(layer) == _ADD and _constant(arguments, settings, 3):
            made = layer(*arguments, **settings)
            self._shifted[id(made)] = first
            return made
        if isinstance(layer, keras.layers.ReLU) and id(first) in self._shifted:
            made = layer(first)
            if layer.max_value is not None and float(layer.max_value) == 6:
                self._cut[id(made)] = self._shifted[id(first)]
            return made
        is_scaled = _symbol(layer) == _MULTIPLY and _constant(arguments, settings, 1 / 6)
        if is_scaled and id(first) in self._cut:
            source = self._cut[id(first)]
            name = f"{layer.name.replace('.', '_')}_hard_sigmoid"
            made = keras.layers.Activation(hard_sigmoid_keras3, name=name)(source)
            self._gates[id(made)] = source
            return made
        if isinstance(layer, keras.layers.Multiply) and len(first) == 2:
            for one, other in (first, first[::-1]):
                if self._gates.get(id(other)) is one:
                    return keras.layers.Activation(hard_swish, name=layer.name)(one)
        return None


def _symbol(layer: keras.layers.Layer) -> str:
    """The function that a TFOpLambda calls; "" for other layers."""
    return str(layer.symbol) if type(layer).__name__ == "TFOpLambda" else ""


def _constant(arguments: Any, settings: Any, value: float) -> bool:
    """Whether the second operand is a number."""
    second = arguments[1] if len(arguments) > 1 else settings.get("y")
    is_number = isinstance(second, int | float | np.number)
    return is_number and abs(float(second) - value) < _CLOSE
