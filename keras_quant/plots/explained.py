"""What quantization changed: histograms with the grid's levels, confusion, where a model looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from keras_quant.errors import UsageError, close_names
from keras_quant.explain.overlap import Overlap, largest
from keras_quant.explain.record import Explained, Histogram, Maps, Tensor
from keras_quant.explain.summary import accuracy, overlaps_of
from keras_quant.plots.style import COLOURS, WIDTH, plain_texts

_COLUMNS = 3
_PANEL_INCHES = 1.35
_MOST_MARKED = 16  # levels that are marked one by one
_MOST_BARS = 32  # levels that have a bar each; of more, those of a bin have one
_MOST_NAMED = 20  # classes whose counts are written
_TOWER = 4  # times as high as any other value
_FINE = 8  # parts of a place's side that lines are drawn along
_CELLS = "cividis"  # grows lighter evenly, in grey and for colour-blind readers alike
_DIFFERENCES = "PuOr"  # told apart by colour-blind readers; the sign is written too


@plain_texts()
def histograms(found: Explained, *, title: str, layers: Sequence[str] = ()) -> Figure:
    """Draws a panel a tensor: values before rounding as a surface, the grid's as bars behind it.

    Args:
        layers: patterns of the names to draw; () draws all.
    Raises:
        UsageError: a pattern matches nothing, or nothing was rounded.
    """
    pairs = _matching(found, layers)
    rows = -(-len(pairs) // _COLUMNS)
    columns = min(_COLUMNS, len(pairs))
    figure = Figure(figsize=(WIDTH, 0.9 + _PANEL_INCHES * rows), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axes, (tensor, histogram) in zip(panels, pairs, strict=False):
        _panel(axes, tensor, histogram)
    for axes in panels[len(pairs) :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize="small")
    figure.supylabel("share of the values [%]", fontsize="small")
    return figure


def _matching(found: Explained, layers: Sequence[str]) -> list[tuple[Tensor, Histogram]]:
    pairs = list(zip(found.header.tensors, found.histograms, strict=True))
    if not pairs:
        raise UsageError("nothing in the run's model is rounded to a grid")
    names = [tensor.name for tensor, _ in pairs]
    for pattern in layers:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UsageError(
                f"--layer {pattern!r} matches none of {len(names)} layers"
                f"{close_names(pattern, names) or '; layers are ' + ', '.join(names)}"
            )
    chosen = [p for p in pairs if any(fnmatchcase(p[0].name, pattern) for pattern in layers)]
    return chosen if layers else pairs


def _panel(axes: Axes, tensor: Tensor, histogram: Histogram) -> None:
    edges, levels = histogram.edges, histogram.levels
    step = float(levels[1] - levels[0]) if len(levels) > 1 else 1.0
    # A level's bar holds what lies within half a step: so are bins, for both to be compared.
    before = _shares(histogram.before) * step / float(edges[1] - edges[0])
    after = _shares(histogram.after)
    colour, label = COLOURS[4], "after: share of each level"
    if len(levels) <= _MOST_BARS:
        axes.bar(levels, after, width=0.7 * step, color=colour, label=label)
    else:
        after = np.histogram(levels, edges, weights=after)[0] * step / float(edges[1] - edges[0])
        axes.stairs(after, edges, fill=True, color=colour, label=label)
    axes.stairs(before, edges, color=COLOURS[0], linewidth=1.0, label="before: share within a step")
    if len(levels) <= _MOST_MARKED:
        zeros = np.zeros(len(levels))
        axes.plot(levels, zeros, "k|", markersize=4, markeredgewidth=0.8, clip_on=False)
    axes.set_ylim(0, _top(axes, histogram, before, after))
    axes.set_xlim(edges[0], edges[-1])
    axes.set_title(f"{_short(tensor.name)}, {tensor.bits} bits", fontsize=7)
    axes.set_xlabel("code" if tensor.unit == "scales" else "activation", fontsize=6, labelpad=1)
    axes.tick_params(labelsize=6)
    axes.locator_params(axis="x", nbins=5)
    axes.locator_params(axis="y", nbins=3)


def _top(
    axes: Axes, histogram: Histogram, before: NDArray[np.float64], after: NDArray[np.float64]
) -> float:
    """Where the panel ends. One value far above all others, as a ReLU's 0, is cut, and written."""
    second, highest = np.sort(np.append(after, [0.0, 0.0]))[-2:]
    if highest > _TOWER * second > 0:
        place = int(histogram.after.argmax())
        share = 100 * histogram.after[place] / histogram.after.sum()
        text = f"{share:.0f} % at {histogram.levels[place]:g}"
        axes.text(0.97, 0.9, text, fontsize=6, ha="right", va="top", transform=axes.transAxes)
        return float(2 * max(second, float(np.sort(before)[-2])))
    # What lies far beyond the grid is in the outermost bins, and would press all others flat.
    return float(1.08 * max(highest, min(before.max(initial=0), 1.5 * highest))) or 1.0


