"""kq anytime run: images answered one by one, each within a deadline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
from keras_quant.cli.output import as_share, json_option, note, print_json, print_table
from keras_quant.cli.stage_options import (
    next_option,
    realtime_option,
    run_argument,
    stage_format_option,
    timeout_option,
)

if TYPE_CHECKING:
    from keras_quant.jobs.answer_in_time import AnytimeAnswers, Elsewhere, ImageAnswer

_ANSWER = ("image", "class", "sureness", "exit", "ended by", "ms", "right or wrong", "bytes sent")


@click.command("run")
@run_argument
@images_argument
@click.option("--deadline-ms", type=float, required=True, help="When each answer is needed, in ms.")
@stage_format_option
@named_option
@click.option("--images", "count", type=click.IntRange(min=0), default=0, help="The first N alone.")
@click.option(
    "--thresholds/--no-thresholds",
    "use_thresholds",
    default=True,
    help="End images early, as exits.json of the run says, or concat.json with --aggregate concat "
    "[default: where there is one].",
)
@next_option
@timeout_option
@click.option(
    "--view",
    "views",
    multiple=True,
    help="Further images of the same things, in the same order: of another camera, say.",
)
@click.option(
    "--aggregate",
    default="average",
    show_default=True,
    help="How the scores of views become one answer: average, max, or concat, which kq anytime "
    "concat learned.",
)
@realtime_option
@csv_option
@json_option
def run_command(
    run: Path,
    images: str | None,
    deadline_ms: float,
    form: str | None,
    dataset: str | None,
    count: int,
    use_thresholds: bool,
    next_address: str | None,
    timeout_ms: float,
    views: Sequence[str],
    aggregate: str,
    realtime: bool,
    csv_path: Path | None,
    as_json: bool,
) -> None:
    """Answer images one by one, each within a deadline, from the stages of a run.

    IMAGES is a folder, an .npz or .npy file, all images of which are answered, by their names.
    Without it the run's own test images are answered.
    A stage is begun where what the slowest of a hundred takes still fits the deadline. Each runs
    in a process of its own, and the messages to it count. With --next, those stages that another
    machine serves are run there: it gets the codes that they need, packed at their bits, where no
    answer here is sure; and where it is lost, the best answer from here is given.

    \b
    Examples:
      kq anytime run models/mnist-b_lenet-w4a8 --deadline-ms 5
      kq anytime run models/mnist-b_lenet-w4a8 my_digits/ --deadline-ms 2 --csv answers.csv
      kq anytime run models/mnist-b_lenet-w4a4 --deadline-ms 20 --next 192.168.1.7:9000
      kq anytime run models/mnist-b_lenet-w4a4 left/ --view right/ --aggregate max --deadline-ms 5
    """
    from keras_quant.jobs.answer_in_time import AnytimeSettings, run_anytime
    from keras_quant.runs.progress import Progress

    named = images_named(images, dataset)
    settings = AnytimeSettings(
        deadline_ms=deadline_ms,
        form=form,
        count=count,
        use_thresholds=use_thresholds,
        next_address=next_address,
        timeout_ms=timeout_ms,
        views=tuple(views),
        aggregate=aggregate,
        realtime=realtime,
    )
    done = run_anytime(run, settings, images=named, progress=Progress())
    if csv_path is not None:
        write_csv(csv_path, _ANSWER, [_cells(answer) for answer in done.answers])
    for text, images_of_it in done.notes.items():
        note(f"{images_of_it:,} images: {text}")
    if as_json:
        print_json(done)
        return
    _print_answers(run, done, wanted_thresholds=use_thresholds)


def _print_answers(run: Path, done: AnytimeAnswers, *, wanted_thresholds: bool) -> None:
    import numpy as np

    ended = Counter((answer.exit, answer.reason) for answer in done.answers)
    rows = [
        (exit_number + 1, reason, count, as_share(count / len(done.answers)))
        for (exit_number, reason), count in sorted(ended.items())
    ]
    title = f"{run}, stages of {done.format}, {done.deadline_ms:g} ms an image"
    print_table(("exit", "ended by", "images", "share"), rows, title=title)
    times = np.array([answer.elapsed_ms for answer in done.answers])
    half, most = np.percentile(times, (50, 99))
    print_table(
        ("images", "accuracy", "p50 ms", "p99 ms", "longest ms", "latest ms late"),
        [
            (
                len(times),
                as_share(done.accuracy),
                *(f"{value:.3f}" for value in (half, most, times.max(), done.late_ms)),
            )
        ],
    )
    if done.elsewhere is not None:
        _print_elsewhere(done.elsewhere, len(done.answers))
    print_answers(_ANSWER, [_cells(answer) for answer in done.answers])
    if done.thresholds is None and wanted_thresholds:
        note(f"no thresholds: kq anytime thresholds {run} chooses when an early answer is enough")


def _print_elsewhere(there: Elsewhere, images: int) -> None:
    rows = [
        (
            f"{there.address}, stage {there.first}" if not place else f"the one behind, {place}",
            way.images,
            as_share(way.images / images),
            f"{way.mean_bytes:.1f}",
        )
        for place, way in enumerate(there.ways)
    ]
    columns = ("sent to", "images", "share", "mean bytes of all, headers too")
    print_table(columns, rows or [(there.address, 0, as_share(0.0), "0.0")])
    trip = there.trip
    print_table(
        ("an image that is sent", "bytes"),
        [("its codes, packed", there.codes_bytes), ("its pixels, as given", there.raw_bytes)],
    )
    note(
        f"an answer from {there.address} takes {trip.p50_ms:.3f} ms, 1 in 100 more than "
        f"{trip.p99_ms:.3f}"
    )


def _cells(answer: ImageAnswer) -> tuple[object, ...]:
    right = right_or_wrong(answer.right)
    sure, elapsed = f"{answer.sureness:.4f}", f"{answer.elapsed_ms:.3f}"
    sent = answer.sent_bytes[0] if answer.sent_bytes else 0
    return (
        answer.image,
        answer.class_name,
        sure,
        answer.exit + 1,
        answer.reason,
        elapsed,
        right,
        sent,
    )
