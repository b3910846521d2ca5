from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.errors import LoweringError, ModelError  # noqa: E402
from keras_quant.lower import lower  # noqa: E402
from keras_quant.model.inputs import with_input_shape  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

SHAPE = (8, 8, 1)
IMAGES = np.random.default_rng(0).random((4, *SHAPE), np.float32)


def of_any_size(channels: int = 1) -> keras.Model:
    inputs = x = keras.Input((None, None, channels), name="image")
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x), name="net")


def unbuilt() -> keras.Model:
    layers = keras.layers
    return keras.Sequential([layers.Conv2D(4, 3, name="conv"), layers.Flatten(), layers.Dense(3)])


class Subclassed(keras.Model):
    def __init__(self, scale: float | None = None) -> None:
        super().__init__(name="mine")
        self.conv, self.flatten = keras.layers.Conv2D(4, 3, name="conv"), keras.layers.Flatten()
        self.dense, self.scale = keras.layers.Dense(3, name="logits"), scale

    def call(self, x: object) -> object:
        if self.scale:
            raise ValueError("no scale here")
        return self.dense(self.flatten(self.conv(x)))


@pytest.mark.parametrize("build", [of_any_size, unbuilt, Subclassed])
def test_a_model_without_sizes_is_lowered_once_it_has_them(build: type) -> None:
    model = build()
    sized = with_input_shape(model, SHAPE)
    graph = lower(sized)
    assert sized.input_shape == (None, *SHAPE)
    assert "conv" in [node.name for node in graph.nodes]
    np.testing.assert_array_equal(sized(IMAGES), model(IMAGES))


def test_a_model_of_that_size_stays_itself() -> None:
    sized = with_input_shape(of_any_size(), SHAPE)
    assert with_input_shape(sized, SHAPE) is sized


def test_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match=r"net takes \(None, None, 3\); inputs of \(8, 8, 1\)"):
        with_input_shape(of_any_size(3), SHAPE)


def test_a_call_that_cannot_be_followed_is_told_with_its_reason() -> None:
    with pytest.raises(ModelError, match="mine cannot be built.*ValueError: no scale here.*Build"):
        with_input_shape(Subclassed(scale=2.0), SHAPE)


def test_lowering_inputs_of_any_size_names_the_remedies() -> None:
    with pytest.raises(LoweringError, match=r"net takes inputs of any size.*--input-shape"):
        lower(of_any_size())
