"""Rounding with the gradients that methods give it: of values, of learned steps, of signs.

Bengio et al. 2013 ("Estimating or Propagating Gradients Through Stochastic Neurons") pass the
gradient of a rounded value straight through to what was rounded; the methods differ in where they
do not, and in what a step learns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from keras_quant.methods.layers import fake_quant_bits, fuses_kernels
from keras_quant.methods.one_pass import gradient_within
from keras_quant.methods.products import product_with_input, product_with_output
from keras_quant.tf import tf

_Pair = tuple[tf.Tensor, tf.Tensor]

SMALLEST = 2.0**-24
"""What a learned step that fell below it counts as; training stops there, see `training.loop`."""


def round_to_step(
    x: tf.Tensor,
    step: tf.Tensor,
    *,
    qmin: int,
    qmax: int,
    zero_point: tf.Tensor | int = 0,
    rounding_counts: bool = True,
    gradient_scale: float = 1.0,
) -> tf.Tensor:
    """Rounds x to codes of a learned step, computed in float32.

    With codes q = clip(round_half_even(x / step) + zero_point, qmin, qmax) the result is
    step * (q - zero_point), and its gradients are

    * of x: 1 within the range, 0 outside;
    * of the step, within: q - zero_point - x / step, which is LSQ's (Esser et al. 2020, eq. 3); or
      0, where it is the range that is learned, as in PACT (Choi et al. 2018, eq. 3);
    * of the step, outside: qmin - zero_point below and qmax - zero_point above, in both;
    * of the zero point: -step outside, 0 within, which is LSQ+'s of
      beta = -step * zero_point (Bhalgat et al. 2020, section 3).

    Args:
        x: float of any shape.
        step: float32, () or of x's rank, with 1 along the axes that share it; > 0.
        zero_point: within [qmin, qmax]; a float32 () tensor of a whole number is learned.
        rounding_counts: whether what rounding adds within the range is in the step's gradient.
        gradient_scale: multiplies the gradients of step and zero point.
    """
    learns_zero_point = not isinstance(zero_point, int)

    @tf.custom_gradient
    def rounded(x: tf.Tensor, step: tf.Tensor, zero: tf.Tensor) -> tuple[tf.Tensor, Any]:
        positive = tf.maximum(step, SMALLEST)
        origin = zero if learns_zero_point else float(zero_point)
        low, high = qmin - origin, qmax - origin
        bits = fake_quant_bits(qmax - qmin + 1) if step.shape.rank == 0 else None
        if bits is not None and fuses_kernels():
            grid = _fused(x, positive * low, positive * high, bits)
        else:
            grid = _exact(x, positive, low, high)

        def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
            needs_ends = learns_zero_point or not rounding_counts
            parts: Any = grid.ends(upstream) if needs_ends else (grid.within(upstream), None, None)
            within, below, above = parts
            if rounding_counts:
                # y / step is q - zero_point, and within is 0 where x / step does not count.
                of_step = grid.difference((upstream, grid.y), (within, x)) / positive
            else:
                of_step = low * below + high * above
            of_zero = -positive * (below + above) * gradient_scale if learns_zero_point else None
            return within, of_step * gradient_scale, of_zero

        return grid.y, gradients

    found = rounded(tf.cast(x, tf.float32), step, tf.cast(zero_point, tf.float32))
    return tf.cast(found, x.dtype)


class _Grid(NamedTuple):
    """Values rounded to a step, and what its gradients are made of.

    Attributes:
        y: the rounded values.
        within: says what of a gradient passes.
        ends: the same, and the sums of what is below the range and above it.
        difference: sum(a * y) - sum(b * x), given (a, y) and (b, x), over all that share a step;
            a and b are gradients of y and x.
    """

    y: tf.Tensor
    within: Callable[[tf.Tensor], tf.Tensor]
    ends: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]
    difference: Callable[[_Pair, _Pair], tf.Tensor]


def _exact(x: tf.Tensor, step: tf.Tensor, low: Any, high: Any) -> _Grid:
    levels = x / step

    def within(upstream: tf.Tensor) -> tf.Tensor:
        return tf.where((levels > low) & (levels < high), upstream, 0.0)

    def ends(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        outside = (tf.where(where, upstream, 0.0) for where in (levels <= low, levels >= high))
        below, above = (sum_shared(values, step) for values in outside)
        return within(upstream), below, above

    return _Grid(
        y=tf.clip_by_value(tf.round(levels), low, high) * step,
        within=within,
        ends=ends,
        difference=lambda outer, inner: sum_shared(outer[0] * outer[1] - inner[0] * inner[1], step),
    )


def _fused(x: tf.Tensor, low: tf.Tensor, high: tf.Tensor, bits: int) -> _Grid:
    """The same with TensorFlow's one-pass kernels, see `layers.fused_kernels`.

    That of the ends reads values three times. In its place LSQ takes the difference of two inner
    products, which nearly cancel: of 262,144 values float32 errs by less than 1e-5 of what so many
    roundings add up to at 4 bits, and 3e-4 at 8.
    """
    narrow = {"num_bits": abs(bits), "narrow_range": bits < 0}
    return _Grid(
        y=tf.raw_ops.FakeQuantWithMinMaxVars(inputs=x, min=low, max=high, **narrow),
        within=lambda upstream: gradient_within(upstream, x, low, high),
        ends=lambda upstream: tf.raw_ops.FakeQuantWithMinMaxVarsGradient(
            gradients=upstream, inputs=x, min=low, max=high, **narrow
        ),
        difference=lambda outer, inner: product_with_output(*outer) - product_with_input(*inner),
    )


def sum_shared(values: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Sums over all values that share a step, in its shape."""
    if step.shape.rank == 0:
        return tf.reduce_sum(values)
    shared = [axis for axis, size in enumerate(step.shape) if size == 1]
    return tf.reduce_sum(values, shared, keepdims=True)


