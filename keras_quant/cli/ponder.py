"""kq anytime ponder: where a net whose positions halt computes how much."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.answer_options import images_argument, images_named, named_option
from keras_quant.cli.output import as_share, json_option, note, print_json, print_table
from keras_quant.cli.pictures import check_picture, plot_option, write_picture

if TYPE_CHECKING:
    from keras_quant.jobs.ponder import Ponder


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@images_argument
@named_option
@click.option(
    "--images",
    "count",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="The first N alone; 0 means all.",
)
@click.option(
    "--maps",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Images that --plot draws, from the one that needs the least to the one that needs most.",
)
@plot_option("the units at each position over the image")
@json_option
def ponder(
    run: Path,
    images: str | None,
    dataset: str | None,
    count: int,
    maps: int,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Show at which positions of images a net computes how many units, and what that would save.

    For nets that halt at each position by themselves, as --model sact_resnet does. IMAGES is a
    folder, an .npz or .npy file; without it the run's own test images are looked at. Exported
    files compute all units at all positions, so that they save no time: what would be needed is
    what a kernel that skips positions has to compute.

    \b
    Examples:
      kq anytime ponder models/sact-w4a8 --plot maps.png
      kq anytime ponder models/sact-w4a8 my_photos/ --maps 4 --plot maps.png
    """
    from keras_quant.jobs.ponder import ponder as look
    from keras_quant.runs.progress import Progress

    named = images_named(images, dataset)
    check_picture(picture)
    found, drawn = look(run, images=named, count=count, maps=maps, progress=Progress())
    if picture is not None:
        from keras_quant.plots.ponder import ponder_picture

        write_picture(ponder_picture(drawn, title=f"{run.name}: units at each position"), picture)
    if as_json:
        print_json(found)
        return
    _print(run, found)


def _print(run: Path, found: Ponder) -> None:
    print_table(
        ("stage", "units", "mean", "positions that go through each"),
        [
            (
                stage.name,
                stage.units,
                f"{stage.mean_units:.2f}",
                ", ".join(f"{share:.1%}" for share in stage.on),
            )
            for stage in found.stages
        ],
        title=f"{run}, {found.images:,} images",
    )
    print_table(
        ("MACs", "an image", "of all"),
        [
            ("that files compute, masked-dense", found.macs, as_share(1.0)),
            *(
                (what, round(macs), as_share(macs / found.macs))
                for what, macs in (
                    ("needed, on average", found.needed_macs),
                    (f"least, {found.least_image}", found.least_macs),
                    (f"most, {found.most_image}", found.most_macs),
                )
            ),
        ],
    )
    if found.accuracy is not None:
        note(f"accuracy on these images: {found.accuracy:.2%}")
