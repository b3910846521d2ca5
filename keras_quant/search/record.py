"""sensitivity.json: what each layer alone does to a float model when its kernel gets few bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keras_quant.errors import RunError
from keras_quant.files import read_record, write_json

FILE_NAME = "sensitivity.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What was measured.

    Attributes:
        model: `fingerprint` of the float model.
        dataset: its name, or path.
        images: of the validation images, that answers were judged on.
        bits: widths of kernels.
        probes: random vectors that traces were estimated with; 0 for no traces.
    """

    model: str
    dataset: str
    images: int
    bits: tuple[int, ...]
    probes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a model's answers to the images are worth.

    Attributes:
        loss: mean over the images, of several outputs their sum; None without labels.
        score: share of right answers of the last classifier, or the last mean PSNR in dB, or a
            variational autoencoder's ELBO in nats; None likewise.
        distance: root mean square of how far answers are from the float model's, as a share of
            that of these; of several outputs the largest.
    """

    loss: float | None
    score: float | None
    distance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A layer whose kernel alone was rounded.

    Attributes:
        bits: of the kernel.
        outcome: what the model answered then.
        output_error: mean square of what the layer's output was off, once the mean of each channel
            was put right, as a share of that of the output; None for a layer that is called more
            than once.
        entropy: of the kernel's codes, in bits a weight; at most `bits`.
        squared_error: sum over the kernel of the squares of what rounding changed.
    """

    layer: str
    bits: int
    outcome: Outcome
    output_error: float | None
    entropy: float
    squared_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The trace of the Hessian of the loss, of one layer's kernel alone.

    Attributes:
        value: estimated.
        error: standard error of the estimate.
        parameters: values of the kernel: the trace of a part of the Hessian of that many rows.
    """

    value: float
    error: float
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """All that was measured so far.

    Attributes:
        layers: with a kernel, in the model's order.
        metric: what a score is, "accuracy", "PSNR" or "ELBO"; "" without labels.
        baseline: what the float model's answers are worth.
        entries: by layer, in the order of the settings' bits.
        traces: by layer; empty until they were estimated.
        seconds: that all of it took.
    """

    settings: Settings
    layers: tuple[str, ...]
    metric: str
    baseline: Outcome
    created: str
    kq_version: str
    entries: tuple[Entry, ...] = ()
    traces: Mapping[str, Trace] | None = None
    seconds: float = 0.0
    format_version: int = FORMAT_VERSION

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to measure."""
        entries = len(self.layers) * len(self.settings.bits)
        return len(self.entries) == entries and (
            self.traces is not None or not self.settings.probes
        )

    def entry(self, layer: str, bits: int) -> Entry | None:
        """What was measured of a layer at a width; None where it was not yet."""
        found = (one for one in self.entries if (one.layer, one.bits) == (layer, bits))
        return next(found, None)


def save(record: Sensitivity, run: Path) -> Path:
    """Writes a record into a run's folder.

    Returns: the file.
    Raises:
        FileError: the system refuses.
    """
    path = run / FILE_NAME
    write_json(path, record)
    return path


def load(run: Path) -> Sensitivity:
    """Reads the record of a run.

    Raises:
        RunError: it is missing, broken, or of a newer format.
    """
    path = run / FILE_NAME
    if not path.exists():
        raise RunError(f"{run}: has no {FILE_NAME} yet; kq sensitivity {run} measures it")
    remedy = f"Measure it again: kq sensitivity {run} --overwrite"
    return read_record(
        path, Sensitivity, remedy=remedy, format_version=FORMAT_VERSION, problems_of=_problems
    )


def _problems(record: Sensitivity) -> list[str]:
    """What the fields do not say together."""
    known = {(layer, bits) for layer in record.layers for bits in record.settings.bits}
    found = [(entry.layer, entry.bits) for entry in record.entries]
    problems = [
        f"entries: {layer} at {bits} bits is none of the layers and bits"
        for layer, bits in found
        if (layer, bits) not in known
    ]
    twice = {one for one in found if found.count(one) > 1}
    problems += [f"entries: {layer} at {bits} bits is there twice" for layer, bits in twice]
    if record.traces is not None and set(record.traces) != set(record.layers):
        problems.append("traces: are not those of the layers")
    return problems
