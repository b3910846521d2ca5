"""Reading .npz files of images in Keras' own layout, and .npy files of them, never a pickle."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from keras_quant.data.checks import (
    PART_NAMES,
    as_images,
    as_labels,
    find_problems,
    is_channels_first,
    is_one_hot,
)
from keras_quant.data.split import hold_out_test
from keras_quant.errors import DataError
from keras_quant.files import check_is_file

REQUIRED = ("x_train", "y_train", "x_test", "y_test")
OPTIONAL = ("x_val", "y_val", "class_names")


def read_npz(
    path: Path,
    *,
    num_classes: int | None = None,
    hold_out: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, np.ndarray]:
    """Reads and checks the arrays of a dataset file.

    Args:
        path: .npz with x_train, y_train, x_test, y_test and, if wanted, x_val with y_val
            (else validation is taken from train) and class_names. Images are uint8 or float,
            (images, height, width), (images, height, width, channels) or (vectors, features);
            labels are integers, (images,) or (images, 1). The parts may be called as in
            PART_NAMES. Channels that come first are moved to the end, and one-hot labels become
            integers. A file without any labels has x_train, and x_test, or a fifth of x_train is
            held out.
        num_classes: number of classes where it is known.
        hold_out: make a test part of a file without one.
        say: is told of what was not as above.
    Returns: the arrays by name; images 4-D uint8 or float32, labels 1-D integers, if there are any.
    Raises: DataError: the file cannot be read, or its arrays are no dataset; all problems
        at once.
    """
    arrays, problems = _read_arrays(path)
    class_names = arrays.get("class_names")
    if class_names is not None:
        if class_names.ndim != 1 or class_names.dtype.kind != "U":
            problems.append("class_names: a 1-D array of strings is allowed")
        elif len(set(class_names.tolist())) < max(2, len(class_names)):
            problems.append(
                f"class_names: is {class_names.tolist()}; two names or more, each once, are needed"
            )
        else:
            num_classes = len(class_names)
    width = _hot_classes(arrays)
    arrays = {name: _arranged(name, array, width, say) for name, array in arrays.items()}
    problems += find_problems(arrays, num_classes or width)
    if hold_out and "x_test" not in arrays and "x_train" in arrays and not problems:
        arrays |= hold_out_test(arrays["x_train"])
        problems = find_problems(arrays, None)
    if problems:
        raise DataError("\n".join(f"{path}: {problem}" for problem in problems))
    return arrays


def read_npy(
    path: Path, *, hold_out: bool = True, say: Callable[[str], None] = lambda text: None
) -> dict[str, np.ndarray]:
    """Reads an array of images without labels, as those of `read_npz` are.

    Args:
        hold_out: set a fifth apart as the test part.
        say: is told of what was not usual.
    Returns: x_train, and x_test where it is held out.
    Raises:
        DataError: the file cannot be read, or holds no images.
    """
    check_is_file(path, DataError)
    try:
        with open(path, "rb") as stream:
            images = as_images(np.lib.format.read_array(stream, allow_pickle=False))
    except Exception as error:  # broken bytes can end in any error of numpy
        raise DataError(f"{path}: is no whole array of numbers ({error})") from error
    arrays = {"x_train": _arranged("x_train", images, None, say)}
    problems = find_problems(arrays, None)
    if hold_out and not problems:
        arrays = hold_out_test(arrays["x_train"])
        problems = find_problems(arrays, None)
    if problems:
        raise DataError("\n".join(f"{path}: {problem}" for problem in problems))
    return arrays


def _hot_classes(arrays: Mapping[str, np.ndarray]) -> int | None:
    """How many classes one-hot labels have; None where they are integers."""
    y = arrays.get("y_train")
    return y.shape[1] if y is not None and is_one_hot(y) else None


def _arranged(
    name: str, array: np.ndarray, width: int | None, say: Callable[[str], None]
) -> np.ndarray:
    """Images with their channels last, and labels as integers, whatever they come as.

    Args:
        width: how many classes one-hot labels must have; None for any number.
    """
    if name.startswith("x_") and is_channels_first(array):
        say(f"{name} is {array.shape}, channels first: they are moved to the end")
        moved: np.ndarray = np.moveaxis(array, 1, -1)
        return np.ascontiguousarray(moved)
    if name.startswith("y_") and is_one_hot(array) and width in (None, array.shape[1]):
        say(f"{name} is one-hot, {array.shape}: the place of each 1 is the class number")
        classes: np.ndarray = np.argmax(array, axis=1)
        return classes
    return array


def _read_arrays(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays that can be read, and what is wrong with the others."""
    check_is_file(path, DataError)
    arrays: dict[str, np.ndarray] = {}
    problems: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            stored = [name.removesuffix(".npy") for name in archive.namelist()]
            names = [_canonical(name) for name in stored]
            for name in (*REQUIRED, *OPTIONAL):
                if names.count(name) > 1:
                    same = [own for own in stored if _canonical(own) == name]
                    problems.append(f"{' and '.join(same)} are names of one array; keep one")
                elif name in names:
                    given = stored[names.index(name)]
                    _read_array(archive, given, name, arrays, problems)
    except Exception as error:  # broken bytes can end in any error of zipfile
        return {}, [f"is not a complete .npz file ({error}); copy or download it again"]
    has_labels = any(name.startswith("y_") for name in names)
    missing = [name for name in (REQUIRED if has_labels else ("x_train",)) if name not in names]
    if missing:
        problems.append(f"lacks {', '.join(missing)}; it has {', '.join(stored) or 'no arrays'}")
    if has_labels and ("x_val" in names) != ("y_val" in names):
        problems.append("x_val and y_val go together; give both or none")
    return arrays, problems


def _canonical(name: str) -> str:
    """x_val for x_valid, and so on."""
    kind, _, part = name.partition("_")
    return f"{kind}_{PART_NAMES[part]}" if kind in ("x", "y") and part in PART_NAMES else name


def _read_array(
    archive: zipfile.ZipFile,
    given: str,
    name: str,
    arrays: dict[str, np.ndarray],
    problems: list[str],
) -> None:
    """Reads the array that is called `given` in the file."""
    try:
        with archive.open(f"{given}.npy") as member:
            array = np.lib.format.read_array(member, allow_pickle=False)
    except Exception as error:  # broken bytes can end in any error of zipfile and numpy
        if "allow_pickle" in str(error):
            problems.append(
                f"{given}: holds Python objects, which are never loaded; save a plain array of "
                "integers, floats or strings"
            )
        else:
            problems.append(f"{given}: is damaged ({error}); copy or download the file again")
    else:
        arrays[name] = {"x": as_images, "y": as_labels}.get(name[0], np.asarray)(array)
