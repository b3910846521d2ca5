"""kq anytime cut: what residual links are worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.output import as_share, json_option, print_json, print_table
from keras_quant.cli.pictures import check_picture, plot_option, write_picture
from keras_quant.cli.study_options import dataset_option, images_option, trust_option

if TYPE_CHECKING:
    from keras_quant.jobs.cut import CutStudy


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--cut",
    "part",
    default="link",
    show_default=True,
    help="link: the shortcut around a block; branch: the convolutions beside it.",
)
@dataset_option
@images_option
@plot_option("accuracy over the blocks that are cut")
@trust_option
@json_option
def cut(
    runs: Sequence[Path],
    part: str,
    dataset: str | None,
    images: int,
    picture: Path | None,
    trust: bool,
    as_json: bool,
) -> None:
    """Cut the residual links of trained nets, block by block, and measure what accuracy is left.

    Each block alone, each with all deeper ones, and each with all before it. RUNS are runs or
    Keras files, float or quantized; nothing is trained again.

    \b
    Examples:
      kq anytime cut models/resnet20 models/resnet20-w4a4 --plot cut.png
      kq anytime cut models/resnet20 --cut branch --images 0
    """
    from keras_quant.jobs.cut import cut_residuals
    from keras_quant.runs.progress import Progress

    check_picture(picture)
    done = cut_residuals(
        runs, part=part, dataset=dataset, images=images, trust=trust, progress=Progress()
    )
    if picture is not None:
        from keras_quant.plots.studies import cut_picture

        title = f"{done.dataset}, {done.images:,} test images, each {done.part} cut"
        write_picture(cut_picture(done, title=title), picture)
    if as_json:
        print_json(done)
        return
    _print(done)


def _print(done: CutStudy) -> None:
    for run in done.runs:
        print_table(
            ("cut at", "link", "MACs less", "alone", "and all deeper", "and all before"),
            [
                ("nothing", None, 0, *([as_share(run.accuracy)] * 3)),
                *(
                    (
                        block.name,
                        block.link,
                        block.macs,
                        *map(as_share, (block.alone, block.from_here, block.up_to_here)),
                    )
                    for block in run.blocks
                ),
            ],
            title=f"{run.run}: accuracy on {done.images:,} test images of {done.dataset}, each "
            f"{done.part} cut",
        )
