from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.errors import DataError, SchemeError, UsageError  # noqa: E402
from keras_quant.jobs.paths import dataset_of  # noqa: E402
from keras_quant.jobs.quantize import quantize_run  # noqa: E402
from keras_quant.jobs.quantize_settings import QuantizeSettings  # noqa: E402
from keras_quant.jobs.source import build_float  # noqa: E402
from keras_quant.model.inputs import image_size  # noqa: E402
from keras_quant.runs import records  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.bits import freed, scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.fake_runs import RECORD, make_run  # noqa: E402

W8A8 = freed(scheme_from_bits("w8a8"))


def save_pictures(folder: Path, count: int = 20) -> None:
    folder.mkdir()
    for number in range(count):
        pixels = np.full((4, 6, 3), number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def test_all_that_does_not_go_together_is_said_at_once(tmp_path: Path) -> None:
    settings = QuantizeSettings(
        source="net.h5",
        scheme=freed(scheme_from_bits("float")),
        parent=tmp_path,
        model_options={"units": 3},
        images=0,
    )
    with pytest.raises(UsageError) as error:
        quantize_run(settings, tmp_path / "run", [], progress=Progress(quiet=True))
    for problem in ("everything in float", "--images is 0", "--from is for", "--option is for"):
        assert problem in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_replaced_by_what_is_made_of_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for settings in (
        QuantizeSettings(source=str(run), scheme=W8A8),
        QuantizeSettings(source="net.h5", scheme=W8A8, statistics=run / "statistics.npz"),
    ):
        with pytest.raises(UsageError, match="lies in the run that would be replaced"):
            quantize_run(settings, run, [], overwrite=True, progress=Progress(quiet=True))
    assert (run / "model.keras").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_bits_that_a_method_has_not_are_told_before_a_run_is_made_or_replaced(
    tmp_path: Path, overwrite: bool
) -> None:
    path = make_run(tmp_path / "run") if overwrite else tmp_path / "run"
    settings = QuantizeSettings(
        source="mlp",
        weights="none",
        dataset="digits",
        scheme=freed(scheme_from_bits("w1a4")),
        method="lsq",
    )
    with pytest.raises(SchemeError, match="weights of 1 bit: lsq learns the step of 2 to 8"):
        quantize_run(settings, path, [], overwrite=overwrite, progress=Progress(quiet=True))
    assert path.exists() == overwrite == (path / "model.keras").exists()


def test_pictures_get_the_size_of_the_model_or_of_the_run_around_a_path(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    save_pictures(pictures)
    assert dataset_of(tmp_path, str(pictures)).input_shape == (4, 6, 3)
    assert dataset_of(tmp_path, str(pictures), (5, 7)).input_shape == (5, 7, 3)
    run = make_run(tmp_path / "run")
    dataset = dataclasses.replace(RECORD.dataset, name=str(pictures), input_shape=(8, 9, 3))
    records.save(dataclasses.replace(RECORD, dataset=dataset), run)
    assert dataset_of(run, None).input_shape == (8, 9, 3)


def test_data_that_are_in_no_folder_keep_their_size(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((20, 4, 6, 3), np.uint8))
    data = dataset_of(tmp_path, str(tmp_path / "images.npy"), (5, 7))
    assert data.input_shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("shape", "size"), [((5, 7, 3), (5, 7)), ((None, None, 3), None), ((12,), None)], ids=str
)
def test_the_size_of_images_is_that_of_the_input(
    shape: tuple[int | None, ...], size: tuple[int, int] | None
) -> None:
    given = keras.Input(shape)
    assert image_size(keras.Model(given, keras.layers.ReLU()(given))) == size


def test_a_model_of_several_inputs_has_no_size_of_images() -> None:
    given = [keras.Input((5, 7, 3)), keras.Input((5, 7, 3))]
    assert image_size(keras.Model(given, keras.layers.Add()(given))) is None


def test_no_model_of_classes_is_built_for_images_without_labels(tmp_path: Path) -> None:
    save_pictures(tmp_path / "pictures")
    data = dataset_of(tmp_path, str(tmp_path / "pictures"))
    with pytest.raises(DataError, match="cnn tells classes apart: give images with labels"):
        build_float("cnn", {}, data, None)
