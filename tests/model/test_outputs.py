"""Names of outputs, of float models and of those that were quantized."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.model.outputs import output_names  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.lower.shapes import quantized, randomized  # noqa: E402

L = keras.layers


def test_an_output_that_is_rounded_has_the_name_of_the_layer_that_is() -> None:
    image = keras.Input((4,), name="image")
    mean = L.Dense(3, name="mean")(image)  # goes out, and is read
    code = L.ReLU(name="code")(L.Dense(2, name="hidden")(mean))
    logits = L.Dense(2, name="logits")(code)
    model = keras.Model(image, [mean, code, logits])
    images = [np.zeros((2, 4), np.float32)]
    twin = quantized(randomized(model), scheme_from_bits("w4a4"), images)
    assert twin.output_names == ["mean_quant", "code", "logits"]
    assert output_names(twin) == output_names(model) == ("mean", "code", "logits")


def test_an_output_that_goes_out_twice_has_two_names() -> None:
    image = keras.Input((4,), name="image")
    x = L.ReLU(name="mean_quant")(L.Dense(3, name="mean")(image))
    assert output_names(keras.Model(image, [x, x])) == ("mean", "mean/output_1")


def test_a_name_that_goes_on_otherwise_is_of_no_rounding() -> None:
    image = keras.Input((4,), name="image")
    x = L.ReLU(name="mean_quantile")(L.Dense(3, name="mean")(image))
    assert output_names(keras.Model(image, x)) == ("mean_quantile",)


def test_a_layer_that_is_behind_none_of_its_name_keeps_it() -> None:
    image = keras.Input((4,), name="image")
    mine = L.ReLU(name="mean_quant")(L.Dense(3, name="other")(image))
    assert output_names(keras.Model(image, mine)) == ("mean_quant",)
    assert output_names(keras.Sequential([L.Dense(3, input_shape=(4,), name="y")])) == ("y",)
