"""What can be believed of `kq bench`: its own overhead, and its verdicts on files that are known.

- The timed loop beside the bare call, in one process, LiteRT's `invoke` and ONNX Runtime's `run`:
  goal below 2 us a call.
- Two runs of one bench: goal, medians of files above 0.5 ms differ by less than 3 %.
- Copies of one file beside each other (A/A): goal, at least 95 of 100 pairs "no difference".
- The same pairs, with the times of one file multiplied by 1.03: goal, at least 90 of 100 found.

Give files (.tflite, .onnx), on a machine that does nothing else.
"""

from __future__ import annotations

import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from results import Result, argument_parser, publish

from keras_quant.bench import in_litert, in_onnxruntime
from keras_quant.bench.measure import Settings
from keras_quant.bench.records import Measurement
from keras_quant.bench.runtimes import runtime_of
from keras_quant.bench.timer import time_calls
from keras_quant.bench.verdict import NO_DIFFERENCE, SLOWER, compare
from keras_quant.jobs.bench import bench
from keras_quant.jobs.candidates import BenchSettings

COPIES = 8  # 28 pairs a run
SLOW_DOWN = 1.03
_CALLS, _ROUNDS = 2_000, 21
_MODULES: dict[str, Any] = {"litert": in_litert, "onnxruntime": in_onnxruntime}


def main() -> None:
    """Measures and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--tries", type=int, default=100, help="pairs of copies of each file")
    parser.add_argument("--seconds", type=float, default=4.0, help="of timed calls, of each file")
    arguments = parser.parse_args()
    settings = BenchSettings(timing=Settings(duration_s=arguments.seconds))
    results = []
    for file in arguments.files:
        found = [_overhead(file), _repeated(file, settings)]
        found += _copies(file, settings, arguments.tries)
        publish(str(file), found, None)
        results += found
    publish("what can be believed of kq bench", results, arguments.json)


def _overhead(file: Path) -> Result:
    """What a timed call takes beyond the bare call, as the median over rounds in turn."""
    runtime = runtime_of(file)
    assert runtime is not None
    module = _MODULES[runtime]
    (given,) = module.describe(file).inputs
    array = np.zeros((1, *(size or 1 for size in given.shape)), given.dtype)
    infer = module.prepare(file, threads=1)()({given.name: array})
    bare = _bare(infer)
    differences = []
    for _ in range(_ROUNDS):
        started = time.perf_counter_ns()
        for _ in range(_CALLS):
            bare()
        alone = (time.perf_counter_ns() - started) / _CALLS
        timed = sum(time_calls(infer, _CALLS)) / _CALLS
        differences.append((timed - alone) / 1e3)
    return Result(
        figure=f"{file.name}: a timed call beyond the bare one",
        value=statistics.median(differences),
        unit="us",
        at_most=2.0,
        peer=f"{runtime}'s own call, {_ROUNDS} rounds of {_CALLS} in turn",
    )


def _bare(infer: Callable[[], object]) -> Callable[[], object]:
    """The runtime's own call, without what reads LiteRT's outputs."""
    assert isinstance(infer, partial)
    found: Callable[[], object] = infer.args[0] if infer.func is in_litert._infer else infer
    return found


def _repeated(file: Path, settings: BenchSettings) -> Result:
    """Medians of two runs."""
    first, second = (bench([file], settings).measurements[0] for _ in range(2))
    medians = (first.summary.p50_ms, second.summary.p50_ms)
    return Result(
        figure=f"{file.name}: two runs differ by",
        value=abs(medians[1] / medians[0] - 1) * 100,
        unit="%",
        at_most=3.0 if min(medians) > 0.5 else None,
        peer=f"{medians[0]:.4f} and {medians[1]:.4f} ms",
    )


def _copies(file: Path, settings: BenchSettings, tries: int) -> list[Result]:
    """Pairs of copies of a file, as they are, and with one of them made slower."""
    equal, found, pairs = 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(folder) / f"{place}{file.suffix}" for place in range(COPIES)]
        for copy in copies:
            shutil.copyfile(file, copy)
        while pairs < tries:
            for first, second in itertools.combinations(bench(copies, settings).measurements, 2):
                if pairs < tries:
                    equal += _word(first, second) == NO_DIFFERENCE
                    found += _word(first, second, factor=SLOW_DOWN) == SLOWER
                    pairs += 1
    return [
        Result(
            figure=f"{file.name}: {what}",
            value=count / pairs * 100,
            unit="%",
            at_least=goal,
            peer=f"{count} of {pairs} pairs",
        )
        for what, count, goal in (
            ("copies without a difference", equal, 95.0),
            ("slow-downs of 3 % that are found", found, 90.0),
        )
    ]


def _word(first: Measurement, second: Measurement, *, factor: float = 1.0) -> str:
    slowed = [[times * factor for times in load] for load in second.samples()]
    return compare("second", "first", loads=slowed, other_loads=first.samples()).word


if __name__ == "__main__":
    main()
