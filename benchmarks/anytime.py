"""What early exits buy on exported stages, in float and in integers, beside the net without them.

python benchmarks/anytime.py --out runs/anytime
python benchmarks/anytime.py --model cnn --exits relu1 --epochs 3 --more 1 --out runs/anytime-cnn

Four runs: the net and the net with exits, each in float, and at w4a8 from the weights of that.
Their TFLite files, the stages of those with exits, are measured in turn: one image, one thread.
Thresholds are chosen on validation images for the accuracy that the last exit has there. The mean
latency is that of the first stage, and of each later one for the share of test images that get
to it.

The peer is BranchyNet (Teerapittayanon et al. 2016, table I): B-LeNet on MNIST, CPU, float.
Finished runs in --out are reused, and a run that was stopped goes on.

Goals, of b_lenet: at least 5.4 times as fast in float; at w4a8 at least 1.5 times. In all of 10,000
tries an answer is there within its deadline and one stage's p99.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from results import Result, argument_parser, publish
from trainings import file_accuracy, finished_run

from keras_quant.anytime.runner import AnytimeRunner, LoadedStage, profile
from keras_quant.bench.measure import Settings, measure
from keras_quant.jobs.anytime import Asked, choose_thresholds, open_stages
from keras_quant.jobs.bench import candidate
from keras_quant.jobs.export import export_path
from keras_quant.jobs.paths import dataset_of
from keras_quant.jobs.train_settings import TrainSettings
from keras_quant.proof.formats import FORMATS
from keras_quant.runners.litert import LiteRTRunner
from keras_quant.runs import RunFolder
from keras_quant.runs.exits import ExitsRecord
from keras_quant.runs.progress import Progress
from keras_quant.schemes.bits import scheme_from_bits

TRIES = 10_000
BITS = ("float", "w4a8")
GOALS = {"float": 5.4, "w4a8": 1.5}
PUBLISHED = "published 5.4 (99.20 -> 99.25 %, 94.3 % leave early)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A net at some bits, and the same with exits.

    Attributes:
        static_accuracy: of its TFLite file, in %.
        static_ms: of its TFLite file.
        stages_ms: of each stage's.
        in_time: share of TRIES with deadlines of their own that end within the deadline and one
            stage's p99.
    """

    static_accuracy: float
    static_ms: float
    stages_ms: tuple[float, ...]
    in_time: float
    exits: ExitsRecord

    @property
    def mean_ms(self) -> float:
        """Of an image of the test set."""
        shares = self.exits.test.exit_shares
        reached = [sum(shares[place:]) for place in range(len(shares))]
        return sum(ms * share for ms, share in zip(self.stages_ms, reached, strict=True))


