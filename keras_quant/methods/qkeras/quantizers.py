"""Quantizers of kernels that QKeras layers use here: exact, and saved whole.

QKeras' automatic weight scale spans max|w| (poor below 5 bits), is NaN for an all-zero channel
and is per tensor for depthwise kernels; `fitted_bits` is what it should be.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from keras_quant.methods.qkeras.door import qkeras
from keras_quant.tf import keras, tf

# Step of the uniform quantizer with least squared error for unit Gaussian values, by number
# of levels: Max, "Quantizing for Minimum Distortion", IRE Trans. Inform. Theory 6 (1960),
# table II, continued by the same minimization above 32; 2**b - 1 levels from 15 on share the
# entry of 2**b.
GAUSSIAN_STEP = {3: 1.224, 4: 0.9957, 7: 0.6508, 8: 0.586, 16: 0.3352, 32: 0.1881}
GAUSSIAN_STEP |= {64: 0.1041, 128: 0.0569, 256: 0.0308}

FITS = ("gaussian", "search")
# Where a search begins, in scales that reach max|w|: a quarter of an octave apart, to 1 / 6.7.
SEARCHED = tuple(2.0 ** (-place / 4) for place in range(12))

# One bit has no code for zero: a channel that is zero everywhere becomes +-BINARY_FLOOR.
BINARY_FLOOR = 2.0**-24


@keras.utils.register_keras_serializable("keras_quant")
class fitted_bits(qkeras.quantizers.BaseQuantizer):  # noqa: N801  (QKeras' way of naming)
    """Quantizes weights to integer codes times a scale fitted to them by least squares.

    scale = <w, q> / <q, q> over each channel, with q the codes of a first scale: the best
    one for Gaussian values of w's spread (Max 1960), or max|w| / qmax where that is smaller.
    A search also begins with each of SEARCHED, and takes what errs least: so it does not cut off
    the few weights far from all others that a channel may have, and that training would draw
    nearer. One bit means sign(w) times mean |w| (XNOR-Net, Rastegari et al. 2016, eq. 6).

    Attributes:
        bits: 1 to 8.
        narrow_range: leave out the lowest code: -7 .. 7 at 4 bits, -1 .. 1 at 2.
        scale_axis: axis, or axes, of the channels; None for one scale a tensor.
        fit: one of FITS; a search costs thirteen times as much.
        first: (channels,) scales in place of those of a fit, of weights that are codes times
            these; they are refitted, so that a channel that is multiplied keeps its codes.
        scale: the scale that the last call used, kept as QKeras' quantizers keep it.
    """

    alpha = "auto"  # asks QKeras not to rescale the kernel's initial values

    def __init__(
        self,
        bits: int,
        narrow_range: bool = True,
        scale_axis: int | Sequence[int] | None = -1,
        fit: str = "gaussian",
        first: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.bits = int(bits)
        self.narrow_range = bool(narrow_range)
        self.scale_axis = scale_axis
        self.fit = fit
        self.first = None if first is None else [float(scale) for scale in first]
        self.scale: tf.Tensor | float = 1.0

    @property
    def qmax(self) -> int:
        highest: int = 2 ** (self.bits - 1) - 1
        return max(1, highest)

    @property
    def qmin(self) -> int:
        return -self.qmax if self.narrow_range or self.bits == 1 else -self.qmax - 1

    # Converting it took three quarters of the time of building a model, and changes nothing.
    @tf.autograph.experimental.do_not_convert
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
        if self.first is not None:
            shape = [1 if axis in axes else size for axis, size in enumerate(w.shape)]
            first = tf.reshape(tf.constant(self.first, tf.float64), shape)
            return self._refit(w, exact, first, mean)
        levels = self.qmax - self.qmin + 1
        step = GAUSSIAN_STEP.get(levels) or GAUSSIAN_STEP[levels + 1]
        reaching = tf.reduce_max(tf.abs(exact), axis=axes, keepdims=True) / self.qmax
        found = self._refit(
            w, exact, tf.minimum(step * tf.sqrt(mean(exact * exact)), reaching), mean
        )
        for ratio in SEARCHED if self.fit == "search" else ():
            other = self._refit(w, exact, reaching * ratio, mean)
            errors = [
                mean(tf.square(exact - tf.cast(c * s, tf.float64))) for c, s in (found, other)
            ]
            better = errors[1] < errors[0]
            found = tuple(tf.where(better, new, old) for new, old in zip(other, found, strict=True))
        return found

    def _refit(
        self, w: tf.Tensor, exact: tf.Tensor, first: tf.Tensor, mean: Callable[..., tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Codes and scale that least squares find from the codes of a first scale."""
        codes = tf.cast(self._round(w, _positive(tf.cast(first, tf.float32))), tf.float64)
        fitted = tf.math.divide_no_nan(mean(exact * codes), mean(codes * codes))
        scale = _positive(tf.cast(fitted, tf.float32))
        return self._round(w, scale), scale

    def _round(self, w: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(tf.round(w / scale), self.qmin, self.qmax)

    def __str__(self) -> str:
        return f"fitted_bits({self.bits},{self.narrow_range},{self.scale_axis},{self.fit!r})"

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> fitted_bits:
        return cls(**config)

    def get_config(self) -> dict[str, Any]:
        return {
            "bits": self.bits,
            "narrow_range": self.narrow_range,
            "scale_axis": self.scale_axis,
            "fit": self.fit,
            **({} if self.first is None else {"first": self.first}),
        }


def _positive(scale: tf.Tensor) -> tf.Tensor:
    """Puts 1 in place of the scale of a channel that is zero everywhere."""
    return tf.where(scale > 0, scale, tf.ones_like(scale))
