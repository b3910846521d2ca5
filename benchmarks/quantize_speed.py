"""How long a float model takes to become files of three targets without training: w8a8, 224x224.

python benchmarks/quantize_speed.py --models mobilenet_v2,resnet50

Weights are random, batch norms have the statistics of some images. Both sides get the same 100
random images: ours calibrates on them, rounds, corrects biases by answers as `kq quantize` does by
default, lowers, and writes the files; proving them is another matter, and left out. TFLiteConverter
calibrates and writes its own int8 file. They take turns in one process; the first turn counts too,
as a command has no other. Goal: at most half of the converter's time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from interleaved import time_interleaved
from results import Result, argument_parser, publish

from keras_quant.calibration.collect import collect
from keras_quant.calibration.quantize import quantize
from keras_quant.jobs.export import stored_limits
from keras_quant.lower import lower_exactly
from keras_quant.pixels import normalize, pixel_grid
from keras_quant.prepare import plan
from keras_quant.prepare.adjust.correct_bias import kernel_inputs
from keras_quant.prepare.adjust.reconstruct import reconstruct
from keras_quant.prepare.adjust.walk import walked_images
from keras_quant.preprocessing import UNIT
from keras_quant.proof.formats import FORMATS
from keras_quant.schemes.bits import freed, scheme_from_bits
from keras_quant.tf import keras, tf
from keras_quant.training.norms import reestimate_norms
from keras_quant.zoo import build

GOAL = 0.5
IMAGES, SIZE, NORM_IMAGES = 100, 224, 16
SCHEME = freed(scheme_from_bits("w8a8"))


def main() -> None:
    """Measures and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--models", default="mobilenet_v2,resnet50", help="of the zoo")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, SIZE, SIZE, 3), np.uint8)
    results: list[Result] = []
    for name in given.models.split(","):
        source = build(name, (SIZE, SIZE, 3), 1000)
        reestimate_norms(source, [normalize(images[:NORM_IMAGES], UNIT)])
        steps: dict[str, float] = {}
        sides = {
            "ours": partial(ours, source, images, steps),
            "theirs": partial(theirs, source, images),
        }
        seconds = time_interleaved(sides, rounds=given.rounds, warmup=0)
        results += [
            Result(figure=f"{name}: {step}", value=value, unit="s") for step, value in steps.items()
        ]
        for side, values in seconds.items():
            results.append(
                Result(figure=f"{name}: {side}", value=float(np.median(values)), unit="s")
            )
        ratio = float(np.median(seconds["ours"] / seconds["theirs"]))
        results.append(
            Result(
                figure=f"{name}: ratio", value=ratio, unit="", at_most=GOAL, peer="TFLiteConverter"
            )
        )
    publish(f"quantizing without training, {IMAGES} images", results, given.json)


def ours(source: keras.Model, images: np.ndarray, steps: dict[str, float]) -> None:
    """What `kq quantize` does between loading a model and proving its files.

    Args:
        steps: gets the seconds of each step.
    """
    reals, pixels = partial(normalize, preprocessing=UNIT), pixel_grid(UNIT, 3)
    planned = plan(source, SCHEME)

    def timed(name: str, step: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        found = step()
        steps[name] = time.perf_counter() - begin
        return found

    names = kernel_inputs(planned)
    statistics = timed(
        "calibrating",
        lambda: collect(planned, source, images, reals=reals, pixels=pixels, per_channel=names),
    )
    model = timed("rounding", lambda: quantize(source, SCHEME, statistics, post_training=True))
    walked = reals(images[: walked_images(planned, IMAGES)])
    timed("correcting biases", lambda: reconstruct(planned, source, model, [walked]))
    forms = list(FORMATS.values())
    snap = timed("lowering", lambda: lower_exactly(model, limits=stored_limits(forms)))
    timed("writing", lambda: [form.definition.emit(snap.graph) for form in forms])


def theirs(source: keras.Model, images: np.ndarray) -> None:
    """TFLiteConverter's int8 file."""
    converter = tf.lite.TFLiteConverter.from_keras_model(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([normalize(x[np.newaxis], UNIT)] for x in images)
    converter.convert()


if __name__ == "__main__":
    main()
