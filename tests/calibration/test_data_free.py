"""Statistics that come from batch norms, beside what the formulas say."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.calibration.data_free import RANGE, imagine, without_norms  # noqa: E402
from keras_quant.errors import DataError  # noqa: E402
from keras_quant.prepare import plan  # noqa: E402
from keras_quant.qparams import unsigned  # noqa: E402
from keras_quant.schemes.bits import freed, scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers
PIXELS = unsigned(8, 1 / 255)
QUANTILE_ERROR = 2e-3  # of a deviation, of even quantiles with the ends moved out
SCHEME = freed(scheme_from_bits("w8a8"))
BETA, GAMMA = np.array([0.5, -1.0, 3.0]), np.array([1.0, -2.0, 0.5])


def net() -> keras.Model:
    x = inputs = keras.Input((6, 6, 3), name="image")
    x = L.Conv2D(3, 3, name="conv1", use_bias=False)(x)
    x = L.BatchNormalization(name="bn1")(x)
    x = y = L.ReLU(name="relu1")(x)
    x = L.BatchNormalization(name="bn2")(L.Conv2D(3, 1, name="conv2")(x))
    x = L.Add(name="add")([x, y])
    x = L.Conv2D(2, 1, name="conv3")(x)
    x = L.Flatten(name="flat")(L.MaxPooling2D(name="pool")(x))
    model = keras.Model(inputs, L.Dense(2, name="logits")(x))
    for name in ("bn1", "bn2"):
        model.get_layer(name).beta.assign(BETA)
        model.get_layer(name).gamma.assign(GAMMA)
    model.get_layer("conv3").bias.assign([10.0, -10.0])
    return model


def clipped_mean(beta: float, gamma: float) -> float:
    """Of max(0, x) with x normal: Nagel et al. 2019, eq. 19."""
    normal = NormalDist()
    return gamma * normal.pdf(-beta / gamma) + beta * (1 - normal.cdf(-beta / gamma))


def test_behind_a_norm_values_are_normal_and_end_at_six_deviations() -> None:
    source = net()
    found = imagine(plan(source, SCHEME), source, PIXELS).tensors["bn1"].channels
    assert found is not None
    np.testing.assert_allclose(found.mean, BETA, atol=1e-6)
    np.testing.assert_allclose(np.sqrt(found.variance), np.abs(GAMMA), rtol=0.02)
    np.testing.assert_allclose(found.low, BETA - RANGE * np.abs(GAMMA), rtol=1e-6)
    np.testing.assert_allclose(found.high, BETA + RANGE * np.abs(GAMMA), rtol=1e-6)


def test_behind_a_relu_means_are_those_of_clipped_normals() -> None:
    source = net()
    statistics = imagine(plan(source, SCHEME), source, PIXELS)
    found = statistics.tensors["relu1"].channels
    assert found is not None and statistics.images == 0
    wanted = [clipped_mean(b, abs(g)) for b, g in zip(BETA, GAMMA, strict=True)]
    np.testing.assert_allclose(found.mean, wanted, atol=QUANTILE_ERROR * np.abs(GAMMA).max())
    np.testing.assert_array_equal(found.low, [0, 0, 0])


def test_sums_and_kernels_have_the_moments_of_independent_values() -> None:
    source = net()
    tensors = imagine(plan(source, SCHEME), source, PIXELS).tensors
    total, parts = tensors["add"].channels, [tensors[n].channels for n in ("bn2", "relu1")]
    kernel = np.asarray(source.get_layer("conv3").kernel, np.float64).reshape(3, 2)
    answer = tensors["conv3"].channels
    assert total and answer and parts[0] and parts[1]
    np.testing.assert_allclose(total.mean, parts[0].mean + parts[1].mean, atol=1e-5)
    np.testing.assert_allclose(total.variance, parts[0].variance + parts[1].variance, rtol=0.15)
    np.testing.assert_allclose(answer.mean, total.mean @ kernel + [10, -10], atol=1e-4)
    np.testing.assert_allclose(answer.variance, total.variance @ kernel**2, rtol=0.05)


def test_pixels_are_all_as_frequent_and_channels_go_on_behind_a_flatten() -> None:
    source = net()
    tensors = imagine(plan(source, SCHEME), source, PIXELS).tensors
    image = tensors["image"].moments
    assert (image.low, image.high) == (0, 1)
    assert float(image.mean) == pytest.approx(0.5, abs=1e-3)
    flat, pooled = tensors["flat"].channels, tensors["pool"].channels
    assert flat and pooled and flat.low.shape == (8,)
    np.testing.assert_array_equal(flat.high, np.tile(pooled.high, 4))


def test_layers_without_a_norm_are_named() -> None:
    assert without_norms(plan(net(), SCHEME)) == ("conv3",)


def test_the_same_model_gives_the_same_statistics() -> None:
    source = net()
    first, second = (imagine(plan(source, SCHEME), source, PIXELS) for _ in range(2))
    for name, tensor in first.tensors.items():
        np.testing.assert_array_equal(
            tensor.histogram.counts, second.tensors[name].histogram.counts
        )


def test_what_batch_norms_cannot_say_is_refused() -> None:
    inputs = keras.Input((4, 4, 3))
    folded = keras.Model(inputs, L.ReLU()(L.Conv2D(2, 1)(inputs)))
    with pytest.raises(DataError, match="has no batch norms.*give --data train"):
        imagine(plan(folded, SCHEME), folded, PIXELS)
    source = net()
    with pytest.raises(DataError, match="unless they are 8-bit pixels"):
        imagine(plan(source, SCHEME), source, None)


def test_the_oracle_of_clipped_normals_is_right() -> None:
    assert clipped_mean(0.0, 1.0) == pytest.approx(1 / math.sqrt(2 * math.pi))
