"""The validation images of a run that starts from another one's weights.

What the other one was trained on is no measure of the new one: both are to have one split.
"""

from __future__ import annotations

from pathlib import Path

from keras_quant.data.catalog import DATASETS
from keras_quant.data.view import view_of
from keras_quant.errors import warn
from keras_quant.jobs.paths import record_around
from keras_quant.jobs.train_settings import TrainSettings
from keras_quant.model.suffixes import is_keras_model
from keras_quant.runs import records
from keras_quant.runs.records import RunRecord


def run_behind(model: str, parent: Path | None) -> RunRecord | None:
    """The run whose weights training starts from: that of --from, or the one a Keras file is of.

    Returns: its record; None where there is no such run.
    Raises:
        RunError: it cannot be read.
    """
    if parent is not None:
        return records.load(parent)
    return record_around(Path(model)) if is_keras_model(Path(model)) else None


def has_images_of(run: RunRecord, dataset: str) -> bool:
    """Whether a run was trained on the images that a dataset's name stands for, in any view."""
    return _base(run.dataset.name) == _base(dataset)


def _base(dataset: str) -> str | Path:
    base = view_of(dataset).base
    return base if base in DATASETS else Path(base).resolve()


def warn_of_seen(settings: TrainSettings, run: RunRecord | None) -> None:
    """Warns where a run would be validated on images that the one behind it was trained on.

    Args:
        run: see `run_behind`.
    """
    if run is None or not has_images_of(run, settings.dataset):
        return
    theirs = run.split_seed, run.dataset.validation_fraction
    ours = settings.chooses_validation, settings.validation_fraction
    if theirs == ours:
        return
    start = settings.model if settings.parent is None else f"--from {settings.parent}"
    warn(
        f"{start}: it held out {theirs[1]:g} of the training images by seed {theirs[0]}, and this "
        f"run holds out {ours[1]:g} by seed {ours[0]}. So it is validated on images that these "
        "weights were trained on, and will look better than it is; but for data with validation "
        f"images of their own. For the same images: --split-seed {theirs[0]} "
        f"--validation-fraction {theirs[1]:g}"
    )
