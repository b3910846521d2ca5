"""Accuracy of each method at few bits, all from one float run, through the integer file.

A float run first; then each method goes on from its weights at w4a4, w3a3, w2a2 and w1a1, with the
same optimizer (Adam at one bit) and as many epochs, first and last layer with 8-bit weights, and
measures the statistics of batch norms again at the end. What is printed is the accuracy of the
TFLite file on the whole test set, and what it has lost against the float model, which has not seen
the further epochs. Cells that a method cannot have are "-". "lsq 8-bit sums" holds the sums of the
residual net in 8 bits at w4a4 too, as all rows do below. "lsq progressive" lowers bits one width
after the other, each from the last, from lsq's at w4a4 on; the last row does so from float on, on
the float model's answers beside the labels. The peer, in the first row, is QKeras without
keras_quant: quantized_bits with alpha "auto" on kernels, quantized_relu on ReLUs and nothing on the
input and on branches of additions, trained by the same loop, norms left as they are. It writes no
integer file: its accuracy is the Keras model's.

A cell is a run in --out: what is finished is read, what was stopped goes on from its last epoch.
--only takes some cells. The full scale is resnet20 on CIFAR-10, 30 epochs and 12 for each cell; its
float run is kept in data/cifar10_resnet20_float, for --start. The short one is 12 and 4; the small
one shows that all of it works, on 1,797 digits of 8x8 pixels, and says little of the methods.

Goals of the full scale: at w4a4 0.3 points above float, at w3a3 0.2 below, at w2a2 1.8 below, at
w1a1 80 %; for lsq, and at w1a1 for bnn. The last two rows are to be 1 point better than lsq at
w2a2.
"""

from __future__ import annotations

import fnmatch
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from results import Result, argument_parser, publish
from stock import stock_accuracy
from trainings import FULL, SHORT, SMALL, Scale, file_accuracy, finished_run

from keras_quant.cli.output import print_table
from keras_quant.jobs.train_settings import PRECISIONS, TrainSettings
from keras_quant.runs import records
from keras_quant.schemes.bits import scheme_from_bits

WIDTHS = ("w4a4", "w3a3", "w2a2", "w1a1")
STOCK = "stock QKeras"
WIDE = "lsq 8-bit sums"
PROGRESSIVE = "lsq progressive"
TAUGHT = "lsq progressive with teacher"
IN_TURN = (PROGRESSIVE, TAUGHT)
ROWS = {
    STOCK: WIDTHS[:3],
    "qkeras": WIDTHS,
    "lsq": WIDTHS[:3],  # one bit has no step to learn
    WIDE: WIDTHS[:1],  # below, sums are wide anyway
    "pact": WIDTHS,
    "dorefa": WIDTHS,
    "bnn": WIDTHS[3:],
    PROGRESSIVE: WIDTHS[1:3],
    TAUGHT: WIDTHS[:3],
}
DISTILL = 0.9  # share of the float model's answers in the loss of the last row
PROGRESSIVE_GAIN = 1.0  # points, the goal of the last two rows at w2a2 over lsq
GAINED = {"w4a4": 0.3, "w3a3": -0.2, "w2a2": -1.8}  # goals of lsq, points against float
BINARY_GOAL = 80.0  # % of bnn at w1a1

SCALES = {"full": FULL, "short": SHORT, "small": SMALL}


