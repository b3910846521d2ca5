"""kq anytime control: a controller that was chosen by simulation, run on images."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.output import as_share, json_option, note, print_json, print_table
from keras_quant.cli.stage_options import realtime_option

if TYPE_CHECKING:
    from keras_quant.jobs.control import Controlled, ControlledImage

SHOWN = 20
"""Answers that are printed one by one."""
_ANSWER = ("image", "class", "ease", "ran", "ms", "right or wrong")


@click.command()
@click.argument("controller", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("images", required=False)
@click.option("--dataset", help="Name of a dataset, in place of IMAGES.")
@click.option("--images", "count", type=click.IntRange(min=0), default=0, help="The first N alone.")
@realtime_option
@click.option(
    "--csv",
    "csv_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write each answer to a file, one line an image.",
)
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
    For each image one exit or net is run, and where that is not enough another, as the controller
    says. Each file runs in a process of its own, and the messages to it count in what is measured;
    they are not in what was simulated.

    \b
    Examples:
      kq anytime control controller.json
      kq anytime control controller.json my_images/ --csv answers.csv
    """
    from keras_quant.errors import UsageError
    from keras_quant.jobs.control import control as job
    from keras_quant.runs.progress import Progress

    if images is not None and dataset is not None:
        raise UsageError("IMAGES and --dataset both name images: give one of them")
    if csv_path is not None and not csv_path.parent.is_dir():
        raise UsageError(f"--csv {csv_path}: there is no folder {csv_path.parent}")
    done = job(
        controller,
        images=images or dataset,
        count=count,
        realtime=realtime,
        progress=Progress(),
    )
    if csv_path is not None:
        from keras_quant.files import write_text

        write_text(csv_path, _to_csv(done))
        note(f"wrote {csv_path}")
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
    if len(done.answers) <= SHOWN:
        print_table(_ANSWER, [_cells(answer) for answer in done.answers])
    else:
        note(f"{len(done.answers):,} answers: --csv FILE writes each, and --json prints them")


def _cells(answer: ControlledImage) -> tuple[object, ...]:
    right = {None: None, True: "right", False: "wrong"}[answer.right]
    ran = " > ".join(answer.ran)
    return (
        answer.image,
        answer.class_name,
        f"{answer.ease:.4f}",
        ran,
        f"{answer.elapsed_ms:.3f}",
        right,
    )


def _to_csv(done: Controlled) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_ANSWER)
    writer.writerows(_cells(answer) for answer in done.answers)
    return text.getvalue()
