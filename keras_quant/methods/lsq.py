"""LSQ: the steps of kernels and activations are learned with the weights.

Esser et al., "Learned Step Size Quantization" (ICLR 2020): eq. 1 to 3, with the gradient scale
1 / sqrt(N * Qp) of section 2.2. Bhalgat et al., "LSQ+" (2020), section 3: of activations that a
scheme lets be asymmetric, and that reach below zero, the zero point is learned too.

What differs: each output channel of a kernel has a step, unless the scheme says otherwise; steps
begin with least squares, of the kernel or of the calibrated activations, where the papers take
2 <|w|> / sqrt(Qp), or what a batch gives; they have an Adam of their own (`Tuning`), which
multiplies them, so that they stay above 0; what LSQ+ adds is a whole number of steps, a zero
point (`GroupZeroPoint`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_quant.methods.grids import GroupZeroPoint, StepGrid, lsq_gradient_scale, read_grid
from keras_quant.methods.layers import GroupStep
from keras_quant.methods.method import FileNames, Maker, Method, Reader, Tuning
from keras_quant.methods.straight_through import SMALLEST, round_to_step
from keras_quant.methods.twins import (
    KINDS,
    Twin,
    float_kernel,
    least_squares_scale,
    make_twins,
    movable_of,
    read_twin,
    refuse_bits,
    shared_axes,
    twin_of,
)
from keras_quant.qparams import QParams
from keras_quant.schemes.scheme import QuantSpec
from keras_quant.tf import keras, tf

STEP = Tuning(rate=1e-3, adam=True, relative=True)
ZERO_POINT = Tuning(rate=1e-2, adam=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class LsqOptions:
    """What a scheme may say of this method.

    Attributes:
        learn_zero_point: of asymmetric activations that reach below zero; else it stays as
            calibrated.
    """

    learn_zero_point: bool = True


class LsqTwin(Twin):
    """Rounds a kernel to learned steps, called `kernel_scale`."""

    def add_variables(self) -> None:
        self.kernel_scale = self.add_scale("kernel_scale", trainable=True)

    def round_kernel(self, kernel: tf.Tensor) -> tf.Tensor:
        qmin, qmax = self.codes
        step = tf.convert_to_tensor(self.kernel_scale)
        scale = kernel_gradient_scale(kernel, step, qmax)
        return round_to_step(kernel, step, qmin=qmin, qmax=qmax, gradient_scale=scale)

    def read_scale(self) -> np.ndarray:
        return np.maximum(np.asarray(self.kernel_scale, np.float64), SMALLEST)


def kernel_gradient_scale(kernel: tf.Tensor, step: tf.Tensor, qmax: int) -> float:
    """What multiplies the gradient of a kernel's steps, which equally many weights share each."""
    sharing = int(np.prod(kernel.shape)) // int(np.prod(step.shape))
    return lsq_gradient_scale(sharing, qmax)


TWINS = make_twins("Lsq", LsqTwin)


@keras.utils.register_keras_serializable("keras_quant")
class LsqGrid(StepGrid):
    """Rounds activations to a learned step; see `round_to_step`."""


def wrap(layer: keras.layers.Layer, spec: QuantSpec, options: Any) -> keras.layers.Layer:
    """Makes the twin of a layer. Raises: SchemeError: one bit has no step to learn."""
    if spec.bits == 1:
        refuse_bits(layer, spec, "lsq learns the step of 2 to 8")
    return make_twin(layer, spec, TWINS)


def make_twin(
    layer: keras.layers.Layer,
    spec: QuantSpec,
    twins: Mapping[str, Any],
    *,
    step: str = "kernel_scale",
    codes: tuple[int, int] | None = None,
) -> keras.layers.Layer:
    """Makes a twin whose steps are those that err least on the layer's kernel.

    Args:
        twins: those of a class that learns steps.
        step: what their variable is called there.
        codes: the lowest and the highest of these steps; None means the twin's own.
    """
    twin = twin_of(layer, spec, twins)
    kernel = float_kernel(layer)
    axes = shared_axes(twin.kind, kernel.ndim, spec.per_channel)
    twin.first = {step: least_squares_scale(kernel, codes or twin.codes, axes)}
    return twin


def make_grid(
    name: str, grid: QParams, step: GroupStep | None, options: LsqOptions
) -> keras.layers.Layer:
    """Makes the layer that rounds activations to their group's learned step."""
    return LsqGrid(step, grid.qmin, grid.qmax, grid.zero_point, name=name)


def make_step(name: str, grid: QParams, options: LsqOptions) -> GroupStep:
    """What a group's activations share: the step, and the zero point where that is learned."""
    if options.learn_zero_point and grid.qmin < grid.zero_point and grid.qmin == 0:
        return GroupZeroPoint(grid.scale, grid.zero_point, grid.qmin, grid.qmax, name=name)
    return GroupStep(grid.scale, name=name)


METHOD = Method(
    maker=Maker(
        wrap=wrap,
        activation=make_grid,
        step=make_step,
        options=LsqOptions,
    ),
    reader=Reader(
        stands_for={f"Lsq{kind}": kind for kind in KINDS},
        kernel=lambda layer: read_twin(layer, TWINS),
        activation=lambda layer, name: (
            read_grid(layer, name) if isinstance(layer, LsqGrid) else None
        ),
        movable=lambda layer: movable_of(layer, TWINS),
    ),
    files=FileNames(
        classes=frozenset({"LsqGrid", "GroupZeroPoint", *(f"Lsq{kind}" for kind in KINDS)})
    ),
    tunings={"scale": STEP, "kernel_scale": STEP, "zero_point": ZERO_POINT},
    real_steps=True,
)
