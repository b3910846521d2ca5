"""Members of an ensemble that are trained at once, as one net; each becomes a run of its own.

- fusion: one loss, that of the mean of all members' logits (Ensemble-PyTorch's FusionClassifier).
- soft-boosting: each member learns what the sum of those before it leaves, see `training.boosting`.

The members are joined behind one input, trained by the same loop as any net, and validated by what
they answer together. Until all are proven, the checkpoint of all lies in the first member's folder:
so a training that was stopped goes on, whichever member it had come to.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_quant.calibration.collect import Statistics
from keras_quant.data import Dataset
from keras_quant.errors import RunError, TrainingError, UsageError
from keras_quant.files import write_text
from keras_quant.jobs.finish import finish
from keras_quant.jobs.teacher import Teacher
from keras_quant.jobs.train import (
    finished,
    keep_statistics,
    loop_settings,
    made,
    opened,
    prepare,
    reestimate,
    teacher_of,
)
from keras_quant.jobs.train_settings import TrainSettings, begin_record
from keras_quant.model.files import save_model
from keras_quant.model.probabilities import are_probabilities
from keras_quant.prepare import Plan, plan
from keras_quant.proof.formats import FORMATS
from keras_quant.runs import RunFolder, check_free, history
from keras_quant.runs.progress import Progress
from keras_quant.tf import keras
from keras_quant.training import checkpoint
from keras_quant.training.loop import LoopSettings, train_epochs

Planned = tuple[Path, TrainSettings]
"""A member's folder, and its settings."""


def train_together(
    planned: Sequence[Planned],
    *,
    command: tuple[str, ...] = (),
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress,
) -> None:
    """Trains all members at once, then exports and proves each.

    The first one's settings say how long, by which steps and on what all are trained.

    Args:
        planned: two members or more, with one `together`, on the same images.
        resume: finished members are kept; where any is left, all go on from their last epoch.
    Raises:
        UsageError: settings ask for what members cannot have together.
        KerasQuantError: see `train`.
    """
    kept = {path for path, each in planned if resume and finished(path, each)}
    if len(kept) == len(planned):
        return
    first, leading = planned[0]
    if kept and not (first / checkpoint.FILE_NAME).exists():
        raise RunError(
            f"{', '.join(map(str, kept))}: finished, but not trained with the other members, of "
            f"which {first} holds no {checkpoint.FILE_NAME}; --overwrite trains all anew"
        )
    starts = [_start(each, progress) for _, each in planned]
    _check_same_pixels(planned, starts)
    dataset = starts[0].dataset
    teacher = teacher_of(leading, starts[0].source, dataset)

    def make(files: Mapping[Path, Path]) -> list[tuple[keras.Model, Statistics | None]]:
        return [
            made(
                *(start.planned, start.source, start.dataset, each),
                file=files.get(path),
                progress=progress,
            )
            for (path, each), start in zip(planned, starts, strict=True)
        ]

    if not resume:
        for path, _ in planned:
            check_free(path, overwrite=overwrite)
    before = None if resume else make({})  # what is refused is told before runs are replaced
    with contextlib.ExitStack() as stack:
        runs = []
        for (path, each), start in zip(planned, starts, strict=True):
            record = begin_record(each, dataset, start.planned.float_layers, command)
            again = resume and path.exists()
            if path not in kept:
                run = opened(path, record, each.scheme, overwrite=overwrite, resume=again)
                runs.append(stack.enter_context(run))
        files = {path: RunFolder(path).statistics for path, _ in planned}
        members = before or make(files)
        for file, (_, statistics) in zip(files.values(), members, strict=True):
            keep_statistics(statistics, file)
        models = [model for model, _ in members]
        progress.say(f"training {len(models)} members at once, {leading.together}")
        _train(models, planned, dataset, teacher, resume=resume, progress=progress)
        rows = checkpoint.load(first)
        assert rows is not None
        left = [place for place, (path, _) in enumerate(planned) if path not in kept]
        for place, (folder, record) in zip(left, runs, strict=True):
            progress.say(f"member {place + 1} of {len(planned)}: {folder.path}")
            write_text(folder.path / history.FILE_NAME, history.to_csv(rows.history))
            model, source = models[place], starts[place].source
            reestimate(model, dataset, planned[place][1], progress)
            formats = [FORMATS["tflite"]]
            finish(model, source, dataset, folder, record, formats, progress=progress)
        (first / checkpoint.FILE_NAME).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Start:
    """What a member begins with: its float model, the images, declared, and what is quantized."""

    source: keras.Model
    dataset: Dataset
    planned: Plan


