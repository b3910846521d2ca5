"""What a path that the user gave stands for: files to run, and the data that belong to it."""

from __future__ import annotations

from pathlib import Path

from keras_quant.data import DATASETS, Dataset, load_dataset
from keras_quant.data.view import view_of, whole_name
from keras_quant.errors import ModelError, RunError, UsageError
from keras_quant.files import check_is_file
from keras_quant.model.suffixes import KERAS_SUFFIXES, is_keras_model, is_saved_model
from keras_quant.proof.formats import FORMATS
from keras_quant.proof.record import PARITY_NAME, is_recorded, read_records
from keras_quant.runs import RunFolder, model_of, records
from keras_quant.runs.records import RunRecord

ImageSize = tuple[int, int]


def files_of(path: Path) -> list[Path]:
    """The files that a path stands for: itself, or a run's model and what was exported of it.

    Raises:
        ModelError: there is no such file.
        RunError: there is no such run, or files that it proved are gone or others.
    """
    if is_saved_model(path):
        return [path]
    suffixes = tuple(dict.fromkeys((*KERAS_SUFFIXES, *(f.suffix for f in FORMATS.values()))))
    if path.suffix.lower() in suffixes:
        check_is_file(path, ModelError)
        return [path]
    if not path.is_dir():
        what = "is another kind of file" if path.exists() else "no such run folder"
        raise RunError(
            f"{path}: {what}; give a run, a file ending with "
            f"{', '.join(suffixes)}, or a SavedModel folder"
        )
    model, folder = model_of(path), RunFolder(path).export
    _check_recorded(path, folder)
    exported = [folder / form.file_name for form in FORMATS.values()]
    return [model, *(file for file in exported if file.exists())]


def exported_file(run: Path, form: str) -> Path:
    """The file of a run in a format.

    Args:
        form: a key of FORMATS.
    Raises:
        RunError: there is none, or another than was proven.
    """
    folder = RunFolder(run).export
    file = folder / FORMATS[form].file_name
    if not file.is_file():
        raise RunError(f"{run}: no {form} file there. Export it: kq export {run} --to {form}")
    record = read_records(folder).get(form)
    if record is None or not is_recorded(folder, record):
        raise RunError(
            f"{file}: is not the file that {PARITY_NAME} beside it proved. Export it again: kq "
            f"export {run} --to {form} --overwrite"
        )
    return file


def keras_file_of(path: Path) -> Path:
    """The Keras model that a path stands for: itself, or that of a run.

    Raises:
        RunError: it is neither, or the run has no model yet.
    """
    return path if is_keras_model(path) else model_of(path)


def _check_recorded(run: Path, folder: Path) -> None:
    """Checks that the files that passed are there still, and are those that did."""
    problems, formats = [], []
    for name, record in read_records(folder).items():
        if record.get("passed") and not is_recorded(folder, record):
            file = folder / record["file"]
            what = "is not the file" if file.exists() else "is missing, the file"
            problems.append(f"{file} {what} that {PARITY_NAME} says was proven")
            formats.append(name)
    if problems:
        raise RunError(
            f"{'; '.join(problems)}. Export it again: kq export {run} --to {','.join(formats)} "
            "--overwrite"
        )


def dataset_of(
    path: Path, name: str | None, image_size: ImageSize | None = None, *, whole: bool = False
) -> Dataset:
    """Loads a dataset by name, or the one that the run around a path was trained on.

    Args:
        image_size: (height, width) that the images of a folder are resized to; None means that of
            the run, or of the first image.
        whole: the run's images with all their pixels, where it was trained on fewer.
    Raises:
        UsageError: no name was given, and the path belongs to no run.
        DataError: see load_dataset.
    """
    record = record_around(path)
    if image_size is None and record is not None and len(record.dataset.input_shape) == 3:
        image_size = record.dataset.input_shape[0], record.dataset.input_shape[1]
    if name is not None:
        return load_dataset(name, image_size=_of_folder(name, image_size))
    if record is None:
        raise UsageError(f"{path} belongs to no run: say which data with --dataset")
    own = record.dataset.name
    return load_dataset(
        whole_name(own) if whole else own,
        seed=record.split_seed,
        validation_fraction=record.dataset.validation_fraction,
        image_size=_of_folder(own, image_size),
    )


def _of_folder(name: str, image_size: ImageSize | None) -> ImageSize | None:
    """The size that images are resized to; None where they are in no folder, or are averaged."""
    view = view_of(name)
    is_folder = view.base not in DATASETS and Path(view.base).is_dir()
    return image_size if is_folder and not view.pixels else None


def record_around(path: Path) -> RunRecord | None:
    """The record of the run that a path is, or lies in.

    Raises:
        RunError: it is broken.
    """
    run = next((p for p in (path, *path.parents) if (p / records.FILE_NAME).exists()), None)
    return None if run is None else records.load(run)
