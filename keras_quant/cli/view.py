"""kq view: a file's operators, drawn by Netron."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import click

from keras_quant.cli.output import json_option, note, print_json
from keras_quant.errors import MissingDependencyError, RunError, UsageError
from keras_quant.model.suffixes import KERAS_SUFFIXES

SUFFIXES = (".tflite", ".onnx", *KERAS_SUFFIXES)


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port to serve on [default: a free one]."
)
@click.option("--no-browser", is_flag=True, help="Only serve: print the address, open nothing.")
@json_option
def view(target: Path, port: int | None, no_browser: bool, as_json: bool) -> None:
    """Draw the operators of a run's TFLite file, or of any model file, in the browser.

    TARGET is a run or a .tflite, .onnx, .keras or .h5 file. Netron draws it, where it is
    installed (pip install netron), and serves it to this machine only, until Ctrl-C.

    \b
    Example:
      kq view models/digits-cnn-w4a4 --no-browser
    """
    file = _file_to_draw(target)
    netron = _netron(file)
    try:
        host, port = netron.start(str(file), address=("localhost", port), browse=not no_browser)
    except OSError as error:
        raise UsageError(
            f"--port {port}: {error.strerror or error}. Give another, or none for a free one"
        ) from error
    url = f"http://{host}:{port}"
    print_json({"file": file, "url": url}) if as_json else click.echo(f"{file} at {url}")
    note("Ctrl-C ends it.")
    netron.wait()


def _file_to_draw(target: Path) -> Path:
    """The file that a user names, or the one that a run exported."""
    if target.is_dir():
        from keras_quant.runs import RunFolder, model_of

        model_of(target)
        file = RunFolder(target).tflite
        if not file.is_file():
            raise RunError(f"{target}: has no TFLite file yet; write it with kq export {target}")
        return file
    if not target.is_file():
        raise RunError(f"{target}: no such run or file")
    if target.suffix.lower() not in SUFFIXES:
        hint = "; kq inspect --graph prints graphs" if target.suffix == ".kqgraph" else ""
        raise UsageError(
            f"{target}: ends with {target.suffix!r}; {', '.join(SUFFIXES)} files are drawn{hint}"
        )
    return target


def _netron(file: Path) -> Any:
    """The package, told to leave it to us to say where it serves."""
    import logging

    logging.getLogger("netron").setLevel(logging.WARNING)
    try:
        return importlib.import_module("netron")
    except ImportError as error:
        raise MissingDependencyError(
            f"Netron is not installed, which draws {file}: pip install netron (or "
            "'keras_quant[view]'). Or open the file on https://netron.app, which draws it in the "
            "browser"
        ) from error
