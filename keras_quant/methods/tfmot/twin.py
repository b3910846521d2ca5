"""Layers whose kernels are rounded as TF-MOT's LastValueQuantizer rounds them.

TF-MOT's symmetric range of a kernel reaches from -max|w| to max|w| (without narrow range a little
further down, as there is one more code), found anew in each training step; in inference it is that
of the last one. So scale = max|w| / qmax, of each output channel or of all, is what these layers
keep as `kernel_scale`; real 0 has code 0, and a weight is exactly its code times the scale, where
TF-MOT's kernel adds an offset in float32, whose rounding moves it by up to 2**-17 of a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_quant.errors import SchemeError, UsageError
from keras_quant.graph.ir import Weight
from keras_quant.methods.layers import holds_ranges
from keras_quant.methods.method import Movable
from keras_quant.schemes.scheme import QuantSpec
from keras_quant.tf import keras, tf

KINDS = ("Conv1D", "Conv2D", "Conv2DTranspose", "Dense", "DepthwiseConv2D")
CHANNELS = {"Conv2DTranspose": (2,), "DepthwiseConv2D": (2, 3)}
"""Axes of the kernel that count output channels, where they are not the last one."""

BITS = range(2, 9)
"""Widths that TensorFlow's fake-quantize kernels, and so TF-MOT's quantizers, know up to 8."""


class LastValueKernel(keras.layers.Layer):
    """What the twins of all layers with a kernel add to them.

    Args:
        bits: 2 to 8.
        narrow_range: leave out the lowest code.
        channels: axes of the kernel with a scale of their own; () for one scale.
    """

    def __init__(
        self, *args: Any, bits: int, narrow_range: bool, channels: Any, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.bits, self.narrow_range, self.channels = bits, narrow_range, tuple(channels)
        self.first_scale: np.ndarray | None = None
        self._rounded: tf.Tensor | None = None

    @property
    def qmax(self) -> int:
        """The highest code."""
        return int(2 ** (self.bits - 1)) - 1

    @property
    def qmin(self) -> int:
        """The lowest code."""
        return -self.qmax - (not self.narrow_range)

    def build(self, input_shape: Any) -> None:
        """Makes the layer's variables, and the scale: float32, (1, ..., channels), > 0."""
        super().build(input_shape)
        sizes = self.raw_kernel.shape
        shape = [size if axis in self.channels else 1 for axis, size in enumerate(sizes)]
        self.kernel_scale = self.add_weight(
            "kernel_scale",
            shape=shape,
            dtype=tf.float32,
            trainable=False,
            initializer="ones",
            experimental_autocast=False,
        )
        if self.first_scale is not None:
            self.kernel_scale.assign(self.first_scale)

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        """Computes the layer; in training, of a scale that is found from the kernel."""
        training = keras.backend.learning_phase() if training is None else training
        self._rounded = keras.src.utils.control_flow_util.smart_cond(
            False if holds_ranges() else training, self._round_anew, self._round
        )
        try:
            return super().call(inputs)
        finally:
            self._rounded = None

    @property
    def kernel(self) -> tf.Tensor:
        """What the layer computes with."""
        return self._round() if self._rounded is None else self._rounded

    @kernel.setter
    def kernel(self, variable: tf.Variable) -> None:
        self.raw_kernel = variable

    depthwise_kernel = kernel

    def _round_anew(self) -> tf.Tensor:
        axes = [axis for axis in range(len(self.raw_kernel.shape)) if axis not in self.channels]
        kernel = tf.cast(self.raw_kernel, tf.float32)
        largest = tf.reduce_max(tf.abs(kernel), axes, keepdims=True)
        self.kernel_scale.assign(scale_of(largest, self.qmax))
        return self._round()

    def _round(self) -> tf.Tensor:
        low, high = float(self.qmin), float(self.qmax)

        @tf.custom_gradient
        def straight_through(kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
            levels = kernel / self.kernel_scale
            # From one float32 rounding beyond the ends on, as TensorFlow's kernels within them.
            inside = (levels > low - 0.5) & (levels < high + 0.5)
            codes = tf.clip_by_value(tf.round(levels), low, high)
            return codes * self.kernel_scale, lambda upstream: tf.where(inside, upstream, 0.0)

        kernel = tf.convert_to_tensor(self.raw_kernel)
        return tf.cast(straight_through(tf.cast(kernel, tf.float32)), kernel.dtype)

    def get_config(self) -> dict[str, Any]:
        """The layer's settings, and those of its kernel."""
        own = {"bits": self.bits, "narrow_range": self.narrow_range, "channels": self.channels}
        return {**super().get_config(), **own}


def scale_of(largest: Any, qmax: int) -> Any:
    """The scale at which the largest weight has code qmax; 1 where all of them are 0."""
    return tf.where(largest > 0, largest / tf.cast(qmax, tf.float32), tf.ones_like(largest))


TWINS = {
    kind: keras.utils.register_keras_serializable("keras_quant")(
        type(f"LastValue{kind}", (LastValueKernel, getattr(keras.layers, kind)), {})
    )
    for kind in KINDS
}
CLASSES = frozenset(cls.__name__ for cls in TWINS.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class TfmotOptions:
    """What a scheme may say of this method.

    Attributes:
        ema: how much of a range a training step keeps, see `moving.MovingGrid`.
    """

    ema: float = 0.999

    def __post_init__(self) -> None:
        if not 0 <= self.ema <= 1:
            raise UsageError(f"ema is {self.ema}; 0 (the last range) to 1 (the first) is allowed")


def channels_of(kind: str, rank: int) -> tuple[int, ...]:
    """The axes of a kernel that count output channels."""
    return CHANNELS.get(kind, (rank - 1,))


def twin_of(
    layer: Any, *, bits: int, narrow_range: bool, channels: tuple[int, ...], name: str
) -> Any:
    """The twin of a layer of KINDS, without an activation; its weights are the caller's to copy."""
    config = {**layer.get_config(), "name": name, "activation": "linear"}
    spec = {"bits": bits, "narrow_range": narrow_range, "channels": channels}
    return TWINS[type(layer).__name__].from_config(config | spec)


def wrap(layer: keras.layers.Layer, spec: QuantSpec, options: TfmotOptions) -> keras.layers.Layer:
    """Makes the twin of a layer of KINDS, with the scales of its weights.

    Raises:
        SchemeError: one bit, which TF-MOT's quantizers have not.
    """
    if spec.bits not in BITS:
        raise SchemeError(
            f"layer {layer.name}: {spec.bits}-bit weights are not rounded by tfmot, whose "
            f"quantizers have {BITS[0]} to {BITS[-1]} bits; give the layer more, or method: qkeras"
        )
    kind, kernel = type(layer).__name__, layer.get_weights()[0]
    channels = channels_of(kind, kernel.ndim) if spec.per_channel else ()
    twin = twin_of(
        layer,
        bits=spec.bits,
        narrow_range=spec.narrow_range,
        channels=channels,
        name=layer.name,
    )
    axes = tuple(axis for axis in range(kernel.ndim) if axis not in channels)
    twin.first_scale = scale_of(np.abs(kernel).max(axes, keepdims=True), twin.qmax)
    return twin


def read_kernel(layer: Any) -> Weight | None:
    """Reads a twin's kernel as codes; None for any other layer."""
    if not isinstance(layer, LastValueKernel):
        return None
    scale = np.asarray(layer.kernel_scale, np.float64)
    codes = np.rint(np.asarray(layer.kernel, np.float64) / scale)
    return Weight(values=codes.astype(np.int16), scale=scale, bits=layer.bits)


class KernelWithScale:
    """A twin's kernel as a variable whose channels may be multiplied: its scale goes along."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def numpy(self) -> np.ndarray:
        """The values, float32."""
        values: np.ndarray = self._layer.raw_kernel.numpy()
        return values

    def assign(self, values: np.ndarray) -> None:
        """Sets the values, and multiplies each scale as its largest weight was."""
        layer, before = self._layer, np.abs(self.numpy())
        axes = tuple(axis for axis in range(before.ndim) if axis not in layer.channels)
        old, new = before.max(axes, keepdims=True), np.abs(values).max(axes, keepdims=True)
        ratio = np.divide(new, old, out=np.ones_like(old), where=old > 0)
        layer.raw_kernel.assign(values)
        layer.kernel_scale.assign(layer.kernel_scale.numpy() * ratio)


def movable_of(layer: Any) -> Movable | None:
    """The variables of a twin that may be moved; None for any other layer."""
    if not (isinstance(layer, LastValueKernel) and layer.use_bias):
        return None
    return Movable(bias=layer.bias, kernel=KernelWithScale(layer) if layer.channels else None)
