"""How many deadlines are kept in process, beside other work, and with a real-time priority.

python benchmarks/deadlines.py models/lenet-w4a8
python benchmarks/deadlines.py models/lenet-w4a8 --realtime

Stages of a run, loaded in this process; one image after the other with a pause between them. Each
has a deadline of its own, from the first stage's p99 to 1.2 times that of all. Kept is one whose
answer is there within it and one stage's p99 on top. Deadlines and images are drawn by a seed.

Goals: all of 10,000 tries; and what later exits lose on the test images, on average over them, is
at most 0.2 points.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np
from results import Result, argument_parser, publish

from keras_quant.anytime.priority import realtime
from keras_quant.anytime.runner import AnytimeRunner, LoadedStage, profile
from keras_quant.jobs.anytime import recorded_stages
from keras_quant.jobs.paths import dataset_of
from keras_quant.pixels import normalize
from keras_quant.runners.litert import LiteRTRunner
from keras_quant.runs import exits

IMAGES = 1000


def main() -> None:
    """Measures, and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("run", type=Path, help="a run with stages for TFLite")
    parser.add_argument("--tries", type=int, default=10_000)
    parser.add_argument("--pause", type=float, default=1e-4, help="between images, in s")
    parser.add_argument("--realtime", action="store_true", help="SCHED_FIFO, which needs the right")
    given = parser.parse_args()
    known = recorded_stages(given.run, "tflite")
    loaded = [LoadedStage.of(file, LiteRTRunner(known.folder / file.file)) for file in known.files]
    data = dataset_of(given.run, None)
    (image,) = known.files[0].inputs
    images = normalize(data.test.x[:IMAGES], known.preprocess)
    with realtime() if given.realtime else contextlib.nullcontext():
        times = profile(loaded, {image.name: images[:1]}, calls=1000, pause_s=given.pause)
        p99_ms = [one.p99_ms for one in times]
        rng = np.random.default_rng(0)
        over_ms = []
        for deadline_ms in rng.uniform(p99_ms[0], 1.2 * sum(p99_ms), given.tries):
            runner = AnytimeRunner(loaded, deadline_ms=deadline_ms, expected_ms=p99_ms)
            place = int(rng.integers(len(images)))
            answer = runner.run({image.name: images[place : place + 1]})
            over_ms.append(answer.elapsed_ms - deadline_ms - max(p99_ms))
            time.sleep(given.pause)
    late = np.maximum(over_ms, 0)
    results = [
        Result(
            figure="kept",
            value=100 * float((late == 0).mean()),
            unit="%",
            at_least=100.0,
            peer=f"of {given.tries:,}; p99 {', '.join(f'{ms:.4f}' for ms in p99_ms)} ms",
        ),
        Result(figure="latest, beyond that", value=float(late.max()), unit="ms"),
    ]
    if (given.run / exits.FILE_NAME).exists():
        accuracies = [one.test_accuracy for one in exits.load(given.run).exits]
        lost = np.maximum(-np.diff(accuracies), 0).mean()
        shown = ", ".join(f"{one:.2%}" for one in accuracies)
        results.append(
            Result(
                figure="later exits lose",
                value=100 * float(lost),
                unit="points",
                at_most=0.2,
                peer=shown,
            )
        )
    publish(
        f"{given.run.name}, {'SCHED_FIFO' if given.realtime else 'as any'}", results, given.json
    )


if __name__ == "__main__":
    main()
