"""Gradients as the papers write them, in numpy."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.grids import GroupZeroPoint, lsq_gradient_scale  # noqa: E402
from keras_quant.methods.layers import GroupStep, fused_kernels  # noqa: E402
from keras_quant.methods.lsq import LsqGrid  # noqa: E402
from keras_quant.methods.one_pass import gradient_within, inner_product  # noqa: E402
from keras_quant.methods.pact import PactGrid  # noqa: E402
from keras_quant.methods.straight_through import (  # noqa: E402
    round_gradient,
    round_to_step,
    sign,
)
from keras_quant.tf import tf  # noqa: E402

SUMS_OF_MANY = 1e-4  # relative, of float32 sums of 1,000 products of both signs
STEP = 0.23
CODES = {
    "unsigned": (0, 15, 0),
    "signed": (-7, 7, 0),
    "full": (-8, 7, 0),
    "offset": (0, 15, 5),
    "two": (0, 3, 0),
}
every_code = pytest.mark.parametrize("codes", CODES.values(), ids=CODES)
either_kernel = pytest.mark.parametrize("fused", [False, True], ids=["exact", "fused"])


def values(size: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Inputs that reach beyond all ends, far from ties, and gradients."""
    rng = np.random.default_rng(0)
    levels = rng.integers(-20, 30, size) + rng.uniform(-0.4, 0.4, size)
    return (levels * STEP).astype(np.float32), rng.normal(size=size).astype(np.float32)


def lsq_step_gradient(x, upstream, step, qn, qp) -> float:
    """Esser et al. 2020, eq. 3, times the gradient of what follows, summed."""
    v = x.astype(np.float64) / step
    slope = np.where(v <= qn, qn, np.where(v >= qp, qp, np.rint(v) - v))
    return float((upstream * slope).sum())


def pact_alpha_gradient(x, upstream, alpha) -> float:
    """Choi et al. 2018, eq. 3: 1 from alpha on, else 0."""
    return float(upstream[x >= alpha].sum())


def gradients(x, upstream, *variables, of):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(of(x) * upstream)
    return [np.asarray(g) for g in tape.gradient(y, [x, *variables])]


@every_code
@either_kernel
@pytest.mark.parametrize("shape", [(1000,), (4, 256)], ids=["one by one", "lanes"])
def test_step_of_lsq_learns_by_equation_3(codes, fused: bool, shape) -> None:
    qmin, qmax, zero = codes
    x, upstream = (array.reshape(shape) for array in values(math.prod(shape)))
    step = tf.Variable(STEP)
    with fused_kernels() if fused else contextlib.nullcontext():
        of_x, of_step = gradients(
            x,
            upstream,
            step,
            of=lambda x: round_to_step(x, step, qmin=qmin, qmax=qmax, zero_point=zero),
        )
    qn, qp = qmin - zero, qmax - zero
    expected = lsq_step_gradient(x, upstream, STEP, qn, qp)
    assert of_step == pytest.approx(expected, rel=SUMS_OF_MANY)
    within = (x / STEP > qn) & (x / STEP < qp)
    np.testing.assert_array_equal(of_x, np.where(within, upstream, 0))


@either_kernel
def test_activations_of_lsq_scale_the_gradient_by_features_and_highest_code(fused: bool) -> None:
    x, upstream = (array.reshape(4, 5, 10, 5) for array in values())
    step = GroupStep(STEP)
    grid = LsqGrid(step, 0, 15)
    with fused_kernels() if fused else contextlib.nullcontext():
        _, of_step = gradients(x, upstream, step.scale, of=grid)
    features = 5 * 10 * 5  # of one image
    expected = lsq_step_gradient(x, upstream, STEP, 0, 15) / np.sqrt(features * 15)
    assert of_step == pytest.approx(expected, rel=SUMS_OF_MANY)
    assert lsq_gradient_scale(features, 15) == pytest.approx(1 / np.sqrt(features * 15))


def test_each_channel_of_a_kernel_learns_its_own_step() -> None:
    x, upstream = (array.reshape(5, 5, 8, 5) for array in values())
    steps = np.linspace(0.1, 0.3, 5).astype(np.float32)
    variable = tf.Variable(steps.reshape(1, 1, 1, 5))
    _, found = gradients(
        x,
        upstream,
        variable,
        of=lambda x: round_to_step(x, variable, qmin=-7, qmax=7, gradient_scale=0.5),
    )
    expected = [
        0.5 * lsq_step_gradient(x[..., i], upstream[..., i], steps[i], -7, 7) for i in range(5)
    ]
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-3)


@either_kernel
def test_zero_point_of_lsq_plus_learns_from_what_is_outside(fused: bool) -> None:
    """Bhalgat et al. 2020, section 3: of beta, here -step * zero point, it is 1 outside."""
    x, upstream = values()
    step = GroupZeroPoint(STEP, 5.2, 0, 15)
    grid = LsqGrid(step, 0, 15, 5)
    with fused_kernels() if fused else contextlib.nullcontext():
        _, of_step, of_zero = gradients(x, upstream, step.scale, step.learned, of=grid)
    v = x / STEP
    outside = (v < -5) | (v > 10)
    scale = lsq_gradient_scale(1, 10)
    assert of_zero == pytest.approx(-STEP * upstream[outside].sum() * scale, rel=SUMS_OF_MANY)
    expected = lsq_step_gradient(x, upstream, STEP, -5, 10) * scale
    assert of_step == pytest.approx(expected, rel=SUMS_OF_MANY)


