"""TensorFlow's kernels that read values once, for the gradients of rounding in training.

A step of training is as fast as memory, so what counts is how often an operation reads all values.
"""

from __future__ import annotations

from keras_quant.arithmetic import has_gpu
from keras_quant.tf import tf

LANES = (64, 32, 16)
"""How many products are summed side by side, the first that divides what an image has."""


def gradient_within(
    upstream: tf.Tensor, x: tf.Tensor, low: tf.Tensor, high: tf.Tensor
) -> tf.Tensor:
    """The gradient where low <= x <= high, else 0.

    The kernel is that of QuantizeAndDequantizeV4, which has such a gradient; its two other results,
    for ranges that are learned, are always 0.

    Args:
        upstream, x: float32 of one shape.
        low, high: float32 ().
    """
    within, _, _ = tf.raw_ops.QuantizeAndDequantizeV4Grad(
        gradients=upstream, input=x, input_min=low, input_max=high, axis=-1
    )
    return within


def inner_product(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """The sum of a * b, float32 ().

    On a processor by the kernel that finds how a depthwise convolution of 1 x 1 learns, which is
    nothing else, and stays float32 in `products_in_bfloat16`: no other one multiplies and sums at
    once as fast. TensorFlow's matrix products take four times as long for a row and a column; a
    product and a sum write and read all values.

    Args:
        a, b: float32 (batch, ...) of one shape.
    """
    features = (a.shape[1:].num_elements() or 0) if a.shape.rank else 0
    lanes = next((n for n in LANES if features and features % n == 0), None)
    # On a GPU that kernel adds in an order of its own each time.
    if lanes is None or has_gpu():
        return tf.reduce_sum(a * b)
    rows = (-1, 1, features // lanes, lanes)
    return tf.reduce_sum(
        tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
            input=tf.reshape(b, rows),
            filter_sizes=(1, 1, lanes, 1),
            out_backprop=tf.reshape(a, rows),
            strides=(1, 1, 1, 1),
            padding="VALID",
        )
    )
