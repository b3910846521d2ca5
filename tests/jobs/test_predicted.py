from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.data import load_dataset  # noqa: E402
from keras_quant.jobs.evaluate import evaluate  # noqa: E402
from keras_quant.jobs.loaded import load_file  # noqa: E402
from keras_quant.jobs.predicted import predict_note  # noqa: E402
from keras_quant.methods.qkeras.door import qkeras  # noqa: E402
from keras_quant.model.files import save_model  # noqa: E402
from keras_quant.preprocessing import UNIT  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers


def residual(path: Path, *, blocks: int) -> Path:
    """A QKeras model of digits whose sums end on halves; without blocks nothing is added."""
    quantizer = "quantized_bits(4,0,1,alpha=1)"
    image = keras.Input((8, 8, 1))
    x = qkeras.QConv2D(3, 3, padding="same", kernel_quantizer=quantizer)(image)
    x = qkeras.QActivation("quantized_relu(3,2)")(x)
    for _ in range(blocks):
        y = qkeras.QConv2D(3, 3, padding="same", kernel_quantizer=quantizer)(x)
        y = qkeras.QActivation("quantized_bits(3,1,1,alpha=1)")(y)
        x = qkeras.QActivation("quantized_relu(3,3)")(L.Add()([x, y]))
    model = keras.Model(image, qkeras.QDense(10, kernel_quantizer=quantizer)(L.Flatten()(x)))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.5, w.shape) for w in model.weights])
    save_model(model, path)
    return path


@pytest.mark.slow
def test_a_model_whose_predict_answers_otherwise_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    evaluate(residual(tmp_path / "m.keras", blocks=3), dataset="digits", say=said.append)
    (told,) = [text for text in said if "predict(x)" in text]
    assert "m.keras: Keras' predict(x) is up to " in told and " of 64 answers, as " in told


def test_a_model_whose_predict_answers_alike_is_not(tmp_path: Path) -> None:
    data = load_dataset("digits")
    loaded = load_file(residual(tmp_path / "m.keras", blocks=0), data, trust=False)
    assert predict_note(loaded, data.test.x, UNIT) == ""
