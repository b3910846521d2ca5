"""Models of keras.applications, and files of weights alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.errors import ModelError, UsageError  # noqa: E402
from keras_quant.model.applications import (  # noqa: E402
    APPLICATIONS,
    build_application,
    load_weights,
    preprocessing_of,
)
from keras_quant.tf import keras  # noqa: E402

SHAPE = (32, 32, 3)


def small(classes: int = 4) -> keras.Model:
    return build_application("MobileNetV2", SHAPE, classes, {"alpha": 0.35})


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    model = small()
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 1, w.shape) for w in model.get_weights()])
    return model


def test_every_name_is_a_function_of_keras() -> None:
    assert [n for n in APPLICATIONS if not callable(getattr(keras.applications, n, None))] == []
    assert all(preprocessing_of(name) for name in APPLICATIONS)


@pytest.mark.slow
def test_a_model_ends_with_logits_of_the_images_classes() -> None:
    model = small(7)
    assert model.output_shape == (None, 7)
    assert model.layers[-1].activation is keras.activations.linear
    assert build_application("MobileNetV2", SHAPE, 0, {"alpha": 0.35}).output_shape == (None, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["w.h5", "model.weights.h5"])
def test_weights_alone_are_set_whatever_the_file_is_called(
    trained: keras.Model, tmp_path: Path, name: str
) -> None:
    trained.save_weights(tmp_path / name)
    renamed = tmp_path / "mine.hdf5"
    (tmp_path / name).rename(renamed)
    model = small()
    load_weights(model, renamed)
    for found, wanted in zip(model.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.slow
def test_weights_of_keras_3_are_set(tmp_path: Path) -> None:
    code = (
        "import keras, numpy as np\n"
        "m = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=4, "
        "alpha=0.35, classifier_activation=None)\n"
        "r = np.random.default_rng(0)\n"
        "m.set_weights([r.uniform(0.1, 0.5, w.shape) for w in m.get_weights()])\n"
        "m.save_weights('k3.weights.h5')\n"
        "np.save('y.npy', m(np.full((1, 32, 32, 3), 0.3, 'float32')))\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, env={"KERAS_BACKEND": "tensorflow"}
    )
    model = small()
    load_weights(model, tmp_path / "k3.weights.h5")
    found = np.asarray(model(np.full((1, 32, 32, 3), 0.3, np.float32)))
    np.testing.assert_allclose(found, np.load(tmp_path / "y.npy"), rtol=1e-5)


@pytest.mark.slow
def test_weights_of_another_model_are_refused(trained: keras.Model, tmp_path: Path) -> None:
    trained.save_weights(tmp_path / "w.h5")
    with pytest.raises(ModelError, match=r"w\.h5: its weights are not those .*classes=N"):
        load_weights(small(5), tmp_path / "w.h5")


@pytest.mark.slow
def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    model = small()
    with pytest.raises(ModelError, match=r"no such file; give an \.h5 or \.weights\.h5 file"):
        load_weights(model, tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(ModelError, match="is no HDF5 file"):
        load_weights(model, tmp_path / "text.h5")
    with h5py.File(tmp_path / "out.h5", "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(ModelError, match="bytes of other files would become its weights"):
        load_weights(model, tmp_path / "out.h5")


def test_what_a_model_does_not_take_is_told_at_once() -> None:
    with pytest.raises(
        UsageError, match="has no option depth; it has classes, alpha\n.*classes is 1;"
    ):
        build_application("MobileNetV2", SHAPE, 0, {"depth": 3, "classes": 1})
    with pytest.raises(ModelError, match="images of at least 75x75 pixels; these are 32x32x3"):
        build_application("InceptionV3", SHAPE, 4, {})
