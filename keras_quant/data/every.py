"""All images that a path holds, in their order, each with a name: for those who want answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.data.catalog import DATASETS
from keras_quant.data.checks import PARTS
from keras_quant.data.dataset import NO_LABEL
from keras_quant.data.folder import read_all
from keras_quant.data.npz import read_npy, read_npz
from keras_quant.errors import DataError, close_names


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NamedImages:
    """Images with names.

    Attributes:
        names: of files, from the folder on; of arrays, as in x_train[12].
        x: uint8 or float32 (images, height, width, channels), or (vectors, features).
        y: int32 (images,); NO_LABEL where nothing says what is in them.
        class_names: one a class; () without labels, or where these are numbers.
        num_classes: 0 without labels.
    """

    names: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    class_names: tuple[str, ...]
    num_classes: int


def read_every(
    path: Path,
    *,
    image_size: tuple[int, int] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> NamedImages:
    """Reads all images of a folder, a .npz or a .npy file, whatever part they are of.

    A folder of folders has labels where `read_folder` takes it; any other has none.

    Args:
        image_size: (height, width) that those of a folder are resized to; None means that of the
            first.
        say: is told what is not usual.
    Raises:
        DataError: the path holds no images, or broken ones; all problems at once.
    """
    if path.is_dir():
        arrays, files = read_all(path, image_size=image_size, say=say)
        return _named(arrays, [str(file.relative_to(path)) for file in files])
    if path.suffix == ".npz":
        return _named(read_npz(path, hold_out=False, say=say), None)
    if path.suffix == ".npy":
        return _named(read_npy(path, hold_out=False, say=say), None)
    raise DataError(
        f"{path}: no such folder, and no .npz or .npy file{close_names(str(path), DATASETS)}"
    )


def _named(arrays: dict[str, np.ndarray], names: list[str] | None) -> NamedImages:
    parts = [part for part in PARTS if f"x_{part}" in arrays]
    x = np.concatenate([arrays[f"x_{part}"] for part in parts])
    has_labels = "y_train" in arrays
    y = np.concatenate(
        [arrays.get(f"y_{part}", np.full(len(arrays[f"x_{part}"]), NO_LABEL)) for part in parts]
    ).astype(np.int32)
    if names is None:
        names = [f"x_{part}[{row}]" for part in parts for row in range(len(arrays[f"x_{part}"]))]
    class_names = tuple(map(str, arrays.get("class_names", ())))
    return NamedImages(
        names=tuple(names),
        x=x,
        y=y,
        class_names=class_names,
        num_classes=len(class_names) or (int(y.max()) + 1 if has_labels else 0),
    )
