"""Quantizers that QKeras layers use here: exact, fast, and saved whole.

QKeras 0.9 leaves three gaps that would break "what was trained is what is deployed":
its automatic weight scale spans max|w| (poor below 5 bits), is NaN for an all-zero channel
and is per tensor for depthwise kernels; `quantized_bits` and `quantized_relu` lose arguments
when a model is saved; and its activations cost five passes over memory a step.
`fitted_bits` fills the first gap; `repair_qkeras` the others, within QKeras' own classes, so
that saved models still say `quantized_relu(4,2)`.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from keras_quant.tf import keras, qkeras, tf

# Step of the uniform quantizer with least squared error for unit Gaussian values, by number
# of levels: Max, "Quantizing for Minimum Distortion", IRE Trans. Inform. Theory 6 (1960),
# table II, continued by the same minimization above 32; 2**b - 1 levels from 15 on share the
# entry of 2**b.
GAUSSIAN_STEP = {3: 1.224, 4: 0.9957, 7: 0.6508, 8: 0.586, 16: 0.3352, 32: 0.1881}
GAUSSIAN_STEP |= {64: 0.1041, 128: 0.0569, 256: 0.0308}

# One bit has no code for zero: a channel that is zero everywhere becomes +-BINARY_FLOOR.
BINARY_FLOOR = 2.0**-24

_FUSED = contextvars.ContextVar("keras_quant_fused_kernels", default=False)


@contextlib.contextmanager
def fused_kernels() -> Iterator[None]:
    """Lets functions traced within use TensorFlow's one-pass fake-quantize kernels.

    They differ from the exact ones in two things: a value exactly half-way between two codes
    rounds up, not to even, and the gradient also passes at exactly 0 under qmin = 0. Meant for
    training steps; never for evaluation.
    """
    token = _FUSED.set(True)
    try:
        yield
    finally:
        _FUSED.reset(token)


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
    low, high, levels = step * qmin, step * qmax, qmax - qmin + 1
    if _FUSED.get() and x.dtype == tf.float32 and levels in (*_powers(2, 8), *_narrow(2, 8)):
        return tf.quantization.fake_quant_with_min_max_args(
            x,
            min=low,
            max=high,
            num_bits=levels.bit_length() - (levels & (levels - 1) == 0),
            narrow_range=levels & (levels - 1) != 0,
        )

    @tf.custom_gradient
    def straight_through(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        codes = tf.clip_by_value(tf.round(x * tf.cast(1 / step, x.dtype)), qmin, qmax)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            above = x > low if qmin == 0 else x >= low
            return tf.where(above & (x <= high), upstream, tf.zeros_like(upstream))

        return codes * tf.cast(step, x.dtype), gradient

    return straight_through(x)


def _powers(first: int, last: int) -> list[int]:
    return [2**bits for bits in range(first, last + 1)]


def _narrow(first: int, last: int) -> list[int]:
    return [levels - 1 for levels in _powers(first, last)]


@keras.utils.register_keras_serializable("keras_quant")
class fitted_bits(qkeras.quantizers.BaseQuantizer):  # noqa: N801  (QKeras' way of naming)
    """Quantizes weights to integer codes times a scale fitted to them by least squares.

    scale = <w, q> / <q, q> over each channel, with q the codes of a first scale: the best
    one for Gaussian values of w's spread (Max 1960), or max|w| / qmax where that is smaller.
    One bit means sign(w) times mean |w| (XNOR-Net, Rastegari et al. 2016, eq. 6).

    Attributes:
        bits: 1 to 8.
        narrow_range: leave out the lowest code: -7 .. 7 at 4 bits, -1 .. 1 at 2.
        scale_axis: axis, or axes, of the channels; None for one scale a tensor.
        scale: the scale that the last call used, kept as QKeras' quantizers keep it.
    """

    alpha = "auto"  # tells QKeras not to rescale the kernel's initial values

    def __init__(
        self,
        bits: int,
        narrow_range: bool = True,
        scale_axis: int | Sequence[int] | None = -1,
    ) -> None:
        super().__init__()
        self.bits = int(bits)
        self.narrow_range = bool(narrow_range)
        self.scale_axis = scale_axis
        self.scale: tf.Tensor | float = 1.0

    @property
    def qmax(self) -> int:
        return max(1, 2 ** (self.bits - 1) - 1)

    @property
    def qmin(self) -> int:
        return -self.qmax if self.narrow_range or self.bits == 1 else -self.qmax - 1

    def __call__(self, weights: tf.Tensor) -> tf.Tensor:
        rank = len(weights.shape)
        axes = () if self.scale_axis is None else self.scale_axis
        channels = [axis % rank for axis in ((axes,) if isinstance(axes, int) else axes)]
        axes = [axis for axis in range(rank) if axis not in channels]

        @tf.custom_gradient
        def straight_through(w: tf.Tensor) -> tuple[tf.Tensor, Any]:
            codes, self.scale = self._fit(w, axes)
            return codes * self.scale, lambda upstream: upstream

        # Under mixed precision the weights come in bfloat16, too coarse to fit a scale in.
        weights = tf.convert_to_tensor(weights)
        return tf.cast(straight_through(tf.cast(weights, tf.float32)), weights.dtype)

    def _fit(self, w: tf.Tensor, axes: list[int]) -> tuple[tf.Tensor, tf.Tensor]:
        """Gives codes and scale, both float32.

        Scales are computed in float64. Where TensorFlow runs a graph, it adds in another order and
        multiplies by 1 / 7 in place of dividing by 7; a scale that ended in another float32 would
        round a weight beside a tie to another code than where it runs no graph.
        """
        exact = tf.cast(w, tf.float64)
        mean = functools.partial(tf.reduce_mean, axis=axes, keepdims=True)
        if self.bits == 1:
            size = tf.cast(mean(tf.abs(exact)), tf.float32)
            return tf.where(w >= 0, 1.0, -1.0), tf.maximum(size, BINARY_FLOOR)
        levels = self.qmax - self.qmin + 1
        step = GAUSSIAN_STEP.get(levels) or GAUSSIAN_STEP[levels + 1]
        first = tf.minimum(
            step * tf.sqrt(mean(exact * exact)),
            tf.reduce_max(tf.abs(exact), axis=axes, keepdims=True) / self.qmax,
        )
        codes = self._round(w, _positive(tf.cast(first, tf.float32)))
        codes = tf.cast(codes, tf.float64)
        fitted = tf.math.divide_no_nan(mean(exact * codes), mean(codes * codes))
        scale = _positive(tf.cast(fitted, tf.float32))
        return self._round(w, scale), scale

    def _round(self, w: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(tf.round(w / scale), self.qmin, self.qmax)

    def __str__(self) -> str:
        return f"fitted_bits({self.bits},{self.narrow_range},{self.scale_axis})"

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> fitted_bits:
        return cls(**config)

    def get_config(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "narrow_range": self.narrow_range,
            "scale_axis": self.scale_axis,
        }


def _positive(scale: tf.Tensor) -> tf.Tensor:
    """Puts 1 in place of the scale of a channel that is zero everywhere."""
    return tf.where(scale > 0, scale, tf.ones_like(scale))


def _is_plain_relu(q: qkeras.quantizers.quantized_relu) -> bool:
    return q.is_quantized_clip and not (q.use_sigmoid or q.negative_slope) and _is_plain(q)


def _is_plain_bits(q: qkeras.quantizers.quantized_bits) -> bool:
    return q.alpha in (1, None) and q.bits > 1 and bool(q.keep_negative) and _is_plain(q)


def _is_plain(q: qkeras.quantizers.BaseQuantizer) -> bool:
    fixed = isinstance(q.integer, int) and not isinstance(q.qnoise_factor, tf.Variable)
    return fixed and q.qnoise_factor == 1 and q.use_ste and not q.use_stochastic_rounding


def _fake_quant_relu(q: qkeras.quantizers.quantized_relu, x: tf.Tensor) -> tf.Tensor:
    return fake_quant(x, step=2.0 ** (q.integer - q.bits), qmin=0, qmax=2**q.bits - 1)


def _fake_quant_bits(q: qkeras.quantizers.quantized_bits, x: tf.Tensor) -> tf.Tensor:
    q.scale = 1.0
    qmax = 2 ** (q.bits - 1) - 1
    qmin = -qmax if q.symmetric else -qmax - 1
    return fake_quant(x, step=2.0 ** (q.integer - q.bits + 1), qmin=qmin, qmax=qmax)


def _repair(cls: type, is_plain: Callable, fast: Callable, lost: str) -> None:
    """Gives a QKeras quantizer class the fast path, and the argument that saving loses."""
    slow, config = cls.__call__, cls.get_config

    def call(self: Any, x: tf.Tensor) -> tf.Tensor:
        return fast(self, x) if is_plain(self) else slow(self, x)

    def get_config(self: Any) -> dict[str, Any]:
        return {**config(self), lost: getattr(self, lost)}

    cls.__call__, cls.get_config = call, get_config


def _keep_output_padding(cls: type) -> None:
    """QConv2DTranspose computes with its output_padding, but its constructor drops it."""
    construct = cls.__init__

    @functools.wraps(construct)
    def init(self: Any, *args: Any, output_padding: Any = None, **kwargs: Any) -> None:
        construct(self, *args, **kwargs)
        if output_padding is not None:
            self.output_padding = tuple(output_padding)

    cls.__init__ = init


@functools.cache
def repair_qkeras() -> None:
    """Repairs two quantizers and QConv2DTranspose of QKeras 0.9, once, for this process.

    Also hides the warning that QKeras' layers set off whenever they tell their settings: they
    serialize quantizers as if they were constraints, which works.
    """
    warnings.filterwarnings("ignore", message=".*constraints.serialize.*fitted_bits")
    # QConv2DTranspose looks for it in a module of TensorFlow that no longer has it.
    qkeras.qconvolutional.array_ops.stack = tf.stack
    _keep_output_padding(qkeras.QConv2DTranspose)
    q = qkeras.quantizers
    _repair(q.quantized_relu, _is_plain_relu, _fake_quant_relu, "is_quantized_clip")
    _repair(q.quantized_bits, _is_plain_bits, _fake_quant_bits, "scale_axis")


@keras.utils.register_keras_serializable("keras_quant")
class FixedGrid(keras.layers.Layer):
    """Rounds values to codes of any step, where QKeras' activations have powers of two only.

    Args:
        scale: real distance of two codes.
        qmin: lowest code.
        qmax: highest code.
    """

    def __init__(self, scale: float, qmin: int, qmax: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale, self.qmin, self.qmax = float(scale), int(qmin), int(qmax)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return fake_quant(inputs, step=self.scale, qmin=self.qmin, qmax=self.qmax)

    def get_config(self) -> dict[str, Any]:
        grid = {"scale": self.scale, "qmin": self.qmin, "qmax": self.qmax}
        return {**super().get_config(), **grid}


@keras.utils.register_keras_serializable("keras_quant")
class InputGrid(FixedGrid):
    """Rounds a model's input to the codes that the exported file receives.

    For 8-bit pixels given as k / 255 the codes are k, and the values move by one rounding of
    float32 at most.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        scale = tf.cast(self.scale, inputs.dtype)
        return tf.clip_by_value(tf.round(inputs / scale), self.qmin, self.qmax) * scale


@keras.utils.register_keras_serializable("keras_quant")
class KeepFloat(keras.layers.Layer):
    """Passes values on; the exported file hands them as floats to the layer behind."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.identity(inputs)
