"""A second method, as small as one can be: kernels and activations with learned real scales.

Esser et al., "Learned Step Size Quantization" (2020): eq. 1 to 3. The gradient of a scale is not
divided by the root of the number of values, as the paper's section 2.2 has it, but multiplied by
an option.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_quant.errors import SchemeError
from keras_quant.graph.ir import Weight
from keras_quant.methods.layers import GroupStep
from keras_quant.methods.method import Activation, FileNames, Maker, Method, Reader, Tuning
from keras_quant.qparams import QParams
from keras_quant.schemes.scheme import QuantSpec
from keras_quant.tf import keras, tf

KINDS = ("Conv1D", "Conv2D", "Conv2DTranspose", "Dense", "DepthwiseConv2D")
CHANNELS = {"Conv2DTranspose": (2,), "DepthwiseConv2D": (2, 3)}
SMALLEST = 2.0**-24  # what a scale that was learned to be less counts as
RATE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    gradient: float = 0.1

    def __post_init__(self) -> None:
        if self.gradient < 0:
            raise SchemeError(f"gradient is {self.gradient}; 0 or more is allowed")


def fake_quant(x: tf.Tensor, scale: tf.Tensor, low: int, high: int, gradient: float) -> tf.Tensor:
    """scale * round(clip(x / scale, low, high)), eq. 1 and 2, computed in float32."""

    @tf.custom_gradient
    def rounded(x: tf.Tensor, scale: tf.Tensor) -> tuple[tf.Tensor, Any]:
        positive = tf.maximum(scale, SMALLEST)
        levels = x / positive
        codes = tf.clip_by_value(tf.round(levels), low, high)

        def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            within = (levels > low) & (levels < high)
            slope = tf.where(within, codes - levels, codes)  # eq. 3
            sizes = list(scale.shape) or [1] * len(x.shape)
            axes = [axis for axis, size in enumerate(sizes) if size == 1]
            summed = tf.reduce_sum(upstream * slope, axes, keepdims=scale.shape.rank > 0)
            return tf.where(within, upstream, 0.0), gradient * summed

        return codes * positive, gradients

    return tf.cast(rounded(tf.cast(x, tf.float32), scale), x.dtype)


class _LearnedKernel:
    """What the twins of all layers with a kernel add to them."""

    def __init__(self, *args: Any, spec: dict[str, Any], gradient: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.spec, self.gradient = spec, gradient
        self.first: np.ndarray | None = None  # the scales to begin with, of a twin that is new

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        shape = [1] * len(self.raw_kernel.shape)
        for axis in CHANNELS.get(type(self).__name__.removeprefix("Learned"), (-1,)):
            shape[axis] = self.raw_kernel.shape[axis] if self.spec["per_channel"] else 1
        self.kernel_scale = self.add_weight(
            "kernel_scale", shape=shape, dtype=tf.float32, experimental_autocast=False
        )
        if self.first is not None:
            self.kernel_scale.assign(self.first)

    @property
    def kernel(self) -> tf.Tensor:
        qmax = 2 ** (self.spec["bits"] - 1) - 1
        qmin = -qmax - (not self.spec["narrow_range"])
        return fake_quant(self.raw_kernel, self.kernel_scale, qmin, qmax, self.gradient)

    @kernel.setter
    def kernel(self, variable: tf.Variable) -> None:
        self.raw_kernel = variable

    depthwise_kernel = kernel

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "spec": self.spec, "gradient": self.gradient}


TWINS = {
    kind: keras.utils.register_keras_serializable("toy")(
        type(f"Learned{kind}", (_LearnedKernel, getattr(keras.layers, kind)), {})
    )
    for kind in KINDS
}


@keras.utils.register_keras_serializable("toy")
class LearnedGrid(keras.layers.Layer):
    """Rounds to codes of its group's scale."""

    def __init__(
        self, step: Any, qmin: int, qmax: int, zero_point: int, gradient: float, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.step, self.gradient = GroupStep.of(step), gradient
        self.qmin, self.qmax, self.zero_point = qmin, qmax, zero_point

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        low, high = self.qmin - self.zero_point, self.qmax - self.zero_point
        return fake_quant(inputs, self.step.scale, low, high, self.gradient)

    def get_config(self) -> dict[str, Any]:
        names = ("step", "qmin", "qmax", "zero_point", "gradient")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _wrap(layer: keras.layers.Layer, spec: QuantSpec, options: Options) -> keras.layers.Layer:
    if spec.bits == 1:
        raise SchemeError(f"layer {layer.name}: 1 bit is not learned; 2 to 8 are allowed")
    kind = type(layer).__name__
    numbers = {k: getattr(spec, k) for k in ("bits", "narrow_range", "per_channel")}
    config = layer.get_config() | {"activation": "linear"}
    twin = TWINS[kind].from_config(config | {"spec": numbers, "gradient": options.gradient})
    kernel = np.abs(layer.get_weights()[0])
    channels = [axis % kernel.ndim for axis in CHANNELS.get(kind, (-1,)) if spec.per_channel]
    axes = tuple(axis for axis in range(kernel.ndim) if axis not in channels)
    # Section 2.1: 2 <|w|> / sqrt(qmax)
    first = 2 * kernel.mean(axes, keepdims=True) / (2 ** (spec.bits - 1) - 1) ** 0.5
    twin.first = np.where(first > 0, first, 1.0)
    return twin


def _activation(name: str, grid: QParams, step: GroupStep, options: Options) -> keras.layers.Layer:
    return LearnedGrid(step, grid.qmin, grid.qmax, grid.zero_point, options.gradient, name=name)


def _scale(variable: tf.Variable) -> np.ndarray:
    return np.maximum(np.asarray(variable, np.float64), SMALLEST)


def _read_kernel(layer: keras.layers.Layer) -> Weight | None:
    if not isinstance(layer, tuple(TWINS.values())):
        return None
    scale = _scale(layer.kernel_scale)
    codes = np.rint(np.asarray(layer.kernel, np.float64) / scale)
    return Weight(values=codes.astype(np.int16), scale=scale, bits=layer.spec["bits"])


def _read_grid(activation: Any, name: str) -> Activation | None:
    if not isinstance(activation, LearnedGrid):
        return None
    grid = QParams(
        scale=float(_scale(activation.step.scale)),
        zero_point=activation.zero_point,
        qmin=activation.qmin,
        qmax=activation.qmax,
        bits=(activation.qmax - activation.qmin).bit_length(),
    )
    return Activation(qparams=grid)


METHOD = Method(
    maker=Maker(
        wrap=_wrap,
        activation=_activation,
        step=lambda name, grid, options: GroupStep(grid.scale, name=name),
        options=Options,
    ),
    reader=Reader(
        stands_for={f"Learned{kind}": kind for kind in KINDS},
        kernel=_read_kernel,
        activation=_read_grid,
    ),
    files=FileNames(
        classes=frozenset({"LearnedGrid", *(f"Learned{kind}" for kind in KINDS)}),
        packages=("tests",),
    ),
    tunings={"scale": Tuning(rate=RATE), "kernel_scale": Tuning(rate=RATE)},
)
