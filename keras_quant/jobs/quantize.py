"""The second job: a float model becomes a run without training, calibrated, exported and proven."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from keras_quant import runs
from keras_quant.calibration.choose import check_calibrators, load_calibrator
from keras_quant.calibration.collect import Statistics
from keras_quant.calibration.data_free import check_imaginable, imagine
from keras_quant.calibration.quantize import quantize
from keras_quant.calibration.store import load_statistics, save_statistics
from keras_quant.data import Dataset
from keras_quant.errors import RunError, UsageError, close_names
from keras_quant.files import write_text
from keras_quant.jobs.begin import begun, describe_data, now
from keras_quant.jobs.calibration import check_known, collect_statistics, pixels_of
from keras_quant.jobs.export import Exported
from keras_quant.jobs.finish import finish
from keras_quant.jobs.kept_rounding import forget
from keras_quant.jobs.limited_drop import as_asked, check_limitable, limit_drop
from keras_quant.jobs.loaded import fitting
from keras_quant.jobs.paths import dataset_of, keras_file_of, record_around
from keras_quant.jobs.preprocess import declare, without_labels
from keras_quant.jobs.quantize_settings import RANDOM, QuantizeSettings
from keras_quant.jobs.remedies import (
    Remedies,
    absorbed,
    default_bias,
    equalized,
    norms_measured,
    repaired,
    said_of_norms,
)
from keras_quant.jobs.source import build_float
from keras_quant.lower import lower
from keras_quant.methods import load_method
from keras_quant.methods.rules import check_methods
from keras_quant.model.applications import APPLICATIONS, preprocessing_of
from keras_quant.model.files import load_model
from keras_quant.model.inputs import image_size
from keras_quant.model.suffixes import MODEL_KINDS, is_keras_model
from keras_quant.prepare import Plan, plan
from keras_quant.prepare.adjust.absorb import absorb_biases
from keras_quant.prepare.adjust.equalize import rescaled
from keras_quant.preprocessing import Preprocessing
from keras_quant.proof.formats import Format
from keras_quant.runs import RunFolder, records
from keras_quant.runs.progress import Progress
from keras_quant.runs.records import (
    LearningRecord,
    ModelRecord,
    QuantizationRecord,
    RunRecord,
)
from keras_quant.schemes.file import scheme_to_dict, scheme_to_yaml
from keras_quant.schemes.scheme import Scheme
from keras_quant.tf import keras
from keras_quant.training.norms import reestimate_norms
from keras_quant.version import __version__
from keras_quant.zoo import MODELS

# Over which batch norms of random weights are measured: with the statistics that they begin with,
# values of a deep net come to be as small as 1e-13 (MobileNetV3).
RANDOM_IMAGES = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuantizeResult:
    """A finished run: its folder, its record, and what the model and its files answer."""

    folder: RunFolder
    record: RunRecord
    exported: Exported


def quantize_run(
    settings: QuantizeSettings,
    path: Path,
    formats: Sequence[Format],
    *,
    command: tuple[str, ...] = (),
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress,
) -> QuantizeResult:
    """Quantizes a float model without training, evaluates it beside its source, and exports it.

    Args:
        path: the run's folder; must not hold a run unless overwrite is given.
        formats: what to write it as.
        command: the process's arguments, for the record.
        resume: go on with a run that was stopped; settings must be those it was begun with.
    Raises:
        KerasQuantError: a subclass says what is wrong with the input, or what failed.
        ParityError: an exported file does not answer as the reference does.
        AccuracyError: more is lost than max_drop allows, even with 8 bits.
    """
    check(settings, path)
    check_source(settings)
    source, dataset = _load(settings, progress)
    planned = plan(source, settings.scheme)
    if settings.bias is None:
        bias = default_bias(planned, has_images=settings.data != "none")
        settings = replace(settings, bias=bias)
    if settings.data == "none":
        check_imaginable(planned, pixels_of(dataset))
    if settings.max_drop is not None:
        check_limitable(source, dataset)
    record = _begin(settings, dataset, planned.float_layers, command)
    if not resume:
        runs.check_free(path, overwrite=overwrite)
    # What is refused is told before there is a folder, or a run is replaced.
    before = None if resume else _sketched(source, dataset, settings, settings.statistics, progress)
    opened = runs.reopen(path) if resume else runs.create(path, overwrite=overwrite)
    with opened as folder:
        if resume:
            record = begun(path, record, again="quantizes", as_asked=as_asked)
        else:
            records.save(record, folder.path)  # first: without it a folder is no run
        write_text(folder.scheme, scheme_to_yaml(settings.scheme))
        earlier = folder.statistics if folder.statistics.exists() else None
        file = settings.statistics or earlier
        sketch = before or _sketched(source, dataset, settings, file, progress)
        save_statistics(sketch.statistics, folder.statistics)
        model, record = _fitted(sketch, dataset, settings, folder, record, progress)
        record, exported = finish(
            model, source, dataset, folder, record, formats, beside_float=True, progress=progress
        )
        forget(folder.path)  # last, so that no kill costs what was learned
    return QuantizeResult(folder=folder, record=record, exported=exported)


def _known(
    file: Path | None,
    planned: Plan,
    source: keras.Model,
    dataset: Dataset,
    settings: QuantizeSettings,
) -> tuple[Statistics | None, keras.Model]:
    """Statistics that were collected earlier, and the float model that they are of."""
    if file is None:
        return None, source
    known = load_statistics(file)
    even = rescaled(planned, source, known.scales) if known.scales else source
    if settings.absorb:
        even = absorb_biases(plan(even, settings.scheme), even).model
    check_known(known, file, planned, even, dataset, post_training=True)
    return known, even


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sketch:
    """A calibrated model, before anything is done against the errors of rounding.

    Attributes:
        source: the float model, with its channels scaled and biases absorbed where that was asked.
        statistics: of it.
        model: quantized; for who wants to change it.
    """

    source: keras.Model
    statistics: Statistics
    model: keras.Model


def _sketched(
    source: keras.Model,
    dataset: Dataset,
    settings: QuantizeSettings,
    file: Path | None,
    progress: Progress,
) -> _Sketch:
    """Calibrates and quantizes, and checks that what comes of it can be lowered.

    Args:
        file: of statistics that were collected earlier; None collects them.
    """
    planned = plan(source, settings.scheme)
    known, even = _known(file, planned, source, dataset, settings)
    scales: Mapping[str, np.ndarray] = {}
    if known is None and settings.equalize != "none":
        found = equalized(planned, source, dataset, settings.equalize, progress)
        even, scales = found.model, found.scales
    if known is None and settings.absorb:
        even = absorbed(plan(even, settings.scheme), even, progress)
    planned = plan(even, settings.scheme)
    statistics = known or _statistics(planned, even, dataset, settings, scales, progress)
    model = _quantized(even, statistics, settings, settings.scheme)
    lower(model)
    return _Sketch(source=even, statistics=statistics, model=model)


def _quantized(
    source: keras.Model, statistics: Statistics, settings: QuantizeSettings, scheme: Scheme
) -> keras.Model:
    return quantize(
        source,
        scheme,
        statistics,
        settings.method,
        calibrator=settings.calibrator,
        post_training=True,
    )


def _fitted(
    sketched: _Sketch,
    dataset: Dataset,
    settings: QuantizeSettings,
    folder: RunFolder,
    record: RunRecord,
    progress: Progress,
) -> tuple[keras.Model, RunRecord]:
    """The quantized model, and the record with what was left at 8 bits for it."""

    source = sketched.source

    def sketch(scheme: Scheme) -> keras.Model:
        return _quantized(source, sketched.statistics, settings, scheme)

    def fit(scheme: Scheme, model: keras.Model | None = None) -> keras.Model:
        model = sketch(scheme) if model is None else model
        repaired(
            *(plan(source, scheme), source, model, dataset, settings.remedies, progress),
            folder=folder.path,
        )
        if settings.reestimate_norms:
            progress.say(norms_measured(model, dataset))
        return model

    if settings.max_drop is None:
        return fit(settings.scheme, sketched.model), record
    found = limit_drop(
        source,
        settings.scheme,
        dataset,
        most=settings.max_drop,
        fit=fit,
        sketch=sketch,
        progress=progress,
    )
    write_text(folder.scheme, scheme_to_yaml(found.scheme))
    assert record.quantization is not None
    quantization = dataclasses.replace(record.quantization, lifts=found.lifts, lost=found.lost)
    return found.model, dataclasses.replace(
        record, scheme=scheme_to_dict(found.scheme), quantization=quantization
    )


def check(settings: QuantizeSettings, path: Path) -> None:
    """Reports everything that is wrong with settings, of which nothing is loaded for it.

    Args:
        path: the folder of the run that is to be made.
    Raises:
        UsageError: values that are out of range, or names that are not known.
    """
    problems = settings.problems()
    given = [settings.giver, *([settings.statistics] if settings.statistics else [])]
    problems += [
        f"{file} lies in the run that would be replaced; give --name NAME for another"
        for file in given
        if path.resolve() in (file.resolve(), *file.resolve().parents)
    ]
    if problems:
        raise UsageError("; ".join(problems))
    load_calibrator(settings.calibrator)
    load_method(settings.method)
    check_methods(settings.scheme)
    check_calibrators(settings.scheme)


def check_source(settings: QuantizeSettings) -> None:
    """Raises: RunError: what is to be quantized is no run, file or model."""
    giver = settings.giver
    if not (settings.is_built or giver.is_dir() or is_keras_model(giver)):
        close = close_names(settings.source, (*MODELS, *APPLICATIONS))
        raise RunError(
            f"{settings.source}: no such run or model{close}; give a run's folder, a "
            f"{MODEL_KINDS}, or a model by name with --from RUN or --weights FILE"
        )


def _load(settings: QuantizeSettings, progress: Progress) -> tuple[keras.Model, Dataset]:
    """The float model, and the images that it takes, declared."""
    giver = settings.giver
    if settings.is_built:
        known = APPLICATIONS.get(settings.source)
        dataset = dataset_of(giver, settings.dataset, (known.size, known.size) if known else None)
        source = build_float(
            settings.source,
            settings.model_options,
            dataset,
            settings.parent,
            weights=settings.weights_file,
            trust=settings.trust,
        )
    else:
        file = keras_file_of(giver)
        progress.say(f"loading {file}")
        source = load_model(file, trust=settings.trust)
        dataset = dataset_of(giver, settings.dataset, image_size(source))
        source = fitting(file, source, dataset)
    run = record_around(giver)
    dataset = declare(
        dataset,
        asked=settings.preprocess,
        recorded=run.dataset.preprocess if run else _known_preprocessing(settings.source),
        model=source,
        say=progress.say,
    )
    if settings.weights == RANDOM:
        images = dataset.train.x[:RANDOM_IMAGES]
        norms = reestimate_norms(source, [dataset.reals(images)])
        progress.say(
            f"weights are random; {norms} batch norms have the statistics of {len(images)} images"
        )
    if not dataset.has_labels:
        progress.say(f"{without_labels(dataset)}: what is shown is how near the float model it is")
    return source, dataset


def _known_preprocessing(source: str) -> Preprocessing | None:
    """What a model of keras.applications takes; None for others."""
    return preprocessing_of(source) if source in APPLICATIONS else None


def _begin(
    settings: QuantizeSettings,
    dataset: Dataset,
    float_layers: tuple[str, ...],
    command: tuple[str, ...],
) -> RunRecord:
    """The record of a run that is about to begin."""
    run = record_around(settings.giver) if settings.dataset is None else None
    return RunRecord(
        command=command,
        created=now(),
        kq_version=__version__,
        model=ModelRecord(name=settings.source, options=dict(settings.model_options)),
        dataset=describe_data(dataset, run.dataset.validation_fraction if run else 0.1),
        quantization=QuantizationRecord(
            source=str(settings.giver),
            method=settings.method,
            calibrator=settings.calibrator,
            images=min(settings.images, len(dataset.train)) if settings.data != "none" else 0,
            seed=run.split_seed if run else 0,
            statistics=None if settings.statistics is None else str(settings.statistics),
            equalize=settings.equalize if settings.statistics is None else "as the statistics say",
            rounding=settings.remedies.rounding,
            bias=settings.remedies.bias,
            learning=_learning(settings.remedies),
            data=settings.data,
            absorb=settings.absorb,
            reestimate_norms=settings.reestimate_norms,
            max_drop=settings.max_drop,
            held_out=0 if settings.max_drop is None else len(dataset.validation),
        ),
        scheme=scheme_to_dict(settings.scheme),
        float_layers=float_layers,
        status="quantizing",
        versions=records.versions(),
        environment=records.environment(),
    )


def _learning(remedies: Remedies) -> LearningRecord | None:
    return LearningRecord(**asdict(remedies.learning)) if remedies.is_learned else None


def _statistics(
    planned: Plan,
    source: keras.Model,
    dataset: Dataset,
    settings: QuantizeSettings,
    scales: Mapping[str, np.ndarray],
    progress: Progress,
) -> Statistics:
    """Collects statistics, or imagines them where no image is to be looked at."""
    if settings.data == "none":
        statistics = replace(imagine(planned, source, pixels_of(dataset)), scales=scales)
        progress.say(said_of_norms(planned))
        return statistics
    if settings.images > len(dataset.train):
        progress.say(
            f"warning: --images {settings.images:,}, but there are {len(dataset.train):,} training "
            "images"
        )
    return collect_statistics(
        planned,
        source,
        dataset,
        images=settings.images,
        post_training=True,
        scales=scales,
        progress=progress,
    )
