"""Binary nets: the signs of weights and of activations, each with a straight-through gradient.

Courbariaux et al., "Binarized Neural Networks" (2016): eq. 1 (sign), eq. 4 (the gradient of an
activation passes where |x| <= 1), algorithm 1 (weights are clipped to -1 .. 1 after each update).
Batch norm in between is real, as in Larq (Geiger and Team 2020), and lowers to thresholds.

What differs. Signs of a kernel are multiplied by a constant, the mean |w| of its channel when
training begins, where the paper leaves that to batch norm: a net goes on from its float weights.
Of activations that are never negative, behind a ReLU, 0 and 1 stand for -1 and 1: half the sum of
signs and 1, which is the same to the batch norm behind the next kernel, but for the padding, which
is 0 then; the gradient passes between the two. What the scheme gives more bits, such as sums, the
first and the last layer, has calibrated activations that stay as they are, and kernels as LSQ's,
of 8 bits with codes -63 .. 63.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_quant.methods import lsq
from keras_quant.methods.grids import SignGrid, read_sign
from keras_quant.methods.layers import FixedGrid
from keras_quant.methods.method import FileNames, Maker, Method, NoOptions, Reader
from keras_quant.methods.straight_through import SMALLEST, sign
from keras_quant.methods.twins import (
    KINDS,
    Twin,
    float_kernel,
    make_twins,
    movable_of,
    read_twin,
    shared_axes,
    twin_of,
)
from keras_quant.qparams import QParams
from keras_quant.schemes.scheme import QuantSpec
from keras_quant.tf import keras, tf

NAMES = ("Bnn", "BnnWide")
WIDEST = 63


@keras.utils.register_keras_serializable("keras_quant")
class ClipToOne(keras.constraints.Constraint):
    """Keeps weights in -1 .. 1; none further away could change its sign in time."""

    def __call__(self, w: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(w, -1.0, 1.0)


class BnnTwin(Twin):
    """Rounds a kernel to its signs times `kernel_scale`, which is not trained."""

    def add_variables(self) -> None:
        self.kernel_scale = self.add_scale("kernel_scale", trainable=False)

    def round_kernel(self, kernel: tf.Tensor) -> tf.Tensor:
        return sign(kernel) * self.kernel_scale

    def read_scale(self) -> np.ndarray:
        return np.asarray(self.kernel_scale, np.float64)


class BnnWideTwin(lsq.LsqTwin):
    """LSQ's kernel of 2 bits or more, of 8 with codes -63 .. 63.

    Where a sign follows, integers have to say halves of a sum, and so multiply all codes by 2, for
    which -127 .. 127 leave no room (`lower.signs`).
    """

    @property
    def codes(self) -> tuple[int, int]:
        """The lowest and the highest code."""
        return (-WIDEST, WIDEST) if self.bits == 8 else super().codes


TWINS = make_twins("Bnn", BnnTwin)
WIDE_TWINS = make_twins("BnnWide", BnnWideTwin)


def wrap(layer: keras.layers.Layer, spec: QuantSpec, options: Any) -> keras.layers.Layer:
    """Makes a twin of signs, or LSQ's where there are more bits."""
    if spec.bits > 1:
        return lsq.make_twin(layer, spec, WIDE_TWINS)
    kind = type(layer).__name__
    constraint = "depthwise_constraint" if kind == "DepthwiseConv2D" else "kernel_constraint"
    twin = twin_of(layer, spec, TWINS, **{constraint: ClipToOne()})
    kernel = float_kernel(layer)
    axes = shared_axes(kind, kernel.ndim, spec.per_channel)
    size = np.abs(kernel).mean(axes, keepdims=True).astype(np.float32)
    twin.first = {"kernel_scale": np.maximum(size, np.float32(SMALLEST))}
    return twin


def activation(name: str, grid: QParams, step: None, options: NoOptions) -> keras.layers.Layer:
    """Makes the layer that puts a tensor on a grid; one of -1, 0 and 1 is that of a sign."""
    if (grid.qmin, grid.zero_point, grid.qmax) == (-1, 0, 1):
        return SignGrid(grid.scale, name=name)
    return FixedGrid(grid.scale, grid.qmin, grid.qmax, grid.zero_point, name=name)


METHOD = Method(
    maker=Maker(wrap=wrap, activation=activation, options=NoOptions),
    reader=Reader(
        stands_for={f"{name}{kind}": kind for name in NAMES for kind in KINDS},
        kernel=lambda layer: read_twin(layer, TWINS) or read_twin(layer, WIDE_TWINS),
        activation=read_sign,
        movable=lambda layer: movable_of(layer, TWINS) or movable_of(layer, WIDE_TWINS),
    ),
    files=FileNames(
        classes=frozenset({"SignGrid", "ClipToOne"})
        | {f"{name}{kind}" for name in NAMES for kind in KINDS}
    ),
    tunings={"kernel_scale": lsq.STEP},
    real_steps=True,
)
