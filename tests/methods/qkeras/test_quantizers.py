from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.layers import InputGrid, fake_quant, fused_kernels  # noqa: E402
from keras_quant.methods.qkeras.quantizers import GAUSSIAN_STEP, fitted_bits  # noqa: E402
from keras_quant.tf import tf  # noqa: E402

RANGES = [
    *((0, 2**bits - 1) for bits in range(1, 9)),
    *((-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in range(2, 9)),
    *((1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1) for bits in range(2, 9)),
]
FLOAT32_ULP = 2.0**-23


@pytest.mark.parametrize(("qmin", "qmax"), RANGES)
@pytest.mark.parametrize("step", [2.0**-6, 1.0, 2.0**5])
def test_fused_and_exact_kernels_agree_but_at_halves(qmin: int, qmax: int, step: float) -> None:
    sixteenths = np.arange(16 * (qmin - 2), 16 * (qmax + 2) + 1)
    x = tf.constant(sixteenths * (step / 16), tf.float32)
    exact = fake_quant(x, step=step, qmin=qmin, qmax=qmax).numpy()
    with fused_kernels():
        fused = fake_quant(x, step=step, qmin=qmin, qmax=qmax).numpy()
    halves = sixteenths % 16 == 8
    np.testing.assert_array_equal(fused[~halves], exact[~halves])
    assert (np.abs(fused - exact)[halves] <= step).all()


def gradient_of(x: tf.Tensor) -> list[float]:
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = fake_quant(x, step=0.5, qmin=0, qmax=15)
    return tape.gradient(y, x).numpy().tolist()


def test_gradient_stops_at_zero_like_a_relu_and_passes_at_the_top() -> None:
    x = tf.constant([-0.1, 0.0, 0.1, 7.5, 7.6])
    assert gradient_of(x) == [0, 0, 1, 1, 0]
    with fused_kernels():
        assert gradient_of(x) == [0, 1, 1, 1, 0]


def test_fused_kernels_end_with_their_block() -> None:
    half = tf.constant([0.5])
    with pytest.raises(ValueError, match="stop"), fused_kernels():
        assert fake_quant(half, step=1.0, qmin=0, qmax=15) == 1
        raise ValueError("stop")
    assert fake_quant(half, step=1.0, qmin=0, qmax=15) == 0


def test_one_bit_weights_are_signs_times_the_mean_magnitude() -> None:
    w = np.array([[0.5, -3.0], [-0.25, 0.0], [0.75, 1.5]], np.float32)
    expected = np.array([[0.5, -1.5], [-0.5, 1.5], [0.5, 1.5]], np.float32)
    np.testing.assert_array_equal(fitted_bits(1)(tf.constant(w)), expected)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("narrow_range", [True, False])
def test_scale_is_the_least_squares_one_of_its_first_codes(bits: int, narrow_range: bool) -> None:
    """Max 1960's step, then <w, q> / <q, q>, in float64."""
    w = np.random.default_rng(bits).normal(0, 0.1, (200, 3)).astype(np.float32)
    quantizer = fitted_bits(bits, narrow_range)
    quantizer(tf.constant(w))
    levels = quantizer.qmax - quantizer.qmin + 1
    step = GAUSSIAN_STEP.get(levels) or GAUSSIAN_STEP[levels + 1]
    wide = w.astype(np.float64)
    spread = step * np.sqrt(np.mean(wide**2, axis=0))
    first = np.minimum(spread, np.abs(wide).max(axis=0) / quantizer.qmax)
    codes = np.clip(np.rint(wide / first), quantizer.qmin, quantizer.qmax)
    expected = np.sum(wide * codes, axis=0) / np.sum(codes**2, axis=0)
    np.testing.assert_allclose(quantizer.scale.numpy()[0], expected, rtol=200 * FLOAT32_ULP)


@pytest.mark.parametrize("levels", GAUSSIAN_STEP)
def test_gaussian_steps_are_the_best_ones(levels: int) -> None:
    """Brute force: no step near the table's gives a smaller error on Gaussian values."""
    x = np.linspace(-6, 6, 24001)
    density = np.exp(-(x**2) / 2)
    low, high = -(levels // 2), (levels - 1) // 2

    def error(step: float) -> float:
        if levels % 2:
            values = step * np.clip(np.rint(x / step), low, high)
        else:  # Max's quantizers of even size are symmetric: codes at odd halves
            values = step * (np.clip(np.floor(x / step), low, high) + 0.5)
        return float(np.sum(density * (x - values) ** 2))

    step = GAUSSIAN_STEP[levels]
    steps = step * np.linspace(0.9, 1.1, 81)
    best = steps[np.argmin([error(candidate) for candidate in steps])]
    assert abs(best / step - 1) <= 0.03


def test_weights_that_are_on_a_grid_stay_there() -> None:
    codes = np.array([[-7, 3], [7, -7], [1, 7], [0, 2]], np.float32)
    w = codes * np.array([0.125, 3.0], np.float32)
    # 7 / 127 of a step is none of 8 bits: half a step of each channel's largest is the bound.
    half_steps = np.abs(w).max(axis=0) / 127 / 2
    assert (np.abs(fitted_bits(8)(tf.constant(w)) - w) <= half_steps).all()
    np.testing.assert_array_equal(fitted_bits(4)(tf.constant(w)), w)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_weights_beside_ties_get_one_code_with_and_without_a_graph(bits: int) -> None:
    """In a graph, TensorFlow multiplies by 1 / qmax where it would divide."""
    quantizer = fitted_bits(bits)
    largest = np.random.default_rng(0).uniform(0.1, 1, 2000).astype(np.float32)
    ties = (np.arange(-quantizer.qmax, quantizer.qmax + 1) + 0.5)[:-1] / quantizer.qmax
    w = tf.constant(np.float32(np.append(ties, 1.0)[:, None] * largest))
    in_graph = tf.function(lambda: (quantizer(w), quantizer.scale))
    for made, expected in zip(in_graph(), (quantizer(w), quantizer.scale), strict=True):
        np.testing.assert_array_equal(made, expected)


def test_pixels_pass_the_input_grid() -> None:
    pixels = np.arange(256, dtype=np.float32) / np.float32(255)
    passed = InputGrid(1 / 255, 0, 255)(pixels).numpy()
    np.testing.assert_allclose(passed, pixels, rtol=FLOAT32_ULP, atol=0)
    np.testing.assert_array_equal(np.rint(passed * 255), np.arange(256))


def test_input_grid_rounds_and_clips() -> None:
    x = np.array([-9.0, -1.1, -0.25, 0.25, 0.3, 9.0], np.float32)
    grid = InputGrid.from_config(InputGrid(0.5, -2, 1).get_config())
    np.testing.assert_array_equal(grid(x), np.array([-1, -1, 0, 0, 0.5, 0.5], np.float32))