def _shares(counts: np.ndarray) -> NDArray[np.float64]:
    """In percent."""
    return np.asarray(100 * counts / max(1, int(counts.sum())), np.float64)


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:10]}...{name[-9:]}"


@plain_texts()
def confusion(found: Explained, *, title: str) -> Figure:
    """Draws how often each class was taken for each; of two models the difference too.

    Raises:
        UsageError: the answers were to images without labels.
    """
    matrices = found.confusion
    if matrices is None:
        raise UsageError("no confusion was counted: the run is no classifier of labelled images")
    names = found.header.class_names
    is_pair = len(matrices) == 2
    figure = Figure(figsize=(WIDTH, 6.6 if is_pair else 4.6), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    grid = figure.add_gridspec(2, 2, height_ratios=(1, 1.5))
    spots = [grid[0, 0], grid[0, 1]] if is_pair else [grid[:, :]]
    kinds = ("float", "quantized")[-len(matrices) :]
    for spot, matrix, kind in zip(spots, matrices, kinds, strict=True):
        axes = figure.add_subplot(spot)
        norm = PowerNorm(0.4, 0, max(1, int(matrix.max())))
        image = axes.imshow(matrix, cmap=_CELLS, norm=norm)
        _name_classes(axes, names, f"{kind}: {accuracy(matrix):.2%} right", small=is_pair)
        figure.colorbar(image, ax=axes, shrink=0.8).set_label("images", fontsize="small")
        if not is_pair:
            _write_counts(axes, matrix, norm)
    if is_pair:
        _difference(figure, figure.add_subplot(grid[1, :]), matrices, names)
    return figure


def _difference(figure: Figure, axes: Axes, matrices: np.ndarray, names: Sequence[str]) -> None:
    change = matrices[1] - matrices[0]
    most = max(1, int(np.abs(change).max()))
    whole = MaxNLocator(integer=True)
    image = axes.imshow(change, cmap=_DIFFERENCES, norm=TwoSlopeNorm(0, -most, most))
    moved = int(np.abs(change).sum()) // 2
    _name_classes(
        axes, names, f"quantized less float: {moved:,} images answered otherwise, net", small=False
    )
    bar = figure.colorbar(image, ax=axes, shrink=0.9, ticks=whole)
    bar.set_label("images more (+) or fewer", fontsize=8)
    if len(names) <= _MOST_NAMED:
        for (row, column), value in np.ndenumerate(change):
            if value:
                colour = "white" if abs(value) > 0.6 * most else "black"
                _write(axes, row, column, f"{value:+d}", colour)


def _write_counts(axes: Axes, matrix: np.ndarray, norm: PowerNorm) -> None:
    if len(matrix) <= _MOST_NAMED:
        for (row, column), value in np.ndenumerate(matrix):
            if value:
                _write(axes, row, column, str(value), "black" if norm(value) > 0.55 else "white")


def _write(axes: Axes, row: int, column: int, text: str, colour: str) -> None:
    axes.text(
        *(column, row, text),
        color=colour,
        fontsize=6,
        horizontalalignment="center",
        verticalalignment="center",
    )


def _name_classes(axes: Axes, names: Sequence[str], title: str, *, small: bool) -> None:
    axes.set_title(title, fontsize="small")
    axes.set_xlabel("answered class", fontsize="small")
    axes.set_ylabel("class shown", fontsize="small")
    if len(names) <= _MOST_NAMED:
        is_wide = max(map(len, names)) > 2
        axes.set_xticks(range(len(names)), names, fontsize=6, rotation=90 if is_wide else 0)
        axes.set_yticks(range(len(names)), names, fontsize=6)
    if small:
        axes.tick_params(labelsize=5)


@plain_texts()
def maps(found: Explained, *, title: str) -> Figure:
    """Draws where both models look, a row an image; lines are round the fifth that counts most.

    Raises:
        UsageError: no maps were made.
    """
    if found.maps is None:
        raise UsageError(
            "no maps were made: they need a classifier with places, and a float model "
            "(kq explain RUN --float RUN --overwrite)"
        )
    count = len(found.maps.images)
    figure = Figure(figsize=(WIDTH, 0.9 + 1.75 * count), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(count, 3, squeeze=False)
    layers = zip(("float", "quantized"), found.header.layer_names, strict=True)
    heads = ["image", *(f"{kind}\n{_short(name)}" for kind, name in layers)]
    for column, head in enumerate(heads):
        panels[0, column].set_title(head, fontsize="small")
    figure.supxlabel(
        "lines: the fifth of the places that counts most; dashed: that of the float model",
        fontsize="small",
    )
    for row, one in enumerate(overlaps_of(found.maps)):
        _draw_row(figure, panels[row], found.maps, row, found.header.class_names, one)
    return figure


def _draw_row(
    figure: Figure,
    panels: Sequence[Axes],
    found: Maps,
    row: int,
    names: Sequence[str],
    one: Overlap,
) -> None:
    image = found.images[row]
    panels[0].imshow(
        image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255
    )
    panels[0].set_xlabel(f"score of: {names[found.classes[row]]}", fontsize="small")
    both = (found.of_float[row], found.of_quantized[row])
    for axes, values in zip(panels[1:], both, strict=True):
        drawn = axes.imshow(values, cmap=_CELLS, vmin=0, vmax=1)
        _outline(axes, values, colour="white", behind="black", line="-")
    _outline(panels[2], both[0], colour="black", behind="white", line="--")
    panels[2].set_xlabel(_said(one), fontsize="small")
    figure.colorbar(drawn, ax=panels[2], shrink=0.8).set_label("least to most", fontsize=6)
    for axes in panels:
        axes.set_xticks([])
        axes.set_yticks([])


def _outline(axes: Axes, values: np.ndarray, *, colour: str, behind: str, line: str) -> None:
    """Draws a line round the places that count most, along their edges."""
    if np.ptp(values) == 0:
        return
    fine = np.kron(np.pad(largest(values), 1), np.ones((_FINE, _FINE)))
    places = [(np.arange(size) + 0.5) / _FINE - 1.5 for size in fine.shape]
    lines = axes.contour(
        *(places[1], places[0], fine),
        levels=[0.5],
        colors=colour,
        linewidths=1.2,
        linestyles=line,
    )
    # Seen on light and on dark places alike.
    lines.set_path_effects([withStroke(linewidth=2.4, foreground=behind)])
    height, width = values.shape
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _said(one: Overlap) -> str:
    if one.iou is None or one.rank_correlation is None or math.isnan(one.iou):
        return "a map is empty"
    return f"IoU {one.iou:.2f}, rank {one.rank_correlation:.2f}"
