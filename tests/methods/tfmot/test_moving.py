"""Ranges move as TF-MOT's do, and what a group shares is the widest of them."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.errors import SchemeError, UsageError
from keras_quant.qparams import QParams, signed, unsigned
from keras_quant.schemes.scheme import BINARY, QuantSpec

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.layers import fused_kernels  # noqa: E402
from keras_quant.methods.tfmot import METHOD  # noqa: E402
from keras_quant.methods.tfmot.door import quantizers  # noqa: E402
from keras_quant.methods.tfmot.ranges import grid_of  # noqa: E402
from keras_quant.methods.tfmot.twin import TfmotOptions, wrap  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402

OPTIONS = TfmotOptions()
ASYMMETRIC = QParams(scale=0.25, zero_point=100, qmin=0, qmax=255, bits=8)


def rounding(*grids: QParams, options: TfmotOptions = OPTIONS) -> list[keras.layers.Layer]:
    step = METHOD.maker.step("step", grids[0], options)
    make = METHOD.maker.activation
    return [make(f"act{n}", grid, step, options) for n, grid in enumerate(grids)]


def batches(count: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(1, 9, (4, 7)).astype(np.float32) for _ in range(count)]


def test_range_moves_as_tfmots_and_gives_its_grid() -> None:
    (layer,) = rounding(ASYMMETRIC)
    theirs = quantizers.MovingAverageQuantizer(8, False, False, False)
    holder = keras.layers.Layer()
    ranges = theirs.build(None, "x", holder)
    ranges["min_var"].assign(layer.step.lows[0])
    ranges["max_var"].assign(layer.step.highs[0])
    for x in batches():
        expected, found = theirs(tf.constant(x), True, weights=ranges), layer(x, training=True)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    low, high = (float(ranges[name]) for name in ("min_var", "max_var"))
    grid = grid_of(low, high, bits=8, narrow_range=False)
    assert layer.qparams.zero_point == grid.zero_point
    assert layer.qparams.scale == pytest.approx(grid.scale, rel=1e-6)
    assert layer.qparams.scale != ASYMMETRIC.scale


@pytest.mark.parametrize(
    "grid", [unsigned(8, 0.25), ASYMMETRIC, signed(8, 0.25, narrow_range=False)]
)
def test_training_with_fused_kernels_rounds_as_inference_but_for_ties(grid: QParams) -> None:
    (layer,) = rounding(grid, options=TfmotOptions(ema=1.0))
    x = np.random.default_rng(0).uniform(-90, 90, 1000).astype(np.float32)
    with fused_kernels():
        fused = layer(x, training=True)
    np.testing.assert_allclose(fused, layer(x), atol=1e-4)


@pytest.mark.parametrize("ema", [-0.1, 1.5, float("nan")])
def test_a_share_of_a_range_that_is_none_is_refused(ema: float) -> None:
    with pytest.raises(UsageError, match=f"ema is {ema}; 0 .* to 1 .* is allowed"):
        TfmotOptions(ema=ema)


def test_scale_of_a_group_is_that_of_its_widest_member() -> None:
    first, second = rounding(unsigned(8, 0.25), unsigned(8, 0.25), options=TfmotOptions(ema=0.0))
    first(np.float32([1.0]), training=True)
    second(np.float32([51.0]), training=True)
    assert first.qparams.scale == second.qparams.scale == np.float32(51 / 255)
    second(np.float32([0.5]), training=True)
    assert second.qparams.scale == np.float32(1 / 255)


def test_branches_follow_and_do_not_lead() -> None:
    branch, total = signed(8, 0.25, narrow_range=False), unsigned(8, 0.25)
    leading, following = rounding(total, branch, options=TfmotOptions(ema=0.0))
    following(np.float32([-1000.0]), training=True)
    assert leading.qparams.scale == following.qparams.scale == 0.25


def test_nothing_moves_in_inference() -> None:
    (layer,) = rounding(ASYMMETRIC)
    layer(np.float32([1e6]))
    assert layer.qparams.scale == ASYMMETRIC.scale


def test_kernel_has_the_scale_of_the_last_training_step() -> None:
    layer = keras.layers.Dense(2, name="dense")
    layer.build((None, 2))
    layer.kernel.assign([[1.0, 2.0], [-4.0, 0.5]])
    twin = wrap(layer, QuantSpec(bits=8), OPTIONS)
    x = np.eye(2, dtype=np.float32)
    twin(x)
    twin.raw_kernel.assign([[1.0, 2.0], [-4.0, 0.5]])
    np.testing.assert_array_equal(twin.kernel_scale, np.float32([[4 / 127, 2 / 127]]))
    twin.raw_kernel.assign([[8.0, 2.0], [-4.0, 0.5]])
    assert twin(x)[0, 0] == 4.0  # cut off, as in TF-MOT
    twin(x, training=True)
    np.testing.assert_array_equal(twin.kernel_scale, np.float32([[8 / 127, 2 / 127]]))
    assert twin(x)[0, 0] == 8.0


def test_gradient_reaches_the_kernel_as_it_is() -> None:
    layer = keras.layers.Dense(2, name="dense")
    layer.build((None, 2))
    twin = wrap(layer, QuantSpec(bits=4), OPTIONS)
    twin.build((None, 2))
    with tf.GradientTape() as tape:
        y = twin(np.ones((1, 2), np.float32), training=True)
    np.testing.assert_array_equal(tape.gradient(y, twin.raw_kernel), np.ones((2, 2)))


def test_one_bit_is_refused() -> None:
    layer = keras.layers.Dense(2, name="dense")
    with pytest.raises(SchemeError, match="layer dense: 1-bit weights .* have 2 to 8 bits"):
        wrap(layer, BINARY, OPTIONS)
