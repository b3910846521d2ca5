"""The command `kq`: finds a command's module when it is called, and ends with its exit code.

Exit codes: 0 done, 1 failed, 2 not understood, 3 a gate was not met, 130 interrupted,
143 terminated.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import signal
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import click

from keras_quant.cli.output import warnings_noted
from keras_quant.errors import KerasQuantError, close_names
from keras_quant.version import __version__

# name: (where its click command is, the first paragraph of its help)
COMMANDS = {
    "train": (
        "keras_quant.cli.train:train",
        "Train a quantized model, export it as TFLite and prove the file.",
    ),
    "quantize": (
        "keras_quant.cli.quantize:quantize",
        "Quantize a trained float model without training, export it and prove the files.",
    ),
    "evaluate": (
        "keras_quant.cli.evaluate:evaluate",
        "Measure the accuracy of a run, a SavedModel, a .keras, .h5, .tflite or .onnx file.",
    ),
    "export": (
        "keras_quant.cli.export:export",
        "Write a run, or a .keras file, as integer files and prove that they answer the same.",
    ),
    "anytime": (
        "keras_quant.cli.anytime:anytime",
        "Choose when an early answer is enough, and answer within a deadline.",
    ),
    "check": (
        "keras_quant.cli.check:check",
        "Check an ONNX file against the rules of a target, with sources and remedies.",
    ),
    "diagnose": (
        "keras_quant.cli.diagnose:diagnose",
        "Find where a quantized .tflite or .onnx file goes wrong, layer by layer, and why.",
    ),
    "bench": (
        "keras_quant.cli.bench:bench",
        "Measure how long files take, in turn, and say which are faster; or estimate it.",
    ),
    "import-results": (
        "keras_quant.cli.import_results:import_results",
        "Make a record of what a bundle's bench.sh measured on a board.",
    ),
    "boards": (
        "keras_quant.cli.boards:boards",
        "List Jetson boards: GPU, clocks, peaks, bandwidth, int8, DLA, JetPack.",
    ),
    "engine": (
        "keras_quant.cli.engine:engine",
        "Show the layers of a TensorRT engine: types, times, ONNX nodes, and what costs time.",
    ),
    "compare": (
        "keras_quant.cli.compare:compare",
        "Compare the files of runs with float files: error, speed, size.",
    ),
    "inspect": (
        "keras_quant.cli.inspect:inspect",
        "Show what each layer costs: parameters, MACs, bits, bytes, memory, energy; or the graph.",
    ),
    "view": (
        "keras_quant.cli.view:view",
        "Draw the operators of a run's TFLite file, or of any model file, in the browser.",
    ),
    "sweep": (
        "keras_quant.cli.sweep:sweep",
        "Train and quantize a model at many bit widths, by several methods.",
    ),
    "sensitivity": (
        "keras_quant.cli.sensitivity:sensitivity",
        "Measure what each layer's kernel alone, at few bits, does to a float run's answers.",
    ),
    "search": (
        "keras_quant.cli.search:search",
        "Choose the bits of each layer's kernel that hurt least within a budget.",
    ),
    "explain": (
        "keras_quant.cli.explain:explain",
        "Look at what quantization changed in a run: values, confused classes, where it looks.",
    ),
    "run": (
        "keras_quant.cli.run:run",
        "Run the commands of a recipe, and set their figures beside published ones.",
    ),
    "runs": (
        "keras_quant.cli.runs:runs",
        "List runs, export them to TensorBoard, compare what they were made of, delete them.",
    ),
    "plot": (
        "keras_quant.cli.plot:plot",
        "Draw runs: what accuracy costs, how training went, which bits layers have.",
    ),
    "report": (
        "keras_quant.cli.report:report",
        "Write one page about runs: a summary, pictures, figures, the proof of each file.",
    ),
    "datasets": ("keras_quant.cli.datasets:datasets", "List the datasets known by name."),
    "models": ("keras_quant.cli.models:models", "List the models known by name."),
    "doctor": ("keras_quant.cli.doctor:doctor", "Check what is installed and what is missing."),
}


_REFUSED = {
    errno.EACCES: "You need the right to read and write there, or give another path.",
    errno.EPERM: "You need the right to read and write there, or give another path.",
    errno.ELOOP: "Its links lead in a circle: give another path.",
    errno.ENAMETOOLONG: "Give a shorter path.",
}
"""What the system may say of any path that a user gives, and what to do then."""


class Failure(click.ClickException):
    """An error on its way to the terminal, with the exit code that it asks for."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click has one code a class

    def show(self, file: Any = None) -> None:
        """Writes one "error: ..." paragraph to stderr, or to file."""
        click.echo(f"error: {self.message}", file=file, err=True)


class Terminated(KeyboardInterrupt):
    """The system asked the process to end; what cleans up behind Ctrl-C does so here too."""


@contextlib.contextmanager
def termination_raised() -> Iterator[None]:
    """Turns SIGTERM into an exception, where signals can be caught: in the main thread."""

    def end(signal_number: int, frame: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class LazyGroup(click.Group):
    """A group whose commands are imported when they run, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names of COMMANDS, in the order in which they are of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a command; None where the name is unknown."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that the first argument names; raises with close names otherwise."""
        name = args[0]
        if name not in COMMANDS and not ctx.resilient_parsing:
            ctx.fail(f"no command {name!r}{close_names(name, COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; turns what it raises into one message and an exit code."""
        try:
            with warnings_noted(), termination_raised():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Terminated:
            raise Failure("terminated", 128 + signal.SIGTERM) from None
        except KeyboardInterrupt:
            raise Failure("interrupted", 128 + signal.SIGINT) from None
        except KerasQuantError as error:
            self._trace(ctx)
            raise Failure(str(error), error.exit_code) from error
        except Exception as error:
            self._trace(ctx)
            if isinstance(error, OSError) and error.errno in _REFUSED and error.filename:
                told = f"{error.filename}: {error.strerror}. {_REFUSED[error.errno]}"
                raise Failure(told, 1) from error
            raise Failure(
                f"{type(error).__name__}: {error}\nThis is a bug of kq or a broken installation: "
                "`kq doctor` checks the latter, `kq --debug ...` shows where it happened.",
                1,
            ) from error

    @staticmethod
    def _trace(ctx: click.Context) -> None:
        if ctx.params["debug"]:
            traceback.print_exc()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, envvar="KQ_DEBUG", help="Show a traceback on errors.")
@click.version_option(__version__, prog_name="kq")
def main(debug: bool) -> None:
    """Quantize Keras models: train, lower to exact integers, export, prove.

    \b
    Example:
      kq train --bits 4
    """
