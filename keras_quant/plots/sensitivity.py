"""What each layer suffers at each width, as a map."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from keras_quant.errors import UsageError
from keras_quant.plots.style import WIDTH, plain_texts
from keras_quant.search.harms import HARMS, MEASURED
from keras_quant.search.record import Sensitivity

_INCHES_A_LAYER = 0.2
_LEAST_INCHES = 3.4  # for what is written along the bar
_COLOURS = "cividis"  # grows lighter evenly, in grey and for colour-blind readers alike
_DARK = 0.55  # of the colours; what is written on darker ones is white


@plain_texts()
def sensitivity_map(record: Sensitivity, *, title: str) -> Figure:
    """Draws a row a layer and a column a width: what the loss gains, light where it is much.

    Without labels, it is the distance from the float model's answers. Numbers stand in the cells;
    colours follow their square roots, so that small ones can be told apart.

    Raises:
        UsageError: nothing was measured yet.
    """
    if not record.entries:
        raise UsageError("nothing of the sensitivity was measured yet: kq sensitivity --resume")
    values = _values(record)
    height = max(_LEAST_INCHES, 1.4 + _INCHES_A_LAYER * len(record.layers))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize="medium")
    shown = np.maximum(values, 0)
    most = float(np.nanmax(shown, initial=0)) or 1.0
    norm: Normalize = PowerNorm(0.5, 0, most)
    image = axes.imshow(shown, aspect="auto", cmap=_COLOURS, norm=norm, interpolation="nearest")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "black" if norm(max(value, 0.0)) > _DARK else "white"
            axes.text(
                *(column, row, _text(record, value)),
                color=colour,
                fontsize=6,
                horizontalalignment="center",
                verticalalignment="center",
            )
    axes.set_xticks(range(len(record.settings.bits)), [str(b) for b in record.settings.bits])
    axes.set_yticks(range(len(record.layers)), list(record.layers), fontsize=7)
    axes.set_xlabel("bits of the layer's kernel alone")
    bar = figure.colorbar(image, ax=axes)
    bar.set_label(_label(record), fontsize="small")
    return figure


def _values(record: Sensitivity) -> NDArray[np.float64]:
    """(layers, widths); NaN where nothing was measured yet."""
    values = np.full((len(record.layers), len(record.settings.bits)), np.nan)
    for entry in record.entries:
        place = record.layers.index(entry.layer), record.settings.bits.index(entry.bits)
        measured = HARMS[MEASURED](record, entry)
        values[place] = measured if record.metric else 100 * entry.outcome.distance
    return values


def _label(record: Sensitivity) -> str:
    if not record.metric:
        return "distance from the float model's answers\n[% of their size]"
    unit = "MSE" if record.metric == "PSNR" else "nats"
    return f"loss gained over the float model [{unit}]"


def _text(record: Sensitivity, value: float) -> str:
    return f"{value:+.2g}" if record.metric else f"{value:.2g}"
