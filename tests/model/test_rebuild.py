from __future__ import annotations

import numpy as np
import pytest

from keras_quant.errors import ModelError

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.model.rebuild import rebuild  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from keras_quant.zoo import build  # noqa: E402

L = keras.layers
X = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)


def pooled() -> keras.Model:
    """With an operation of Keras' own, an inner model and a layer that is called twice."""
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([L.Conv2D(2, 3, padding="same", input_shape=(8, 8, 1))], name="inner")
    given = keras.Input((8, 8, 1), name="image")
    x = inner(given * 0.5 + 1.0)
    twice = L.Conv2D(2, 1, name="twice")
    x = L.Add(name="sum")([twice(x), twice(twice(x))])
    return keras.Model(given, L.Dense(3, name="logits")(L.GlobalAveragePooling2D()(x)))


def test_a_rebuilt_model_answers_as_the_model_and_shares_its_weights() -> None:
    model = pooled()
    again = rebuild(model)
    assert np.array_equal(again(X), model(X))
    assert again.output_names == model.output_names and again.input_names == model.input_names
    model.get_layer("logits").bias.assign([1.0, 2.0, 3.0])
    assert np.array_equal(again(X), model(X))


def test_a_net_that_ends_in_global_pooling_takes_images_of_another_size() -> None:
    small = rebuild(pooled(), input_shape=(6, 4, 1))
    # What a window sees of the middle does not depend on the image's size.
    assert small.input_shape == (None, 6, 4, 1) and small(X[:, :6, :4]).shape == (3, 3)


def test_a_dense_layer_behind_a_flatten_names_what_it_does_not_take() -> None:
    with pytest.raises(ModelError, match=r"logits \(Dense\) does not take \(36,\) .* \(64,\)"):
        given = keras.Input((8, 8, 1))
        model = keras.Model(given, L.Dense(2, name="logits")(L.Flatten()(given)))
        rebuild(model, input_shape=(6, 6, 1))


def test_other_layers_are_called_in_place_of_those_that_are_named() -> None:
    model = pooled()
    half = rebuild(model, instead={"sum": L.Subtract(name="sum")})
    assert not np.array_equal(half(X), model(X))


def test_early_exits_stay_in_their_order() -> None:
    model = build("b_lenet", (8, 8, 1), 10)
    for found, expected in zip(rebuild(model)(X), model(X), strict=True):
        assert np.array_equal(found, expected)
