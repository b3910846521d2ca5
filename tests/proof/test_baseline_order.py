"""Outputs of files of TFLiteConverter, which writes them in an order of its own."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.proof.baseline import float_tflite  # noqa: E402
from keras_quant.runners.litert import LiteRTRunner  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from keras_quant.zoo import build  # noqa: E402


def test_outputs_of_a_converted_file_come_in_the_order_of_the_model() -> None:
    keras.utils.set_random_seed(0)
    model = build("vae", (4, 4, 1), 10, units=6, latent=3)
    images = np.random.default_rng(0).random((1, 4, 4, 1), np.float32)
    runner = LiteRTRunner(float_tflite(model))
    found = runner.run({runner.inputs[0]: images})
    for ours, expected in zip(found.values(), model(images), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
