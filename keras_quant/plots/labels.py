"""Names beside points, none of which lies on another or on a point."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

Point = tuple[float, float]

_DISTANCE = 6  # of a text from its point, in points
_MARKER = 4  # half the width of a marker, in points
_SIDES = ((0, 1), (1, 1), (-1, 1), (1, 0), (-1, 0), (0, -1), (1, -1), (-1, -1))
_ALIGNED = {-1: "right", 0: "center", 1: "left"}
_ALIGNED_UP = {-1: "top", 0: "center", 1: "bottom"}


def label_points(axes: Axes, points: Sequence[Point], texts: Sequence[str]) -> list[Annotation]:
    """Writes each text beside its point, on the first side that is free.

    A text for which no place within the axes is free is left out, rather than written on another.
    Limits and scales of the axes must be set before.

    Returns: what was written.
    """
    figure = axes.figure
    figure.canvas.draw()  # places are known in pixels only after that
    pixel = figure.dpi / 72
    pixels = axes.transData.transform(points)
    taken = [_around(x, y, _MARKER * pixel) for x, y in pixels.tolist()]
    if legend := axes.get_legend():
        taken.append(legend.get_window_extent())
    inside = axes.get_window_extent()
    written = []
    for point, text in zip(points, texts, strict=True):
        for side in _SIDES:
            label = _write(axes, point, text, side)
            box = label.get_window_extent()
            if _holds(inside, box) and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                written.append(label)
                break
            label.remove()
    return written


def _write(axes: Axes, point: Point, text: str, side: tuple[int, int]) -> Annotation:
    x, y = side
    return axes.annotate(
        text,
        point,
        xytext=(x * _DISTANCE, y * _DISTANCE),
        textcoords="offset points",
        horizontalalignment=_ALIGNED[x],
        verticalalignment=_ALIGNED_UP[y],
        fontsize="small",
    )


def _around(x: float, y: float, half: float) -> Bbox:
    return Bbox.from_extents(x - half, y - half, x + half, y + half)


def _holds(outer: Bbox, inner: Bbox) -> bool:
    return bool(
        outer.x0 <= inner.x0
        and outer.y0 <= inner.y0
        and inner.x1 <= outer.x1
        and inner.y1 <= outer.y1
    )
