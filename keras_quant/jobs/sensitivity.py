"""Measures what each layer alone does to a float run's answers when its kernel gets few bits."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_quant.calibration.collect import fingerprint
from keras_quant.data import Dataset, Split
from keras_quant.errors import DataError, ModelError, RunError, UsageError
from keras_quant.jobs.begin import now
from keras_quant.jobs.calibration import calibration_images
from keras_quant.jobs.float_run import load_float_run
from keras_quant.jobs.traces import estimate_traces
from keras_quant.model.logits import AnswerFunction
from keras_quant.model.operations import Operation
from keras_quant.model.topology import layers_by_name
from keras_quant.prepare import Plan
from keras_quant.prepare.adjust.values import run
from keras_quant.prepare.adjust.walk import Site, walk, walked_images
from keras_quant.runs import locked
from keras_quant.runs.progress import Progress
from keras_quant.search import record as records
from keras_quant.search.judge import Judge
from keras_quant.search.kernels import (
    kernel_layers,
    plan_all,
    rebuilt,
    replaced,
    round_kernel,
    shifted,
)
from keras_quant.search.record import Entry, Outcome, Sensitivity, Settings
from keras_quant.tf import keras
from keras_quant.version import __version__

DEFAULT_BITS = (2, 3, 4, 8)
DEFAULT_IMAGES = 1000
DEFAULT_PROBES = 32
# Of training images; what a layer puts out is compared on them.
OUTPUT_IMAGES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivitySettings:
    """What `kq sensitivity` is asked for.

    Attributes:
        bits: widths of kernels, 2 to 8.
        images: of the validation images, at most; 0 is all.
        probes: random vectors for traces of the Hessian; 0 for no traces.
    """

    bits: tuple[int, ...] = DEFAULT_BITS
    images: int = DEFAULT_IMAGES
    probes: int = DEFAULT_PROBES

    def problems(self) -> list[str]:
        """What is out of range, one text each."""
        found = [f"--bits {b}: 2 to 8 are allowed" for b in self.bits if not 2 <= b <= 8]
        if not self.bits or len(set(self.bits)) != len(self.bits):
            found.append("--bits: one width or more is needed, each once")
        if self.images < 0:
            found.append(f"--images is {self.images}; 0 (all) or more is allowed")
        if self.probes == 1 or self.probes < 0:
            found.append(f"--probes is {self.probes}; 0 (none), or 2 and more are allowed")
        return found


def measure_sensitivity(
    path: Path,
    settings: SensitivitySettings,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress,
) -> Sensitivity:
    """Measures each layer of a float run alone, and keeps what was measured in the run.

    One model is loaded, and never rebuilt: a kernel is rounded as `kq quantize` does, the mean of
    each channel put right, the validation images are answered, and the kernel is put back. What is
    there is on the disk after each answer.

    Args:
        path: the run.
        resume: go on with a record that was begun.
        overwrite: begin again.
    Raises:
        UsageError: settings out of range, or the run is quantized.
        RunError: there is a record, and neither resume nor overwrite was given; or resume with
            other settings than it was begun with.
        KerasQuantError: the run or its data are broken, or have layers that are not supported.
    """
    if problems := settings.problems():
        raise UsageError("; ".join(problems))
    source, dataset = load_float_run(path, progress)
    planned = plan_all(source)
    if not kernel_layers(planned):
        raise ModelError(f"{path}: no layer of the model has a kernel")
    part = _held_out(dataset, settings.images)
    asked = Settings(
        model=fingerprint(source),
        dataset=dataset.name,
        images=len(part),
        bits=settings.bits,
        probes=settings.probes,
    )
    with locked(path):
        known = _known(path, resume=resume, overwrite=overwrite)
        _check_same(path, known, asked)
        model = rebuilt(planned, source)
        measuring = _Measuring(
            path=path,
            source=source,
            dataset=dataset,
            planned=planned,
            part=part,
            operations=kernel_layers(planned),
            model=model,
            answer=AnswerFunction(model),
            progress=progress,
            kept=known,
        )
        return measuring.run(asked)


def _known(path: Path, *, resume: bool, overwrite: bool) -> Sensitivity | None:
    file = path / records.FILE_NAME
    if not file.exists() or overwrite:
        return None
    if not resume:
        raise RunError(
            f"{file}: exists. Give --resume to go on with it, or show it if it is complete; or "
            "--overwrite to begin again"
        )
    return records.load(path)


@dataclass(slots=True, kw_only=True, eq=False)
class _Measuring:
    """What is measured.

    Attributes:
        part: the held-out images.
        operations: by layer, see `kernel_layers`.
        model: the float model, rebuilt, whose kernels are replaced one at a time.
        record: what was measured so far; None before anything was.
    """

    path: Path
    source: keras.Model
    dataset: Dataset
    planned: Plan
    part: Split
    operations: Mapping[str, Operation]
    model: keras.Model
    answer: AnswerFunction
    progress: Progress
    kept: Sensitivity | None
    judge: Judge | None = None
    _before: float = 0.0
    _begun_with: int = 0
    started: float = field(default_factory=time.monotonic)

    def run(self, asked: Settings) -> Sensitivity:
        """Measures what is missing."""
        self.kept = self.kept or self._begin(asked)
        self._before, self._begun_with = self.record.seconds, len(self.record.entries)
        total = len(self.operations) * len(asked.bits)
        if self._missing():
            self._judged()  # now, while all kernels are the float ones
            here = f"; {self._begun_with} of {total} are there" if self._begun_with else ""
            self.progress.say(
                f"measuring {len(self.operations)} layers at {len(asked.bits)} widths on "
                f"{len(self.part):,} validation images{here}"
            )
            with self.progress.bar("measuring", total) as show:
                self._measure_all(show)
        if self.record.traces is None and asked.probes:
            found = estimate_traces(
                self.planned,
                self.source,
                self.dataset,
                tuple(self.operations),
                probes=asked.probes,
                progress=self.progress,
            )
            self._keep(traces=found)
        return self.record

    def _begin(self, asked: Settings) -> Sensitivity:
        judge = self._judged()
        return Sensitivity(
            settings=asked,
            layers=tuple(self.operations),
            metric=judge.metric,
            baseline=judge.baseline,
            created=now(),
            kq_version=__version__,
        )

    def _judged(self) -> Judge:
        if self.judge is None:
            self.judge = Judge(self.dataset, self.part, self.answer)
        return self.judge

    @property
    def record(self) -> Sensitivity:
        assert self.kept is not None
        return self.kept

    def _missing(self) -> list[tuple[str, int]]:
        return [
            (layer, bits)
            for layer in self.operations
            for bits in self.record.settings.bits
            if self.record.entry(layer, bits) is None
        ]

    def _measure_all(self, show: Callable[[int, str], None]) -> None:
        count = walked_images(self.planned, OUTPUT_IMAGES)
        images = np.asarray(self.dataset.reals(calibration_images(self.dataset, count)), np.float32)
        layers, walked = layers_by_name(self.model), []

        def visit(site: Site) -> None:
            walked.append(site.operation.layer_name)
            self._measure_layer(layers, site.operation, site, show)

        walk(self.planned, self.source, self.model, [images], visit)
        for layer, operation in self.operations.items():
            if layer not in walked:  # is called more than once
                self._measure_layer(layers, operation, None, show)

    def _measure_layer(
        self,
        layers: Mapping[str, keras.layers.Layer],
        operation: Operation,
        site: Site | None,
        show: Callable[[int, str], None],
    ) -> None:
        name = operation.layer_name
        missing = [bits for layer, bits in self._missing() if layer == name]
        for bits in missing:
            entry = self._entry(layers, operation, site, bits)
            self._keep(entries=(*self.record.entries, entry))
            show(len(self.record.entries), name)
        if missing:
            self.progress.say(self._said(name))

    def _entry(
        self,
        layers: Mapping[str, keras.layers.Layer],
        operation: Operation,
        site: Site | None,
        bits: int,
    ) -> Entry:
        layer = layers[operation.layer_name]
        kernel = round_kernel(layer, operation, bits)
        with replaced(layer, kernel.values):
            delta, error = (0.0, None) if site is None else _off(site)
            with shifted(self.planned, layers, operation, np.asarray(delta)):
                outcome = self._judged()(self.answer)
        return Entry(
            layer=operation.layer_name,
            bits=bits,
            outcome=outcome,
            output_error=error,
            entropy=kernel.entropy,
            squared_error=kernel.squared_error,
        )

    def _keep(self, **changes: Any) -> None:
        seconds = self._before + time.monotonic() - self.started
        self.kept = dataclasses.replace(self.record, seconds=seconds, **changes)
        records.save(self.record, self.path)

    def _said(self, layer: str) -> str:
        """A line on a layer that is done, and how long the others will take."""
        record = self.record
        texts = []
        for bits in record.settings.bits:
            entry = record.entry(layer, bits)
            if entry is not None:
                texts.append(f"{_worth(entry.outcome, record)} at {bits}")
        done, total = len(record.entries), len(record.layers) * len(record.settings.bits)
        new = done - self._begun_with
        left = (time.monotonic() - self.started) / max(1, new) * (total - done)
        ending = f", {left:.0f} s left" if total > done else ""
        return f"{layer}: {', '.join(texts)}  ({done}/{total}{ending})"


def _worth(outcome: Outcome, record: Sensitivity) -> str:
    if outcome.loss is None or record.baseline.loss is None:
        return f"distance {outcome.distance:.3g}"
    return f"loss {outcome.loss - record.baseline.loss:+.3g}"


def _held_out(dataset: Dataset, images: int) -> Split:
    """Validation images at even distances, as many as were asked for."""
    if not len(dataset.validation):
        raise DataError(
            f"dataset {dataset.name}: the run held no validation images out, and the test images "
            "are for the end: train with --validation-fraction 0.1"
        )
    return dataset.validation.spread(images or len(dataset.validation))


def _check_same(path: Path, known: Sensitivity | None, asked: Settings) -> None:
    if known is None:
        return
    differing = [
        name for name in Settings.__slots__ if getattr(known.settings, name) != getattr(asked, name)
    ]
    if differing:
        raise RunError(
            f"{path / records.FILE_NAME}: --resume needs what it was begun with; these differ: "
            f"{', '.join(differing)}. Give --overwrite to begin again"
        )


def _off(site: Site) -> tuple[np.ndarray, float]:
    """What a rounded layer's channels are off on the mean, and the error that is left.

    Returns: what is to be added, float64 (channels,); and the mean square that is left, as a share
        of that of the float output.
    """
    wanted = site.wanted.astype(np.float64)
    off = wanted - run(site.layer, [site.read])
    mean = off.mean(axis=tuple(range(off.ndim - 1)))
    power = float(np.square(wanted).mean())
    left = float(np.square(off - mean).mean())
    return mean, left / power if power else 0.0
