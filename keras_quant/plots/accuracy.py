"""Accuracy of runs against the size of their weights."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from keras_quant.runs.records import RunRecord

FLOAT_MARKER, QUANTIZED_MARKER = "s", "o"
# Okabe & Ito 2008: told apart by colour-blind readers, and by their grey.
FLOAT_COLOUR, QUANTIZED_COLOUR = "#000000", "#0072B2"
BITS_PER_KB = 8000


def accuracy_against_size(records: Sequence[RunRecord], *, title: str) -> Figure:
    """Draws test accuracy of the exported files against kernel size at logical bits.

    Args:
        records: of exported runs of one model and dataset; one with method "float" gets a
            line to compare with.
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for record in records:
        is_float = record.training is not None and record.training.method == "float"
        size = _value(record, "logical size", "kernels at the scheme's widths") / BITS_PER_KB
        accuracy = _value(record, "accuracy", "TFLite file")
        colour = FLOAT_COLOUR if is_float else QUANTIZED_COLOUR
        axes.plot(size, accuracy, FLOAT_MARKER if is_float else QUANTIZED_MARKER, color=colour)
        name = record.scheme["name"]
        axes.annotate(
            f"{name}\n{accuracy:.2f} %",
            (size, accuracy),
            xytext=(0, 6),
            textcoords="offset points",
            horizontalalignment="center",
        )
        if is_float:
            axes.axhline(accuracy, color=FLOAT_COLOUR, linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.2, y=0.3)
    axes.set_xlabel("weights at their logical bits [kB]")
    axes.set_ylabel("test accuracy of the TFLite file [%]")
    axes.set_title(title, fontsize="medium")
    axes.grid(True, which="major", alpha=0.3)
    return figure


def _value(record: RunRecord, name: str, notes: str) -> float:
    return next(f.value for f in record.figures if (f.name, f.notes) == (name, notes))