def test_a_zero_point_between_two_codes_counts_as_the_nearer_one() -> None:
    grid = LsqGrid(GroupZeroPoint(STEP, 5.4, 0, 15), 0, 15, 5)
    assert grid.qparams.zero_point == 5
    found = grid(np.float32([-100, 0, 100])).numpy() / np.float32(STEP)
    np.testing.assert_allclose(found, [-5, 0, 10], rtol=1e-6)


@either_kernel
def test_alpha_of_pact_learns_by_equation_3(fused: bool) -> None:
    x, upstream = values()
    step = GroupStep(STEP)
    with fused_kernels() if fused else contextlib.nullcontext():
        of_x, of_step = gradients(x, upstream, step.scale, of=PactGrid(step, 0, 15))
    alpha = 15 * STEP
    # alpha is 15 steps, so that the step's gradient is 15 times that of alpha.
    expected = 15 * pact_alpha_gradient(x, upstream, alpha)
    assert of_step == pytest.approx(expected, rel=SUMS_OF_MANY)
    np.testing.assert_array_equal(of_x, np.where((x > 0) & (x < alpha), upstream, 0))


@pytest.mark.parametrize("bits, error", [(4, 1e-5), (8, 3e-4)])
def test_step_of_lsq_is_found_from_two_sums_that_nearly_cancel(bits: int, error: float) -> None:
    """Of as many values as a layer of resnet20 has in a batch of 16."""
    rng = np.random.default_rng(0)
    x, upstream = rng.normal(size=(2, 16, 32, 32, 16)).astype(np.float32)
    top, scale = 2 ** (bits - 1) - 1, 4 / 2 ** (bits - 1)  # reaches 4 standard deviations
    step = tf.Variable(scale)
    with fused_kernels():
        _, of_step = gradients(
            x, upstream, step, of=lambda x: round_to_step(x, step, qmin=-top - 1, qmax=top)
        )
    expected = lsq_step_gradient(x, upstream, scale, -top - 1, top)
    # Against what so many independent terms of rounding add up to.
    assert abs(of_step - expected) < error * np.sqrt(x.size / 12)


@pytest.mark.parametrize("shape", [(7, 4, 4, 16), (6, 2, 3, 32), (5, 64), (5, 10), (90,)])
def test_inner_product_sums_all_products(shape: tuple[int, ...]) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    expected = (a.astype(np.float64) * b).sum()
    found = float(inner_product(tf.constant(a), tf.constant(b)))
    assert found == pytest.approx(expected, abs=1e-6 * a.size)


def test_inner_product_takes_any_number_of_images() -> None:
    product = tf.function(
        inner_product, input_signature=2 * [tf.TensorSpec((None, 4, 4, 16), tf.float32)]
    )
    for images in (3, 5):
        assert float(product(*2 * [tf.ones((images, 4, 4, 16))])) == images * 256


def test_gradient_passes_at_both_ends() -> None:
    x = tf.constant([-1.5, -1.0, 0.0, 2.0, 2.5])
    found = gradient_within(tf.fill(5, 3.0), x, tf.constant(-1.0), tf.constant(2.0))
    np.testing.assert_array_equal(found, [0, 3, 3, 3, 0])


def test_sign_is_1_at_0_and_its_gradient_ends_at_1() -> None:
    x = np.float32([-2, -1, -0.5, -0.0, 0, 0.5, 1, 1.001])
    (of_x,) = gradients(x, np.ones(8, np.float32), of=lambda x: sign(x, reach=1.0))
    np.testing.assert_array_equal(sign(tf.constant(x)), [-1, -1, -1, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(of_x, [0, 1, 1, 1, 1, 1, 1, 0])  # Courbariaux 2016, eq. 4


def test_gradients_are_rounded_as_dorefa_has_it() -> None:
    upstream = np.random.default_rng(0).normal(size=(4, 6, 5)).astype(np.float32)
    upstream[1] = 0  # nothing to round
    seed = tf.constant([3, 4])
    (found,) = gradients(upstream, upstream, of=lambda x: round_gradient(x, 3, seed))
    noise = tf.random.stateless_uniform(upstream.shape, seed, -0.5, 0.5).numpy()
    largest = np.abs(upstream).max((1, 2), keepdims=True)
    with np.errstate(invalid="ignore"):
        share = np.nan_to_num(upstream / (2 * largest)) + 0.5
    quantized = np.clip(np.rint(share * 7 + noise), 0, 7) / 7
    np.testing.assert_allclose(found, 2 * largest * (quantized - 0.5), rtol=1e-6, atol=1e-7)
    assert len(np.unique(np.round(found[0], 5))) <= 8
    assert not found[1].any()


@pytest.mark.slow
def test_rounded_gradients_are_right_on_average() -> None:
    upstream = np.float32([[0.3, -1.0, 0.05, 0.71]])
    found = [
        gradients(upstream, upstream, of=lambda x, s=seed: round_gradient(x, 2, [s, 0]))[0]
        for seed in range(800)
    ]
    # Standard error of a mean of 800, each off by up to a level of 2/3.
    np.testing.assert_allclose(np.mean(found, axis=0), upstream, atol=0.08)