def _start(settings: TrainSettings, progress: Progress) -> _Start:
    source, dataset, _ = prepare(settings, progress)
    if any(are_probabilities(source)):
        raise UsageError(
            f"{settings.model} ends in a softmax; members that are trained at once end in logits"
        )
    return _Start(source=source, dataset=dataset, planned=plan(source, settings.scheme))


def _check_same_pixels(planned: Sequence[Planned], starts: Sequence[_Start]) -> None:
    """Raises: UsageError: members take other pixels."""
    for (_, each), start in zip(planned, starts, strict=True):
        if start.dataset.preprocessing != starts[0].dataset.preprocessing:
            raise UsageError(
                f"{planned[0][1].model} and {each.model} take other pixels; members that are "
                "trained at once get the same: give --preprocess"
            )


def _train(
    models: Sequence[keras.Model],
    planned: Sequence[Planned],
    dataset: Dataset,
    teacher: Teacher | None,
    *,
    resume: bool,
    progress: Progress,
) -> None:
    path, settings = planned[0]
    folder = RunFolder(path)
    joint = joined(models, settings)
    try:
        train_epochs(
            joint,
            joint,
            dataset,
            _settings(settings, dataset, folder, len(models)),
            teacher=teacher,
            folder=path,
            resume=resume,
            progress=progress,
        )
    except TrainingError:
        for model, (member, _) in zip(models, planned, strict=True):
            save_model(model, RunFolder(member).model)
        raise


def _settings(
    settings: TrainSettings, dataset: Dataset, folder: RunFolder, members: int
) -> LoopSettings:
    given = loop_settings(settings, dataset, folder)
    if settings.together == "fusion":
        return given
    # What is shown is the loss of the sum; the steps are by those of the members.
    weights = (0.0,) * members + (1.0,)
    return dataclasses.replace(given, soft_boosted=settings.shrinkage, loss_weights=weights)


def joined(models: Sequence[keras.Model], settings: TrainSettings) -> keras.Model:
    """One net of several, which share its input; weights stay theirs.

    Args:
        models: from equal images to (batch, classes) logits.
        settings: what they are together.
    Returns: a model that puts out the mean of their logits; of soft boosting each one's logits,
        and last their sum, each times the shrinkage.
    """
    image = keras.Input(models[0].input_shape[1:], name="joint_image")
    with _told_apart(models):
        return keras.Model(image, _ENDS[settings.together]([m(image) for m in models], settings))


def _fused(logits: list[object], settings: TrainSettings) -> object:
    return keras.layers.Average(name="joint_mean")(logits)


def _summed(logits: list[object], settings: TrainSettings) -> list[object]:
    total = keras.layers.Add(name="joint_add")(logits)
    return [*logits, keras.layers.Rescaling(settings.shrinkage, name="joint_sum")(total)]


_ENDS: Mapping[str, Callable[[list[object], TrainSettings], object]] = {
    "fusion": _fused,
    "soft-boosting": _summed,
}


@contextlib.contextmanager
def _told_apart(models: Sequence[keras.Model]) -> Iterator[None]:
    """Gives models other names for a while: Keras takes no two layers of one name."""
    names = [model.name for model in models]
    try:
        for number, model in enumerate(models, start=1):
            model._name = f"member{number}"
        yield
    finally:
        for model, name in zip(models, names, strict=True):
            model._name = name