def main() -> None:
    """Trains what is missing, measures, and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--dataset", default="mnist", help="name or path")
    parser.add_argument("--model", default="b_lenet", help="name of the zoo")
    parser.add_argument("--exits", help="layers of a model without exits of its own")
    parser.add_argument("--bits", nargs="+", choices=BITS, default=BITS, help="of these alone")
    parser.add_argument("--rule", default="entropy", help="entropy, max or margin")
    parser.add_argument("--epochs", type=int, default=8, help="of float runs")
    parser.add_argument("--more", type=int, default=4, help="epochs at w4a8, from float")
    parser.add_argument("--seconds", type=float, default=5.0, help="of timed calls, each file")
    parser.add_argument("--out", type=Path, help="folder of the runs; without it, a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary)
        pairs = {bits: _pair(bits, given, folder) for bits in given.bits}
    results = [result for bits, pair in pairs.items() for result in _results(bits, pair, given)]
    publish(f"{given.dataset}, {given.model}, one image, one thread", results, given.json)


def _pair(bits: str, given: Any, folder: Path) -> Pair:
    without = {"model_options": {"exits": 0}} if not given.exits else {}
    exits = {"exits": tuple(given.exits.split(","))} if given.exits else {}
    static, early = folder / f"static-{bits}", folder / f"exits-{bits}"
    record = None
    for path, different in ((early, exits), (static, without)):
        quantized = bits != "float"
        settings = TrainSettings(
            scheme=scheme_from_bits(bits),
            model=given.model,
            dataset=given.dataset,
            epochs=given.more if quantized else given.epochs,
            parent=path.with_name(path.name.replace(bits, "float")) if quantized else None,
            threads=1,
            **different,
        )
        record = finished_run(settings, path)
    assert record is not None
    _export_stages(early)
    chosen = choose_thresholds(early, Asked(rule=given.rule), progress=Progress())
    opened = open_stages(early)
    stages = [opened.folder / file.file for file in opened.files]
    files = {file.name: file for file in stages} | {"static": RunFolder(static).tflite}
    found, _ = measure(
        [candidate(file, "litert", name=name) for name, file in files.items()],
        Settings(duration_s=given.seconds),
        say=Progress().say,
    )
    ms = {one.name: one.summary.p50_ms for one in found}
    return Pair(
        static_accuracy=file_accuracy(record),
        static_ms=ms["static"],
        stages_ms=tuple(ms[file.name] for file in stages),
        in_time=_in_time(early),
        exits=chosen,
    )


def _in_time(run: Path) -> float:
    """Answers images within deadlines between the first stage's time and that of all, and more."""
    opened, data = open_stages(run), dataset_of(run, None)
    files = [opened.folder / file.file for file in opened.files]
    loaded = [
        LoadedStage.of(file, LiteRTRunner(path))
        for file, path in zip(opened.files, files, strict=True)
    ]
    images = opened.inputs(data.test.x)[opened.input]
    p99_ms = [one.p99_ms for one in profile(loaded, {opened.input: images[:1]}, calls=1000)]
    rng = np.random.default_rng(0)
    met = 0
    for deadline_ms in rng.uniform(p99_ms[0], 1.2 * sum(p99_ms), TRIES):
        runner = AnytimeRunner(loaded, deadline_ms=deadline_ms, expected_ms=p99_ms)
        place = int(rng.integers(len(images)))
        answer = runner.run({opened.input: images[place : place + 1]})
        met += answer.elapsed_ms <= deadline_ms + max(p99_ms)
    return met / TRIES


def _export_stages(run: Path) -> None:
    export_path(
        run,
        [FORMATS["tflite"]],
        dataset=None,
        out=None,
        images=0,
        baselines=False,
        stages=True,
        overwrite=True,
        trust=False,
        progress=Progress(),
    )


def _results(bits: str, pair: Pair, given: Any) -> list[Result]:
    test, last = pair.exits.test, pair.exits.exits[-1]
    shares = ", ".join(f"{100 * share:.1f}" for share in test.exit_shares)
    stages = ", ".join(f"{ms:.4f}" for ms in pair.stages_ms)
    is_published = given.model == "b_lenet" and given.dataset == "mnist"
    macs = last.cost / test.mean_cost if pair.exits.cost == "MACs" else 0.0
    return [
        Result(figure=f"accuracy, {bits}, static", value=pair.static_accuracy, unit="%"),
        Result(
            figure=f"accuracy, {bits}, exits",
            value=100 * test.accuracy,
            unit="%",
            peer=f"{shares} % end at each; last alone {100 * last.test_accuracy:.2f} %",
        ),
        Result(figure=f"latency, {bits}, static", value=pair.static_ms, unit="ms"),
        Result(
            figure=f"latency, {bits}, exits, mean",
            value=pair.mean_ms,
            unit="ms",
            peer=f"stages {stages} ms",
        ),
        Result(
            figure=f"in time, {bits}",
            value=100 * pair.in_time,
            unit="%",
            at_least=100.0,
            peer=f"of {TRIES:,} deadlines, and one stage's p99",
        ),
        Result(
            figure=f"MACs saved, {bits}, times",
            value=macs,
            unit="",
            peer="all stages over the mean, exits included",
        ),
        Result(
            figure=f"speed-up, {bits}",
            value=pair.static_ms / pair.mean_ms,
            unit="",
            at_least=GOALS[bits] if is_published else None,
            peer=PUBLISHED if bits == "float" and is_published else "",
        ),
    ]


if __name__ == "__main__":
    main()
