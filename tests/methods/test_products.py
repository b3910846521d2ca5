"""Sums that the gradients of neighbouring layers give, against those of products."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from tensorflow.python.eager import context  # noqa: E402

from keras_quant.arithmetic import has_gpu, products_in_bfloat16  # noqa: E402
from keras_quant.methods import products, straight_through  # noqa: E402
from keras_quant.methods.layers import GroupStep, fused_kernels  # noqa: E402
from keras_quant.methods.lsq import LsqGrid  # noqa: E402
from keras_quant.methods.one_pass import inner_product  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402

L = keras.layers
IMAGES = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def block() -> keras.Model:
    """A residual block, and what is in front of it and behind it."""
    keras.utils.set_random_seed(0)

    def conv(x, name: str, **settings):
        x = L.Conv2D(16, 3, padding="same", use_bias=False, name=name, **settings)(x)
        return L.BatchNormalization(gamma_initializer="ones", beta_initializer="ones")(x)

    inputs = keras.Input((16, 16, 3))
    first = LsqGrid(GroupStep(0.2), 0, 15, name="first")(conv(inputs, "conv1"))
    branch = LsqGrid(GroupStep(0.02), -128, 127, name="branch")(conv(first, "conv2"))
    both = LsqGrid(GroupStep(0.3), 0, 15, name="sum")(L.Add()([branch, first]))
    return keras.Model(inputs, conv(both, "conv3", strides=2))


def gradients_of(model: keras.Model):
    """A traced function that gives the gradient of each step."""
    steps = [model.get_layer(name).step.scale for name in ("first", "branch", "sum")]
    with fused_kernels():

        @tf.function
        def gradients():
            with tf.GradientTape() as tape:
                y = model(tf.constant(IMAGES), training=True)
                loss = tf.reduce_mean(y * y * tf.constant(np.linspace(-1, 2, 16, dtype="f")))
            found = tape.gradient(loss, [*steps, *model.trainable_variables])
            return found[: len(steps)], found[len(steps) :]

        gradients()
    return gradients


def test_neighbours_give_what_products_add_up_to(block, monkeypatch) -> None:
    found, _ = gradients_of(block)()
    monkeypatch.setattr(products, "_reads_graph", lambda: False)
    expected, _ = gradients_of(block)()
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_only_sums_of_branches_are_left_to_products(block, monkeypatch) -> None:
    asked = []
    inner_product = products.inner_product
    monkeypatch.setattr(
        products, "inner_product", lambda a, b: asked.append(a) or inner_product(a, b)
    )
    gradients_of(block)
    # Of the sum's gradient with the sum, twice, and with the term that a convolution reads, twice.
    assert len(asked) == 4
    assert len({tensor.name for tensor in asked}) == 1


def test_what_is_asked_for_twice_is_computed_once(block) -> None:
    context.enable_graph_collection()  # which is told when a function first runs
    try:
        gradients_of(block)
        graphs = context.export_run_metadata().function_graphs
    finally:
        context.disable_graph_collection()
    ops = Counter(
        node.op.removeprefix("_MklNative")
        for graph in graphs
        for node in graph.post_optimization_graph.node
    )
    assert ops["FusedBatchNormGradV3"] == 3
    assert ops["Conv2DBackpropFilter"] == 3
    assert ops["DepthwiseConv2dNativeBackpropFilter"] == 2


def test_convolutions_of_one_input_that_are_added_give_each_its_own(monkeypatch) -> None:
    keras.utils.set_random_seed(0)
    grid = LsqGrid(GroupStep(0.3), -8, 7)
    convs = [L.Conv2D(16, size, padding="same") for size in (3, 1, 5)]

    def of_step():
        with tf.GradientTape() as tape:
            y = grid(tf.constant(IMAGES))
            loss = tf.reduce_sum(tf.add_n([conv(y) for conv in convs]) ** 2)
        return tape.gradient(loss, grid.step.scale)

    with fused_kernels():
        expected = float(of_step())
        monkeypatch.setattr(products, "inner_product", lambda a, b: tf.constant(np.nan))
        monkeypatch.setattr(straight_through, "product_with_input", lambda a, b: tf.constant(0.0))
        assert not np.isnan(float(tf.function(of_step)()))
        monkeypatch.undo()
        assert float(tf.function(of_step)()) == pytest.approx(expected, rel=1e-3)


def test_a_sum_that_broadcasts_says_nothing_of_its_terms() -> None:
    branch, both = (LsqGrid(GroupStep(step), -8, 7) for step in (0.1, 0.2))
    a, b = tf.constant(IMAGES[:1, :1, :1]), tf.constant(IMAGES)

    def of_steps(a, b):
        with tf.GradientTape() as tape:
            y = tf.reduce_sum(both(branch(a) + b) * tf.constant(IMAGES[::-1].copy()))
        return tf.stack(tape.gradient(y, [branch.step.scale, both.step.scale]))

    with fused_kernels():
        found = tf.function(of_steps)(a, b)
        np.testing.assert_allclose(found, of_steps(a, b), rtol=1e-3)


@pytest.mark.skipif(has_gpu(), reason="sums products itself")
def test_products_are_summed_in_float32_where_convolutions_are_not() -> None:
    above_one = tf.fill((2, 8, 16), 1 + 2.0**-9)  # the nearest bfloat16 is 1
    with products_in_bfloat16():
        assert tf.function(inner_product)(above_one, tf.ones_like(above_one)) == 256.5
        with tf.Graph().as_default():
            assert not products._reads_graph()
    with tf.Graph().as_default():
        assert products._reads_graph()
