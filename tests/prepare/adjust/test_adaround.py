"""Learned rounding, beside what trying all codes finds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.model.topology import list_calls  # noqa: E402
from keras_quant.prepare.adjust.adaround import (  # noqa: E402
    Behind,
    Part,
    Seen,
    behind,
    round_block,
    round_layer,
)
from keras_quant.prepare.adjust.descent import Rounded  # noqa: E402
from keras_quant.prepare.adjust.learn import Learning  # noqa: E402
from keras_quant.prepare.adjust.patches import Patches, as_rows, draw  # noqa: E402
from keras_quant.prepare.adjust.soft_rounding import (  # noqa: E402
    BETAS,
    EDGE,
    GAMMA,
    WARM_UP,
    ZETA,
    annealed,
    rectified_sigmoid,
    soft_codes,
    undecided,
)
from keras_quant.prepare.adjust.units import find_units  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402
from tests.prepare.adjust.test_reconstruct import KINDS, site_of  # noqa: E402

L = keras.layers
FLOAT32_ROUNDING = 1e-5
ONE = Behind(gain=np.ones(1, np.float32), shift=np.zeros(1, np.float32))
RELU = Behind(gain=np.ones(1, np.float32), shift=np.zeros(1, np.float32), low=0.0)


def test_the_sigmoid_is_cut_at_0_and_1() -> None:
    top = math.log((1 - GAMMA) / (ZETA - 1))  # where sigmoid(V) * 1.2 - 0.1 is 1
    found = np.asarray(rectified_sigmoid(tf.constant([-9.0, -top, 0.0, top, 9.0])))
    np.testing.assert_allclose(found, [0, 0, 0.5, 1, 1], atol=FLOAT32_ROUNDING)
    assert found[0] == 0 and found[-1] == 1


def test_soft_codes_begin_at_the_weights_and_end_at_a_neighbour() -> None:
    values = np.array([[-2.75, -0.5, 0.25, 1.0, 6.5, 9.0]])
    nearest = np.clip(np.rint(values), -7, 7)
    kernel = soft_codes(values, nearest, 7)
    wanted = np.array([[-2.75, -0.5, 0.25, 1.0 - EDGE, 6.5, 7.0]])
    soft = np.asarray(kernel.soft())
    np.testing.assert_allclose(soft[:, [0, 1, 2, 4, 5]], wanted[:, [0, 1, 2, 4, 5]], atol=1e-5)
    assert abs(soft[0, 3] - 1.0) <= EDGE + FLOAT32_ROUNDING
    assert set(np.unique(np.abs(kernel.hard() - np.clip(values, -7, 7)) < 1)) == {True}


def test_a_code_that_a_search_moved_is_one_of_the_two() -> None:
    kernel = soft_codes(np.array([0.25, 0.25]), np.array([3.0, -2.0]), 7)
    np.testing.assert_array_equal(kernel.low, [2, -2])  # 2 or 3, -2 or -1
    np.testing.assert_allclose(kernel.soft(), [2 + EDGE, -1 - EDGE], atol=FLOAT32_ROUNDING)


def test_the_regularizer_is_0_where_codes_are_decided_and_1_where_none_is() -> None:
    assert float(undecided(tf.constant([9.0, -9.0]), tf.constant(2.0))) == 0
    assert float(undecided(tf.constant([0.0]), tf.constant(20.0))) == 1


def test_its_exponent_falls_after_a_warm_up_without_it() -> None:
    seen = [annealed(tf.constant(share)) for share in (0.0, WARM_UP, 0.6, 1.0)]
    assert [float(is_on) for is_on, _ in seen] == [0, 1, 1, 1]
    np.testing.assert_allclose(
        [float(beta) for _, beta in seen], [BETAS[0], BETAS[0], 11, BETAS[1]]
    )


def correlated(taps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What a layer of one output reads, (1, positions, taps), and its weights in codes."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(taps, taps)) + 2
    x = rng.normal(size=(1, 4096, taps)) @ mixing
    return x.astype(np.float32), rng.uniform(-5, 5, (1, 1, taps))


def error(x: np.ndarray, codes: np.ndarray, rows: np.ndarray, after: Behind, mean: float) -> float:
    centred = x[0] - x[0].mean(axis=0)
    given, wanted = (centred @ w.reshape(-1) + mean for w in (codes, rows))
    ends = (np.clip(part, after.low, after.high) for part in (given, wanted))
    first, second = ends
    return float(np.mean(np.square(first - second)))


@pytest.mark.parametrize(("after", "mean"), [(ONE, 0.0), (RELU, -3.0)], ids=["linear", "relu"])
@pytest.mark.parametrize("seed", [2, 5])
def test_learned_codes_of_a_small_layer_are_the_best_of_all_neighbours(
    after: Behind, mean: float, seed: int
) -> None:
    x, rows = correlated(3, seed)
    wanted = (x - x.mean(axis=1, keepdims=True)) @ rows[0].T + mean
    begin = Rounded(codes=np.rint(rows), scale=np.ones((1, 1, 1)))
    patches = Patches(read=x, wanted=wanted.astype(np.float32))
    found = round_layer(rows, begin, patches, after, qmax=7, learning=Learning(steps=400))
    tried = [np.floor(rows) + up for up in itertools.product((0, 1), repeat=3)]
    errors = [error(x, np.reshape(codes, rows.shape), rows, after, mean) for codes in tried]
    learned = error(x, found.codes, rows, after, mean)
    assert learned == pytest.approx(min(errors), rel=1e-3)
    assert error(x, begin.codes, rows, after, mean) > 2 * learned


def test_what_is_learned_never_errs_more_than_what_it_began_with() -> None:
    """With one step nothing is learned: soft codes are the weights, rounded to the nearest."""
    x, rows = correlated(5, 1)
    tried = [
        np.floor(rows) + np.reshape(up, rows.shape) for up in itertools.product((0, 1), repeat=5)
    ]
    best = min(tried, key=lambda codes: error(x, codes, rows, ONE, 0.0))
    assert not np.array_equal(best, np.rint(rows))
    begin = Rounded(codes=best, scale=np.ones((1, 1, 1)))
    patches = Patches(read=x, wanted=(x @ rows[0].T).astype(np.float32))
    found = round_layer(rows, begin, patches, ONE, qmax=7, learning=Learning(steps=1))
    np.testing.assert_array_equal(found.codes, best)


@pytest.mark.parametrize("kind", KINDS)
def test_patches_that_are_drawn_give_what_the_layer_answers(kind: str) -> None:
    site = site_of(kind)
    rows = as_rows(np.asarray(site.layer.weights[0], np.float64), site)
    found = draw(site, seed=3, plain=2 * site.read)
    assert found.plain is not None
    np.testing.assert_array_equal(found.plain, 2 * found.read)
    answer = np.matmul(found.read, np.swapaxes(rows, 1, 2))
    np.testing.assert_allclose(answer, found.wanted, atol=1e-4)  # biases begin at 0
    again, other = draw(site, seed=3), draw(site, seed=4)
    np.testing.assert_array_equal(again.read, found.read)
    assert not np.array_equal(other.read, found.read)


def test_what_is_behind_a_layer_is_a_gain_a_shift_and_ends() -> None:
    inputs = keras.Input((4, 4, 3))
    x = L.Conv2D(5, 1, name="conv")(inputs)
    x = L.BatchNormalization(name="bn1")(x)
    x = L.BatchNormalization(name="bn2")(x)
    model = keras.Model(inputs, L.ReLU(6.0, name="relu")(x))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 2, w.shape) for w in model.get_weights()])
    (unit,) = find_units(list_calls(model), ["conv"])
    values = rng.normal(0, 3, (1, 20, 5)).astype(np.float32)
    after = behind(unit, 5)
    wanted = values.reshape(20, 1, 1, 5)
    for name in ("bn1", "bn2", "relu"):
        wanted = model.get_layer(name)(wanted)
    np.testing.assert_allclose(
        after.of(tf.constant(values)), np.reshape(wanted, values.shape), atol=1e-5
    )
    assert (after.low, after.high) == (0, 6)


def block() -> tuple[keras.Model, keras.Model]:
    """A float residual block, and the same with what is between rounded."""
    from keras_quant.methods.layers import FixedGrid

    def build(make_grid: object) -> keras.Model:
        keras.utils.set_random_seed(0)
        inputs = keras.Input((5, 5, 4), name="x")
        y = L.Conv2D(4, 3, padding="same", name="conv1")(inputs)
        y = make_grid("relu1")(y)  # type: ignore[operator]
        y = L.DepthwiseConv2D(3, padding="same", name="conv2")(y)
        y = L.Conv2D(4, 1, groups=2, name="conv3")(y)
        return keras.Model(inputs, make_grid("relu2")(L.Add(name="add")([y, inputs])))  # type: ignore[operator]

    return (
        build(lambda name: L.ReLU(name=name)),
        build(lambda name: FixedGrid(0.1, 0, 15, name=name)),
    )


@pytest.mark.parametrize("drop", [pytest.param(0.0, marks=pytest.mark.slow), 0.5])
def test_a_block_errs_less_by_learned_codes_and_the_same_ones_by_a_seed(drop: float) -> None:
    plain, rounded = block()
    x = np.random.default_rng(1).normal(0, 1, (64, 5, 5, 4)).astype(np.float32)
    calls = list_calls(rounded)
    names = ("conv1", "conv2", "conv3")
    (unit,) = find_units(calls, names, together=names)
    assert unit.kernels == names
    parts = {}
    for name, kind in zip(names, ("conv2d", "depthwise_conv2d", "conv2d"), strict=True):
        site = site_of("groups" if name == "conv3" else "depthwise" if name == "conv2" else "conv")
        layer = plain.get_layer(name)
        operation = site.operation.__class__(name=name, kind=kind, layer=layer)
        site = site.__class__(operation=operation, layer=layer, read=x, wanted=x)
        rows = as_rows(np.asarray(layer.weights[0], np.float64), site)
        scale = np.abs(rows).max(axis=2, keepdims=True) / 3
        value = np.asarray(keras.Model(plain.inputs, layer.output)(x))
        parts[name] = Part(
            operation=operation,
            rows=rows,
            begin=Rounded(codes=np.rint(rows / scale), scale=scale),
            qmax=3,
            mean=value.mean(axis=(0, 1, 2)),
        )
    seen = Seen(read=x, wanted=np.asarray(plain(x)), plain=x)

    def learned(steps: int) -> dict[str, Rounded]:
        return round_block(unit, parts, seen, learning=Learning(steps=steps, drop=drop, seed=5))

    found, again = learned(60), learned(60)
    for name in names:
        np.testing.assert_array_equal(found[name].codes, again[name].codes)
        low = np.floor(parts[name].rows / parts[name].begin.scale)
        assert np.isin(found[name].codes - low, (0, 1)).all()
    # It gives back what it began with where that errs no more.
    assert any(np.any(found[name].codes != parts[name].begin.codes) for name in names)
