"""Images without labels: a folder of pictures, an .npz or .npy file of images alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_quant.data import load_dataset
from keras_quant.data.dataset import NO_LABEL
from keras_quant.errors import DataError


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 6, 4, 3)).astype(np.uint8)


def save_pictures(folder: Path, pixels: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:03}.png")


def test_a_folder_of_pictures_is_data_without_labels(tmp_path: Path) -> None:
    save_pictures(tmp_path, images(20))
    data = load_dataset(str(tmp_path))
    assert not data.has_labels and data.num_classes == 0
    sizes = [len(part) for part in (data.train, data.validation, data.test)]
    assert sizes == [14, 2, 4]  # a fifth is test, and a tenth of the rest is validation
    assert all((part.y == NO_LABEL).all() for part in (data.train, data.validation, data.test))
    found = np.concatenate([data.train.x, data.validation.x, data.test.x])
    assert {image.tobytes() for image in found} == {image.tobytes() for image in images(20)}


def test_pictures_get_the_size_that_is_asked_for(tmp_path: Path) -> None:
    save_pictures(tmp_path, images(20))
    assert load_dataset(str(tmp_path), image_size=(3, 5)).input_shape == (3, 5, 3)


def test_pictures_beside_folders_of_classes_are_no_data_of_their_own(tmp_path: Path) -> None:
    save_pictures(tmp_path, images(2))
    for name in ("cat", "dog"):
        save_pictures(tmp_path / name, images(10))
    data = load_dataset(str(tmp_path))
    assert data.class_names == ("cat", "dog") and len(data.test) == 4


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_file_of_images_alone_holds_out_a_fifth(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"images{suffix}"
    np.save(path, images(20)) if suffix == ".npy" else np.savez(path, x_train=images(20))
    data = load_dataset(str(path))
    assert not data.has_labels and (len(data.train), len(data.test)) == (14, 4)


def test_a_file_may_keep_test_images_of_its_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", x_train=images(20), x_test=images(3))
    data = load_dataset(str(tmp_path / "images.npz"))
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 3)
    np.testing.assert_array_equal(data.test.x, images(3))


def test_labels_of_one_part_are_asked_for_in_all(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", x_train=images(20), x_test=images(3), y_test=[0, 1, 0])
    with pytest.raises(DataError, match="lacks y_train"):
        load_dataset(str(tmp_path / "images.npz"))


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.zeros((20, 6, 4, 3), np.int64), "dtype is int64; uint8"),
        (np.zeros(20, np.uint8), r"shape is \(20,\)"),
        (np.array([{"a": 1}], dtype=object), "is no whole array of numbers"),
        (images(2), "x_test: is empty"),
    ],
    ids=["integers", "no images", "pickle", "too few"],
)
def test_what_an_npy_file_cannot_hold_is_said(
    tmp_path: Path, array: np.ndarray, problem: str
) -> None:
    np.save(tmp_path / "images.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=problem):
        load_dataset(str(tmp_path / "images.npy"))


def test_a_file_that_is_cut_off_or_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images.npy: no such file"):
        load_dataset(str(tmp_path / "images.npy"))
    (tmp_path / "images.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"images.npy: is no whole array"):
        load_dataset(str(tmp_path / "images.npy"))
