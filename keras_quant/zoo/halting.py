"""What a net needs to halt at each position of an image by itself: scores, masks, ponder cost.

Figurnov et al. 2017, "Spatially Adaptive Computation Time for Residual Networks" (SACT), which lets
each position halt as Graves 2016, "Adaptive Computation Time for Recurrent Neural Networks", lets a
whole input (its equations 6 to 8). At a position, unit l of L has the halting score h_l in 0 to 1,
and c_l is the sum of the first l. The position halts behind the first unit N with
c_N >= 1 - EPSILON, at the latest behind the last one: later units leave it as it is. What is put
out is the sum of the states x_l, each times its share of the halting distribution:

    p_l = h_l for l < N,  R = 1 - c_{N-1} for l = N,  0 behind.

A training also pays the ponder cost N + R of each position, which falls as scores rise.

All of it is said in functions of one value at a time, which codes have as tables. With
g(c) = c below 1 - EPSILON and 1 from there on, c_l may as well be g(c_{l-1}) + h_l, which is never
more than 2; p_l is g(c_l) - g(c_{l-1}); and unit l + 1 changes a position where c_l is below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_quant.graph.pointwise import HALTED
from keras_quant.tf import keras, tf

EPSILON = 1 - HALTED  # lets a position halt behind the first unit; eps of the authors' code

# What model files may name of this module.
CLASSES = frozenset({"PonderCost"})
FUNCTIONS = frozenset({"is_on", "halted_share", "less_halted_share", "share_left"})


def _registered(function: Any) -> Any:
    return keras.utils.register_keras_serializable("keras_quant")(function)


@_registered
def is_on(total: tf.Tensor) -> tf.Tensor:
    """1 where a sum of halting scores lets the next unit change a position, else 0; no gradient."""
    return tf.cast(_goes_on(total), total.dtype)


@_registered
def halted_share(total: tf.Tensor) -> tf.Tensor:
    """g of the module's docstring: the share of a position that has halted so far."""
    return tf.where(_goes_on(total), tf.nn.relu(total), tf.ones_like(total))


@_registered
def less_halted_share(total: tf.Tensor) -> tf.Tensor:
    """-g: what is taken from the share that has halted behind the next unit."""
    return -halted_share(total)


@_registered
def share_left(total: tf.Tensor) -> tf.Tensor:
    """1 - g: what halts behind the last unit."""
    return 1 - halted_share(total)


# What they give: grids that ended before would let no position halt, of a net that is quantized
# before any has learned to.
SPANS = {
    is_on: (0.0, 1.0),
    halted_share: (0.0, 1.0),
    less_halted_share: (-1.0, 0.0),
    share_left: (0.0, 1.0),
}


def _goes_on(total: tf.Tensor) -> tf.Tensor:
    return total < HALTED


@keras.utils.register_keras_serializable("keras_quant")
class PonderCost(keras.layers.Layer):  # type: ignore[misc]
    """Passes features on; while training, adds their ponder cost to the loss.

    Called with features and the sums c_1 to c_{L-1} of halting scores, float32 (batch, height,
    width, 1) each. The loss is tau * mean(N + R) over all positions, as in the authors' code; N has
    no gradient.
    """

    def __init__(self, tau: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.tau = tau

    def call(self, inputs: tf.Tensor | Sequence[tf.Tensor], training: Any = None) -> tf.Tensor:
        if not isinstance(inputs, list | tuple):
            return tf.identity(inputs)
        features, *totals = inputs
        if training:
            self.add_loss(self.tau * tf.reduce_mean(ponder_cost(totals)))
        return tf.identity(features)

    def compute_output_shape(self, input_shape: Any) -> Any:
        is_list = isinstance(input_shape, list) or isinstance(input_shape[0], tuple)
        return input_shape[0] if is_list else input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "tau": self.tau}


def ponder_cost(totals: Sequence[tf.Tensor]) -> tf.Tensor:
    """N + R at each position: units that run, and what is left for the last of them.

    Args:
        totals: c_1 to c_{L-1}, (batch, height, width, 1) each, any float dtype.
    Returns: float32 of their shape.
    """
    sums = tf.stack([tf.cast(total, tf.float32) for total in totals])
    on = is_on(sums)
    # c_{N-1} is the greatest sum of those below 1 - EPSILON, as scores are not negative.
    return 1 + tf.reduce_sum(on, axis=0) + 1 - tf.reduce_max(on * sums, axis=0)
