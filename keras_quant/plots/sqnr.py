"""How far each layer of a file is from float."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from keras_quant.diagnose.findings import LOW_DB, SAME_DB, Layer
from keras_quant.errors import UsageError
from keras_quant.plots.style import COLOURS, new_axes, plain_texts

_INCHES_A_LAYER = 0.2
_MOST_INCHES = 40.0


@plain_texts()
def sqnr_by_layer(layers: Sequence[Layer], *, title: str) -> Figure:
    """Draws a bar a layer: its signal to quantization noise; layers that break it are hatched.

    Layers that are exact are drawn as far as the scale reaches, and say so.

    Raises:
        UsageError: no layer was compared with a float model.
    """
    drawn = [
        (layer, layer.error.sqnr_db if layer.error.sqnr_db < SAME_DB else math.inf)
        for layer in layers
        if layer.error is not None and layer.error.sqnr_db is not None
    ]
    if not drawn:
        raise UsageError("no layer was compared with a float model; give one with --float")
    height = min(_MOST_INCHES, 1.4 + _INCHES_A_LAYER * len(drawn))
    figure, axes = new_axes(title, height=height)
    most = max([LOW_DB, *(db for _, db in drawn if math.isfinite(db))]) * 1.08
    seen = set()
    for place, (layer, db) in enumerate(drawn):
        label = "breaks here" if layer.breaks else "other layers"
        axes.barh(
            place,
            db if math.isfinite(db) else most,
            height=0.75,
            color=COLOURS[1] if layer.breaks else COLOURS[0],
            hatch="///" if layer.breaks else "",
            edgecolor="white",
            label="" if label in seen else label,
        )
        seen.add(label)
        text = f"{db:.1f}" if math.isfinite(db) else "exact"
        axes.text(max(0.0, min(db, most)), place, f" {text}", va="center", fontsize=7)
    axes.axvline(
        LOW_DB, color="black", linestyle="--", linewidth=1, label=f"{LOW_DB:g} dB: 1 % noise"
    )
    axes.set_yticks(range(len(drawn)), [layer.name for layer, _ in drawn], fontsize="x-small")
    axes.invert_yaxis()
    axes.set_xlim(min(0.0, *(db for _, db in drawn)) * 1.08, most * 1.12)
    axes.set_xlabel("signal to quantization noise, dB")
    figure.legend(fontsize="small", loc="outside lower center", ncols=3)
    return figure
