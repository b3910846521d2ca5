"""Runs in folders, and what each came to: what lists, sweeps and plots read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_quant.errors import RunError, SchemeError, UsageError, close_names
from keras_quant.runs import records
from keras_quant.runs.records import RunRecord
from keras_quant.schemes.file import scheme_from_dict
from keras_quant.schemes.scheme import FLOAT_BITS

POST_TRAINING = "ptq"
"""The method of runs that were quantized without training, in lists and plots."""

# Whose answers count: those of the file that is shipped.
_ANSWERING = ("TFLite file", "ONNX file", "TensorRT file", "Keras model")
_METRICS = ("accuracy", "PSNR")
_LOWER_IS_BETTER = {"negative ELBO": "ELBO"}  # figures by whose opposite runs are judged
_OUTPUT = ", output "  # of several, between whose answers they are and the output's name

UNITS: Mapping[str, str] = {"accuracy": "%", "PSNR": "dB", "ELBO": "nats"}
"""What scores are in, by metric; of all of them the higher is the better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run, and its main figures; None for what it does not have (yet).

    Attributes:
        path: its folder.
        name: of the folder.
        method: "float", that it was trained with, or POST_TRAINING.
        scheme: its name.
        weight_bits, activation_bits: of most layers, FLOAT_BITS for float; None where rules by
            layer say different things.
        metric: what `score` is, one of UNITS; "" where nothing was judged. The ELBO, in nats an
            image, is what a variational autoencoder reaches at its posterior's mean.
        score: on the test images, of the first of TFLite, ONNX and TensorRT file and Keras model;
            of several outputs that of the last.
        judged: which of these it was.
        agreement: % of test images to which the file and the Keras model answer the same.
        size_bytes: of the integer file, or of the float one.
        logical_bytes: of the kernels at their bits.
        bit_operations: for one image, see `graph.costs.cost`.
        energy_nj: for one image, modelled, see `graph.costs.energy`.
    """

    path: Path
    record: RunRecord
    method: str
    scheme: str
    weight_bits: int | None
    activation_bits: int | None
    metric: str = ""
    score: float | None = None
    judged: str = ""
    agreement: float | None = None
    size_bytes: int | None = None
    logical_bytes: float | None = None
    parameters: int | None = None
    macs: int | None = None
    bit_operations: int | None = None
    energy_nj: float | None = None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def is_float(self) -> bool:
        return self.weight_bits == self.activation_bits == FLOAT_BITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found in folders.

    Attributes:
        runs: in the order of the paths, by name within each.
        problems: what is wrong with the records that could not be read, a sentence each.
    """

    runs: tuple[Run, ...]
    problems: tuple[str, ...]


def find_runs(paths: Iterable[Path]) -> Found:
    """Finds runs.

    Args:
        paths: runs, or folders of runs.
    Raises:
        RunError: a path is no folder, or neither a run nor a folder with one.
    """
    folders: dict[Path, None] = {}
    for path in paths:
        within = _runs_within(path)
        if not within:
            raise RunError(f"{path}: neither a run nor a folder of runs; kq train makes runs")
        folders |= dict.fromkeys(within)
    runs, problems = [], []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except RunError as error:
            problems.append(str(error))
    return Found(runs=tuple(runs), problems=tuple(problems))


def read_run(folder: Path) -> Run:
    """Reads a run and its main figures.

    Raises:
        RunError: see `records.load`.
    """
    record = records.load(folder)
    figures = {(figure.name, figure.notes): figure.value for figure in record.figures}
    metric, judged, score = _judged(figures)
    weights, activations = _usual_bits(record.scheme)
    bits = figures.get(("logical size", "kernels at the scheme's widths"))
    return Run(
        path=folder,
        record=record,
        method=record.training.method if record.training else POST_TRAINING,
        scheme=str(record.scheme.get("name", "")),
        weight_bits=weights,
        activation_bits=activations,
        metric=metric,
        score=score,
        judged=judged,
        agreement=_agreement(figures),
        size_bytes=_whole(_file_size(figures)),
        logical_bytes=None if bits is None else bits / 8,
        parameters=_whole(figures.get(("parameters", ""))),
        macs=_whole(figures.get(("MACs", "one image"))),
        bit_operations=_whole(figures.get(("bit operations", "one image"))),
        energy_nj=figures.get(("energy", "one image, modelled")),
    )


FILTERS = ("model", "dataset", "method", "scheme", "status", "seed")
"""What `where` knows."""


