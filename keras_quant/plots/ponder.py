"""Where a net computes how much: the units that each pixel goes through, over the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from keras_quant.plots.style import WIDTH, plain_texts

if TYPE_CHECKING:
    from keras_quant.jobs.ponder import PonderMaps

_COLOURS = "cividis"  # grows lighter evenly, in grey and for colour-blind readers alike
_VEIL = 0.65  # how much of the lower picture is the map
_COLUMNS = 4
_SIDE = 1.45  # inches of a picture


@plain_texts()
def ponder_picture(maps: PonderMaps, *, title: str) -> Figure:
    """Draws each image, and below it the map of its units laid over it.

    The colours span what units there can be, so that pictures of runs compare.
    """
    columns = min(_COLUMNS, len(maps.names))
    rows = -(-len(maps.names) // columns)
    figure = Figure(figsize=(WIDTH, 0.7 + 2 * _SIDE * rows), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(2 * rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    drawn = None
    for place, (name, image, units) in enumerate(zip(maps.names, maps.x, maps.units, strict=True)):
        row, column = 2 * (place // columns), place % columns
        above, below = panels[row, column], panels[row + 1, column]
        picture = _picture(image)
        above.imshow(picture, cmap="gray", vmin=0, vmax=1)
        above.set_title(name, fontsize="small")
        below.imshow(picture, cmap="gray", vmin=0, vmax=1)
        drawn = below.imshow(units, cmap=_COLOURS, alpha=_VEIL, vmin=maps.fewest, vmax=maps.most)
        below.set_title(f"{units.mean():.1f} units", fontsize="small")
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=panels, shrink=0.6)
        bar.set_label("residual units that a position goes through")
    return figure


def _picture(image: np.ndarray) -> np.ndarray:
    """Grey or RGB in 0 to 1; of other channels their mean."""
    values = image.astype(np.float64)
    values = values if image.shape[-1] == 3 else values.mean(axis=-1)
    if image.dtype == np.uint8:
        return np.asarray(values / 255)
    low, high = values.min(), values.max()
    return np.asarray((values - low) / ((high - low) or 1.0))
