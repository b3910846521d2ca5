from __future__ import annotations

import numpy as np
import pytest

from keras_quant.schemes.scheme import QuantSpec
from keras_quant.training.optimizer_settings import OptimizerSettings

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods import lsq  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402
from keras_quant.training.optimizers import make_optimizer  # noqa: E402
from keras_quant.training.oscillations import (  # noqa: E402
    HIGHEST,
    LOWEST,
    MOMENTUM,
    freezable,
    freeze_oscillations,
)

STEP = 0.5


def layer_of(kernel: list[float]) -> keras.layers.Layer:
    dense = keras.layers.Dense(1, use_bias=False, name="dense")
    dense.build((None, len(kernel)))
    dense.set_weights([np.float32(kernel)[:, None]])
    twin = lsq.wrap(dense, QuantSpec(bits=4), lsq.LsqOptions())
    twin.build((None, len(kernel)))
    twin.raw_kernel.assign(np.float32(kernel)[:, None])
    twin.kernel_scale.assign([[STEP]])
    return twin


def algorithm_1(codes: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nagel et al. 2022: which weights are frozen at the end, and at which codes."""
    before, way, often = codes[0], np.zeros(codes.shape[1]), np.zeros(codes.shape[1])
    mean, held = codes[0].copy(), np.full(codes.shape[1], np.nan)
    for now, threshold in zip(codes[1:], thresholds, strict=True):
        frozen = ~np.isnan(held)
        now = np.where(frozen, held, now)
        moved = np.sign(now - before)
        often = MOMENTUM * (moved * way < 0) + (1 - MOMENTUM) * often
        mean = MOMENTUM * now + (1 - MOMENTUM) * mean
        held = np.where(~frozen & (often > threshold), np.rint(mean), held)
        way = np.where(moved != 0, moved, way)
        before = now
    return ~np.isnan(held), held


def test_weights_that_turn_back_often_are_held_by_algorithm_1() -> None:
    twin = layer_of([0.6, 0.6, -0.9, 1.4])
    settings = OptimizerSettings(name="sgd", learning_rate=1.0, schedule="cosine")
    updates = 60
    optimizer = make_optimizer(
        settings,
        [twin.raw_kernel],
        steps_per_epoch=updates,
        epochs=1,
        extend=lambda o: freeze_oscillations(o, freezable(model_of(twin)), 1.0),
    )
    moves = np.zeros((updates, 4))
    moves[::2, 0], moves[1::2, 0] = 0.5, -0.5  # wavers in each update
    moves[::12, 1], moves[6::12, 1] = 0.5, -0.5  # seldom, and often enough for the lowest threshold
    moves[:, 2] = 0.01  # drifts
    codes, thresholds = [np.rint(np.float32([0.6, 0.6, -0.9, 1.4]) / STEP)], []
    wanted = np.float64([0.6, 0.6, -0.9, 1.4])
    for count, move in enumerate(moves):
        wanted = wanted + move
        codes.append(np.rint(wanted / STEP))
        # The wanted weights, whatever the optimizer itself would make of gradients.
        held = np.asarray(optimizer_held(optimizer))
        raw = np.where(held > 0, np.asarray(twin.raw_kernel)[:, 0], wanted)
        twin.raw_kernel.assign(raw[:, None].astype(np.float32))
        optimizer.apply_gradients([(tf.zeros((4, 1)), twin.raw_kernel)])
        share = 0.5 * (1 + np.cos(np.pi * (count + 1) / updates))
        thresholds.append(LOWEST + (HIGHEST - LOWEST) * share)
    frozen, held = algorithm_1(np.array(codes), np.array(thresholds))
    np.testing.assert_array_equal(optimizer_held(optimizer) > 0, frozen)
    assert frozen[0] and not frozen[2:].any()
    np.testing.assert_allclose(
        np.asarray(twin.raw_kernel)[frozen, 0], held[frozen] * STEP, rtol=1e-6
    )


def optimizer_held(optimizer: keras.optimizers.Optimizer) -> np.ndarray:
    (found,) = [v for v in optimizer.variables if "dense_held" in v.name]
    return np.asarray(found)[:, 0]


def model_of(twin: keras.layers.Layer) -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, twin(inputs))


def test_a_weight_that_is_held_follows_its_step() -> None:
    twin = layer_of([0.6, 0.6, -0.9, 1.4])
    settings = OptimizerSettings(name="sgd", learning_rate=1.0, schedule="constant")
    optimizer = make_optimizer(
        settings,
        [twin.raw_kernel],
        steps_per_epoch=9,
        epochs=1,
        extend=lambda o: freeze_oscillations(o, freezable(model_of(twin)), 1.0),
    )
    (held,) = [v for v in optimizer.variables if "dense_held" in v.name]
    held.assign([[1.0], [0.0], [0.0], [0.0]])
    twin.kernel_scale.assign([[2 * STEP]])
    optimizer.apply_gradients([(tf.ones((4, 1)), twin.raw_kernel)])
    raw = np.asarray(twin.raw_kernel)[:, 0]
    assert raw[0] == 2 * STEP  # the code 1 that it had
    assert raw[1] < 0  # moved by the gradient
