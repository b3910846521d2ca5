"""Reading the datasets that are known by name."""

from __future__ import annotations

import contextlib
import sys

import numpy as np

from keras_quant.data.catalog import DATASETS, find_npz, npz_places
from keras_quant.data.checks import as_images, as_labels, find_problems
from keras_quant.data.npz import read_npz
from keras_quant.data.split import hold_out_test
from keras_quant.errors import DataError


def read_named(name: str) -> tuple[dict[str, np.ndarray], str]:
    """Reads a dataset from scikit-learn, from a file on this machine, or by download.

    Args:
        name: a key of DATASETS.
    Returns: arrays as read_npz gives them, and where they came from.
    Raises: DataError: it is broken, or it is not here and cannot be downloaded.
    """
    if DATASETS[name].built_in:
        return _read_digits(), "scikit-learn load_digits"
    path = find_npz(name)
    if path is None:
        return _download(name), f"keras.datasets.{name}"
    return read_npz(path, num_classes=DATASETS[name].num_classes), str(path)


def _read_digits() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    # Their values are 0 to 16; pixels of 0 to 255 are what every other set has.
    pixels = np.rint(x * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    return hold_out_test(pixels, y)


def _download(name: str) -> dict[str, np.ndarray]:
    """Lets Keras download a dataset; of CIFAR's pickles it checks the archive's hash first."""
    from keras_quant.tf import keras

    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras shows its progress on stdout
            train, test = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises a bare Exception when a download fails
        places = " or ".join(str(path) for path in npz_places(name))
        raise DataError(
            f"{name} is not on this machine and could not be downloaded ({error}). Where it can, "
            f"save what keras.datasets.{name}.load_data gives with numpy.savez, as the arrays "
            f"x_train, y_train, x_test, y_test, and put the file at {places}"
        ) from error
    arrays = {
        "x_train": as_images(train[0]),
        "y_train": as_labels(train[1]),
        "x_test": as_images(test[0]),
        "y_test": as_labels(test[1]),
    }
    if problems := find_problems(arrays, DATASETS[name].num_classes):
        raise DataError("\n".join(f"keras.datasets.{name}: {problem}" for problem in problems))
    return arrays
