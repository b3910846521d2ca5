from __future__ import annotations

import math

import numpy as np
import pytest

from keras_quant.training.optimizer_settings import OptimizerSettings

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.method import Tuning  # noqa: E402
from keras_quant.tf import tf  # noqa: E402
from keras_quant.training.optimizers import make_optimizer  # noqa: E402

RATE = 0.4
FLOAT32_ROUNDING = 1e-6


def rates(steps: list[int], *, epochs: int = 10, **settings) -> list[float]:
    """Learning rates of ten steps an epoch."""
    optimizer = make_optimizer(
        OptimizerSettings(learning_rate=RATE, **settings), [], steps_per_epoch=10, epochs=epochs
    )
    return [float(optimizer._learning_rate(step)) for step in steps]


def test_cosine_falls_from_the_full_rate_through_half_to_nothing() -> None:
    expected = [RATE, RATE * 0.5 * (1 + math.cos(math.pi / 4)), RATE / 2, 0]
    assert rates([0, 25, 50, 100], schedule="cosine") == pytest.approx(expected, abs=1e-7)


def test_steps_divide_by_ten_at_half_and_three_quarters() -> None:
    found = rates([0, 49, 50, 74, 75, 100], schedule="step")
    expected = [RATE, RATE, RATE / 10, RATE / 10, RATE / 100, RATE / 100]
    assert found == pytest.approx(expected, rel=FLOAT32_ROUNDING)


def test_constant_stays() -> None:
    assert rates([0, 99], schedule="constant") == pytest.approx([RATE, RATE])


def test_a_triangle_rises_to_the_full_rate_and_falls_back() -> None:
    low = RATE / 500
    expected = [low, (low + RATE) / 2, RATE, (low + RATE) / 2, low]
    assert rates([0, 25, 50, 75, 100], schedule="triangle") == pytest.approx(
        expected, rel=FLOAT32_ROUNDING, abs=1e-9
    )


def test_warmup_rises_in_equal_parts_and_the_schedule_follows_it() -> None:
    found = rates([0, 4, 9], schedule="constant", warmup_epochs=1.0)
    assert found == pytest.approx([RATE / 10, RATE / 2, RATE])
    found = rates([20, 60, 100], schedule="cosine", warmup_epochs=2.0)
    assert found == pytest.approx([RATE, RATE / 2, 0], abs=1e-7)


def test_rate_past_the_end_is_the_last_one() -> None:
    assert rates([500], schedule="step") == pytest.approx([RATE / 100], rel=FLOAT32_ROUNDING)


def updated(
    settings: OptimizerSettings, names: list[str], gradient: float, **tunings: Tuning
) -> list[float]:
    """Variables of value 1 after one update of constant rate."""
    variables = [tf.Variable(1.0, name=name) for name in names]
    optimizer = make_optimizer(
        settings,
        variables,
        steps_per_epoch=1,
        epochs=1,
        tunings=[(v, tunings[n]) for n, v in zip(names, variables, strict=True) if n in tunings],
    )
    optimizer.apply_gradients([(tf.constant(gradient), variable) for variable in variables])
    return [float(variable) for variable in variables]


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_weight_decay_is_decoupled_and_spares_all_but_kernels(name: str) -> None:
    settings = OptimizerSettings(
        name=name, learning_rate=0.5, weight_decay=0.1, schedule="constant"
    )
    names = ["conv/kernel", "bias_bn/depthwise_kernel", "sep/pointwise_kernel"]
    spared = ["conv/bias", "bn/gamma", "bn/beta", "prelu/alpha"]
    found = updated(settings, names + spared, gradient=0.0)
    assert found == pytest.approx([1 - 0.5 * 0.1] * 3 + [1] * 4)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_variables_of_a_method_have_their_own_rates_and_no_decay(name: str) -> None:
    settings = OptimizerSettings(name=name, learning_rate=0.1, schedule="constant")
    (plain,) = updated(settings, ["scale"], gradient=1.0)
    (slow,) = updated(settings, ["scale"], gradient=1.0, scale=Tuning(rate=0.25))
    assert 1 - slow == pytest.approx((1 - plain) / 4)
    decaying = OptimizerSettings(
        name=name, learning_rate=0.5, weight_decay=0.1, schedule="constant"
    )
    tunings = {"scale": Tuning(), "bound": Tuning(decays=True)}
    found = updated(decaying, ["kernel", "scale", "bound"], gradient=0.0, **tunings)
    assert found == pytest.approx([0.95, 1, 0.95])


