"""AutoQKeras, which QKeras 0.9 brings and which no longer loads what it writes."""

from __future__ import annotations

import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.errors import MissingDependencyError  # noqa: E402
from keras_quant.methods.qkeras.auto import try_mixes  # noqa: E402
from keras_quant.methods.qkeras.door import load_autoqkeras, qkeras  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers


def test_without_what_its_tuner_needs_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "qkeras.autoqkeras", None)
    with pytest.raises(MissingDependencyError, match=r"keras_quant\[tensorboard\]'; or leave out"):
        load_autoqkeras()


@pytest.mark.slow
def test_each_trial_is_a_mix_of_the_widths_and_qkeras_is_as_it_was() -> None:
    pytest.importorskip("tensorboard")
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 1), name="image")
    x = L.ReLU(name="relu")(L.BatchNormalization(name="norm")(L.Conv2D(4, 3, name="conv")(x)))
    x = L.DepthwiseConv2D(3, name="depthwise")(x)
    model = keras.Model(inputs, L.Dense(10, name="logits")(L.Flatten(name="flat")(x)))
    before, load = model.get_weights(), qkeras.utils.quantized_model_from_json
    rng = np.random.default_rng(0)
    data = rng.random((40, 8, 8, 1)).astype(np.float32), rng.integers(0, 10, 40)
    found = try_mixes(model, data, data, widths=(2, 4), trials=3, epochs=1)
    assert 1 <= len(found) <= 3
    for trial in found:
        assert set(trial.bits) == {"conv", "depthwise", "logits"}
        assert set(trial.bits.values()) <= {2, 4}
    assert [trial.accuracy for trial in found] == sorted((t.accuracy for t in found), reverse=True)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert qkeras.utils.quantized_model_from_json is load
