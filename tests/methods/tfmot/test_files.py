"""Files of TF-MOT's models answer here as they do there, and are loaded without trust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_quant.errors import ModelError

pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings("ignore::UserWarning")]

from keras_quant.lower import lower  # noqa: E402
from keras_quant.methods.readers import read_kernel  # noqa: E402
from keras_quant.methods.tfmot.parts import PARTS  # noqa: E402
from keras_quant.model.files import load_model, save_model  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.methods.tfmot.nets import L, Q, float_net, images_for, net  # noqa: E402

SHAPE = (6, 6, 3)
FLOAT32_ULP = 2.0**-22


def body(x: Any) -> Any:
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, use_bias=False)(x)))
    x = L.Add()([x, L.DepthwiseConv2D(3, padding="same")(x)])
    return L.Dense(3, activation="softmax")(L.Flatten()(x))


@pytest.fixture(scope="module")
def quantized() -> keras.Model:
    return net(body, SHAPE)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_loaded_model_answers_bit_for_bit(quantized, suffix, tmp_path: Path) -> None:
    quantized.save(tmp_path / f"m{suffix}")
    loaded, images = load_model(tmp_path / f"m{suffix}"), images_for(quantized)
    np.testing.assert_array_equal(loaded(images), quantized(images))
    save_model(loaded, tmp_path / "again.keras")
    again = load_model(tmp_path / "again.keras")
    np.testing.assert_array_equal(again(images), quantized(images))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_models_of_which_some_layers_are_quantized_are_loaded(suffix, tmp_path: Path) -> None:
    def some(x: Any) -> Any:
        x = L.Conv2D(4, 3, activation="relu")(x)
        return L.Flatten()(Q.quantize_annotate_layer(L.Conv2D(2, 3))(x))

    model = net(some, SHAPE, Q.quantize_apply)
    model.save(tmp_path / f"m{suffix}")
    loaded, images = load_model(tmp_path / f"m{suffix}"), images_for(model)
    np.testing.assert_array_equal(loaded(images), model(images))


def test_a_model_that_was_never_trained_warns(tmp_path: Path) -> None:
    Q.quantize_model(float_net(body, SHAPE)).save(tmp_path / "m.h5")
    with pytest.warns(UserWarning, match=r"4 of 4 ranges of activations are -6 to 6.*quant_add"):
        load_model(tmp_path / "m.h5")


def test_configs_that_are_not_known_are_refused(quantized, tmp_path: Path) -> None:
    import h5py

    quantized.save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        text = file.attrs["model_config"].replace("NoOpQuantizeConfig", "OwnQuantizeConfig")
        file.attrs["model_config"] = text
    with pytest.raises(ModelError, match="'OwnQuantizeConfig' is no class or function"):
        load_model(tmp_path / "m.h5")


def test_kernels_are_the_codes_that_the_quantizer_gives(quantized) -> None:
    found = 0
    for layer in quantized.layers:
        for variable, quantizer, ranges in getattr(layer, "_weight_vars", ()):
            x, weights = keras.Input(layer.input_shape[1:]), None
            for part, given in PARTS["QuantizeWrapperV2"](layer, layer.input_shape[1:]):
                x = part(x)
                part.set_weights(given)
                weights = weights or read_kernel(part)
            expected = np.asarray(quantizer(variable, False, weights=ranges), np.float64)
            difference = np.abs(weights.values * weights.scale - expected)
            assert (difference <= FLOAT32_ULP * np.abs(expected).max()).all()
            assert np.abs(weights.values).max() == 127
            found += 1
    assert found == 3


def test_graph_has_the_models_own_ranges(quantized) -> None:
    graph = lower(quantized)
    norm = next(layer for layer in quantized.layers if layer.name.startswith("quant_re_lu"))
    low, high = (float(norm._output_quantizer_vars[k]) for k in ("min_var", "max_var"))
    grid = graph.tensors[norm.name].grid
    assert grid.scale == np.float32((np.float32(high) - np.float32(low)) / np.float32(255))
    assert low == 0 and (grid.zero_point, grid.qmin, grid.qmax) == (0, 0, 255)
    given = graph.tensors[graph.nodes[0].output].grid
    assert 0 < given.zero_point < 255  # of images from -1.3 to 2
