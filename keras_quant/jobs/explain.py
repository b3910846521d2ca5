"""Looks into a quantized run: its values, the classes that it confuses, where it looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.data import Dataset, Split
from keras_quant.errors import RunError, UsageError
from keras_quant.explain import record as records
from keras_quant.explain.maps import class_activation_maps, mapped_call
from keras_quant.explain.record import Explained, Header, Maps
from keras_quant.explain.values import activation_histograms, kernel_histograms
from keras_quant.jobs.float_run import parent_of
from keras_quant.jobs.loaded import fitting
from keras_quant.jobs.paths import dataset_of, keras_file_of
from keras_quant.jobs.preprocess import declare
from keras_quant.model.files import load_model
from keras_quant.model.logits import AnswerFunction
from keras_quant.model.tasks import CLASSIFICATION, find_tasks
from keras_quant.runs import locked, model_of
from keras_quant.runs import records as run_records
from keras_quant.runs.progress import Progress
from keras_quant.search.judge import Batches
from keras_quant.search.kernels import plan_all, rebuilt
from keras_quant.tf import keras

DEFAULT_IMAGES = 256
DEFAULT_MAPS = 4
_AT_ONCE = 32  # whose activations are held, all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainSettings:
    """What `kq explain` is asked for.

    Attributes:
        float_model: the run or Keras file to compare with; None means what the run was made of.
        images: test images whose activations are counted, at most.
        maps: test images whose maps are drawn.
    """

    float_model: Path | None = None
    images: int = DEFAULT_IMAGES
    maps: int = DEFAULT_MAPS

    def check(self) -> None:
        """Reports what is out of range. Raises: UsageError."""
        if self.images < 1 or self.maps < 0:
            raise UsageError(
                f"--images is {self.images}, --maps is {self.maps}; 1 and 0 are the least"
            )


def explain(
    path: Path, settings: ExplainSettings, *, overwrite: bool = False, progress: Progress
) -> Explained:
    """Looks into a quantized run, and keeps what was seen in it for `kq plot`.

    Raises:
        UsageError: settings out of range, or the run is in float.
        RunError: there is a record already, and overwrite is off; or the run is broken.
        KerasQuantError: the float model or the data are broken, or of another shape.
    """
    settings.check()
    file = path / records.FILE_NAME
    run = run_records.load(path)
    if run.training is not None and run.training.method == "float":
        raise UsageError(f"{path}: is in float; give a run that was quantized")
    with locked(path):
        if file.exists() and not overwrite:
            raise RunError(f"{file}: exists. kq plot draws it; --overwrite makes it again")
        model = load_model(model_of(path))
        dataset = declare(
            dataset_of(path, None),
            asked=None,
            recorded=run.dataset.preprocess,
            model=model,
            say=progress.say,
        )
        source, name = _float(path, settings, dataset, progress)
        explained = _explain(model, source, name, dataset, settings, progress)
        records.save(explained, path)
    return explained


def _float(
    path: Path, settings: ExplainSettings, dataset: Dataset, progress: Progress
) -> tuple[keras.Model | None, str]:
    """The float model to compare with, and what it is called; None where nobody knows of one."""
    recorded = parent_of(run_records.load(path))
    giver = settings.float_model or (Path(recorded) if recorded else None)
    if giver is None or (settings.float_model is None and not giver.exists()):
        why = "was made of none" if giver is None else f"was made of {giver}, which is gone"
        progress.say(f"{path} {why}: without --float RUN nothing is compared, and no maps are made")
        return None, ""
    file = keras_file_of(giver)
    source = fitting(file, load_model(file), dataset)
    return rebuilt(plan_all(source), source), str(giver)


def _explain(
    model: keras.Model,
    source: keras.Model | None,
    name: str,
    dataset: Dataset,
    settings: ExplainSettings,
    progress: Progress,
) -> Explained:
    part = dataset.test.spread(settings.images)
    count = len(part)
    progress.say(f"counting values on {count:,} test images")
    with progress.bar("counting", count) as show:
        batches = _batches(dataset, part, show)
        counted = [*kernel_histograms(model), *activation_histograms(model, batches)]
    confusion = None
    if _is_classifier(model, dataset):
        progress.say(f"asking for answers to {len(dataset.test):,} test images")
        models = [one for one in (source, model) if one is not None]
        confusion = np.stack([_confusion(one, dataset) for one in models])
    maps: Maps | None = None
    layer_names: tuple[str, ...] = ()
    if source is not None and settings.maps and _is_classifier(model, dataset):
        maps, layer_names = _maps(source, model, dataset, settings.maps)
    return Explained(
        header=Header(
            images=count,
            split="test",
            float_model=name,
            class_names=dataset.class_names,
            tensors=tuple(tensor for tensor, _ in counted),
            layer_names=layer_names,
        ),
        histograms=tuple(histogram for _, histogram in counted),
        confusion=confusion,
        maps=maps,
    )


def _batches(
    dataset: Dataset, part: Split, show: Callable[[int, str], None]
) -> Iterator[np.ndarray]:
    for start in range(0, len(part), _AT_ONCE):
        yield np.asarray(dataset.reals(part.x[start : start + _AT_ONCE]), np.float32)
        show(min(start + _AT_ONCE, len(part)), "")


def _is_classifier(model: keras.Model, dataset: Dataset) -> bool:
    tasks = find_tasks([tuple(output.shape[1:]) for output in model.outputs], dataset)
    return dataset.has_labels and tasks[0] == CLASSIFICATION


def _confusion(model: keras.Model, dataset: Dataset) -> np.ndarray:
    """int64 (classes, classes): rows are what images show, columns what was answered."""
    answer, part, classes = AnswerFunction(model), dataset.test, dataset.num_classes
    answers = [answer(reals)[0].argmax(axis=1) for reals in Batches(dataset, part)]
    pairs = part.y.astype(np.int64) * classes + np.concatenate(answers)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def _maps(
    source: keras.Model, model: keras.Model, dataset: Dataset, count: int
) -> tuple[Maps | None, tuple[str, ...]]:
    """Maps of both models, and the layers that they are of; none where a layer has no places."""
    calls = mapped_call(source), mapped_call(model)
    if calls[0] is None or calls[1] is None or len(dataset.input_shape) != 3:
        return None, ()
    part = dataset.test.spread(count)
    reals = np.asarray(dataset.reals(part.x), np.float32)
    classes = AnswerFunction(source)(reals)[0].argmax(axis=1).astype(np.int64)
    maps = Maps(
        images=_as_picture(part.x),
        classes=classes,
        of_float=class_activation_maps(source, calls[0], reals, classes),
        of_quantized=class_activation_maps(model, calls[1], reals, classes),
    )
    return maps, (calls[0].name, calls[1].name)


def _as_picture(x: np.ndarray) -> np.ndarray:
    """uint8 with one channel or three; images of other channels become their mean."""
    values = x if x.shape[-1] in (1, 3) else x.mean(axis=-1, keepdims=True)
    if values.dtype == np.uint8:
        return np.asarray(values)
    low, high = float(values.min()), float(values.max())
    return np.asarray(np.rint(255 * (values - low) / ((high - low) or 1.0)), np.uint8)
