"""The table of what answers are worth: the model's own, and those of each exported file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_quant.cli.output import as_score, as_share, print_table

if TYPE_CHECKING:
    from keras_quant.jobs.export import Exported
    from keras_quant.proof.write import Export


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One output of the model or of a file, beside that of the model whose biases were moved."""

    whose: str
    output: str
    scores: Mapping[str, float]
    top1: float | None = None
    difference: float | None = None
    relative: float | None = None


def print_answers(done: Exported) -> None:
    """Prints one row for each output of the model, and of each file."""
    rows = [*_of_keras(done), *(row for file in done.files for row in _of_file(file))]
    several = len(done.keras.outputs) > 1
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.scores))
    columns = ("answers", *(("output",) if several else ()), *metrics)
    cells = [
        (
            *((row.whose, row.output) if several else (row.whose,)),
            *(as_score(metric, row.scores.get(metric)) for metric in metrics),
            as_share(row.top1),
            None if row.difference is None else f"{row.difference:.1e}",
            None if row.relative is None else f"{row.relative:.1e}",
        )
        for row in rows
    ]
    print_table((*columns, "top-1 Keras", "from Keras", "root mean square"), cells)


def _of_keras(done: Exported) -> Iterator[_Row]:
    keras = done.keras
    for shift in keras.shifts:
        yield _Row(
            whose="Keras, as given",
            output=shift.name,
            scores=keras.given_scores.get(shift.name, {}),
            top1=shift.top1_agreement,
            difference=shift.difference,
            relative=shift.relative,
        )
    for name in keras.outputs:
        whose = "Keras, moved" if keras.shifts else "Keras"
        yield _Row(whose=whose, output=name, scores=keras.scores.get(name, {}))


def _of_file(file: Export) -> Iterator[_Row]:
    for output in file.parity.outputs:
        if output.keras_difference is None:  # what a stage hands to the next
            continue
        yield _Row(
            whose=file.format,
            output=output.name,
            scores=file.scores.get(output.name, {}),
            top1=output.keras_top1_agreement,
            difference=output.keras_difference,
            relative=output.keras_relative,
        )
