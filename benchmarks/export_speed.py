"""How long lowering resnet50 and writing it for the three targets takes, and how much memory.

ImageNet's resnet50, 224x224x3 and 1000 classes, 8 bits, with random weights and batch norms,
calibrated on random images; proving the files is another matter, and left out. Two processes, so
that what calibration holds is not counted: one saves the model, and the other loads it as
`kq export` does, lowers it, and writes the files. The time is that of lowering and writing; the
memory is all that the second process ever held, TensorFlow and the model among it.

Goals: 20 s and 2 GB.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from results import Result, argument_parser, publish

SECONDS_GOAL, MEMORY_GOAL_GB = 20, 2
IMAGES = 8
KILOBYTE = 1024  # ru_maxrss counts in these, see getrusage(2)


def main() -> None:
    """Measures and prints."""
    parser = argument_parser(__doc__)
    parser.add_argument("--model", default="resnet50", help="of the zoo")
    parser.add_argument("--size", type=int, default=224, help="height and width of its input")
    parser.add_argument("--bits", default="w8a8", help="as of kq train")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        apart(make_model, path, arguments.model, arguments.size, arguments.bits)
        results = apart(measure, path)
    title = f"lowering and writing {arguments.model} {arguments.size}x{arguments.size}"
    publish(f"{title}, {arguments.bits}", results, arguments.json)


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def make_model(path: Path, name: str, size: int, bits: str) -> None:
    """Saves a fake-quantized model whose biases are as untidy as trained ones."""
    from quantized import fake_quantized

    from keras_quant.model.files import save_model
    from keras_quant.tf import keras
    from keras_quant.zoo import build

    rng = np.random.default_rng(0)
    source = build(name, (size, size, 3), 1000)
    for layer in source.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            channels = layer.gamma.shape
            gamma, variance = rng.uniform(0.5, 1.5, (2, *channels))
            beta, mean = rng.normal(0, 0.3, (2, *channels))
            layer.set_weights([gamma, beta, mean, variance])
    images = rng.integers(0, 256, (IMAGES, size, size, 3), np.uint8)
    save_model(fake_quantized(source, bits, images), path)


def measure(path: Path) -> list[Result]:
    """Loads, lowers and writes a model; the memory is the most that was held so far."""
    from keras_quant.jobs.export import stored_limits
    from keras_quant.lower import lower_exactly
    from keras_quant.model.files import load_model
    from keras_quant.proof.formats import FORMATS

    model = load_model(path)
    results = [Result(figure="memory with the model loaded", value=_peak_gb(), unit="GB")]
    formats = list(FORMATS.values())
    total, snap = _timed(lambda: lower_exactly(model, limits=stored_limits(formats)))
    moved = f"{snap.moved:,} of {snap.channels:,} channels moved"
    results.append(Result(figure="lowering", value=total, unit="s", peer=moved))
    for form in formats:
        seconds, content = _timed(lambda form=form: form.definition.emit(snap.graph))
        size = f"{len(content) / 1e6:,.1f} MB"
        results.append(Result(figure=f"writing {form.name}", value=seconds, unit="s", peer=size))
        total += seconds
    return [
        *results,
        Result(figure="lowering and writing all", value=total, unit="s", at_most=SECONDS_GOAL),
        Result(figure="memory in all", value=_peak_gb(), unit="GB", at_most=MEMORY_GOAL_GB),
    ]


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what the function gives."""
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def _peak_gb() -> float:
    """The most memory that this process held at a time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE / 1e9


if __name__ == "__main__":
    main()