def adam_moves(gradients: list[float], rate: float, *, start: float, relative: bool) -> float:
    """Kingma & Ba 2015, algorithm 1."""
    value, mean, square = start, 0.0, 0.0
    for step, gradient in enumerate(gradients, 1):
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        move = rate * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)) ** 0.5 + 1e-8)
        value -= move * value if relative else move
    return value


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("relative", [False, True])
def test_variables_of_a_method_may_have_an_adam_of_their_own(name: str, relative: bool) -> None:
    settings = OptimizerSettings(name=name, learning_rate=0.5, schedule="constant")
    step, kernel = tf.Variable(0.25, name="scale"), tf.Variable(1.0, name="kernel")
    tuning = Tuning(rate=0.01, adam=True, relative=relative)
    optimizer = make_optimizer(
        settings, [step, kernel], steps_per_epoch=5, epochs=1, tunings=[(step, tuning)]
    )
    gradients = [0.3, -2.0, 0.5, 0.5, 1e-3]
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant(gradient), step), (tf.constant(0.1), kernel)])
    expected = adam_moves(gradients, 0.01, start=0.25, relative=relative)
    assert float(step) == pytest.approx(expected, rel=1e-5)
    assert float(kernel) < 0.9


def test_an_adam_of_its_own_follows_the_schedule_and_is_among_the_variables() -> None:
    settings = OptimizerSettings(name="sgd", learning_rate=0.5, schedule="cosine")
    step = tf.Variable(1.0, name="scale")
    tuning = Tuning(rate=0.01, adam=True)
    optimizer = make_optimizer(
        settings, [step], steps_per_epoch=2, epochs=1, tunings=[(step, tuning)]
    )
    moved = []
    for _ in range(3):
        before = float(step)
        optimizer.apply_gradients([(tf.constant(2.0), step)])
        moved.append(before - float(step))
    assert moved == pytest.approx([0.01, 0.005, 0], abs=1e-6)
    assert sum("own_" in variable.name for variable in optimizer.variables) == 2


def test_sgd_has_nesterov_momentum() -> None:
    """First step: velocity -rate * g, then w += momentum * velocity - rate * g."""
    settings = OptimizerSettings(name="sgd", learning_rate=0.1, schedule="constant")
    assert updated(settings, ["w"], gradient=1.0) == pytest.approx([1 - 0.1 * 1.9])


def test_adam_first_step_is_the_rate() -> None:
    settings = OptimizerSettings(name="adam", learning_rate=0.1, schedule="constant")
    np.testing.assert_allclose(updated(settings, ["w"], gradient=5.0), [0.9], rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_accumulated_batches_move_variables_as_their_mean_does(name: str) -> None:
    settings = OptimizerSettings(name=name, learning_rate=0.1, weight_decay=0.1)
    gradients = [1.0, 3.0, -2.0, 0.5, 0.25, 9.0]
    kept = {}
    for accumulate in (1, 2):
        kernel = tf.Variable(1.0, name="kernel")
        step = tf.Variable(0.5, name="scale")
        optimizer = make_optimizer(
            settings,
            [kernel, step],
            steps_per_epoch=3 * accumulate,
            epochs=1,
            tunings=[(step, Tuning(rate=0.01, adam=True))],
            accumulate=accumulate,
        )
        apply = tf.function(
            lambda g, o=optimizer, k=kernel, s=step: o.apply_gradients([(g, k), (g, s)])
        )
        given = gradients if accumulate == 2 else np.mean(np.reshape(gradients, (3, 2)), axis=1)
        for gradient in given:
            apply(tf.constant(gradient, tf.float32))
        assert int(optimizer.iterations) == 3
        kept[accumulate] = [float(kernel), float(step)]
    assert kept[2] == pytest.approx(kept[1], rel=FLOAT32_ROUNDING)
