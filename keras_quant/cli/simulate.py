"""kq anytime simulate: what a controller would buy, from recorded answers and latencies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.options import OutputFile, file_format_option
from keras_quant.cli.output import as_share, json_option, note, print_json, print_table
from keras_quant.cli.pictures import check_picture, plot_option, write_picture

if TYPE_CHECKING:
    from keras_quant.jobs.simulate import Simulated, Simulation


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--times",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A record of kq bench that has all the files. Of several each is simulated, as a place "
    "where the controller may run [default: measured here].",
)
@click.option(
    "--board",
    "boards",
    multiple=True,
    help="A Jetson, whose latencies are estimated: a place like those of --times; kq boards lists "
    "boards.",
)
@click.option(
    "--cost",
    "unit",
    default="ms",
    show_default=True,
    help="What counts: ms, or mj, where energy was measured.",
)
@click.option(
    "--accuracy",
    type=float,
    help="Share of the validation images to answer rightly, at the least cost [default: that of "
    "the most accurate].",
)
@click.option(
    "--budget",
    type=float,
    help="Mean cost not to be passed, at the greatest accuracy, as a share of the dearest's.",
)
@click.option(
    "--rule",
    default="entropy",
    show_default=True,
    help="How easy an image is: entropy, max (probability) or margin (of the two largest) of its "
    "answer; zeros or activity, by the share of zeros that a stage hands on.",
)
@click.option(
    "--looks", type=int, default=2, show_default=True, help="The most answers for an image."
)
@click.option(
    "--fuse", is_flag=True, help="Of several runs the first two, three, ... together count too."
)
@file_format_option
@plot_option("accuracy against mean cost, and what answers")
@click.option(
    "--save",
    type=OutputFile(),
    help="Write the controller, for kq anytime control: controller.json, say.",
)
@json_option
def simulate(
    runs: Sequence[Path],
    times: Sequence[Path],
    boards: Sequence[str],
    unit: str,
    accuracy: float | None,
    budget: float | None,
    rule: str,
    looks: int,
    fuse: bool,
    form: str,
    picture: Path | None,
    save: Path | None,
    as_json: bool,
) -> None:
    """Simulate a controller that chooses image by image which exit, bits or net to run next.

    It runs one of them, looks how sure the answer is, and gives it or goes on to another. It is
    fitted to the validation images, and compared on the test images with the oracle, which knows
    what is right, and with each exit and net alone. Nothing but files is run: costs are those of
    records of kq bench, of estimates, or measured here. Runs may take the same images at several
    sizes (kq train --dataset fashion_mnist+14px).

    \b
    Examples:
      kq anytime simulate models/lenet-w4a8 models/cnn-w4a8 --plot controller.png
      kq anytime simulate models/lenet-w4a8 models/cnn-w4a8 --times reports/bench.json --budget 0.5
      kq anytime simulate models/lenet-w4a8 models/cnn-w4a8 --board orin-nano --board nano
      kq anytime simulate models/lenet-w4a8 models/cnn-w4a8 --save controller.json
      kq anytime simulate models/cnn models/cnn-14px
    """
    from keras_quant.jobs.simulate import SimulationSettings
    from keras_quant.jobs.simulate import simulate as job
    from keras_quant.runs.progress import Progress

    settings = SimulationSettings(
        form=form,
        times=tuple(times),
        boards=tuple(boards),
        unit=unit,
        rule=rule,
        accuracy=accuracy,
        budget=budget,
        looks=looks,
        fuse=fuse,
        save=save,
    )
    check_picture(picture)
    done = job(runs, settings, progress=Progress())
    if picture is not None:
        from keras_quant.plots.controller import controller_picture

        title = f"{done.dataset}, rule {done.rule}"
        write_picture(controller_picture(done, title=title), picture)
    if save is not None:
        note(f"wrote {save}: kq anytime control {save} runs it")
    if as_json:
        print_json(done)
        return
    for place in done.places:
        _print(done, place)


def _print(done: Simulation, place: Simulated) -> None:
    unit = place.unit
    columns = ("one for all images", unit, "validation", "test", "controller takes")
    rows = [
        (
            one.name,
            f"{one.cost:.4f}",
            as_share(one.validation_accuracy),
            as_share(one.test_accuracy),
            as_share(one.share),
        )
        for one in place.options
    ]
    print_table(columns, rows, title=f"{place.place}: {done.dataset}, rule {done.rule}")
    steps = [
        (" > ".join(one.after), f"{one.at_least:.4f}", f"run {one.then}" if one.then else "answer")
        for one in place.steps
    ]
    print_table(("what has run", "at least as sure as", "then"), steps)
    print_table(("", "test accuracy", f"mean {unit}", "over the controller's"), _beside(place))


def _beside(place: Simulated) -> list[tuple[str, str | None, str, str]]:
    """The controller, and what it is compared with."""
    ours, static, same = place.test, place.static, place.static_at_cost
    enough = "as accurate" if static.test_accuracy >= ours.accuracy else "the most accurate"
    lines: list[tuple[str, float, float]] = [
        ("controller", ours.accuracy, ours.mean_cost),
        ("oracle, as accurate", ours.accuracy, place.oracle_cost),
        (f"{static.name}, {enough}", static.test_accuracy, static.cost),
    ]
    if same is not None:
        lines.append((f"{same.name}, no dearer", same.test_accuracy, same.cost))
    return [
        (name, as_share(accuracy), f"{cost:.4f}", f"{cost / ours.mean_cost:.2f}x")
        for name, accuracy, cost in lines
    ]
