"""How training went: loss and score of each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from keras_quant.errors import UsageError
from keras_quant.plots.style import COLOURS, HEIGHT, LINES, WIDTH, plain_texts
from keras_quant.runs.history import Epoch

_SCORES = {
    "accuracy": ("accuracy [%]", 100.0),
    "psnr_db": ("PSNR [dB]", 1.0),
    "elbo": ("ELBO [nats]", 1.0),
}


@plain_texts()
def training_curves(histories: Mapping[str, Sequence[Epoch]], *, title: str) -> Figure:
    """Draws loss and score by epoch: a colour and a line a run; training is thin.

    Args:
        histories: by the name of each run; those without an epoch are left out.
    Raises:
        UsageError: no run has an epoch, or their scores are of several metrics.
    """
    trained = {name: rows for name, rows in histories.items() if rows}
    if not trained:
        raise UsageError(f"no run was trained for an epoch; runs looked at: {len(histories)}")
    metrics = sorted({rows[0].metric for rows in trained.values()})
    if len(metrics) > 1:
        raise UsageError(
            f"runs whose scores are of several metrics ({', '.join(metrics)}) are not drawn in one "
            "picture; choose with --where dataset=NAME"
        )
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    losses, scores = figure.subplots(1, 2)
    label, factor = _SCORES.get(metrics[0], (metrics[0], 1.0))
    for place, rows in enumerate(trained.values()):
        _draw(losses, rows, "loss", place, factor=1.0)
        _draw(scores, rows, "score", place, factor=factor)
    for axes, name in ((losses, "loss"), (scores, label)):
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(True, alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(handles=_legend(list(trained)), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _draw(axes: Axes, rows: Sequence[Epoch], name: str, place: int, *, factor: float) -> None:
    epochs = [row.epoch for row in rows]
    colour, line = COLOURS[place % len(COLOURS)], LINES[place % len(LINES)]
    marker = "." if len(rows) == 1 else None  # of one epoch there is no line
    for field, width in ((name, 0.7), (f"val_{name}", 1.5)):
        values = [factor * getattr(row, field) for row in rows]
        axes.plot(*(epochs, values), marker=marker, linewidth=width, color=colour, linestyle=line)


def _legend(names: Sequence[str]) -> list[Line2D]:
    runs = [
        Line2D([], [], color=COLOURS[i % len(COLOURS)], linestyle=LINES[i % len(LINES)], label=name)
        for i, name in enumerate(names)
    ]
    return [
        *runs,
        Line2D([], [], color="0.4", label="validation"),
        Line2D([], [], color="0.4", linewidth=0.7, label="training"),
    ]
