"""How long a build takes to lower a network exactly, and how many biases it moves for it.

    python lowering.py prepare FOLDER NET BITS    (of the older build: later ones read its files)
    python lowering.py run FOLDER NET BITS

224x224x3, 1000 classes, calibrated on random images, lowered with the limits of the three targets.
Of the zoo's networks weights and batch norms are random; those of EfficientNet-Lite0 hold the
statistics of the images. On one image, codes are compared with those of the model as moved.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

SIZE, CLASSES, IMAGES = 224, 1000, 8
SEED = 0


def main() -> None:
    """Prepares or runs; what is printed last is a JSON record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("prepare", "run"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("net")
    parser.add_argument("bits")
    arguments = parser.parse_args()
    path = arguments.folder / f"{arguments.net}-{arguments.bits}.keras"
    if arguments.action == "prepare":
        prepare(path, arguments.net, arguments.bits)
    else:
        print(json.dumps(run(path)))


def prepare(path: Path, net: str, bits: str) -> None:
    """Saves a fake-quantized model, of which all builds lower the same copy."""
    from efficientnet import efficientnet_lite0, measure_norms
    from either import save_model
    from quantized import fake_quantized  # the build's own, of benchmarks/

    from keras_quant.tf import keras
    from keras_quant.zoo import build

    if path.exists():
        return
    rng = np.random.default_rng(SEED)
    images = rng.integers(0, 256, (IMAGES, SIZE, SIZE, 3), np.uint8)
    keras.utils.set_random_seed(SEED)
    if net == "efficientnet_lite0":
        source = efficientnet_lite0((SIZE, SIZE, 3), CLASSES)
        measure_norms(source, images.astype(np.float32) / 255)
    else:
        source = build(net, (SIZE, SIZE, 3), CLASSES)
    for layer in source.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            _randomize(layer, rng, is_measured=net == "efficientnet_lite0")
    save_model(fake_quantized(source, bits, images), path)


def run(path: Path) -> dict[str, Any]:
    """Lowers the model, and says how long it took and what came out."""
    from either import FORMATS, load_model, stored_limits

    from keras_quant.lower import lower, lower_exactly

    model = load_model(path)
    limits = stored_limits(list(FORMATS.values()))
    lower(model)  # what TensorFlow does when it is used first is no part of it
    cpu, wall = time.process_time(), time.perf_counter()
    snap = lower_exactly(model, limits=limits)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    different, compared = _compare(lower(model), snap.graph)
    counts = [
        {"figure": "moved", "count": snap.moved, "of": snap.channels, "unit": "channels"},
        {"figure": "different", "count": different, "of": compared, "unit": "codes"},
    ]
    return {"cpu_s": cpu, "wall_s": wall, "counts": counts}


def _compare(ideal: Any, realized: Any) -> tuple[int, int]:
    """Counts codes of one image that differ between two graphs, and all."""
    from keras_quant.graph.reference import run_reference

    names = [name for name, tensor in realized.tensors.items() if tensor.qparams is not None]
    names = [name for name in names if name not in realized.inputs]
    image = np.random.default_rng(SEED + 1).random((1, SIZE, SIZE, 3), np.float32)
    inputs = {realized.inputs[0]: image}
    answers = [run_reference(graph, inputs, keep=names) for graph in (ideal, realized)]
    different = sum(np.count_nonzero(answers[0][n] != answers[1][n]) for n in names)
    return int(different), sum(answers[1][name].size for name in names)


def _randomize(layer: Any, rng: np.random.Generator, *, is_measured: bool) -> None:
    """Gives a batch norm weights as untidy as trained ones."""
    gamma, variance = rng.uniform(0.5, 1.5, (2, *layer.gamma.shape))
    beta, mean = rng.normal(0, 0.3, (2, *layer.gamma.shape))
    if is_measured:
        mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    layer.set_weights([gamma, beta, mean, variance])


if __name__ == "__main__":
    main()