def where(runs: Sequence[Run], conditions: Mapping[str, str]) -> list[Run]:
    """Gives the runs that meet all conditions: one of FILTERS, and its value as text.

    Raises:
        UsageError: a condition is none of FILTERS.
    """
    unknown = [name for name in conditions if name not in FILTERS]
    if unknown:
        raise UsageError(
            f"--where {unknown[0]}: runs are chosen by {', '.join(FILTERS)}"
            f"{close_names(unknown[0], FILTERS)}"
        )
    return [run for run in runs if all(_said(run, name) == conditions[name] for name in conditions)]


_NUMBERS = (
    *("score", "agreement", "size_bytes", "logical_bytes", "parameters", "macs"),
    *("bit_operations", "energy_nj", "weight_bits", "activation_bits"),
)
_WORDS = ("name", "created", *FILTERS)


def sorted_by(runs: Sequence[Run], column: str) -> list[Run]:
    """Sorts runs: numbers from the largest down, words from A; those without come last.

    Raises:
        UsageError: there is no such column.
    """
    if column in _WORDS:
        return sorted(runs, key=lambda run: _said(run, column))
    if column not in _NUMBERS:
        columns = (*_WORDS, *_NUMBERS)
        raise UsageError(
            f"--sort {column}: columns are {', '.join(columns)}{close_names(column, columns)}"
        )
    pairs = [(getattr(run, column), run) for run in runs]
    known = [pair for pair in pairs if pair[0] is not None]
    return [
        *(run for _, run in sorted(known, key=lambda pair: pair[0], reverse=True)),
        *(run for value, run in pairs if value is None),
    ]


def to_csv(runs: Sequence[Run]) -> str:
    """All that is known of runs, a line each, under a line of names; empty where unknown."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = (*_WORDS, "metric", "judged", *_NUMBERS)
    writer.writerow(names)
    for run in runs:
        writer.writerow(
            [_said(run, name) if name in _WORDS else getattr(run, name) for name in names]
        )
    return text.getvalue()


def _said(run: Run, name: str) -> str:
    record = run.record
    return {
        "name": run.name,
        "created": record.created,
        "model": record.model.name,
        "dataset": record.dataset.name,
        "method": run.method,
        "scheme": run.scheme,
        "status": record.status,
        "seed": str(record.seed),
    }[name]


def _runs_within(path: Path) -> list[Path]:
    if not path.is_dir():
        what = "is a file" if path.exists() else "no such folder"
        raise RunError(f"{path}: {what}; give runs, or a folder of runs")
    if (path / records.FILE_NAME).exists():
        return [path]
    return sorted(file.parent for file in path.glob(f"*/{records.FILE_NAME}"))


def _judged(figures: Mapping[tuple[str, str], float]) -> tuple[str, str, float | None]:
    """The metric, whose answers it is known of, and what it is; "" and None without one.

    Of several outputs it is that of the last, which is the model's own behind early exits.
    """
    last = {(name, notes.partition(_OUTPUT)[0]): value for (name, notes), value in figures.items()}
    for name in (*_METRICS, *_LOWER_IS_BETTER):
        for whose in _ANSWERING:
            value = last.get((name, whose))
            if value is not None:
                lower = name in _LOWER_IS_BETTER
                return _LOWER_IS_BETTER.get(name, name), whose, -value if lower else value
    return "", "", None


def _agreement(figures: Mapping[tuple[str, str], float]) -> float | None:
    found = (
        value
        for (name, notes), value in figures.items()
        if name == "top-1 agreement" and notes.startswith("Keras and ")
    )
    return next(found, None)


def _file_size(figures: Mapping[tuple[str, str], float]) -> float | None:
    kinds = [f"integer {file}" for file in _ANSWERING[:-1]]
    found = (figures[("size", kind)] for kind in kinds if ("size", kind) in figures)
    return next(found, None)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _usual_bits(data: Mapping[str, object]) -> tuple[int | None, int | None]:
    """Bits of the rule for all layers; None where layers have rules by their names."""
    try:
        rules = scheme_from_dict(data, where="scheme").rules
    except SchemeError:  # of a newer kq, or written by hand: then plots by bits leave it out
        return None, None
    general = next((rule for rule in rules if rule.match == "*"), None)
    if general is None or any(_names_layers(rule.match) for rule in rules):
        return None, None
    weight, activation = general.weight, general.activation
    return (weight.bits if weight else None), (activation.bits if activation else None)


def _names_layers(match: str) -> bool:
    return match != "*" and not match.startswith(("@", "type:"))
