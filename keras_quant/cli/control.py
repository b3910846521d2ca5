"""kq anytime control: a controller that was chosen by simulation, run on images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.answer_options import (
    csv_option,
    images_argument,
    images_named,
    named_option,
    print_answers,
    right_or_wrong,
    write_csv,
)
from keras_quant.cli.output import as_share, json_option, print_json, print_table
from keras_quant.cli.stage_options import realtime_option

if TYPE_CHECKING:
    from keras_quant.jobs.control import Controlled, ControlledImage

_ANSWER = ("image", "class", "ease", "ran", "ms", "right or wrong")


@click.command()
@click.argument("controller", type=click.Path(path_type=Path, dir_okay=False))
@images_argument
@named_option
@click.option("--images", "count", type=click.IntRange(min=0), default=0, help="The first N alone.")
@realtime_option
@csv_option
@json_option
def control(
    controller: Path,
    images: str | None,
    dataset: str | None,
    count: int,
    realtime: bool,
    csv_path: Path | None,
    as_json: bool,
) -> None:
    """Run a controller that kq anytime simulate --save wrote, on images one by one.

    IMAGES is a folder, an .npz or .npy file; without it the test images of its runs are answered.
    Nets that take fewer pixels are given the same images, averaged.
    For each image one exit or net is run, and where that is not enough another, as the controller
    says. Each file runs in a process of its own, and the messages to it count in what is measured;
    they are not in what was simulated.

    \b
    Examples:
      kq anytime control controller.json
      kq anytime control controller.json my_images/ --csv answers.csv
    """
    from keras_quant.jobs.control import control as job
    from keras_quant.runs.progress import Progress

    named = images_named(images, dataset)
    done = job(
        controller,
        images=named,
        count=count,
        realtime=realtime,
        progress=Progress(),
    )
    if csv_path is not None:
        write_csv(csv_path, _ANSWER, [_cells(answer) for answer in done.answers])
    if as_json:
        print_json(done)
        return
    _print(controller, done)


def _print(controller: Path, done: Controlled) -> None:
    rows = [(name, as_share(share)) for name, share in done.shares.items()]
    print_table(("answered by", "share"), rows, title=f"{controller}, rule {done.simulated.rule}")
    said, unit = done.simulated, done.simulated.unit
    where = f"simulated, {said.place}"
    print_table(
        ("", "accuracy", f"mean {unit}", f"p99 {unit}"),
        [
            (where, as_share(said.test_accuracy), f"{said.mean_cost:.4f}", f"{said.p99_cost:.4f}"),
            ("what ran here, by the same costs", None, f"{done.mean_cost:.4f}", None),
        ],
    )
    print_table(
        ("measured, with messages", "images", "accuracy", "mean ms", "p50 ms", "p99 ms"),
        [
            (
                "here",
                len(done.answers),
                as_share(done.accuracy),
                *(f"{ms:.4f}" for ms in (done.mean_ms, done.p50_ms, done.p99_ms)),
            )
        ],
    )
    print_answers(_ANSWER, [_cells(answer) for answer in done.answers])


def _cells(answer: ControlledImage) -> tuple[object, ...]:
    right = right_or_wrong(answer.right)
    ran = " > ".join(answer.ran)
    return (
        answer.image,
        answer.class_name,
        f"{answer.ease:.4f}",
        ran,
        f"{answer.elapsed_ms:.3f}",
        right,
    )
