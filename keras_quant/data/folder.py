"""Reading a folder of images: one subfolder a class, or pictures without labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_quant.data.checks import PART_NAMES, find_problems
from keras_quant.data.dataset import NO_LABEL
from keras_quant.data.images import ENDINGS, KINDS, read_images
from keras_quant.data.split import hold_out_test
from keras_quant.errors import DataError, close_names

MAX_LISTED = 10  # problems that are written out; the rest are counted


class _Entry(NamedTuple):
    part: str
    label: int
    file: Path


def read_folder(
    path: Path,
    *,
    image_size: tuple[int, int] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, np.ndarray]:
    """Reads path/CLASS/*.png, path/*.png, or path/train/CLASS/*.png with test/ and val/ beside it.

    The parts may be called as in PART_NAMES. Classes are numbered in the order of their names; what
    lies in folders inside a class is the class's. Without test/, a fifth of the images is held
    out (see hold_out_test). Images are turned as their EXIF data says, resized to one size
    whatever their proportions, and grey only if all of them are. A folder of images and no folders
    has no labels.

    Args:
        image_size: (height, width) of all images; None takes that of the first.
        say: is told of folders that are left out or lie inside of classes, and of images of other
            sizes.
    Returns: x_train, y_train, x_test, y_test, class_names, and x_val, y_val where there is
        val/; images uint8 (images, height, width, 1 or 3). Without labels x_train and x_test.
    Raises: DataError: there are no images, a file is unreadable or of another kind, or a class
        is empty; all problems at once.
    """
    if not _subfolders(path) and any(_is_image(file) for file in _visible(path)):
        return _read_pictures(path, image_size, say)
    class_names, entries, problems = _find_files(path, say)
    x, unreadable = read_images([entry.file for entry in entries], path, image_size, say)
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


def read_all(
    path: Path,
    *,
    image_size: tuple[int, int] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, np.ndarray], list[Path]]:
    """Reads all images of a folder, and of those in it, as of one part.

    They have labels where `read_folder` takes the folder; those that it leaves out, as they lie
    beside the classes' folders, have NO_LABEL.

    Args:
        image_size, say: see `read_folder`.
    Returns: x_train, and with labels y_train and class_names; and the files in their order.
    Raises: DataError: see `read_folder`.
    """
    class_names, entries, problems = _find_files(path, lambda text: None)
    if _subfolders(path) and not problems:
        files = [file for file in _all_files(path) if _is_image(file)]
    else:
        files, problem = _find_images(path)
        entries, problems = [], [problem] if problem else []
    x, unreadable = read_images(files, path, image_size, say)
    if problems := problems + unreadable:
        raise _folder_error(path, problems)
    arrays = {"x_train": x}
    if entries:
        labels = {entry.file: entry.label for entry in entries}
        arrays["y_train"] = np.array([labels.get(file, NO_LABEL) for file in files])
        arrays["class_names"] = np.array(class_names)
    return arrays, files


def _read_pictures(
    path: Path, image_size: tuple[int, int] | None, say: Callable[[str], None]
) -> dict[str, np.ndarray]:
    """Reads images that nothing says the class of."""
    files, problem = _find_images(path)
    x, problems = read_images(files, path, image_size, say)
    problems += [problem] if problem else []
    arrays = {} if problems else hold_out_test(x)
    problems += find_problems(arrays, None)
    if problems:
        raise _folder_error(path, problems)
    return arrays


def _folder_error(path: Path, problems: list[str]) -> DataError:
    listed = problems[:MAX_LISTED]
    if len(problems) > MAX_LISTED:
        listed.append(f"and {len(problems) - MAX_LISTED} more problems like these")
    return DataError("\n".join(f"{path}: {problem}" for problem in listed))


def _visible(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))


def _subfolders(path: Path) -> list[Path]:
    return [entry for entry in _visible(path) if entry.is_dir()]


def _find_parts(path: Path, say: Callable[[str], None]) -> tuple[dict[str, Path], list[str]]:
    """The folder of each part, and what is wrong with them.

    A subfolder "train" of images alone is a class of that name.
    """
    named: dict[str, list[Path]] = defaultdict(list)
    others = []
    for folder in _subfolders(path):
        part = PART_NAMES.get(folder.name.lower())
        named[part].append(folder) if part else others.append(folder.name)
    if not any(_subfolders(folder) for folder in named["train"]):
        only_parts = bool(named["val"] or named["test"]) and not (others or named["train"])
        found = ", ".join(folder.name for part in named.values() for folder in part)
        return {"train": path}, [f"holds {found}, but no train"] if only_parts else []
    problems = [
        f"{' and '.join(folder.name for folder in folders)} are names of one part; keep one"
        for folders in named.values()
        if len(folders) > 1
    ]
    for name in others:
        if close := close_names(name.lower(), PART_NAMES):
            problems.append(f"{name}: is no part{close}; rename it, or move it away")
        else:
            say(f"{name}/ is no part of the set, and is left out")
    return {part: folders[0] for part, folders in named.items() if folders}, problems


def _find_files(
    path: Path, say: Callable[[str], None]
) -> tuple[list[str], list[_Entry], list[str]]:
    """The class names, the files of each class and part, and what is wrong with the folders."""
    parts, problems = _find_parts(path, say)
    class_names = [folder.name for folder in _subfolders(parts["train"])]
    if not (problems or class_names or any(map(_is_image, _all_files(path)))):
        found = "other files, and no images" if any(path.iterdir()) else "nothing"
        return [], [], [f"holds {found}; put {KINDS} files into it, one subfolder a class"]
    if len(class_names) < 2 and not problems:
        problems.append(
            "two subfolders of images or more are needed, one a class; found: "
            f"{', '.join(class_names) or 'none'}{_hint(parts['train'])}"
        )
    entries, nested = [], []
    for part, part_folder in parts.items():
        for folder in _subfolders(part_folder):
            shown = folder.relative_to(path)
            if folder.name not in class_names:
                close = close_names(folder.name, class_names)
                problems.append(f"{shown}: the training images have no such class{close}")
                continue
            files, problem = _find_images(folder)
            problems += [f"{shown}: {problem}"] if problem else []
            nested += [shown] if any(file.parent != folder for file in files) else []
            label = class_names.index(folder.name)
            entries += [_Entry(part, label, file) for file in files]
    if nested:
        say(
            f"{len(nested)} classes hold folders, whose images are theirs; the first is {nested[0]}"
        )
    return class_names, entries, problems


def _hint(path: Path) -> str:
    """Where the classes may be, if a folder holds nothing but one that has several inside."""
    inside = _subfolders(path)
    if len(inside) == 1 and len(_subfolders(inside[0])) > 1:
        return f". {inside[0].name}/ has several: is that the folder?"
    return ""


def _find_images(folder: Path) -> tuple[list[Path], str]:
    found = _all_files(folder)
    images = [file for file in found if _is_image(file)]
    others = [file for file in found if not _is_image(file)]
    if others:
        return images, (
            f"{len(others)} entries are no {KINDS}, the first is "
            f"{others[0].relative_to(folder)}; convert or move them"
        )
    return images, "" if images else f"has no images; add {KINDS} files, or remove the folder"


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in ENDINGS


def _all_files(folder: Path) -> list[Path]:
    """The files of a folder and of those inside it, without hidden ones, by name."""
    files = []
    for entry in _visible(folder):
        files += _all_files(entry) if entry.is_dir() else [entry]
    return files