def main() -> None:
    """Trains what is missing, and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--scale", choices=SCALES, default="full", help="of the experiment")
    parser.add_argument("--only", nargs="*", default=["*"], help="cells, as 'lsq-*' or '*-w2a2'")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and split")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of training")
    parser.add_argument("--out", type=Path, help="folder of the runs; without it, a temporary one")
    parser.add_argument("--start", type=Path, help="a finished float run, in place of one in --out")
    arguments = parser.parse_args()
    scale = SCALES[arguments.scale]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        common = {"seed": arguments.seed, "precision": arguments.precision}
        start = arguments.start or folder / "float"
        if arguments.start is None:
            source = file_accuracy(finished_run(_settings(scale, common), start))
        else:
            source = file_accuracy(records.load(start))
        found: dict[tuple[str, str], float] = {}
        for row, bits in _cells(arguments.only):
            settings = _settings(scale, common, row=row, bits=bits, folder=folder, start=start)
            found[row, bits] = _accuracy(settings, folder / _name(row, bits), row=row, bits=bits)
            print(f"{row} {bits}: {found[row, bits]:.2f} %", flush=True)
    title = (
        f"{scale.dataset}, {scale.model}: TFLite file, % of the test images; {scale.epochs} epochs "
        f"in float ({source:.2f} %), then {scale.more_epochs} more in each cell, trained in "
        f"{arguments.precision}"
    )
    _print_matrix(title, found, source)
    results = [_result(cell, found, source, has_goals=scale.has_goals) for cell in found]
    publish(title, results, arguments.json)


def _cells(patterns: list[str]) -> Iterator[tuple[str, str]]:
    for method, widths in ROWS.items():
        for bits in widths:
            if any(fnmatch.fnmatchcase(_name(method, bits), pattern) for pattern in patterns):
                yield method, bits


def _accuracy(settings: TrainSettings, path: Path, *, row: str, bits: str) -> float:
    """Test accuracy of a cell in %, of the TFLite file where there is one."""
    if row == STOCK:
        return stock_accuracy(settings, path, bits=int(bits[-1]))
    return file_accuracy(finished_run(settings, path))


def _name(row: str, bits: str) -> str:
    """The folder of a cell's run."""
    return f"{row.replace(' ', '-')}-{bits}"


def _settings(
    scale: Scale,
    common: Mapping[str, object],
    *,
    row: str = "",
    bits: str = "float",
    folder: Path | None = None,
    start: Path | None = None,
) -> TrainSettings:
    chosen = dict(common)
    if row and row != STOCK:
        chosen |= {"method": row.partition(" ")[0], "reestimate_norms": True}
    if folder is not None:
        chosen["parent"] = start
        if row == TAUGHT:
            chosen |= {"teachers": (start,), "distill": DISTILL}
        if row in IN_TURN and (place := WIDTHS.index(bits)):
            wider = WIDTHS[place - 1]
            chosen["parent"] = folder / _name(row if wider in ROWS[row] else "lsq", wider)
    sums = "8" if row == WIDE else None
    further = scale.binary if bits == WIDTHS[-1] and scale.binary else scale.further
    return TrainSettings(
        scheme=scheme_from_bits(bits, sums=sums),
        model=scale.model,
        dataset=scale.dataset,
        validation_fraction=scale.validation_fraction,
        batch_size=scale.batch_size,
        epochs=scale.more_epochs if row else scale.epochs,
        optimizer=further if row else scale.optimizer,
        **chosen,
    )


def _print_matrix(title: str, found: dict[tuple[str, str], float], source: float) -> None:
    def cell(method: str, bits: str) -> str:
        accuracy = found.get((method, bits))
        return "-" if accuracy is None else f"{accuracy:.2f} ({accuracy - source:+.2f})"

    rows = [(method, *(cell(method, bits) for bits in WIDTHS)) for method in ROWS]
    print_table(("method", *WIDTHS), rows, title=title)


def _result(
    cell: tuple[str, str], found: dict[tuple[str, str], float], source: float, *, has_goals: bool
) -> Result:
    (method, bits), accuracy = cell, found[cell]
    goal = source + GAINED[bits] if method in ("lsq", WIDE, PROGRESSIVE) else None
    goal = BINARY_GOAL if method == "bnn" else goal
    if method in IN_TURN and bits == "w2a2" and ("lsq", "w2a2") in found:
        goal = found["lsq", "w2a2"] + PROGRESSIVE_GAIN
    return Result(
        figure=f"{method} {bits}",
        value=accuracy,
        unit="%",
        at_least=goal if has_goals else None,
        peer=f"float {source:.2f} %, lost {source - accuracy:.2f} points",
    )


if __name__ == "__main__":
    main()
