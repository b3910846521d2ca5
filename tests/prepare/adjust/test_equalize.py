"""Equalized models compute what they did; and what is gained by it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.calibration.collect import collect  # noqa: E402
from keras_quant.model.operations import describe  # noqa: E402
from keras_quant.model.topology import layers_by_name  # noqa: E402
from keras_quant.prepare import plan  # noqa: E402
from keras_quant.prepare.adjust.drawn import draw_channels  # noqa: E402
from keras_quant.prepare.adjust.equalize import (  # noqa: E402
    Channels,
    equalize_activations,
    equalize_weights,
    scalable,
)
from keras_quant.prepare.adjust.pairs import find_pairs, output_kernel  # noqa: E402
from keras_quant.schemes.bits import freed, scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers
W8A8 = freed(scheme_from_bits("w8a8"))
FLOAT32_ROUNDING = 1e-5
X = np.random.default_rng(5).normal(0, 1, (16, 8, 8, 3)).astype(np.float32)


def uneven(model: keras.Model, seed: int = 0) -> keras.Model:
    """Weights whose channels differ by some octaves, and batch norms that have seen something."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        for variable in layer.weights:
            value = rng.normal(0, 0.5, variable.shape)
            if "gamma" in variable.name or "variance" in variable.name:
                value = 2.0 ** rng.uniform(-4, 2, variable.shape)
            elif "kernel" in variable.name:
                value = value * 2.0 ** rng.uniform(-3, 3, variable.shape[-1])
            variable.assign(value)
    return model


_KINDS = (
    lambda name: L.Conv2D(6, 3, padding="same", name=name),
    lambda name: L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name=name),
    lambda name: L.Conv2D(6, 1, groups=3, use_bias=False, name=name),
    lambda name: L.Conv2DTranspose(6, 2, strides=1, padding="same", name=name),
    lambda name: L.DepthwiseConv2D(3, use_bias=False, padding="same", name=name),
)


