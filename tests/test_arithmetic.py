from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.arithmetic import (  # noqa: E402
    BFLOAT16_FLAGS,
    can_rewrite,
    products_in_bfloat16,
)
from keras_quant.runs.records import instructions  # noqa: E402
from keras_quant.tf import tf  # noqa: E402

ABOVE_ONE = 1 + 2.0**-9  # the nearest bfloat16 is 1


@tf.function
def product(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return tf.nn.conv2d(x, kernel, strides=1, padding="SAME")


def in_bfloat16(values: tf.Tensor) -> tf.Tensor:
    """The nearest bfloat16."""
    return tf.cast(tf.cast(values, tf.bfloat16), tf.float32)


@pytest.mark.skipif(not BFLOAT16_FLAGS & instructions(), reason="no instructions for bfloat16")
def test_products_within_are_those_of_bfloat16_and_those_outside_stay_float32() -> None:
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(2, 8, 8, 16)), tf.float32)
    kernel = tf.constant(rng.normal(size=(3, 3, 16, 16)), tf.float32)
    before = product(x, kernel)
    with products_in_bfloat16():
        within = product(x, kernel)
    # Products of the nearest bfloat16 are exact in float32; their sum is rounded once more.
    expected = in_bfloat16(product(in_bfloat16(x), in_bfloat16(kernel)))
    half_a_step = 2**-8 * np.abs(expected)
    assert (np.abs(within - expected) <= half_a_step + 1e-5).all()
    np.testing.assert_array_equal(in_bfloat16(within), within)
    np.testing.assert_array_equal(product(x, kernel), before)
    assert not np.array_equal(in_bfloat16(before), before)


@pytest.mark.slow
@pytest.mark.skipif(not BFLOAT16_FLAGS & instructions(), reason="no instructions for bfloat16")
def test_without_onednn_nothing_is_rewritten() -> None:
    assert can_rewrite()
    asks = "from keras_quant.arithmetic import can_rewrite; print(can_rewrite())"
    done = subprocess.run(
        [sys.executable, "-c", asks],
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False"]


def test_an_error_within_leaves_float32_behind() -> None:
    before = dict(os.environ)
    with pytest.raises(ZeroDivisionError), products_in_bfloat16():
        assert dict(os.environ) != before
        raise ZeroDivisionError
    options = tf.config.optimizer.get_experimental_options()
    assert options["auto_mixed_precision_onednn_bfloat16"] is False
    assert dict(os.environ) == before


def test_what_a_user_keeps_out_of_bfloat16_stays_out(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_ALLOWLIST_REMOVE"
    monkeypatch.setenv(name, "MatMul")
    x = tf.fill((8, 8), ABOVE_ONE)
    with products_in_bfloat16():
        assert os.environ[name].split(",")[:2] == ["MatMul", "DepthwiseConv2dNative"]
        assert tf.function(tf.matmul)(x, tf.eye(8))[0, 0] == ABOVE_ONE
    assert os.environ[name] == "MatMul"


@pytest.mark.skipif(not BFLOAT16_FLAGS & instructions(), reason="no instructions for bfloat16")
def test_depthwise_convolutions_and_relu6_within_stay_float32_beside_products_that_do_not() -> None:
    x = tf.fill((2, 4, 4, 16), ABOVE_ONE)

    @tf.function
    def values_and_gradients(kernel: tf.Tensor, depthwise: tf.Tensor) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape() as tape:
            tape.watch(depthwise)
            cut = tf.nn.relu6(x)
            first = tf.nn.conv2d(cut, kernel, strides=1, padding="SAME")
            tape.watch(first)
            y = tf.nn.depthwise_conv2d(first, depthwise, (1, 1, 1, 1), "SAME")
        return cut, first, y, *tape.gradient(y, (first, depthwise), output_gradients=x)

    identity = tf.reshape(tf.eye(16), (1, 1, 16, 16))
    scales = tf.fill((1, 1, 16, 1), ABOVE_ONE)
    with products_in_bfloat16():
        found = values_and_gradients(identity, scales)
    for values, expected in zip(
        found, (ABOVE_ONE, 1, ABOVE_ONE, ABOVE_ONE**2, 2 * 4 * 4 * ABOVE_ONE), strict=True
    ):
        np.testing.assert_array_equal(values, np.full(values.shape, expected))


def test_within_itself_it_goes_on() -> None:
    with products_in_bfloat16():
        with products_in_bfloat16():
            pass
        options = tf.config.optimizer.get_experimental_options()
        assert options["auto_mixed_precision_onednn_bfloat16"] is True
