"""The second job: a float model becomes a run without training, calibrated, exported and proven."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_quant import runs
from keras_quant.calibration.choose import DEFAULT_CALIBRATOR, check_calibrators, load_calibrator
from keras_quant.calibration.collect import CALIBRATION_IMAGES, Statistics
from keras_quant.calibration.quantize import quantize
from keras_quant.calibration.store import load_statistics, save_statistics
from keras_quant.data import Dataset
from keras_quant.errors import RunError, UsageError, close_names
from keras_quant.files import write_text
from keras_quant.jobs.begin import describe_data, now
from keras_quant.jobs.calibration import check_known, collect_statistics
from keras_quant.jobs.export import Exported
from keras_quant.jobs.finish import finish
from keras_quant.jobs.loaded import check_takes
from keras_quant.jobs.paths import dataset_of, record_around
from keras_quant.jobs.preprocess import declare, without_labels
from keras_quant.jobs.remedies import Remedies, equalized, repaired
from keras_quant.jobs.source import build_float
from keras_quant.methods import DEFAULT_METHOD, load_method
from keras_quant.methods.rules import check_methods
from keras_quant.model.applications import APPLICATIONS, preprocessing_of
from keras_quant.model.files import load_model
from keras_quant.model.inputs import image_size, with_input_shape
from keras_quant.model.suffixes import MODEL_KINDS, is_keras_model
from keras_quant.prepare import Plan, plan
from keras_quant.prepare.adjust.equalize import rescaled
from keras_quant.preprocessing import Preprocessing
from keras_quant.proof.formats import Format
from keras_quant.runs import RunFolder, model_of, records
from keras_quant.runs.progress import Progress
from keras_quant.runs.records import ModelRecord, QuantizationRecord, RunRecord
from keras_quant.schemes.file import scheme_to_dict, scheme_to_yaml
from keras_quant.schemes.scheme import Scheme, is_float
from keras_quant.tf import keras
from keras_quant.training.norms import reestimate_norms
from keras_quant.version import __version__
from keras_quant.zoo import MODELS

DEFAULTS = Remedies()
RANDOM = "none"  # what --weights says for weights that are random
# Over which batch norms are measured then: with those that they begin with, values of a deep net
# come to be as small as 1e-13 (MobileNetV3).
RANDOM_IMAGES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeSettings:
    """What `kq quantize` is asked for.

    Attributes:
        source: a run's folder, a Keras file, a name of the zoo or "FILE.py:FUNCTION".
        scheme: which layer gets how many bits.
        model_options: options of the zoo's model.
        parent: run folder whose weights a model that is built gets.
        weights: file of weights alone that such a model gets, or "none" for random ones.
        dataset: a name, a .npz or .npy file or an image folder, with labels or without; None means
            that of the run.
        preprocess: what pixels become, see `preprocessing.parse_preprocessing`; None means what
            the run says, or the model's first layers.
        method: a name of METHODS.
        calibrator: a name of CALIBRATORS.
        images: how many training images activations are calibrated on, at most.
        statistics: file of statistics that were collected earlier; None collects them.
        trust: load a Keras file that holds code.
        equalize, rounding, bias: see `jobs.remedies`.
    """

    source: str
    scheme: Scheme
    model_options: Mapping[str, Any] = field(default_factory=dict)
    parent: Path | None = None
    weights: str | None = None
    dataset: str | None = None
    preprocess: str | None = None
    method: str = DEFAULT_METHOD
    calibrator: str = DEFAULT_CALIBRATOR
    images: int = CALIBRATION_IMAGES
    statistics: Path | None = None
    trust: bool = False
    equalize: str = DEFAULTS.equalize
    rounding: str = DEFAULTS.rounding
    bias: str = DEFAULTS.bias

    @property
    def remedies(self) -> Remedies:
        """What is done against the errors of rounding."""
        return Remedies(equalize=self.equalize, rounding=self.rounding, bias=self.bias)

    @property
    def is_built(self) -> bool:
        """Whether the source is made by name, and gets its weights from a run."""
        return self.source in MODELS or self.source in APPLICATIONS or ":" in self.source

    @property
    def weights_file(self) -> Path | None:
        """The file of weights; None where there is none."""
        return None if self.weights in (None, RANDOM) else Path(str(self.weights))

    @property
    def giver(self) -> Path:
        """The run or file that the weights come from."""
        given = self.parent or self.weights_file
        return given if self.is_built and given is not None else Path(self.source)

    def problems(self) -> list[str]:
        """What does not go together, one text each."""
        found = self.remedies.problems()
        if is_float(self.scheme):
            found.append("the scheme leaves everything in float; kq export writes float models")
        if self.images < 1:
            found.append(f"--images is {self.images}; 1 or more is allowed")
        if self.is_built and self.parent is None and self.weights is None:
            found.append(
                f"{self.source} is built without weights: give a run that has them, --from RUN, or "
                f"a file, --weights FILE; --weights {RANDOM} leaves them random"
            )
        if self.parent is not None and self.weights is not None:
            found.append("--from and --weights both give weights; leave one out")
        if self.source in APPLICATIONS and self.parent is not None:
            found.append(f"--from is for models of the zoo; {self.source} takes --weights FILE")
        if self.weights is not None and not self.is_built:
            found.append(
                f"--weights is for models that are built by name; {self.source} has weights"
            )
        if not self.is_built and self.parent is not None:
            found.append(f"--from is for models that are built by name; {self.source} has weights")
        if self.model_options and self.source not in (*MODELS, *APPLICATIONS):
            found.append(
                f"--option is for models of the zoo and of keras.applications; {self.source} takes "
                "none"
            )
        return found


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
    progress: Progress,
) -> QuantizeResult:
    """Quantizes a float model without training, evaluates it beside its source, and exports it.

    Args:
        path: the run's folder; must not hold a run unless overwrite is given.
        formats: what to write it as.
        command: the process's arguments, for the record.
    Raises:
        KerasQuantError: a subclass says what is wrong with the input, or what failed.
        ParityError: an exported file does not answer as the reference does.
    """
    _check(settings, path)
    source, dataset = _load(settings, progress)
    planned = plan(source, settings.scheme)
    record = _begin(settings, dataset, planned.float_layers, command)
    known, even = None, source
    if settings.statistics is not None:
        known = load_statistics(settings.statistics)
        even = rescaled(planned, source, known.scales) if known.scales else source
        planned = plan(even, settings.scheme)
        check_known(known, settings.statistics, planned, even, dataset, post_training=True)
    with runs.create(path, overwrite=overwrite) as folder:
        records.save(record, folder.path)  # first: without it a folder is no run
        write_text(folder.scheme, scheme_to_yaml(settings.scheme))
        scales: Mapping[str, np.ndarray] = {}
        if known is None and settings.equalize != "none":
            found = equalized(planned, source, dataset, settings.equalize, progress)
            even, scales = found.model, found.scales
            planned = plan(even, settings.scheme)
        statistics = _statistics(known, planned, even, dataset, settings, folder, scales, progress)
        model = quantize(
            even,
            settings.scheme,
            statistics,
            settings.method,
            calibrator=settings.calibrator,
            post_training=True,
        )
        repaired(planned, even, model, dataset, settings.remedies, progress)
        record, exported = finish(
            model, source, dataset, folder, record, formats, beside_float=True, progress=progress
        )
    return QuantizeResult(folder=folder, record=record, exported=exported)


def _check(settings: QuantizeSettings, path: Path) -> None:
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


def _load(settings: QuantizeSettings, progress: Progress) -> tuple[keras.Model, Dataset]:
    """The float model, and the images that it takes, declared."""
    giver = settings.giver
    if not (settings.is_built or giver.is_dir() or is_keras_model(giver)):
        close = close_names(settings.source, (*MODELS, *APPLICATIONS))
        raise RunError(
            f"{settings.source}: no such run or model{close}; give a run's folder, a "
            f"{MODEL_KINDS}, or a model by name with --from RUN or --weights FILE"
        )
    if settings.is_built:
        known = APPLICATIONS.get(settings.source)
        dataset = dataset_of(giver, settings.dataset, (known.size, known.size) if known else None)
        source = build_float(
            settings.source,
            settings.model_options,
            dataset,
            settings.parent,
            weights=settings.weights_file,
        )
    else:
        file = giver if is_keras_model(giver) else model_of(giver)
        progress.say(f"loading {file}")
        source = load_model(file, trust=settings.trust)
        dataset = dataset_of(giver, settings.dataset, image_size(source))
        check_takes(file, source, dataset)
        source = with_input_shape(source, dataset.input_shape)
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
            images=min(settings.images, len(dataset.train)),
            seed=run.seed if run else 0,
            statistics=None if settings.statistics is None else str(settings.statistics),
            equalize=settings.equalize if settings.statistics is None else "as the statistics say",
            rounding=settings.rounding,
            bias=settings.bias,
        ),
        scheme=scheme_to_dict(settings.scheme),
        float_layers=float_layers,
        status="quantizing",
        versions=records.versions(),
        environment=records.environment(),
    )


def _statistics(
    known: Statistics | None,
    planned: Plan,
    source: keras.Model,
    dataset: Dataset,
    settings: QuantizeSettings,
    folder: RunFolder,
    scales: Mapping[str, np.ndarray],
    progress: Progress,
) -> Statistics:
    """Collects statistics, or takes those that were given; either way the run keeps them."""
    if known is not None:
        save_statistics(known, folder.statistics)
        return known
    if settings.images > len(dataset.train):
        progress.say(
            f"warning: --images {settings.images:,}, but there are {len(dataset.train):,} training "
            "images"
        )
    return collect_statistics(
        planned,
        source,
        dataset,
        folder.statistics,
        images=settings.images,
        post_training=True,
        scales=scales,
        progress=progress,
    )
