"""DoReFa: kernels squeezed by tanh, activations clipped, gradients rounded with noise.

Zhou et al., "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low Bitwidth
Gradients" (2016): sections 2.3 (kernels), 2.4 (activations) and 2.5 (gradients).

What differs. Kernels have 2**k levels around zero there, none of which is zero, so that as integers
of one step they would be odd, and take k + 1 bits; here the levels are the codes of k bits, as the
scheme says, zero among them. They are multiplied by a constant that least squares find once, where
the paper leaves that to batch norm: a net goes on from its float weights, and from none, as before.
The largest |tanh(w)| is that of an output channel, unless the scheme says otherwise. Activations
are clipped to 0 .. 1 there; here to the range that calibration found, of either sign, which stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from keras_quant.errors import SchemeError
from keras_quant.methods.layers import FixedGrid
from keras_quant.methods.method import FileNames, Maker, Method, Reader
from keras_quant.methods.straight_through import (
    SMALLEST,
    round_gradient,
    sign,
)
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
from keras_quant.schemes.scheme import FLOAT_BITS, QuantSpec
from keras_quant.tf import keras, tf

MAX_GRADIENT_BITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class DorefaOptions:
    """What a scheme may say of this method.

    Attributes:
        gradient_bits: of the gradient that comes back through what a layer puts out, in training
            only; 32 leaves it in float.
    """

    gradient_bits: int = FLOAT_BITS

    def __post_init__(self) -> None:
        if not (2 <= self.gradient_bits <= MAX_GRADIENT_BITS or self.gradient_bits == FLOAT_BITS):
            raise SchemeError(
                f"gradient_bits is {self.gradient_bits}; 2 to {MAX_GRADIENT_BITS} are allowed, or "
                f"{FLOAT_BITS} for float"
            )


class DorefaTwin(Twin):
    """Rounds tanh(w) / max|tanh(w)|, times `kernel_scale`, which is not trained.

    One bit is sign(w) times mean|w|, whatever training makes of that.
    """

    def __init__(self, *args: Any, gradient_bits: int = FLOAT_BITS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gradient_bits = int(gradient_bits)
        if self.gradient_bits != FLOAT_BITS:
            # Of the noise; set back by `training.loop` for each epoch, as a Dropout's is.
            self._random_generator = SimpleNamespace(_generator=tf.random.Generator.from_seed(0))

    def add_variables(self) -> None:
        if self.bits > 1:
            self.kernel_scale = self.add_scale("kernel_scale", trainable=False)

    def round_kernel(self, kernel: tf.Tensor) -> tf.Tensor:
        if self.bits == 1:
            return mean_signs(kernel, self.shared_axes)
        return squeezed_codes(kernel, self.codes, self.shared_axes) * self.kernel_scale

    def read_scale(self) -> np.ndarray:
        if self.bits == 1:
            scale = mean_size(tf.convert_to_tensor(self.raw_kernel), self.shared_axes)
            return np.asarray(scale, np.float64)
        return np.asarray(self.kernel_scale, np.float64)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = super().call(inputs)  # type: ignore[misc]
        if self.gradient_bits == FLOAT_BITS:
            return outputs
        drawn = self._random_generator._generator.uniform_full_int([2], dtype=tf.int32)
        return round_gradient(outputs, self.gradient_bits, drawn)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gradient_bits": self.gradient_bits}


def squeezed_codes(kernel: tf.Tensor, codes: tuple[int, int], axes: tuple[int, ...]) -> tf.Tensor:
    """Codes of 2 (tanh(w) / (2 m) + 1/2) - 1, which is tanh(w) / m, m the largest |tanh(w)|.

    Args:
        kernel: float32.
        codes: the lowest, which -m gets, and the highest; m gets that, or what -m has less a sign.
        axes: along which m is taken.
    Returns: float32 whole numbers; the gradient of rounding is 1, and goes on through tanh and m.
    """

    @tf.custom_gradient
    def rounded(kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
        squeezed = tf.tanh(kernel)
        sizes = tf.abs(squeezed)
        largest = tf.reduce_max(sizes, axes, keepdims=True)
        reach = tf.where(largest > 0, largest, tf.ones_like(largest))
        levels = squeezed / reach * float(-codes[0])

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            # As TensorFlow derives it, of which most would be operations on whole kernels.
            of_squeezed = upstream * (float(-codes[0]) / reach)
            is_largest = tf.cast(sizes == largest, tf.float32)
            of_reach = tf.reduce_sum(of_squeezed * squeezed, axes, keepdims=True) / reach
            # Several that are the largest share what it learns.
            share = of_reach / tf.reduce_sum(is_largest, axes, keepdims=True)
            of_squeezed -= is_largest * tf.sign(squeezed) * share
            return of_squeezed * (1 - squeezed * squeezed)

        return tf.clip_by_value(tf.round(levels), *codes), gradient

    return rounded(kernel)


def mean_size(kernel: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    """float32 mean |w|, summed in float64, so that no graph adds up to another; above 0."""
    sizes = tf.abs(tf.cast(kernel, tf.float64))
    return tf.maximum(tf.cast(tf.reduce_mean(sizes, axes, keepdims=True), tf.float32), SMALLEST)


def mean_signs(kernel: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    """sign(w) mean|w|; the gradient passes to w as it is."""
    return _with_gradient_of(kernel, sign(kernel) * mean_size(kernel, axes))


def _with_gradient_of(x: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    @tf.custom_gradient
    def given(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        return tf.stop_gradient(value), lambda upstream: upstream

    return given(x)


TWINS = make_twins("Dorefa", DorefaTwin)


def wrap(layer: keras.layers.Layer, spec: QuantSpec, options: Any) -> keras.layers.Layer:
    """Makes a twin whose constant is the one with which its codes are nearest to the kernel."""
    gradient_bits = getattr(options, "gradient_bits", FLOAT_BITS)
    twin = twin_of(layer, spec, TWINS, gradient_bits=gradient_bits)
    if spec.bits > 1:
        kernel = float_kernel(layer)
        axes = shared_axes(twin.kind, kernel.ndim, spec.per_channel)
        codes = squeezed_codes(tf.constant(kernel, tf.float32), twin.codes, axes)
        codes = np.asarray(codes, np.float64)
        squares = (codes * codes).sum(axes, keepdims=True)
        products = (kernel * codes).sum(axes, keepdims=True)
        scale = np.divide(products, squares, out=np.ones_like(squares), where=squares > 0)
        twin.first = {"kernel_scale": scale.astype(np.float32)}
    return twin


METHOD = Method(
    maker=Maker(
        wrap=wrap,
        activation=lambda name, grid, step, options: FixedGrid(
            grid.scale, grid.qmin, grid.qmax, grid.zero_point, name=name
        ),
        options=DorefaOptions,
    ),
    reader=Reader(
        stands_for={f"Dorefa{kind}": kind for kind in KINDS},
        kernel=lambda layer: read_twin(layer, TWINS),
        activation=lambda activation, name: None,
        movable=lambda layer: movable_of(layer, TWINS),
    ),
    files=FileNames(classes=frozenset(f"Dorefa{kind}" for kind in KINDS)),
    real_steps=True,
)
