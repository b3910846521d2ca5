"""kq anytime concat: what makes the scores of several views one answer, learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.output import as_share, json_option, note, print_json, print_table
from keras_quant.cli.stage_options import (
    accuracy_option,
    budget_option,
    cost_option,
    rule_option,
    run_argument,
    stage_format_option,
)
from keras_quant.cli.thresholds import print_outcomes, shown_threshold

if TYPE_CHECKING:
    from keras_quant.runs.concat import ConcatRecord


@click.command()
@run_argument
@click.argument("images")
@click.option(
    "--view",
    "views",
    multiple=True,
    required=True,
    help="Further images of the same things, in the same order: of another camera, say.",
)
@stage_format_option
@rule_option
@accuracy_option
@budget_option
@cost_option
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of which things are learned from.",
)
@json_option
def concat(
    run: Path,
    images: str,
    views: Sequence[str],
    form: str | None,
    rule: str,
    accuracy: float | None,
    budget: float | None,
    cost: str,
    seed: int,
    as_json: bool,
) -> None:
    """Learn how the scores of several views become one answer, for kq anytime run --view.

    IMAGES, with labels, and each --view are folders, .npz or .npy files of images that the net was
    not trained on. At each exit a linear layer on the scores of all views is learned (multinomial
    logistic regression) from 60 % of the things; thresholds are chosen for its answers on 20 %,
    and the last 20 % judge it, beside each view alone, the largest score and the mean. Writes
    concat.json into the run.

    \b
    Examples:
      kq anytime concat models/mnist-b_lenet-w4a8 left/ --view right/
      kq anytime run models/mnist-b_lenet-w4a8 new_left/ --view new_right/ --aggregate concat \\
        --deadline-ms 5
    """
    from keras_quant.jobs.anytime import Asked
    from keras_quant.jobs.concat import ConcatSettings, learn_concat
    from keras_quant.runs.progress import Progress

    settings = ConcatSettings(
        views=tuple(views),
        form=form,
        asked=Asked(rule=rule, accuracy=accuracy, budget=budget, cost=cost),
        seed=seed,
    )
    record = learn_concat(run, images, settings, progress=Progress())
    if as_json:
        print_json(record)
        return
    _print(run, record)


def _print(run: Path, record: ConcatRecord) -> None:
    rows = [
        (
            place,
            one.answer,
            *map(as_share, (*one.views, *one.together.values())),
            None if place == len(record.exits) else shown_threshold(record.thresholds[place - 1]),
        )
        for place, one in enumerate(record.exits, start=1)
    ]
    alone = [f"view {number}" for number in range(1, record.views + 1)]
    columns = ("exit", "answer", *alone, *record.exits[0].together, "threshold")
    print_table(
        columns,
        rows,
        title=f"{run}, stages of {record.format}: accuracy on {record.test.images:,} things that "
        f"nothing was learned from; concat learned from {record.learned:,}",
    )
    print_outcomes(record, "concat with thresholds", of="things", whole=record.exits[-1].cost)
    note(f"wrote {run / 'concat.json'}")