def round_levels(x: tf.Tensor, qmin: int, qmax: int) -> tf.Tensor:
    """Rounds to whole numbers within a range; the gradient passes everywhere.

    As DoReFa's quantize_k (Zhou et al. 2016, section 2.2), whose argument is in its range.
    """

    @tf.custom_gradient
    def rounded(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        return tf.clip_by_value(tf.round(x), qmin, qmax), lambda upstream: upstream

    return rounded(x)


def sign(x: tf.Tensor, *, reach: float | None = None) -> tf.Tensor:
    """-1 below 0, else 1, with a straight-through gradient.

    Args:
        reach: the gradient is 0 where |x| is larger, as in Courbariaux et al. 2016
            ("Binarized Neural Networks"), eq. 4, of 1; None lets it pass everywhere.
    """

    @tf.custom_gradient
    def signs(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        one = tf.ones_like(x)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            if reach is None:
                return upstream
            return tf.where(tf.abs(x) <= reach, upstream, tf.zeros_like(upstream))

        return tf.where(x >= 0, one, -one), gradient

    return signs(x)


def round_gradient(x: tf.Tensor, bits: int, seed: tf.Tensor) -> tf.Tensor:
    """Passes x on; its gradient is rounded to a few bits, each image's to its own range.

    DoReFa's gradient quantization (Zhou et al. 2016, section 2.5): with m the largest |gradient| of
    an image, n = 2**bits - 1 and noise uniform in +-1/2 of a level,
    2 m (round(n (g / (2 m) + 1/2) + noise) / n - 1/2), which is right on average.

    Args:
        x: float (images, ...).
        seed: int32 (2,) of the noise.
    """

    @tf.custom_gradient
    def passed(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            g, levels = tf.cast(upstream, tf.float32), float(2**bits - 1)
            axes = list(range(1, len(g.shape)))
            largest = 2 * tf.reduce_max(tf.abs(g), axes, keepdims=True)
            noise = tf.random.stateless_uniform(tf.shape(g), seed, -0.5, 0.5)
            share = tf.math.divide_no_nan(g, largest) + 0.5
            codes = tf.clip_by_value(tf.round(share * levels + noise), 0.0, levels)
            return tf.cast(largest * (codes / levels - 0.5), upstream.dtype)

        return tf.identity(x), gradient

    return passed(x)
