"""Functions of one value: found among others, tabulated, saved and loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.graph.pointwise import POINTWISE  # noqa: E402
from keras_quant.model.files import load_model, save_model  # noqa: E402
from keras_quant.model.keras3_config import to_keras2  # noqa: E402
from keras_quant.model.pointwise import (  # noqa: E402
    find_named,
    hard_sigmoid_keras3,
    hard_swish,
    is_nonnegative,
    is_pointwise,
    tabulate,
    varies_by_position,
)
from keras_quant.tf import keras, tf  # noqa: E402
from keras_quant.zoo import halting  # noqa: E402

L, A = keras.layers, keras.activations
KERAS = {
    "sigmoid": A.sigmoid,
    "tanh": A.tanh,
    "swish": A.swish,
    "hard_sigmoid": A.hard_sigmoid,
    "hard_sigmoid_keras3": hard_sigmoid_keras3,
    "hard_swish": hard_swish,
    "gelu": A.gelu,
    "gelu_tanh": lambda x: A.gelu(x, approximate=True),
    "elu": A.elu,
    "is_on": halting.is_on,
    "halted_share": halting.halted_share,
    "less_halted_share": halting.less_halted_share,
    "share_left": halting.share_left,
}
REALS = np.float32([-8, -3, -0.5, 0, 0.25, 2.5, 8])


def test_every_named_function_is_compared_with_keras_own() -> None:
    assert KERAS.keys() == POINTWISE.keys()


@pytest.mark.parametrize("name", KERAS)
def test_named_functions_are_found_by_their_values(name: str) -> None:
    assert find_named(KERAS[name]) == name
    assert find_named(lambda x: KERAS[name](x) + 1e-3) is None


@pytest.mark.parametrize("function", [*KERAS.values(), tf.sin, A.mish, L.LeakyReLU()])
def test_functions_of_one_value_are_found(function) -> None:
    assert is_pointwise(function)


def mean_of_all(x: tf.Tensor) -> tf.Tensor:
    return x - tf.reduce_mean(x)


@pytest.mark.parametrize(
    "function",
    [A.softmax, tf.cumsum, mean_of_all, lambda x: tf.reverse(x, [0]), lambda x: tf.linalg.inv(x)],
)
def test_functions_of_several_values_are_told(function) -> None:
    assert not is_pointwise(function)


@pytest.mark.parametrize(
    ("function", "expected"),
    [(A.sigmoid, True), (hard_swish, False), (A.tanh, False), (L.PReLU(), False), (A.relu, True)],
)
def test_functions_without_negative_values_are_told(function, expected: bool) -> None:
    assert is_nonnegative(function) is expected


def test_a_table_has_the_values_of_the_very_function() -> None:
    found = tabulate(A.hard_sigmoid, REALS, shape=(4, 3))
    np.testing.assert_array_equal(found, A.hard_sigmoid(tf.constant(REALS)))
    assert found.dtype == np.float32


@pytest.mark.parametrize("shape", [(4, 5, 3), (3,)])
def test_a_prelu_has_a_row_for_each_channel(shape: tuple[int, ...]) -> None:
    layer = L.PReLU(shared_axes=[1, 2] if len(shape) == 3 else None)
    keras.Sequential([keras.Input(shape), layer])
    layer.set_weights([np.reshape([0.5, 0, -0.25], layer.alpha.shape)])
    expected = [np.where(REALS < 0, slope * REALS, REALS) for slope in (0.5, 0, -0.25)]
    np.testing.assert_array_equal(tabulate(layer, REALS, shape=shape), expected)


@pytest.mark.parametrize("shared", [None, [1], [2, 3]])
def test_a_prelu_of_positions_has_a_row_for_each_element(shared: list[int] | None) -> None:
    layer = L.PReLU(shared_axes=shared)
    keras.Sequential([keras.Input((2, 3, 4)), layer])
    layer.set_weights([np.random.default_rng(0).normal(size=layer.alpha.shape)])
    slopes = np.broadcast_to(layer.alpha, (2, 3, 4)).reshape(-1, 1)
    expected = np.where(REALS < 0, slopes * REALS, REALS)
    np.testing.assert_array_equal(tabulate(layer, REALS, shape=(2, 3, 4)), expected)
    assert varies_by_position(layer) and not varies_by_position(L.ReLU())


def test_own_functions_are_saved_and_loaded(tmp_path: Path) -> None:
    inputs = keras.Input((6,), name="x")
    x = L.Dense(4, activation=hard_swish, name="d")(inputs)
    model = keras.Model(inputs, L.Activation(hard_sigmoid_keras3, name="a")(x))
    save_model(model, tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(0, 3, (5, 6)).astype(np.float32)
    np.testing.assert_array_equal(again(x), model(x))


def test_keras_3_functions_are_not_taken_for_those_of_keras_2() -> None:
    def layer(name: str, **config) -> dict:
        return {"class_name": name, "config": {"name": name, **config}}

    layers = [
        layer("Dense", activation="hard_sigmoid"),
        layer("Activation", activation="hard_silu"),
        layer("Activation", activation="silu"),
        layer("LeakyReLU", negative_slope=0.3),
    ]
    found = to_keras2({"class_name": "Sequential", "config": {"layers": layers}})
    assert [item["config"].get("activation") for item in found["config"]["layers"]] == [
        "keras_quant>hard_sigmoid_keras3",
        "keras_quant>hard_swish",
        "silu",
        None,
    ]
    assert found["config"]["layers"][3]["config"] == {"name": "LeakyReLU", "alpha": 0.3}
