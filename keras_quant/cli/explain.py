"""kq explain: what quantization changed in a run's model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.output import as_share, json_option, note, print_json, print_table

if TYPE_CHECKING:
    from keras_quant.explain.record import Explained


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--float",
    "float_model",
    type=click.Path(path_type=Path),
    help="Run or Keras file to compare with [default: what the run was made of].",
)
@click.option(
    "--images",
    default=256,
    show_default=True,
    help="Test images whose activations are counted, at most.",
)
@click.option(
    "--maps", default=4, show_default=True, help="Test images whose class-activation maps are made."
)
@click.option("--overwrite", is_flag=True, help="Replace what was seen earlier.")
@json_option
def explain(
    run: Path,
    float_model: Path | None,
    images: int,
    maps: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Look at what quantization changed in a run: values, confused classes, where it looks.

    Counts kernels and activations before and after they are rounded, asks the float and the
    quantized model for answers to all test images, and makes class-activation maps (Grad-CAM) of
    some, with how far those of the two models overlap. RUN/explain.npz keeps it all; kq plot
    histograms, confusion and maps draw it.

    \b
    Examples:
      kq explain models/tuned
      kq explain models/digits-cnn-w4a4 --float models/base
    """
    from keras_quant.explain.summary import summary
    from keras_quant.jobs.explain import ExplainSettings
    from keras_quant.jobs.explain import explain as look
    from keras_quant.runs.progress import Progress

    settings = ExplainSettings(float_model=float_model, images=images, maps=maps)
    found = look(run, settings, overwrite=overwrite, progress=Progress())
    if as_json:
        print_json({"header": found.header, **summary(found)})
        return
    print_table(("figure", "value"), _figures(found), title=str(run))
    kinds = ["histograms"]
    kinds += ["confusion"] if found.confusion is not None else []
    kinds += ["maps"] if found.maps is not None else []
    note(f"draw it: {'; '.join(f'kq plot {kind} {run}' for kind in kinds)}")


def _figures(found: Explained) -> list[tuple[str, object]]:
    from keras_quant.explain.summary import summary

    return [(name.replace("_", " "), _shown(value)) for name, value in summary(found).items()]


def _shown(value: object) -> object:
    if isinstance(value, list):
        return ", ".join("-" if one is None else f"{one:.2f}" for one in value)
    return as_share(value) if isinstance(value, float) else value  # accuracies
