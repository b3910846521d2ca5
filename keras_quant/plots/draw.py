"""Pictures by their names, drawn of runs and written to a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from keras_quant.errors import UsageError, close_names
from keras_quant.explain import record as explained_records
from keras_quant.files import atomic_path, make_folder
from keras_quant.graph.costs.cost import cost
from keras_quant.graph.store import load_graph
from keras_quant.plots import explained
from keras_quant.plots.bars import latency_bars
from keras_quant.plots.estimated import estimated_latency
from keras_quant.plots.latency import measured_latency
from keras_quant.plots.layers import bits_of_layers
from keras_quant.plots.sensitivity import sensitivity_map
from keras_quant.plots.style import plain_texts
from keras_quant.plots.tradeoff import COSTS, score_against_bits, score_against_cost
from keras_quant.plots.training import training_curves
from keras_quant.runs import RunFolder, history
from keras_quant.runs.index import Run
from keras_quant.search import record as sensitivity_records

SUFFIXES = (".png", ".svg", ".pdf")
_DPI = 200
_ESTIMATE = "accuracy-estimate"


def draw(
    kind: str,
    runs: Sequence[Run],
    *,
    title: str | None = None,
    layers: Sequence[str] = (),
    board: str | None = None,
) -> Figure:
    """Draws runs.

    Args:
        kind: one of KINDS.
        runs: at least one.
        title: None means what the runs have in common.
        layers: patterns of the layers that histograms are drawn of; () means all.
        board: whose estimates accuracy-estimate draws; None means that of most runs.
    Raises:
        UsageError: there is no such picture, or it cannot be drawn of these runs.
        RunError: a file of a run is broken.
    """
    if kind not in KINDS:
        raise UsageError(f"no picture {kind!r}{close_names(kind, KINDS)}; {', '.join(KINDS)}")
    if layers and kind != "histograms":
        raise UsageError(f"--layer is for histograms; {kind} is drawn whole")
    if board is not None and kind != _ESTIMATE:
        raise UsageError(f"--board is for {_ESTIMATE}; {kind} takes what there is")
    options = {"layers": layers, "board": board}
    chosen = {name: value for name, value in options.items() if value}
    return KINDS[kind](runs, title=_title(runs) if title is None else title, **chosen)


def save(figure: Figure, path: Path) -> None:
    """Writes a picture: PNG, SVG or PDF, as the path ends.

    Raises:
        UsageError: the path ends with something else.
        FileError: the system refuses.
    """
    check_name(path)
    make_folder(path.parent)
    with atomic_path(path) as temporary, plain_texts():
        figure.savefig(temporary, dpi=_DPI)


def check_name(path: Path) -> None:
    """Raises: UsageError: a picture's path ends with no kind of picture."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: pictures end with {', '.join(SUFFIXES)}")


def _against_bits(runs: Sequence[Run], *, title: str) -> Figure:
    check_alike(runs)
    return score_against_bits(runs, title=title)


def _against_cost(runs: Sequence[Run], *, title: str, of: str) -> Figure:
    check_alike(runs)
    return score_against_cost(runs, cost=COSTS[of], title=title)


def _against_latency(runs: Sequence[Run], *, title: str) -> Figure:
    check_alike(runs)
    return score_against_cost(runs, cost=measured_latency(runs), title=title)


def _against_estimate(runs: Sequence[Run], *, title: str, board: str | None = None) -> Figure:
    check_alike(runs)
    return score_against_cost(runs, cost=estimated_latency(runs, board), title=title)


def _training(runs: Sequence[Run], *, title: str) -> Figure:
    return training_curves({run.name: history.read(run.path) for run in runs}, title=title)


def _layers(runs: Sequence[Run], *, title: str) -> Figure:
    run = _only(runs, "bits-of-layers")
    graph = RunFolder(run.path).graph
    if not graph.is_file():
        raise UsageError(f"{run.path}: has no {graph.name} yet; kq export writes it")
    return bits_of_layers(cost(load_graph(graph)), title=title)


def _sensitivity(runs: Sequence[Run], *, title: str) -> Figure:
    run = _only(runs, "sensitivity")
    return sensitivity_map(sensitivity_records.load(run.path), title=title)


def _explained(runs: Sequence[Run], *, title: str, of: str, layers: Sequence[str] = ()) -> Figure:
    found = explained_records.load(_only(runs, of).path)
    if of == "histograms":
        return explained.histograms(found, title=title, layers=layers)
    return (explained.confusion if of == "confusion" else explained.maps)(found, title=title)


def _only(runs: Sequence[Run], kind: str) -> Run:
    if len(runs) != 1:
        raise UsageError(f"{kind} is drawn of one run; {len(runs)} were given")
    return runs[0]


KINDS: Mapping[str, Callable[..., Figure]] = {
    "accuracy-bits": _against_bits,
    "accuracy-size": partial(_against_cost, of="size"),
    "accuracy-weights": partial(_against_cost, of="weights"),
    "accuracy-bitops": partial(_against_cost, of="bitops"),
    "accuracy-energy": partial(_against_cost, of="energy"),
    "accuracy-latency": _against_latency,
    _ESTIMATE: _against_estimate,
    "latency-bars": latency_bars,
    "training": _training,
    "bits-of-layers": _layers,
    "sensitivity": _sensitivity,
    "histograms": partial(_explained, of="histograms"),
    "confusion": partial(_explained, of="confusion"),
    "maps": partial(_explained, of="maps"),
}
"""By name what draws it: (runs, title=...)."""


def check_alike(runs: Sequence[Run]) -> None:
    """Checks that scores can be compared: one dataset, one metric. Raises: UsageError."""
    judged = [run for run in runs if run.score is not None]
    for what, values in (
        ("datasets", {run.record.dataset.name for run in judged}),
        ("metrics", {run.metric for run in judged}),
    ):
        if len(values) > 1:
            raise UsageError(
                f"runs of different {what} ({', '.join(sorted(values))}) are not drawn in one "
                "picture; choose with --where dataset=NAME"
            )


def _title(runs: Sequence[Run]) -> str:
    """The model and the dataset, where all runs have the same."""
    names = {run.record.dataset.name: None for run in runs}
    models = {run.record.model.name: None for run in runs if run.record.training is not None}
    if len(runs) == 1:
        return runs[0].name
    return " on ".join(next(iter(one)) for one in (models, names) if len(one) == 1)
