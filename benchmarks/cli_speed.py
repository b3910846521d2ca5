"""How long a user waits for the command line: `kq --help`, and `kq export` of a resnet20.

Whole processes, started anew each time. The peers are what no program of this kind can do
without: Python itself, and TensorFlow's import. Without RUN, a run is made first: resnet20,
4 bits, one epoch on 500 random images of 32x32x3.

Goals: `kq --help` 150 ms; `kq export RUN --overwrite` 10 s (which proves the file on 500 images).
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from interleaved import time_interleaved, timing
from results import Result, argument_parser, publish

PYTHON = (sys.executable, "-c")
KQ = (*PYTHON, "from keras_quant.cli.main import main; main()")  # as the installed script says
HELP_GOAL_MS, EXPORT_GOAL_S = 150, 10
IMAGES = 500  # as many as kq export proves a file on


def main() -> None:
    """Measures and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="folder of a resnet20 run")
    parser.add_argument("--help-rounds", type=int, default=10, help="of kq --help")
    parser.add_argument("--export-rounds", type=int, default=3, help="of kq export")
    arguments = parser.parse_args()
    results = time_help(arguments.help_rounds)
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or make_run(Path(folder))
        results += time_export(run, arguments.export_rounds)
    publish("waiting for the command line", results, arguments.json)


def time_help(rounds: int) -> list[Result]:
    """Times `kq --help` and a Python that does nothing."""
    commands = {"kq --help": (*KQ, "--help"), "python -c pass": (*PYTHON, "pass")}
    functions = {name: functools.partial(execute, *words) for name, words in commands.items()}
    kq, python = time_interleaved(functions, rounds=rounds).items()
    return [timing(*kq, at_most=HELP_GOAL_MS), timing(*python)]


def time_export(run: Path, rounds: int) -> list[Result]:
    """Times `kq export` and TensorFlow's import."""
    export = (*KQ, "export", str(run), "--overwrite")
    commands = {"kq export": export, "import tensorflow": (*PYTHON, "import tensorflow")}
    functions = {name: functools.partial(execute, *words) for name, words in commands.items()}
    kq, tensorflow = time_interleaved(functions, rounds=rounds).items()
    return [timing(*kq, unit="s", at_most=EXPORT_GOAL_S), timing(*tensorflow, unit="s")]


def make_run(folder: Path) -> Path:
    """Trains a resnet20 for one epoch on noise."""
    random = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "test"):
        arrays[f"x_{split}"] = random.integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)
        arrays[f"y_{split}"] = np.arange(IMAGES) % 10
    np.savez(folder / "noise.npz", **arrays)
    options = {"--model": "resnet20", "--dataset": folder / "noise.npz", "--bits": 4, "--epochs": 1}
    words = [str(word) for option in options.items() for word in option]
    execute(*KQ, "train", *words, "--out", str(folder), "--name", "run")
    return folder / "run"


def execute(*words: str) -> None:
    """Runs a command to its end; its notes go to stderr.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
