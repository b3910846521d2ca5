"""Reading .npz files of images in Keras' own layout, never a pickle."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from keras_quant.data.checks import as_images, as_labels, find_problems
from keras_quant.errors import DataError

REQUIRED = ("x_train", "y_train", "x_test", "y_test")
OPTIONAL = ("x_val", "y_val", "class_names")


def read_npz(path: Path, *, num_classes: int | None = None) -> dict[str, np.ndarray]:
    """Reads and checks the arrays of a dataset file.

    Args:
        path: .npz with x_train, y_train, x_test, y_test and, if wanted, x_val with y_val
            (else validation is taken from train) and class_names. Images are uint8 or float,
            (images, height, width) or (images, height, width, channels); labels are integers,
            (images,) or (images, 1).
        num_classes: number of classes where it is known.
    Returns: the arrays by name; images 4-D uint8 or float32, labels 1-D integers.
    Raises: DataError: the file cannot be read, or its arrays are no dataset; all problems
        at once.
    """
    arrays, problems = _read_arrays(path)
    class_names = arrays.get("class_names")
    if class_names is not None:
        if class_names.ndim == 1 and class_names.dtype.kind == "U":
            num_classes = len(class_names)
        else:
            problems.append("class_names: a 1-D array of strings is allowed")
    problems += find_problems(arrays, num_classes)
    if problems:
        raise DataError("\n".join(f"{path}: {problem}" for problem in problems))
    return arrays


def _read_arrays(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays that can be read, and what is wrong with the others."""
    arrays: dict[str, np.ndarray] = {}
    problems: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            for name in (*REQUIRED, *OPTIONAL):
                if name in names:
                    _read_array(archive, name, arrays, problems)
    except FileNotFoundError:
        return {}, ["no such file"]
    except (OSError, zipfile.BadZipFile) as error:
        return {}, [f"is not a complete .npz file ({error}); copy or download it again"]
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        problems.append(f"lacks {', '.join(missing)}; it has {', '.join(names) or 'no arrays'}")
    if ("x_val" in names) != ("y_val" in names):
        problems.append("x_val and y_val go together; give both or none")
    return arrays, problems


def _read_array(
    archive: zipfile.ZipFile, name: str, arrays: dict[str, np.ndarray], problems: list[str]
) -> None:
    try:
        with archive.open(f"{name}.npy") as member:
            array = np.lib.format.read_array(member, allow_pickle=False)
    except (KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error, ValueError) as error:
        if "allow_pickle" in str(error):
            problems.append(
                f"{name}: holds Python objects, which are never loaded; save a plain array of "
                "integers, floats or strings"
            )
        else:
            problems.append(f"{name}: is damaged ({error}); copy or download the file again")
    else:
        arrays[name] = {"x": as_images, "y": as_labels}.get(name[0], np.asarray)(array)
