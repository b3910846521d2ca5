"""kq anytime: answers as early as they are good enough, from the stages of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.anytime_run import run_command
from keras_quant.cli.concat import concat
from keras_quant.cli.control import control
from keras_quant.cli.cut import cut
from keras_quant.cli.ensembles import print_ensemble
from keras_quant.cli.options import file_format_option
from keras_quant.cli.output import as_share, json_option, note, print_json, print_table
from keras_quant.cli.pictures import check_picture, plot_option, write_picture
from keras_quant.cli.ponder import ponder
from keras_quant.cli.resolution import resolution
from keras_quant.cli.serve import serve
from keras_quant.cli.simulate import simulate
from keras_quant.cli.stage_options import (
    accuracy_option,
    budget_option,
    cost_option,
    rule_option,
    run_argument,
    stage_format_option,
)
from keras_quant.cli.thresholds import print_outcomes, shown_cost, shown_threshold
from keras_quant.cli.train_ensemble import train_ensemble
from keras_quant.cli.unpack import unpack

if TYPE_CHECKING:
    from keras_quant.runs.exits import ExitsRecord


@click.group()
def anytime() -> None:
    """Choose when an early answer is enough, and answer within a deadline.

    \b
    Examples:
      kq anytime thresholds models/mnist-b_lenet-w4a8
      kq anytime run models/mnist-b_lenet-w4a8 --deadline-ms 5
      kq anytime serve models/mnist-b_lenet-w4a8 --listen 127.0.0.1:9000
      kq anytime concat models/mnist-b_lenet-w4a8 left/ --view right/
      kq anytime simulate models/lenet-w4a8 models/cnn-w4a8 --save controller.json
      kq anytime control controller.json my_images/
      kq anytime train-ensemble bagging --members 5 --model lenet5 --dataset cifar10 --bits 4
    """


@anytime.command()
@run_argument
@stage_format_option
@rule_option
@accuracy_option
@budget_option
@cost_option
@click.option("--dataset", help="Images with labels [default: those of the run].")
@plot_option("accuracy against mean cost, and the exits")
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
    from keras_quant.jobs.anytime import Asked, choose_thresholds
    from keras_quant.runs.progress import Progress

    check_picture(picture)
    record = choose_thresholds(
        run,
        Asked(rule=rule, accuracy=accuracy, budget=budget, cost=cost),
        form=form,
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


@anytime.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@file_format_option
@click.option("--dataset", help="Images with labels [default: those of the first run].")
@json_option
def ensemble(runs: Sequence[Path], form: str, dataset: str | None, as_json: bool) -> None:
    """Judge the exported files of several runs as one net, beside each by itself.

    RUNS are runs, or the folder of one ensemble that kq anytime train-ensemble made. Their answers
    are put together by the mean of probabilities, the mean of logits, and by votes; those of
    boosted members by their weighted sum, too.

    \b
    Examples:
      kq anytime ensemble models/seed0 models/seed1 models/seed2
      kq anytime ensemble models/boosted
    """
    from keras_quant.jobs.ensembles import ensemble as judge
    from keras_quant.runs.progress import Progress

    done = judge(runs, form=form, dataset=dataset, progress=Progress())
    if as_json:
        print_json(done)
        return
    print_ensemble(done)


anytime.add_command(run_command)
anytime.add_command(serve)
anytime.add_command(concat)
anytime.add_command(simulate)
anytime.add_command(control)
anytime.add_command(train_ensemble)
anytime.add_command(unpack)
anytime.add_command(ponder)
anytime.add_command(cut)
anytime.add_command(resolution)


def _print_thresholds(run: Path, record: ExitsRecord) -> None:
    rows = [
        (
            place,
            one.answer,
            shown_cost(one.cost, record.cost),
            as_share(one.validation_accuracy),
            as_share(one.test_accuracy),
            None if place == len(record.exits) else shown_threshold(record.thresholds[place - 1]),
            as_share(record.test.exit_shares[place - 1]),
        )
        for place, one in enumerate(record.exits, start=1)
    ]
    unit = record.cost
    columns = ("exit", "answer", f"{unit} up to it", "validation", "test", "threshold", "ends here")
    print_table(columns, rows, title=f"{run}, stages of {record.format}, rule {record.rule}")
    print_outcomes(record, "with thresholds", of="images", whole=record.exits[-1].cost)
    print_table(
        (f"mean {unit}, by budget", "test accuracy", "thresholds"),
        [
            (
                shown_cost(one.mean_cost, record.cost),
                as_share(one.accuracy),
                ", ".join(map(shown_threshold, one.thresholds)),
            )
            for one in record.budgets[:: max(1, len(record.budgets) // 8)]
        ],
    )
    note(f"wrote {run / 'exits.json'}")
