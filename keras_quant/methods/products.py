"""Sums of gradients times values, from the gradients of the layers around where a graph has these.

A convolution is linear in its input y and in its kernel w. Both ways to scale what it puts out by
1 + e do the same to the loss, so with g the gradient of y, sum(g y) = sum(w dloss/dw): thousands of
products in place of millions, of a gradient that is found anyway. A batch norm in training is
linear in gamma and beta together: with g the gradient of what it puts out, x, sum(g x) =
sum(gamma dloss/dgamma + beta dloss/dbeta). (Euler's theorem on homogeneous functions.) And where
x = a + b is rounded, a branch that nothing but the sum reads has sum(g a) = sum(g x) - sum(g b), of
which the others ask for both: so a need not be kept for it.

All this is read off the graph that is being made. Where it does not look so, eagerly, and where
gradients of convolutions have fewer bits than float32, products are summed: LSQ takes the
difference of two such sums, which nearly cancel. What is asked for twice TensorFlow computes once,
as Grappler merges equal operations. Only a kernel that is not trained, or a batch norm with other
readers, gets a gradient that nothing else would have needed.
"""

from __future__ import annotations

from keras_quant.arithmetic import products_are_float32
from keras_quant.methods.one_pass import inner_product
from keras_quant.tf import tf

GEOMETRY = ("strides", "padding", "explicit_paddings", "dilations", "data_format")
"""Attributes in which convolutions of one input, which are added, may differ."""


def product_with_output(gradient: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The sum of gradient * y, float32 (), by what reads y.

    Args:
        gradient: float32, of the loss with respect to y, from all that reads it.
        y: float32 of that shape.
    """
    if not _reads_graph():
        return inner_product(gradient, y)
    parts = list(gradient.op.inputs) if gradient.op.type == "AddN" else [gradient]
    if len(parts) == 1:
        return _of_branch(gradient, _origin(y))
    return tf.add_n([_of_convolution(part, y) for part in parts])


def product_with_input(gradient: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """The sum of gradient * x, float32 (), by what x comes from.

    Args:
        gradient: float32, of the loss with respect to x, of which this is the only reader.
        x: float32 of that shape.
    """
    if not _reads_graph():
        return inner_product(gradient, x)
    made = x.op
    is_normed = made.type == "FusedBatchNormV3" and x.value_index == 0  # not its batch's mean
    if is_normed and made.get_attr("is_training"):
        return _of_batch_norm(gradient, made)
    return inner_product(gradient, x)


def _reads_graph() -> bool:
    return products_are_float32() and not tf.executing_eagerly()


def _of_branch(gradient: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Of a y that has one reader; that may be a sum which is rounded, and y its first term."""
    made = gradient.op
    if made.type == "QuantizeAndDequantizeV4Grad":
        total = made.inputs[1]
        if total.op.type == "AddV2" and total.shape.is_fully_defined():
            first, second = (_origin(term) for term in total.op.inputs)
            if _same(first, y) and first.shape == second.shape == total.shape:
                return inner_product(gradient, total) - inner_product(gradient, second)
    return _of_convolution(gradient, y)


def _of_convolution(gradient: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    made = gradient.op
    if made.type == "Conv2DBackpropInput":
        _, kernel, behind = made.inputs
        for other in behind.consumers():
            if (
                other.type == "Conv2DBackpropFilter"
                and other.outputs[0].shape == kernel.shape
                and all(other.get_attr(name) == made.get_attr(name) for name in GEOMETRY)
                and _same(other.inputs[2], behind)
                and _same(_origin(other.inputs[0]), _origin(y))
            ):
                return tf.reduce_sum(kernel * other.outputs[0])
    return inner_product(gradient, _origin(y))


def _of_batch_norm(gradient: tf.Tensor, norm: tf.Operation) -> tf.Tensor:
    """By the operation that TensorFlow's gradient of the norm is going to add again."""
    z, gamma, beta, *_ = norm.inputs
    found = tf.raw_ops.FusedBatchNormGradV3(
        y_backprop=gradient,
        x=z,
        scale=gamma,
        reserve_space_1=norm.outputs[3],
        reserve_space_2=norm.outputs[4],
        reserve_space_3=norm.outputs[5],
        epsilon=norm.get_attr("epsilon"),
        data_format=norm.get_attr("data_format").decode(),
        is_training=True,
    )
    return tf.reduce_sum(gamma * found.scale_backprop + beta * found.offset_backprop)


def _origin(tensor: tf.Tensor) -> tf.Tensor:
    """The tensor that identities, of which each custom gradient adds one, have passed on."""
    while tensor.op.type in ("Identity", "IdentityN"):
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor


def _same(a: tf.Tensor, b: tf.Tensor) -> bool:
    return a.graph is b.graph and bool(a.name == b.name)
