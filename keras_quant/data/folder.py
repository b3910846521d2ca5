"""Reading a folder of PNG and JPEG images, one subfolder a class."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from keras_quant.data.checks import find_problems
from keras_quant.data.split import hold_out_test
from keras_quant.errors import DataError, close_names

ENDINGS = (".png", ".jpg", ".jpeg")
PARTS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
MAX_LISTED = 10  # problems that are written out; the rest are counted


class _Entry(NamedTuple):
    part: str
    label: int
    file: Path


def read_folder(path: Path, *, image_size: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
    """Reads path/CLASS/*.png, or path/train/CLASS/*.png with test/ and val/ beside it.

    Classes are numbered in the order of their names. Without test/, a fifth of the images is
    held out (see hold_out_test). Images are turned as their EXIF data says, resized to one
    size whatever their proportions, and grey only if all of them are.

    Args:
        image_size: (height, width) of all images; None takes that of the first.
    Returns: x_train, y_train, x_test, y_test, class_names, and x_val, y_val where there is
        val/; images uint8 (images, height, width, 1 or 3).
    Raises: DataError: there are no images, a file is unreadable or of another kind, or a class
        is empty; all problems at once.
    """
    class_names, entries, problems = _find_files(path)
    x, unreadable = _read_images(path, [entry.file for entry in entries], image_size)
    problems += unreadable
    if problems:
        raise _folder_error(path, problems)
    arrays = {}
    for part in {entry.part: None for entry in entries}:
        of_part = [index for index, entry in enumerate(entries) if entry.part == part]
        arrays[f"x_{part}"] = x[of_part]
        arrays[f"y_{part}"] = np.array([entries[index].label for index in of_part])
    if "x_test" not in arrays:
        arrays |= hold_out_test(arrays["x_train"], arrays["y_train"])
    if problems := find_problems(arrays, len(class_names)):
        raise _folder_error(path, problems)
    return arrays | {"class_names": np.array(class_names)}


def _folder_error(path: Path, problems: list[str]) -> DataError:
    listed = problems[:MAX_LISTED]
    if len(problems) > MAX_LISTED:
        listed.append(f"and {len(problems) - MAX_LISTED} more problems like these")
    return DataError("\n".join(f"{path}: {problem}" for problem in listed))


def _visible(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))


def _subfolders(path: Path) -> list[Path]:
    return [entry for entry in _visible(path) if entry.is_dir()]


def _find_parts(path: Path) -> dict[str, Path]:
    """The folder of each part. A subfolder "train" of images alone is a class of that name."""
    if not ((path / "train").is_dir() and _subfolders(path / "train")):
        return {"train": path}
    return {part: path / name for name, part in PARTS.items() if (path / name).is_dir()}


def _find_files(path: Path) -> tuple[list[str], list[_Entry], list[str]]:
    """The class names, the files of each class and part, and what is wrong with the folders."""
    parts = _find_parts(path)
    class_names = [folder.name for folder in _subfolders(parts["train"])]
    entries, problems = [], []
    if len(class_names) < 2:
        problems.append(
            "two subfolders of images or more are needed, one a class; found: "
            f"{', '.join(class_names) or 'none'}"
        )
    for part, part_folder in parts.items():
        for folder in _subfolders(part_folder):
            shown = folder.relative_to(path)
            if folder.name not in class_names:
                close = close_names(folder.name, class_names)
                problems.append(f"{shown}: the training images have no such class{close}")
                continue
            files, problem = _find_images(folder)
            problems += [f"{shown}: {problem}"] if problem else []
            label = class_names.index(folder.name)
            entries += [_Entry(part, label, file) for file in files]
    return class_names, entries, problems


def _find_images(folder: Path) -> tuple[list[Path], str]:
    images = [file for file in _visible(folder) if file.suffix.lower() in ENDINGS]
    others = [file for file in _visible(folder) if file.suffix.lower() not in ENDINGS]
    if others:
        return images, (
            f"{len(others)} entries are neither PNG nor JPEG, the first is {others[0].name}; "
            "convert or move them"
        )
    return images, "" if images else "has no images; add PNG or JPEG files, or remove the folder"


def _read_images(
    path: Path, files: list[Path], size: tuple[int, int] | None
) -> tuple[np.ndarray, list[str]]:
    """All images, uint8 (images, height, width, channels), and what is wrong with the files."""
    images, problems = [], []
    for file in files:
        try:
            images.append(_read_image(file, size))
        # SyntaxError is what Pillow raises for a broken PNG chunk.
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            problems.append(f"{file.relative_to(path)}: cannot be read as an image ({error})")
        else:
            size = size or images[0].shape[:2]
    channels = max((image.shape[-1] for image in images), default=1)
    x = np.empty((len(images), *(size or (0, 0)), channels), dtype=np.uint8)
    for index, image in enumerate(images):
        x[index] = image  # a grey one is repeated over the channels
    return x, problems


def _read_image(file: Path, size: tuple[int, int] | None) -> np.ndarray:
    with Image.open(file) as image:
        if image.mode[0] in "IF":  # Pillow would clip these to 8 bits, not scale them
            raise ValueError(f"mode is {image.mode}; 8 bits a channel are allowed")
        grey = image.mode in ("1", "L", "LA")
        upright = ImageOps.exif_transpose(image).convert("L" if grey else "RGB")
    if size and upright.size != size[::-1]:
        upright = upright.resize(size[::-1], Image.Resampling.BILINEAR)
    pixels = np.asarray(upright)
    return pixels[..., np.newaxis] if grey else pixels
