"""kq anytime: answers as early as they are good enough, from the stages of a run."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.cut import cut
from keras_quant.cli.ensembles import print_ensemble
from keras_quant.cli.output import as_share, json_option, note, print_json, print_table
from keras_quant.cli.pictures import check_picture, write_picture
from keras_quant.cli.ponder import ponder
from keras_quant.cli.resolution import resolution
from keras_quant.cli.simulate import simulate
from keras_quant.cli.train_ensemble import train_ensemble

if TYPE_CHECKING:
    from keras_quant.jobs.answer_in_time import AnytimeAnswers, ImageAnswer
    from keras_quant.runs.exits import ExitsRecord

SHOWN = 20
"""Answers that are printed one by one."""
_ANSWER = ("image", "class", "sureness", "exit", "ended by", "ms", "right or wrong")

run_argument = click.argument("run", type=click.Path(path_type=Path))
format_option = click.option(
    "--format", "form", help="Of the stages: tflite, onnx or tensorrt [default: the first there]."
)


@click.group()
def anytime() -> None:
    """Choose when an early answer is enough, and answer within a deadline.

    \b
    Examples:
      kq anytime thresholds models/mnist-b_lenet-w4a8
      kq anytime run models/mnist-b_lenet-w4a8 --deadline-ms 5
      kq anytime simulate models/lenet-w4a8 models/cnn-w4a8 --board orin-nano
      kq anytime train-ensemble bagging --members 5 --model lenet5 --dataset cifar10 --bits 4
    """


@anytime.command()
@run_argument
@format_option
@click.option(
    "--rule",
    default="entropy",
    show_default=True,
    help="How sure an answer is: entropy, max (probability) or margin (of the two largest).",
)
@click.option(
    "--accuracy",
    type=float,
    help="Share of the validation images to answer rightly, at the least cost [default: that of "
    "the last exit].",
)
@click.option(
    "--budget",
    type=float,
    help="Mean cost not to be passed, at the greatest accuracy; up to 1, a share of the whole.",
)
@click.option(
    "--cost",
    default="macs",
    show_default=True,
    help="What a stage costs: macs, or ms, measured here.",
)
@click.option("--dataset", help="Images with labels [default: those of the run].")
@click.option(
    "--plot",
    "picture",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw accuracy against mean cost, and the exits: .png, .svg or .pdf.",
)
@json_option
def thresholds(
    run: Path,
    form: str | None,
    rule: str,
    accuracy: float | None,
    budget: float | None,
    cost: str,
    dataset: str | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Choose thresholds of early exits on validation images, and judge them on the test images.

    What answers are the stages of the run, as kq export --stages wrote them: those of a quantized
    run are integers, so the thresholds are chosen again after quantization. Writes exits.json into
    the run.

    \b
    Examples:
      kq anytime thresholds models/mnist-b_lenet-w4a8 --plot exits.png
      kq anytime thresholds models/mnist-b_lenet-w4a8 --budget 0.5 --cost ms
      kq anytime thresholds models/mnist-b_lenet-w4a8 --rule margin --accuracy 0.985
    """
    from keras_quant.jobs.anytime import choose_thresholds
    from keras_quant.runs.progress import Progress

    check_picture(picture)
    record = choose_thresholds(
        run,
        form=form,
        rule=rule,
        accuracy=accuracy,
        budget=budget,
        cost=cost,
        dataset=dataset,
        progress=Progress(),
    )
    if picture is not None:
        from keras_quant.plots.anytime import exits_picture

        title = f"{run.name}, {record.format}, {record.rule}"
        write_picture(exits_picture(record, title=title), picture)
    if as_json:
        print_json(record)
        return
    _print_thresholds(run, record)


@anytime.command("run")
@run_argument
@click.argument("images", required=False)
@click.option("--deadline-ms", type=float, required=True, help="When each answer is needed, in ms.")
@format_option
@click.option("--dataset", help="Name of a dataset, in place of IMAGES.")
@click.option("--images", "count", type=click.IntRange(min=0), default=0, help="The first N alone.")
@click.option(
    "--thresholds/--no-thresholds",
    "use_thresholds",
    default=True,
    help="End images early, as exits.json of the run says [default: where there is one].",
)
@click.option(
    "--csv",
    "csv_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write each answer to a file, one line an image.",
)
@json_option
def run_command(
    run: Path,
    images: str | None,
    deadline_ms: float,
    form: str | None,
    dataset: str | None,
    count: int,
    use_thresholds: bool,
    csv_path: Path | None,
    as_json: bool,
) -> None:
    """Answer images one by one, each within a deadline, from the stages of a run.

    IMAGES is a folder, an .npz or .npy file, all images of which are answered, by their names.
    Without it the run's own test images are answered.
    A stage is begun where what the slowest of a hundred takes still fits the deadline. Each runs
    in a process of its own, and the messages to it count.

    \b
    Examples:
      kq anytime run models/mnist-b_lenet-w4a8 --deadline-ms 5
      kq anytime run models/mnist-b_lenet-w4a8 my_digits/ --deadline-ms 2 --csv answers.csv
    """
    from keras_quant.errors import UsageError
    from keras_quant.jobs.answer_in_time import run_anytime
    from keras_quant.runs.progress import Progress

    if images is not None and dataset is not None:
        raise UsageError("IMAGES and --dataset both name images: give one of them")
    if csv_path is not None and not csv_path.parent.is_dir():
        raise UsageError(f"--csv {csv_path}: there is no folder {csv_path.parent}")
    done = run_anytime(
        run,
        deadline_ms=deadline_ms,
        form=form,
        images=images or dataset,
        count=count,
        use_thresholds=use_thresholds,
        progress=Progress(),
    )
    if csv_path is not None:
        from keras_quant.files import write_text

        write_text(csv_path, _to_csv(done))
        note(f"wrote {csv_path}")
    if as_json:
        print_json(done)
        return
    _print_answers(run, done)


