"""Options that several commands take, and values that they read alike."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

MADE_LATER = "keras_quant.made_later"
"""In a context's meta: a folder in which folders may be missing, as they are made before."""


class OutputFile(click.Path):
    """A file that a command writes at the end: where it cannot be, that is said before the work.

    Args:
        makes_folder: whether the command makes the file's folder.
    """

    name = "file"

    def __init__(self, *, makes_folder: bool = False) -> None:
        super().__init__(path_type=Path, dir_okay=False)
        self._makes_folder = makes_folder

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Gives the Path. Raises: click.BadParameter: it is a folder, or its folder is none."""
        path = super().convert(value, param, ctx)
        assert isinstance(path, Path)  # the path_type above
        later = None if ctx is None else ctx.meta.get(MADE_LATER)
        if later is not None and path.is_relative_to(later):
            return path
        folder = path.parent
        while self._makes_folder and not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.exists():
            self.fail(f"{path}: there is no folder {folder}; make it, or name another", param, ctx)
        if not folder.is_dir():
            self.fail(f"{path}: {folder} is a file, not a folder; name another", param, ctx)
        if not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"{path}: you may not write into {folder}; name another", param, ctx)
        return path


model_options_option = click.option(
    "--option",
    "model_options",
    multiple=True,
    metavar="KEY=VALUE",
    help="Option of a zoo model, as in --option alpha=0.5.",
)

overrides_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATTERN=BITS",
    help="Bits of some layers on top of the scheme, as in --set conv1=w8a8.",
)

first_last_option = click.option(
    "--first-last",
    help="Weights of the first and last layer under --bits: 8, same or float [default: 8].",
)

file_format_option = click.option(
    "--format",
    "form",
    default="tflite",
    show_default=True,
    help="Of the files: tflite, onnx or tensorrt.",
)

sums_option = click.option(
    "--sums",
    help="Sums of residual nets under --bits: 8, or same (as other activations), which takes less "
    "time and accuracy [default: 8 up to 3 bits, same from 4 on].",
)

preprocess_option = click.option(
    "--preprocess",
    metavar="NAME",
    help="What pixels become in front of the model: unit (0 to 1), raw (0 to 255), tf (-1 to 1), "
    "caffe, torch, or 'mean=M std=S' in pixels [default: that of the run or file; else as the "
    "model's first layers say; else unit].",
)


def parse_shape(
    ctx: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    """Reads "32,32,3" as a shape; None where the option was not given."""
    if text is None:
        return None
    sizes = text.split(",")
    if not all(size.strip().isdigit() and int(size) > 0 for size in sizes):
        raise click.BadParameter(f"{text!r} is no shape; write its sizes, as in 32,32,3")
    return tuple(int(size) for size in sizes)


def typed(options: Mapping[str, str]) -> list[str]:
    """Which of some options of the command that runs were typed, as "--option".

    Args:
        options: by the names of their parameters, without dashes.
    """
    source = click.get_current_context().get_parameter_source
    return [
        f"--{option}"
        for name, option in options.items()
        if source(name) is ParameterSource.COMMANDLINE
    ]
