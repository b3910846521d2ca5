from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keras_quant.errors import ModelError
from keras_quant.methods.qkeras import twin
from keras_quant.model.files import load_model
from keras_quant.model.saved_model import METADATA
from keras_quant.qparams import unsigned
from keras_quant.schemes.scheme import QuantSpec
from keras_quant.tf import keras, tf

pytestmark = pytest.mark.tensorflow

IMAGES = np.random.default_rng(0).random((5, 6, 6, 2)).astype(np.float32)


def scrambled(model: keras.Model) -> keras.Model:
    random = np.random.default_rng(1)
    model.set_weights([random.uniform(0.1, 1, w.shape) for w in model.weights])
    return model


def functional() -> keras.Model:
    """Branches, a nested model, a layer that is called twice, two outputs."""
    image = keras.Input((6, 6, 2), name="image")
    shared = keras.layers.Conv2D(2, 3, padding="same", name="shared")
    left = shared(shared(image))
    inner = keras.Sequential(
        [keras.layers.DepthwiseConv2D(3), keras.layers.BatchNormalization()], name="inner"
    )
    x = inner(keras.layers.Add()([left, image]))
    x = keras.layers.Flatten()(keras.layers.ReLU(6.0)(x))
    outputs = [keras.layers.Dense(3, name=name)(x) for name in ("first", "second")]
    return scrambled(keras.Model(image, outputs, name="net"))


def quantized() -> keras.Model:
    """What QKeras makes."""
    image = keras.Input((6, 6, 2), name="image")
    options = twin.QKerasOptions()
    conv = twin.wrap(keras.layers.Conv2D(3, 3, name="conv"), QuantSpec(bits=4), options)
    x = twin.activation("conv_quant", unsigned(4, 0.25))(conv(image))
    return scrambled(keras.Model(image, keras.layers.Flatten()(x), name="net"))


def sequential() -> keras.Model:
    layers = [keras.layers.Conv2D(2, 3, name="conv"), keras.layers.Flatten()]
    return scrambled(keras.Sequential([keras.Input((6, 6, 2)), *layers]))


def saved(model: keras.Model, folder: Path) -> Path:
    model.save(folder / "saved", save_format="tf")
    return folder / "saved"


@pytest.mark.parametrize("make", [functional, quantized, sequential])
def test_a_saved_model_answers_as_the_model_that_was_saved(make, tmp_path: Path) -> None:
    model = make()
    loaded = load_model(saved(model, tmp_path))
    for given, wanted in zip(loaded.weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(given, wanted)
    for given, wanted in zip(
        tf.nest.flatten(loaded(IMAGES)), tf.nest.flatten(model(IMAGES)), strict=True
    ):
        np.testing.assert_array_equal(given, wanted)


@pytest.mark.slow
def test_optimizers_and_metrics_stay_behind(tmp_path: Path) -> None:
    model = sequential()
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(IMAGES, np.zeros((5, 32)), verbose=0)
    loaded = load_model(saved(model, tmp_path))
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))
    assert not loaded.optimizer


def test_tensorflow_functions_alone_are_refused_with_a_remedy(tmp_path: Path) -> None:
    module = tf.Module()
    module.call = tf.function(lambda x: x, input_signature=[tf.TensorSpec((2,))])
    tf.saved_model.save(module, str(tmp_path))
    with pytest.raises(ModelError, match=r"no Keras layers.*Save the model itself: model\.save"):
        load_model(tmp_path)


def test_code_needs_trust(tmp_path: Path) -> None:
    layers = [keras.layers.Lambda(lambda x: x + 1, name="plus"), keras.layers.Flatten()]
    folder = saved(keras.Sequential([keras.Input((6, 6, 2)), *layers]), tmp_path)
    with pytest.raises(ModelError, match="layer plus: a Lambda layer holds Python code.*--trust"):
        load_model(folder)
    loaded = load_model(folder, trust=True)
    np.testing.assert_array_equal(loaded(IMAGES), IMAGES.reshape(5, -1) + 1)


def test_a_subclassed_model_is_refused(tmp_path: Path) -> None:
    class Own(keras.Model):
        def call(self, x):
            return x * 2.0

    model = Own()
    model(IMAGES)
    with pytest.raises(ModelError, match="'Own' is no class or function that is known"):
        load_model(saved(model, tmp_path))


def test_links_are_refused(tmp_path: Path) -> None:
    folder = saved(sequential(), tmp_path)
    index = folder / "variables" / "variables.index"
    index.rename(tmp_path / "elsewhere")
    index.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"variables/variables\.index is a link.*Copy the folder"):
        load_model(folder)


@pytest.mark.parametrize(
    "name", [METADATA, "variables/variables.index", "variables/variables.data-00000-of-00001"]
)
def test_a_damaged_part_is_an_error_that_names_the_folder(name: str, tmp_path: Path) -> None:
    folder = saved(sequential(), tmp_path)
    (folder / name).write_bytes((folder / name).read_bytes()[:20])
    with pytest.raises(ModelError, match=f"^{folder}: (not a whole Keras|its weights)"):
        load_model(folder)


@pytest.mark.slow
def test_variables_of_another_model_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    folder, other = saved(functional(), tmp_path), saved(sequential(), tmp_path / "other")
    for part in (folder / "variables").iterdir():
        part.unlink()
    for part in (other / "variables").iterdir():
        part.rename(folder / "variables" / part.name)
    with pytest.raises(ModelError, match="its weights do not fit its layers"):
        load_model(folder)
