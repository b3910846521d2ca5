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
    with pytest.raises(ZeroDivisionError), products_in_bfloat16():
        raise ZeroDivisionError
    options = tf.config.optimizer.get_experimental_options()
    assert options["auto_mixed_precision_onednn_bfloat16"] is False


def test_within_itself_it_goes_on() -> None:
    with products_in_bfloat16():
        with products_in_bfloat16():
            pass
        options = tf.config.optimizer.get_experimental_options()
        assert options["auto_mixed_precision_onednn_bfloat16"] is True
