"""Layers that round activations, for every method; QKeras is not needed for them."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

from keras_quant.qparams import QParams
from keras_quant.tf import keras, tf

# What model files may name of this module.
CLASSES = frozenset({"FixedGrid", "GroupStep", "InputGrid", "KeepFloat"})

_FUSED = contextvars.ContextVar("keras_quant_fused_kernels", default=False)
_HELD = contextvars.ContextVar("keras_quant_held_ranges", default=False)


def variable_name(variable: tf.Variable) -> str:
    """The last part of a variable's name, "kernel" of "conv1/kernel:0"."""
    return str(variable.name).rpartition("/")[2].partition(":")[0]


@contextlib.contextmanager
def fused_kernels() -> Iterator[None]:
    """Lets functions traced within use TensorFlow's one-pass fake-quantize kernels.

    They differ from the exact ones in two things: a value exactly half-way between two codes
    rounds up, not to even, and the gradient also passes at exactly 0 under qmin = 0. Meant for
    training; never for evaluation.
    """
    token = _FUSED.set(True)
    try:
        yield
    finally:
        _FUSED.reset(token)


def fuses_kernels() -> bool:
    """Whether what is traced may use them."""
    return _FUSED.get()


@contextlib.contextmanager
def held_ranges() -> Iterator[None]:
    """Lets ranges stay that follow the values of training, whatever layers are called with within.

    Meant for measuring a model in training as it is.
    """
    token = _HELD.set(True)
    try:
        yield
    finally:
        _HELD.reset(token)


def holds_ranges() -> bool:
    """Whether they stay."""
    return _HELD.get()


def fake_quant_bits(levels: int) -> int | None:
    """The bits of TensorFlow's fake-quantize kernels that have so many levels.

    Returns: 2 to 8; negative of as many bits in narrow range, which are one level fewer; None where
        they have no such number of levels.
    """
    full = {2**bits: bits for bits in range(2, 9)}
    return full.get(levels) or -full.get(levels + 1, 0) or None


def fake_quant(x: tf.Tensor, *, step: float, qmin: int, qmax: int) -> tf.Tensor:
    """Rounds x to the grid of a step and clips it, with a straight-through gradient.

    Args:
        x: float of any shape.
        step: real distance of two codes; exact for powers of two.
        qmin: lowest code, <= 0.
        qmax: highest code, > 0.
    Returns: step * clip(round_half_even(x / step), qmin, qmax); its gradient with respect to
        x is 1 where step * qmin <= x <= step * qmax (above qmin for qmin = 0), else 0, as
        QKeras' (Coelho et al. 2021, section 3) and PACT's with a fixed clipping value.
    """
    low, high, bits = step * qmin, step * qmax, fake_quant_bits(qmax - qmin + 1)
    if fuses_kernels() and x.dtype == tf.float32 and bits is not None:
        return tf.quantization.fake_quant_with_min_max_args(
            x, min=low, max=high, num_bits=abs(bits), narrow_range=bits < 0
        )

    @tf.custom_gradient
    def straight_through(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        codes = tf.clip_by_value(tf.round(x * tf.cast(1 / step, x.dtype)), qmin, qmax)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            above = x > low if qmin == 0 else x >= low
            return tf.where(above & (x <= high), upstream, tf.zeros_like(upstream))

        return codes * tf.cast(step, x.dtype), gradient

    return straight_through(x)


@keras.utils.register_keras_serializable("keras_quant")
class FixedGrid(keras.layers.Layer):
    """Rounds values to codes of any scale and zero point.

    Args:
        scale: real distance of two codes.
        qmin: lowest code.
        qmax: highest code.
        zero_point: the code of real 0.
    """

    def __init__(
        self, scale: float, qmin: int, qmax: int, zero_point: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.scale, self.qmin, self.qmax = float(scale), int(qmin), int(qmax)
        self.zero_point = int(zero_point)

    @property
    def levels(self) -> tuple[int, int]:
        """The lowest and the highest code, counted from that of real 0."""
        return self.qmin - self.zero_point, self.qmax - self.zero_point

    @property
    def qparams(self) -> QParams:
        return QParams(
            scale=self.scale,
            zero_point=self.zero_point,
            qmin=self.qmin,
            qmax=self.qmax,
            bits=(self.qmax - self.qmin).bit_length(),
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        qmin, qmax = self.levels
        return fake_quant(inputs, step=self.scale, qmin=qmin, qmax=qmax)

    def get_config(self) -> dict[str, Any]:
        names = ("scale", "qmin", "qmax", "zero_point")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.utils.register_keras_serializable("keras_quant")
class InputGrid(FixedGrid):
    """Rounds a model's input to the codes that the exported file receives.

    For 8-bit pixels given as k / 255 the codes are k, and the values move by one rounding of
    float32 at most.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        scale = tf.cast(self.scale, inputs.dtype)
        return tf.clip_by_value(tf.round(inputs / scale), *self.levels) * scale


@keras.utils.register_keras_serializable("keras_quant")
class GroupStep(keras.layers.Layer):
    """Owns the learned scale of all activations of a group; a part of each layer that rounds them.

    A layer gives it in `get_config` as the object that it is, and takes it in its constructor
    through `GroupStep.of`: then Keras saves it once, and all layers of a loaded model get the same.

    Args:
        scale: to begin with, > 0.
    """

    def __init__(self, scale: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.initial = float(scale)
        # Not cast where layers compute in bfloat16, which would round to another grid.
        self.scale = self.add_weight(
            "scale",
            shape=(),
            dtype=tf.float32,
            initializer=keras.initializers.Constant(self.initial),
            experimental_autocast=False,
        )
        self.built = True

    @staticmethod
    def of(value: Any) -> GroupStep:
        """The object itself, or what was saved of one."""
        found: GroupStep = (
            keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value
        )
        return found

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.initial}


@keras.utils.register_keras_serializable("keras_quant")
class KeepFloat(keras.layers.Layer):
    """Passes values on; the exported file hands them as floats to the layer behind."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.identity(inputs)
