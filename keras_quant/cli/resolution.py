"""kq anytime resolution: what smaller images cost and buy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.output import as_share, json_option, note, print_json, print_table
from keras_quant.cli.pictures import check_picture, plot_option, write_picture
from keras_quant.cli.study_options import dataset_option, images_option, trust_option

if TYPE_CHECKING:
    from keras_quant.jobs.resolution import ResolutionStudy


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--sizes",
    help="Shorter sides in pixels, as 28,20,14 [default: 7/8, 3/4, 5/8 and 1/2 of the images'].",
)
@click.option(
    "--ways",
    default="resized,averaged,restored,crop,crop-enlarged",
    show_default=True,
    help="resized (bilinearly) or averaged (by area, as images of +16px are): the net is built for "
    "the smaller image; restored: it is resized back; crop: its middle, the net built for that; "
    "crop-enlarged: its middle, enlarged.",
)
@dataset_option
@images_option
@plot_option("accuracy against multiply-accumulates and against pixels")
@trust_option
@json_option
def resolution(
    runs: Sequence[Path],
    sizes: str | None,
    ways: str,
    dataset: str | None,
    images: int,
    picture: Path | None,
    trust: bool,
    as_json: bool,
) -> None:
    """Ask trained nets for smaller images and for their middles: accuracy against what it costs.

    A net that ends in global pooling is built for smaller images too, with the same weights and
    steps, and then costs less. RUNS are runs or Keras files, float or quantized; nothing is trained
    again.

    \b
    Examples:
      kq anytime resolution models/resnet20 models/resnet20-w4a4 --plot resolution.png
      kq anytime resolution models/resnet20 --sizes 28,24,20 --ways resized,crop
    """
    from keras_quant.anytime.smaller import WAYS
    from keras_quant.jobs.resolution import scale_inputs
    from keras_quant.runs.progress import Progress

    check_picture(picture)
    done = scale_inputs(
        runs,
        sizes=_numbers(sizes),
        ways=[way.strip() for way in ways.split(",")],
        dataset=dataset,
        images=images,
        trust=trust,
        progress=Progress(),
    )
    if picture is not None:
        from keras_quant.plots.studies import resolution_picture

        title = f"{done.dataset}, {done.images:,} test images"
        write_picture(resolution_picture(done, title=title), picture)
    if as_json:
        print_json(done)
        return
    _print(done, {name: way.title for name, way in WAYS.items()})


def _numbers(text: str | None) -> tuple[int, ...]:
    from keras_quant.errors import UsageError

    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise UsageError(f"--sizes is {text!r}; give pixels, as in 28,20,14") from None


def _print(done: ResolutionStudy, titles: dict[str, str]) -> None:
    for run in done.runs:
        whole = run.points[0]
        print_table(
            ("images", "size", "accuracy", "MACs", "of the whole"),
            [
                (
                    titles.get(point.way, "whole"),
                    "x".join(map(str, point.size)),
                    as_share(point.accuracy),
                    point.macs,
                    as_share(point.macs / whole.macs),
                )
                for point in run.points
            ],
            title=f"{run.run}: {done.images:,} test images of {done.dataset}",
        )
        for one in run.refused:
            size = "x".join(map(str, one.size))
            note(f"{run.run}: {titles[one.way]}, {size}: not possible: {one.reason}")
