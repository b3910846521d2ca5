"""A sweep by two local processes beside the same sweep on a Ray cluster of this machine.

`kq sweep --jobs 2` and `kq sweep --engine ray --jobs 2`, in turn, whole processes: a float run of a
cnn on digits, three widths of two methods. The weights of all points have to be the same.

Goal: Ray takes at most 1.10 times as long.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from interleaved import paired_ratio, time_interleaved, timing
from results import Result, argument_parser, publish

from keras_quant.model.files import load_model
from keras_quant.runs import records

GOAL = 1.10
ENGINES = {"two local processes": (), "Ray, two nodes' worth of cores": ("--engine", "ray")}
SWEEP = (
    *("sweep", "--bits", "2,4,8", "--methods", "qkeras,lsq,ptq", "--float-epochs", "8"),
    *("--epochs", "8", "--from-float", "--jobs", "2"),
)


def main() -> None:
    """Measures and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = {name: Path(folder, str(number)) for number, name in enumerate(ENGINES)}
        functions = {
            name: partial(_sweep, made[name], options) for name, options in ENGINES.items()
        }
        seconds = time_interleaved(functions, rounds=arguments.rounds, warmup=0)
        differing = _differing(*made.values())
    local, ray = ENGINES
    results = [
        *(timing(name, seconds[name], unit="s") for name in ENGINES),
        paired_ratio(seconds, ray, local, at_most=GOAL),
        Result(
            figure="points whose weights differ", value=differing, unit="codes", at_most=0, peer=""
        ),
    ]
    publish("a sweep on Ray", results, arguments.json)


def _sweep(folder: Path, options: tuple[str, ...]) -> None:
    """Makes the sweep anew; one is kept."""
    number = sum(1 for _ in folder.glob("*")) if folder.is_dir() else 0
    words = [*SWEEP, *options, "--out", str(folder), "--name", str(number)]
    subprocess.run([sys.executable, "-m", "keras_quant", *words], check=True, capture_output=True)


def _differing(one: Path, other: Path) -> int:
    """How many points of two sweeps have other weights."""
    names = sorted(path.parent.name for path in (one / "0").glob(f"*/{records.FILE_NAME}"))
    assert names
    return sum(not _are_same(one / "0" / name, other / "0" / name) for name in names)


def _are_same(one: Path, other: Path) -> bool:
    weights, others = (load_model(run / "model.keras").get_weights() for run in (one, other))
    return len(weights) == len(others) and all(map(np.array_equal, weights, others))


if __name__ == "__main__":
    main()
