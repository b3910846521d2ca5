"""The layers of an engine from top to bottom, as wide as their times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch

from keras_quant.bench.engine import (
    CONVERSION,
    NOTHING,
    OTHER,
    POINTWISE,
    POOL,
    PRODUCT,
    REFORMAT,
    Engine,
    EngineLayer,
)
from keras_quant.bench.engine_costs import short_name
from keras_quant.plots.style import COLOURS, new_axes, plain_texts

_LOOKS = {
    PRODUCT: (COLOURS[0], ""),
    REFORMAT: (COLOURS[1], "////"),
    CONVERSION: (COLOURS[4], "\\\\\\\\"),
    POOL: (COLOURS[2], ".."),
    POINTWISE: (COLOURS[5], ""),
    OTHER: ("#BBBBBB", ""),
    NOTHING: ("#FFFFFF", ""),
}
"""By kind, colour and hatching, which also greyscale tells apart."""

_ROW, _FRAME, _WIDTH = 0.2, 1.2, 9.0  # inches
_HIGHEST = 300.0  # a PNG may have 65,536 rows, 200 an inch
_LONGEST_LABEL = 44
_SKIP = 1  # a value that the next layer reads needs no arrow


@plain_texts()
def engine_picture(engine: Engine, *, title: str) -> Figure:
    """Draws an engine, a bar a layer; arrows lead from it to those that read its values later on.

    Args:
        engine: with times, or without: bars are then of one length.
    """
    height = min(_HIGHEST, _FRAME + _ROW * len(engine.layers))
    figure, axes = new_axes(title, height=height)
    figure.set_figwidth(_WIDTH)
    is_timed = any(layer.time_ms is not None for layer in engine.layers)
    rows = range(len(engine.layers))
    lengths = [(layer.time_ms or 0.0) * 1e3 if is_timed else 1.0 for layer in engine.layers]
    for row, layer, length in zip(rows, engine.layers, lengths, strict=True):
        colour, hatch = _LOOKS[layer.kind]
        axes.barh(row, length, color=colour, hatch=hatch, edgecolor="black", linewidth=0.4)
        share = "" if layer.share is None else f" {layer.share:.1%}"
        axes.text(length, row, f" {layer.types}{share}", va="center", fontsize=6)
    axes.set_yticks(list(rows), [_label(layer) for layer in engine.layers], fontsize=6)
    axes.set_ylim(len(engine.layers) - 0.4, -0.6)
    axes.set_xlim(0, max(lengths, default=1.0) * 1.45 or 1.0)
    axes.set_xlabel("time [us]" if is_timed else "")
    axes.grid(False, axis="y")
    if not is_timed:
        axes.set_xticks([])
    for first, last in _jumps(engine.layers):
        _arrow(axes, first, last)
    kinds = dict.fromkeys(layer.kind for layer in engine.layers)
    axes.legend(
        handles=[
            Patch(facecolor=_LOOKS[kind][0], hatch=_LOOKS[kind][1], edgecolor="black", label=kind)
            for kind in _LOOKS
            if kind in kinds
        ],
        loc="lower right",
        fontsize="x-small",
    )
    return figure


def _label(layer: EngineLayer) -> str:
    text = short_name(layer)
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 3]}..."


def _jumps(layers: Sequence[EngineLayer]) -> Iterator[tuple[int, int]]:
    """Rows between which a value goes past others, each pair once."""
    given: dict[str, int] = {}
    seen: set[tuple[int, int]] = set()
    for row, layer in enumerate(layers):
        for tensor in layer.inputs:
            first = given.get(tensor.name)
            if first is not None and row - first > _SKIP and (first, row) not in seen:
                seen.add((first, row))
                yield first, row
        given |= {tensor.name: row for tensor in layer.outputs}


def _arrow(axes: Axes, first: int, last: int) -> None:
    """An arrow from row to row, within the right margin of the picture."""
    right = axes.get_xlim()[1]
    axes.add_patch(
        FancyArrowPatch(
            (right, first),
            (right, last),
            connectionstyle=f"arc3,rad={-min(0.5, 1.6 / (last - first)):.2f}",
            arrowstyle="->",
            mutation_scale=6,
            linewidth=0.6,
            color="#555555",
            clip_on=False,
        )
    )
