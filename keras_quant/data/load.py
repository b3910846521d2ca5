"""From a dataset's name or path to checked splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from keras_quant.data.catalog import DATASETS
from keras_quant.data.dataset import CROP_PADDING, NO_LABEL, Dataset, Split
from keras_quant.data.folder import read_folder
from keras_quant.data.named import read_named
from keras_quant.data.npz import read_npy, read_npz
from keras_quant.data.split import stratified_split
from keras_quant.data.view import view_of, with_fewer_pixels, with_noise
from keras_quant.errors import DataError, UsageError, close_names
from keras_quant.preprocessing import UNIT


def load_dataset(
    name_or_path: str,
    *,
    seed: int = 0,
    validation_fraction: float = 0.1,
    image_size: tuple[int, int] | None = None,
) -> Dataset:
    """Loads a dataset and splits it into train, validation and test.

    Pixels are declared to become reals of 0 to 1, until somebody says otherwise.

    Args:
        name_or_path: a key of DATASETS, a .npz or .npy file (see read_npz, read_npy), or a folder
            of images (see read_folder), and +noise25, +elbo or +16px behind it (see `view`).
            Files and folders may have no labels.
        seed: chooses the validation images.
        validation_fraction: share of the training images that is held out, in (0, 1); not
            used where the data has a validation part of its own.
        image_size: (height, width) to resize the images of a folder to, before pixels are averaged.
    Raises:
        DataError: there is no such dataset, or it is broken; all problems at once.
        UsageError: validation_fraction is out of range, image_size does not apply, or images do
            not have more pixels than are asked for.
    """
    view = view_of(name_or_path)
    base = view.base
    _check_arguments(base, validation_fraction, image_size)
    notes: list[str] = []
    if base in DATASETS:
        arrays, source = read_named(base)
    else:
        arrays, source = _read_path(Path(base), image_size, notes.append), base
    if view.noise:
        arrays = with_noise(arrays, view)
        notes.append(f"noise of standard deviation {view.noise} is added to pixels of 0 to 255")
    crop_padding = CROP_PADDING
    if view.pixels:
        whole = arrays["x_train"].shape[1:3]
        arrays = with_fewer_pixels(arrays, view)
        made = arrays["x_train"].shape[1:3]
        # The same share of what is in the image.
        crop_padding = max(1, round(CROP_PADDING * made[0] / whole[0]))
        notes.append(f"images of {whole[0]}x{whole[1]} pixels are averaged to {made[0]}x{made[1]}")
    train, validation = _hold_out_validation(arrays, validation_fraction, seed)
    return Dataset(
        name=name_or_path,
        train=train,
        validation=validation,
        test=_part(arrays, "test"),
        class_names=_class_names(base, arrays),
        source=source,
        augment=base in DATASETS and DATASETS[base].augment,
        crop_padding=crop_padding,
        preprocessing=UNIT if train.x.dtype == np.uint8 else None,
        notes=tuple(notes),
        elbo=view.elbo,
    )


def _check_arguments(
    name_or_path: str, validation_fraction: float, image_size: tuple[int, int] | None
) -> None:
    problems = []
    if not 0 < validation_fraction < 1:
        problems.append(
            f"validation_fraction is {validation_fraction}; more than 0 and less than 1 is allowed"
        )
    if image_size and not Path(name_or_path).is_dir():
        problems.append(f"image_size is for a folder of images; {name_or_path} is none")
    if image_size and min(image_size) < 1:
        problems.append(f"image_size is {image_size}; 1 or more pixels are allowed")
    if problems:
        raise UsageError("\n".join(problems))


def _read_path(
    path: Path, image_size: tuple[int, int] | None, say: Callable[[str], None]
) -> dict[str, np.ndarray]:
    if path.is_dir():
        return read_folder(path, image_size=image_size, say=say)
    if path.suffix == ".npz":
        return read_npz(path, say=say)
    if path.suffix == ".npy":
        return read_npy(path, say=say)
    raise _unknown(str(path))


def check_known(name_or_path: str) -> None:
    """Checks a dataset's name and what stands behind its +, and that a path is there.

    Raises:
        DataError: there is no such dataset.
        UsageError: what stands behind the + cannot be read.
    """
    base = view_of(name_or_path).base
    if base not in DATASETS and not Path(base).exists():
        raise _unknown(base)


def _unknown(name: str) -> DataError:
    return DataError(
        f"no dataset '{name}'{close_names(name, DATASETS)}; give one of "
        f"{', '.join(DATASETS)}, a .npz or .npy file or a folder of images"
    )


def _hold_out_validation(
    arrays: Mapping[str, np.ndarray], fraction: float, seed: int
) -> tuple[Split, Split]:
    train = _part(arrays, "train")
    if "x_val" in arrays:
        return train, _part(arrays, "val")
    kept, held = stratified_split(train.y, fraction, seed=seed)
    if not (len(kept) and len(held)):
        raise DataError(
            f"{len(train)} training images cannot be split with validation_fraction {fraction}; "
            "give more images or another fraction"
        )
    return train.at(kept), train.at(held)


def _part(arrays: Mapping[str, np.ndarray], part: str) -> Split:
    x, y = arrays[f"x_{part}"], arrays.get(f"y_{part}")
    labels = np.full(len(x), NO_LABEL) if y is None else y
    return Split(x=x, y=labels.astype(np.int32), clean=arrays.get(f"clean_{part}"))


def _class_names(name: str, arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    if "class_names" in arrays:
        return tuple(arrays["class_names"].tolist())
    if name in DATASETS:
        info = DATASETS[name]
        return info.class_names or tuple(map(str, range(info.num_classes)))
    if "y_train" not in arrays:
        return ()
    return tuple(map(str, range(int(arrays["y_train"].max()) + 1)))
