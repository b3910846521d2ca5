from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_quant.qparams import dequantize, quantize, signed, unsigned
from keras_quant.schemes.bits import scheme_from_bits

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.calibration import calibrate as module  # noqa: E402
from keras_quant.calibration.calibrate import calibrate, measured_grid, relative_error  # noqa: E402
from keras_quant.prepare import plan, split_float  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers


def net(batch_norm: bool = False) -> keras.Model:
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((6, 6, 3))
    x = L.Conv2D(6, 3, name="conv1")(x)
    if batch_norm:
        x = L.BatchNormalization(name="bn1")(x)
    x = L.ReLU(name="relu1")(x)
    branch = L.Conv2D(6, 3, padding="same", name="conv2")(x)
    x = L.ReLU(name="sum")(L.Add(name="add")([x, branch]))
    x = L.GlobalAveragePooling2D(name="gap")(x)
    x = L.Dense(7, name="hidden")(x)
    return keras.Model(inputs, L.Dense(2, name="logits")(x))


def images_of(count: int = 40) -> np.ndarray:
    return np.random.default_rng(0).random((count, 6, 6, 3)).astype(np.float32)


def error_of(x: np.ndarray, qparams, step: float) -> float:
    """Relative squared error in float64, from the definitions in qparams."""
    grid = dataclasses.replace(qparams, scale=step)
    x = x.astype(np.float64)
    return float(np.mean((x - dequantize(quantize(x, grid), grid)) ** 2) / np.mean(x**2))


@pytest.mark.parametrize("bits", ["w4a1", "w4a2", "w4a4", "w4a8"])
def test_steps_have_the_least_squared_error_of_all_powers_of_two(bits: str) -> None:
    model, images = net(), images_of()
    planned = plan(model, scheme_from_bits(bits))
    values = [np.asarray(x) for x in split_float(planned, model)(images)]
    steps = calibrate(planned, model, images, fresh=False)
    assert set(steps) == {point.group for point in planned.points}
    for group, step in steps.items():
        members = [
            (x, point.grid.qparams)
            for x, point in zip(values, planned.points, strict=True)
            if point.group == group and not point.is_branch
        ]
        errors = {e: sum(error_of(x, q, 2.0**e) for x, q in members) for e in range(-20, 8)}
        assert step == 2.0 ** min(errors, key=lambda e: errors[e])


@pytest.mark.parametrize(("gain", "has_bound"), [(40.0, True), (0.5, False)])
def test_values_that_reach_their_bound_get_its_step(gain: float, has_bound: bool) -> None:
    inputs = keras.Input((6, 6, 3))
    x = L.ReLU(6.0, name="relu")(L.Conv2D(6, 1, name="conv")(inputs))
    model = keras.Model(inputs, L.Dense(2, name="logits")(L.Flatten()(x)))
    model.layers[1].set_weights([gain * w for w in model.layers[1].get_weights()])
    planned = plan(model, scheme_from_bits("w4a8"))
    (step,) = calibrate(planned, model, images_of(), fresh=False).values()
    assert (step == np.float32(6 / 255)) == has_bound
    assert np.log2(step).is_integer() != has_bound


def test_fresh_batch_norm_uses_the_statistics_of_the_batch() -> None:
    model = net(batch_norm=True)
    model.get_layer("bn1").moving_variance.assign(np.full(6, 1e4))
    before = model.get_weights()
    planned = plan(model, scheme_from_bits("4"))
    group = next(point.group for point in planned.points if point.after == "relu1")
    fresh = calibrate(planned, model, images_of(), fresh=True)[group]
    fitted = calibrate(planned, model, images_of(), fresh=False)[group]
    assert fitted < fresh / 16
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 10, 16, 24])
@pytest.mark.parametrize("count", [50, 333, 100_000])
def test_sample_of_a_tensor_visits_all_channels_alike(channels: int, count: int) -> None:
    """A stride that shares a factor with the channels would pass over some of them."""
    values = np.broadcast_to(np.arange(channels), (20, 9, 9, channels))
    sample = module._thinned(values, count)
    found = np.bincount(sample, minlength=channels)
    assert sample.size <= count or sample.size == values.size
    assert found.max() - found.min() <= 1


def test_images_done_are_told_after_each_batch() -> None:
    model, seen = net(), []
    planned = plan(model, scheme_from_bits("4"))
    calibrate(planned, model, images_of(300), fresh=False, on_images=seen.append)
    assert seen == [128, 256, 300]


def test_float_plan_needs_no_calibration() -> None:
    model = net()
    assert calibrate(plan(model, scheme_from_bits("float")), model, images_of(), fresh=True) == {}


def test_tensor_of_zeros_has_a_step() -> None:
    model = net()
    model.set_weights([w * 0 for w in model.get_weights()])
    steps = calibrate(plan(model, scheme_from_bits("4")), model, images_of(), fresh=False)
    assert all(step > 0 for step in steps.values())


def test_relative_error_of_hand_made_values() -> None:
    x = np.array([0.0, 0.75, 2.0, -1.0], np.float32)
    # Codes 0, 1, 1 (clipped), 0 at step 1: errors 0, 1/4, 1, 1; energies 0, 9/16, 4, 1.
    expected = (1 / 16 + 1 + 1) / (9 / 16 + 4 + 1)
    assert relative_error(x, unsigned(1, 1.0), 1.0) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("low", [0.0, -3.0])
def test_float_images_get_the_power_of_two_of_least_error(bits: int, low: float) -> None:
    images = np.random.default_rng(0).uniform(low, 3, (9, 5, 5, 3)).astype(np.float32)
    grid = measured_grid(images, bits=bits)
    kind = signed(max(2, bits), 1.0, narrow_range=False) if low < 0 else unsigned(bits, 1.0)
    errors = {e: error_of(images, kind, 2.0**e) for e in range(-20, 8)}
    best = min(errors, key=lambda e: errors[e])
    assert dataclasses.astuple(grid) == dataclasses.astuple(
        dataclasses.replace(kind, scale=2.0**best)
    )
