from __future__ import annotations

import pickle
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from keras_quant.data import DATASETS, is_available, load_dataset
from keras_quant.data.catalog import npz_places
from keras_quant.errors import DataError, UsageError
from keras_quant.preprocessing import UNIT


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KQ_DATA_DIR", str(tmp_path))
    return tmp_path


def save_mnist(path: Path, *, labels: int = 10) -> None:
    """Twenty training and ten test images in the shape of MNIST."""
    rng = np.random.default_rng(0)
    np.savez(
        path,
        x_train=rng.integers(0, 256, (20, 28, 28), np.uint8),
        y_train=np.arange(20) % labels,
        x_test=rng.integers(0, 256, (10, 28, 28), np.uint8),
        y_test=np.arange(10),
    )


def rows(x: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in x}


def test_digits_are_what_the_table_says() -> None:
    dataset, info = load_dataset("digits"), DATASETS["digits"]
    assert dataset.input_shape == info.input_shape and dataset.num_classes == info.num_classes
    assert len(dataset.train) + len(dataset.validation) == info.num_train
    assert len(dataset.test) == info.num_test
    assert dataset.train.x.dtype == np.uint8 and dataset.train.x.max() == 255
    assert dataset.train.y.dtype == np.int32
    # The first of scikit-learn's images has the values 0 0 5 13 9 1 0 0 in its first row.
    first_row = np.rint(np.array([0, 0, 5, 13, 9, 1, 0, 0]) * 255 / 16)
    everything = np.concatenate([dataset.train.x, dataset.validation.x, dataset.test.x])
    assert (everything[:, 0, :, 0] == first_row).all(axis=1).any()


def test_seed_moves_the_validation_but_never_the_test_images() -> None:
    first, again, other = (load_dataset("digits", seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.validation.x, again.validation.x)
    assert not np.array_equal(first.validation.x, other.validation.x)
    assert np.array_equal(first.test.x, other.test.x)


def test_splits_share_no_image(data_folder: Path) -> None:
    save_mnist(data_folder / "mnist.npz")
    dataset = load_dataset("mnist", validation_fraction=0.25)
    train, validation, test = (
        rows(split.x) for split in (dataset.train, dataset.validation, dataset.test)
    )
    assert (len(train), len(validation), len(test)) == (15, 5, 10)
    assert not (train & validation or train & test or validation & test)


def test_named_set_knows_its_classes_without_seeing_all(data_folder: Path) -> None:
    save_mnist(data_folder / "fashion_mnist.npz", labels=3)
    dataset = load_dataset("fashion_mnist")
    assert is_available("fashion_mnist") and not is_available("cifar100")
    assert dataset.class_names[9] == "Ankle boot"
    assert dataset.source == str(data_folder / "fashion_mnist.npz")
    assert dataset.preprocessing == UNIT and not dataset.augment


def test_own_npz_keeps_its_validation_part(tmp_path: Path) -> None:
    x, y = np.zeros((4, 3, 3), np.float32), np.array([0, 1, 0, 1])
    path = tmp_path / "own.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y, x_val=x[:2], y_val=y[:2])
    dataset = load_dataset(str(path))
    assert (len(dataset.train), len(dataset.validation)) == (4, 2)
    assert dataset.class_names == ("0", "1") and dataset.preprocessing is None


def test_folder_of_images_is_loaded_in_the_size_asked_for(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.new("L", (5, 5)).save(tmp_path / name / f"{number}.png")
    dataset = load_dataset(str(tmp_path), image_size=(8, 6))
    assert dataset.input_shape == (8, 6, 1) and dataset.class_names == ("cat", "dog")


def test_unknown_name_suggests_close_ones() -> None:
    with pytest.raises(DataError, match="no dataset 'minst'; close names: mnist"):
        load_dataset("minst")


def test_wrong_arguments_come_at_once() -> None:
    with pytest.raises(UsageError, match="(?s)validation_fraction is 1.*image_size is for"):
        load_dataset("digits", validation_fraction=1, image_size=(8, 8))


def test_too_few_images_for_validation_is_told(data_folder: Path) -> None:
    save_mnist(data_folder / "mnist.npz")
    with pytest.raises(DataError, match="20 training images cannot be split"):
        load_dataset("mnist", validation_fraction=0.01)


@pytest.mark.tensorflow
def test_cifar100_is_read_as_its_archive_is_laid_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of 3,072 bytes: all of red, then green, then blue, each row by row; two labels each.

    https://www.cs.toronto.edu/~kriz/cifar.html
    """
    pytest.importorskip("tensorflow")
    from keras_quant.tf import keras

    for part, count in (("train", 20), ("test", 4)):
        rows = np.zeros((count, 3072), np.uint8)
        rows[:, 33] = 1  # red of the second pixel in the second row
        rows[:, 1024] = 2  # green of the first pixel
        rows[:, 3071] = np.arange(count)  # blue of the last pixel
        labels = {
            b"fine_labels": [99 - n % 10 for n in range(count)],
            b"coarse_labels": [0] * count,
        }
        batch = {b"data": rows, b"filenames": [b"x.png"] * count, **labels}
        (tmp_path / part).write_bytes(pickle.dumps(batch, protocol=2))
    loader = keras.datasets.cifar100.load_data.__globals__
    monkeypatch.setitem(loader, "get_file", lambda *args, **kwargs: str(tmp_path))
    dataset = load_dataset("cifar100")
    assert (len(dataset.train) + len(dataset.validation), len(dataset.test)) == (20, 4)
    assert dataset.test.x.shape == (4, 32, 32, 3) and dataset.test.x.dtype == np.uint8
    assert dataset.test.x[0, 1, 1].tolist() == [1, 0, 0]
    assert dataset.test.x[0, 0, 0].tolist() == [0, 2, 0]
    assert dataset.test.x[:, 31, 31, 2].tolist() == [0, 1, 2, 3]
    assert dataset.test.y.tolist() == [99, 98, 97, 96]
    assert (dataset.num_classes, dataset.class_names[99]) == (100, "worm")


@pytest.mark.parametrize("name", [name for name, info in DATASETS.items() if info.class_names])
def test_each_class_has_a_name_of_its_own(name: str) -> None:
    info = DATASETS[name]
    assert len(set(info.class_names)) == info.num_classes


@pytest.mark.tensorflow
def test_failed_download_says_where_to_put_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorflow")
    from keras_quant.tf import keras

    def fail() -> NoReturn:
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.datasets.cifar100, "load_data", fail)
    with pytest.raises(DataError, match="could not be downloaded .URL fetch.*x_train") as caught:
        load_dataset("cifar100")
    assert all(str(path) in str(caught.value) for path in npz_places("cifar100"))


def test_what_is_unusual_of_files_is_noted(tmp_path: Path) -> None:
    x, y = np.zeros((8, 3, 6, 7), np.uint8), np.eye(2, dtype=int)[[0, 1] * 4]
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    dataset = load_dataset(str(tmp_path / "own.npz"), validation_fraction=0.25)
    assert dataset.input_shape == (6, 7, 3) and dataset.num_classes == 2
    assert [note.split(" is ")[0] for note in dataset.notes] == [
        *("x_train", "y_train", "x_test", "y_test")
    ]
    assert load_dataset("digits").notes == ()
