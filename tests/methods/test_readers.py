from __future__ import annotations

import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.qkeras.door import qkeras  # noqa: E402
from keras_quant.methods.readers import class_name, is_quantized  # noqa: E402
from keras_quant.tf import keras  # noqa: E402


@pytest.mark.parametrize(
    ("layer", "name", "quantized"),
    [
        (lambda: keras.layers.Dense(2), "Dense", False),
        (lambda: qkeras.QDense(2), "Dense", True),
        (lambda: qkeras.QConv2DTranspose(2, 3), "Conv2DTranspose", True),
        # It stands for other layers, and computes none of Keras' classes itself.
        (lambda: qkeras.QBatchNormalization(), "QBatchNormalization", False),
    ],
)
def test_a_twin_computes_the_class_it_was_made_of(layer, name: str, quantized: bool) -> None:
    made = layer()
    assert (class_name(made), is_quantized(made)) == (name, quantized)