def drawn(choices: tuple[int, ...], *, last: float | None = None) -> keras.Model:
    """A chain of layers of each kind that can be scaled, in an order that is drawn."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 3), name="image")
    for number, choice in enumerate(choices):
        make = _KINDS[choice % 5]
        x = make(f"layer{number}")(x)
        if choice // 5 % 2:
            x = L.BatchNormalization(scale=bool(choice % 3), name=f"norm{number}")(x)
        if choice // 10 % 3:
            x = L.ReLU(name=f"relu{number}")(x)
        if choice // 10 % 3 == 2:
            x = L.BatchNormalization(name=f"behind{number}")(x)
            x = L.MaxPooling2D(2, strides=1, padding="same", name=f"pool{number}")(x)
    x = L.Conv2D(4, 2, strides=2, name="end")(x)
    x = L.ReLU(last, name="relu")(x)
    x = L.Flatten(name="flat")(x) if choices[0] % 2 else L.GlobalAveragePooling2D(name="gap")(x)
    return keras.Model(inputs, L.Dense(5, name="logits")(x))


def channels_of(model: keras.Model) -> dict[str, Channels]:
    planned = plan(model, W8A8)
    seen = collect(planned, model, X, per_channel=scalable(planned)).tensors
    drawn = draw_channels(planned, model, X, scalable(planned))
    found = {name: seen[name].channels for name in scalable(planned)}
    return {
        name: Channels(low=c.low, high=c.high, mean_square=c.mean_square, drawn=drawn[name])
        for name, c in found.items()
        if c is not None
    }


def assert_same(model: keras.Model, source: keras.Model) -> None:
    wanted, answer = np.asarray(source(X)), np.asarray(model(X))
    np.testing.assert_allclose(answer, wanted, rtol=0, atol=FLOAT32_ROUNDING * np.abs(wanted).max())


@pytest.mark.parametrize(
    "seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (0, 3, 4, 5, 6, 7))]
)
def test_float_function_of_random_nets_is_unchanged(seed: int) -> None:
    choices = np.random.default_rng(seed).integers(0, 30, 1 + seed % 4)
    source = uneven(drawn(tuple(choices)), seed)
    before = source.get_weights()
    planned = plan(source, W8A8)
    found = equalize_weights(planned, source)
    assert found.scales
    assert_same(found.model, source)
    assert_same(equalize_activations(planned, source, channels_of(source)).model, source)
    for old, new in zip(before, source.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_weights_of_both_sides_get_equal_ranges() -> None:
    """Nagel et al. 2019, section 4.1: after eq. 11 r1 = r2 in each channel."""
    source = uneven(drawn((10, 0)))
    found = equalize_weights(plan(source, W8A8), source)
    layers = layers_by_name(found.model)
    pair = find_pairs(describe(found.model))[0]
    assert [o.name for o in pair.block] == ["layer0", "relu0"]
    given = np.abs(output_kernel(pair.block, layers)).max(axis=1)
    read = np.abs(layers["layer1"].kernel.numpy()).max(axis=(0, 1, 3))
    np.testing.assert_allclose(given, read, rtol=1e-3)


def test_channels_in_front_of_a_depthwise_layer_get_one_range() -> None:
    """It takes any scale for nothing, since it has one for each of its channels."""
    source = uneven(drawn((10, 14)))
    seen = channels_of(source)
    assert seen["relu0"].high.min() < seen["relu0"].high.max() / 3
    planned = plan(source, W8A8)
    model = equalize_activations(planned, source, seen).model
    after = channels_of(model)["relu0"].high
    np.testing.assert_allclose(after, seen["relu0"].high.max(), rtol=1e-4)


def test_channels_of_relu6_are_scaled_only_within_what_stays_below_it() -> None:
    """One channel is cut at 6 and stays; one that reaches 1.2 then reaches 6; a dead one stays."""
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = L.ReLU(6.0, name="relu")(L.Conv2D(3, 1, name="conv")(x))
    x = L.DepthwiseConv2D(1, name="depthwise")(x)
    source = uneven(keras.Model(inputs, L.Dense(2, name="logits")(L.Flatten()(x))))
    source.get_layer("conv").kernel.assign(np.eye(3).reshape(1, 1, 3, 3))
    source.get_layer("conv").bias.assign([0, 0, 0])
    drawn = np.random.default_rng(1).uniform(0, 1, (500, 3)).astype(np.float32)
    high = np.array([6.0, 1.2, 0.0])
    seen = {
        "relu": Channels(
            low=np.zeros(3),
            high=high,
            mean_square=np.array([4, 0.2, 0]),
            drawn=drawn * high.astype(np.float32),
        ),
        "depthwise": Channels(
            low=-np.ones(3), high=np.ones(3), mean_square=np.ones(3), drawn=2 * drawn - 1
        ),
    }
    found = equalize_activations(plan(source, W8A8), source, seen)
    np.testing.assert_allclose(found.scales["relu"], [1, 1.2 / 6, 1])
    images = np.clip(np.random.default_rng(0).uniform(-1, 9, (4, 8, 8, 3)), -1, [9, 1.2, 0.5])
    wanted = np.asarray(source(images.astype(np.float32)))
    answer = np.asarray(found.model(images.astype(np.float32)))
    np.testing.assert_allclose(answer, wanted, atol=1e-5)


def test_weights_behind_a_relu6_are_left_alone() -> None:
    source = uneven(drawn((10,), last=6.0))
    assert set(equalize_weights(plan(source, W8A8), source).scales) == {"relu0"}


def test_what_is_added_shared_or_put_out_is_not_scaled() -> None:
    inputs = keras.Input((8, 8, 3), name="image")
    shared = L.Conv2D(3, 1, name="shared")
    a = L.ReLU(name="a")(shared(inputs))
    b = L.Conv2D(3, 1, name="b")(shared(a))
    added = L.Add(name="add")([L.Conv2D(3, 1, name="c")(b), b])
    out = L.Conv2D(3, 1, name="d")(added)
    model = keras.Model(inputs, [out, L.Conv2D(2, 1, name="e")(out)])
    assert scalable(plan(model, W8A8)) == ()


def test_a_value_that_a_calibrator_cuts_off_scales_nothing() -> None:
    """One in 40,000 lies far beyond all others: with 4 bits no range reaches so far."""
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.ReLU(name="relu")(L.Conv2D(4, 1, name="conv")(inputs))
    source = keras.Model(inputs, L.Conv2D(5, 1, name="logits")(x))
    source.get_layer("logits").kernel.assign(np.ones((1, 1, 4, 5)))
    drawn = np.random.default_rng(0).uniform(0, 1, (40_000, 4)).astype(np.float32)
    drawn[0, 0] = 8.0
    seen = Channels(
        low=np.zeros(4),
        high=drawn.max(axis=0).astype(np.float64),
        mean_square=np.square(drawn).mean(axis=0).astype(np.float64),
        drawn=drawn,
    )
    planned = plan(source, freed(scheme_from_bits("w4a4")))
    scales = equalize_activations(planned, source, {"relu": seen}).scales
    np.testing.assert_allclose(scales.get("relu", np.ones(4)), 1, rtol=0.01)
