"""What a sweep of five widths costs beside its float run, and what it gives away for that.

`kq sweep` trains a float run, and five widths in turn, each from the next wider one, for a few
epochs.
Beside it each width is trained by itself, from the same float run, for as many epochs as that had.
Times are those of whole processes, as sweep.json has them: start, training, export and proof; and
those of training alone, from history.csv. Accuracies are those of the proven TFLite files.

Goals, for resnet20 on CIFAR-10: at most 2.0 times the float run's time, and within 0.3 points. What
is there in --out is kept, so that a measurement that was stopped goes on.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from results import Result, argument_parser, publish
from trainings import file_accuracy

from keras_quant.jobs import sweep
from keras_quant.jobs.sweep_plan import FLOAT, Point, points_of
from keras_quant.runs import history, records

MOST_TIMES, MOST_POINTS = 2.0, 0.3
APART = "apart"  # folder of the runs that are trained by themselves


def main() -> None:
    """Trains what is missing, and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--bits", default="8,6,4,3,2")
    parser.add_argument("--method", default="lsq")
    parser.add_argument("--float-epochs", default="10")
    parser.add_argument("--epochs", default="2", help="of each width of the sweep")
    parser.add_argument("--train", default="", help="further options of each width, in both")
    parser.add_argument("--out", type=Path, default=Path("models"), help="folder of all runs")
    arguments = parser.parse_args()
    name = f"{arguments.dataset}-{arguments.model}-economy"
    folder = arguments.out / name
    _kq(
        *("sweep", "--model", arguments.model, "--dataset", arguments.dataset),
        *("--bits", arguments.bits, "--methods", arguments.method),
        *("--float-epochs", arguments.float_epochs, "--epochs", arguments.epochs),
        *("--train", arguments.train, "--out", str(arguments.out), "--name", name),
        *(["--resume"] if (folder / sweep.FILE_NAME).exists() else []),
    )
    record = sweep.load(folder)
    points = [point for point in points_of(record.settings, folder) if point.name != FLOAT]
    for point in points:
        _train_apart(point, folder, epochs=arguments.float_epochs)
    results = [*_times(record, folder, points), *(_given_away(p, folder) for p in points)]
    publish(f"five widths of {arguments.model} on {arguments.dataset}", results, arguments.json)


def _kq(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "keras_quant", *words], check=True, stdout=sys.stderr)


def _train_apart(point: Point, folder: Path, *, epochs: str) -> None:
    """Trains a width from the float run, unless that is done."""
    run = folder / APART / point.name
    begun = (run / records.FILE_NAME).exists()
    if begun and records.load(run).status == "exported":
        return
    # What comes last counts.
    changed = ("--from", str(folder / FLOAT), "--epochs", epochs)
    where = ("--out", str(run.parent), "--name", run.name)
    _kq(*point.arguments, *changed, *where, *(["--resume"] if begun else []))


def _times(record: sweep.SweepRecord, folder: Path, points: list[Point]) -> list[Result]:
    whole = {name: result.seconds for name, result in record.results.items()}
    names = [FLOAT, *(point.name for point in points)]
    training = {name: _training_seconds(folder / name) for name in names}
    return [
        _ratio("time of all widths", whole, points, at_most=MOST_TIMES),
        _ratio("training alone", training, points, at_most=None),
    ]


def _training_seconds(run: Path) -> float:
    return sum(row.seconds for row in history.read(run))


def _ratio(
    figure: str, seconds: dict[str, float], points: list[Point], *, at_most: float | None
) -> Result:
    total = sum(seconds[point.name] for point in points)
    peer = f"{total:,.0f} s / {seconds[FLOAT]:,.0f} s, the float run"
    return Result(figure=figure, value=total / seconds[FLOAT], unit="", at_most=at_most, peer=peer)


def _given_away(point: Point, folder: Path) -> Result:
    """Points of accuracy that a width is short of the one that was trained by itself."""
    swept, apart = (file_accuracy(records.load(run)) for run in _both(point, folder))
    return Result(
        figure=f"short of {point.name} by itself",
        value=apart - swept,
        unit="points",
        at_most=MOST_POINTS,
        peer=f"{swept:.2f} % / {apart:.2f} %",
    )


def _both(point: Point, folder: Path) -> tuple[Path, Path]:
    return folder / point.name, folder / APART / point.name


if __name__ == "__main__":
    main()