@anytime.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "form", default="tflite", show_default=True, help="Of the files.")
@click.option("--dataset", help="Images with labels [default: those of the first run].")
@json_option
def ensemble(runs: Sequence[Path], form: str, dataset: str | None, as_json: bool) -> None:
    """Judge the exported files of several runs as one net, beside each by itself.

    Their answers are put together by the mean of probabilities, the mean of logits, and by votes.

    \b
    Example:
      kq anytime ensemble models/seed0 models/seed1 models/seed2
    """
    from keras_quant.jobs.ensembles import ensemble as judge
    from keras_quant.runs.progress import Progress

    done = judge(runs, form=form, dataset=dataset, progress=Progress())
    if as_json:
        print_json(done)
        return
    print_ensemble(done)


anytime.add_command(simulate)
anytime.add_command(train_ensemble)
anytime.add_command(ponder)
anytime.add_command(cut)
anytime.add_command(resolution)


def _print_thresholds(run: Path, record: ExitsRecord) -> None:
    rows = [
        (
            place,
            one.answer,
            _cost(one.cost, record.cost),
            as_share(one.validation_accuracy),
            as_share(one.test_accuracy),
            None if place == len(record.exits) else _threshold(record.thresholds[place - 1]),
            as_share(record.test.exit_shares[place - 1]),
        )
        for place, one in enumerate(record.exits, start=1)
    ]
    unit = record.cost
    columns = ("exit", "answer", f"{unit} up to it", "validation", "test", "threshold", "ends here")
    print_table(columns, rows, title=f"{run}, stages of {record.format}, rule {record.rule}")
    whole = record.exits[-1].cost
    print_table(
        ("with thresholds", "images", "accuracy", f"mean {unit}", "of the whole"),
        [
            (
                one.split,
                one.images,
                as_share(one.accuracy),
                _cost(one.mean_cost, record.cost),
                as_share(one.mean_cost / whole),
            )
            for one in (record.validation, record.test)
        ],
    )
    print_table(
        (f"mean {unit}, by budget", "test accuracy", "thresholds"),
        [
            (
                _cost(one.mean_cost, record.cost),
                as_share(one.accuracy),
                ", ".join(map(_threshold, one.thresholds)),
            )
            for one in record.budgets[:: max(1, len(record.budgets) // 8)]
        ],
    )
    note(f"wrote {run / 'exits.json'}")


def _threshold(value: float) -> str:
    return f"{value:.4f}" if value <= 1 else "never"  # sureness is 1 at most


def _cost(value: float, unit: str) -> str:
    return f"{value:,.0f}" if unit == "MACs" else f"{value:.4f}"


def _print_answers(run: Path, done: AnytimeAnswers) -> None:
    ended = Counter((answer.exit, answer.reason) for answer in done.answers)
    rows = [
        (exit_number + 1, reason, count, as_share(count / len(done.answers)))
        for (exit_number, reason), count in sorted(ended.items())
    ]
    title = f"{run}, stages of {done.format}, {done.deadline_ms:g} ms an image"
    print_table(("exit", "ended by", "images", "share"), rows, title=title)
    times = sorted(answer.elapsed_ms for answer in done.answers)
    middle, most = (times[int(share * (len(times) - 1))] for share in (0.5, 0.99))
    print_table(
        ("images", "accuracy", "p50 ms", "p99 ms", "longest ms", "latest ms late"),
        [
            (
                len(times),
                as_share(done.accuracy),
                *(f"{value:.3f}" for value in (middle, most, times[-1], done.late_ms)),
            )
        ],
    )
    if len(done.answers) <= SHOWN:
        print_table(_ANSWER, [_cells(answer) for answer in done.answers])
    else:
        note(f"{len(done.answers):,} answers: --csv FILE writes each, and --json prints them")
    if done.thresholds is None:
        note("no thresholds: kq anytime thresholds RUN chooses when an early answer is enough")


def _cells(answer: ImageAnswer) -> tuple[object, ...]:
    right = {None: None, True: "right", False: "wrong"}[answer.right]
    sure, elapsed = f"{answer.sureness:.4f}", f"{answer.elapsed_ms:.3f}"
    return answer.image, answer.class_name, sure, answer.exit + 1, answer.reason, elapsed, right


def _to_csv(done: AnytimeAnswers) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_ANSWER)
    writer.writerows(_cells(answer) for answer in done.answers)
    return text.getvalue()
