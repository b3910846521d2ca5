from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.proof.baseline import without_quantizers  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.prepare.nets import wrapped  # noqa: E402

L = keras.layers


def grouped(x: object) -> object:
    return L.Conv2D(8, 3, groups=4, activation="relu", name="middle")(x)


def output_padded(x: object) -> object:
    return L.Conv2DTranspose(
        4, 3, strides=2, padding="same", output_padding=0, activation="relu", name="middle"
    )(x)


@pytest.mark.parametrize("middle", [grouped, output_padded])
def test_layers_keep_their_settings_without_quantizers(middle) -> None:
    inputs = keras.Input((6, 6, 1), name="image")
    x = middle(L.Conv2D(8, 3, activation="relu", name="first")(inputs))
    source = keras.Model(inputs, L.Dense(3, name="logits")(L.Flatten()(x)))
    plain = without_quantizers(wrapped(source))
    images = np.random.default_rng(0).random((2, 6, 6, 1), np.float32)
    np.testing.assert_array_equal(plain(images), source(images))
