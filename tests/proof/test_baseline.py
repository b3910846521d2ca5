from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from keras_quant.errors import LoweringError

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods import load_method  # noqa: E402
from keras_quant.methods.qkeras.door import qkeras  # noqa: E402
from keras_quant.prepare import plan, wrap  # noqa: E402
from keras_quant.proof.baseline import without_quantizers  # noqa: E402
from keras_quant.qparams import unsigned  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers
LAYERS = {
    "grouped": lambda: L.Conv2D(4, 3, groups=2, activation="relu", name="layer"),
    "dilated": lambda: L.Conv2D(4, 3, dilation_rate=2, name="layer"),
    "depthwise": lambda: L.DepthwiseConv2D(3, depth_multiplier=2, strides=2, name="layer"),
    "output_padding": lambda: L.Conv2DTranspose(4, 3, 2, output_padding=0, name="layer"),
    "separable": lambda: L.SeparableConv2D(4, 3, padding="same", name="layer"),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_model_without_quantizers_answers_as_the_float_model(make: Callable) -> None:
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = L.ReLU(name="relu")(L.Conv2D(4, 1, name="first")(x))
    x = L.BatchNormalization(name="norm")(make()(x))
    source = keras.Model(inputs, L.Dense(3, name="logits")(L.Flatten(name="flat")(x)))
    planned = plan(source, scheme_from_bits("4"))
    model = wrap(planned, source, load_method("qkeras"), unsigned(8, 1 / 255))
    images = np.random.default_rng(0).random((4, 8, 8, 3)).astype(np.float32)
    plain = without_quantizers(model)
    np.testing.assert_array_equal(plain(images), source(images))
    assert not np.array_equal(model(images), source(images))


def test_layer_whose_quantizers_stay_is_told() -> None:
    inputs = keras.Input((8, 8, 3), name="image")
    x = qkeras.QBatchNormalization(name="norm")(L.Conv2D(4, 3, name="conv")(inputs))
    with pytest.raises(LoweringError, match=r"taken out .*: norm \(QBatchNormalization\); leave"):
        without_quantizers(keras.Model(inputs, x))
