"""One pass over images: what there is to know of each tensor that a plan rounds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from keras_quant.calibration.statistics import (
    TensorStatistics,
    combine,
    nothing_seen,
    observe,
)
from keras_quant.errors import ModelError
from keras_quant.prepare import Plan, split_float
from keras_quant.qparams import QParams
from keras_quant.tf import keras

CALIBRATION_IMAGES = 1024
BATCH_SIZE = 128
# Bytes of the values of one batch; batches of large images are smaller for it.
BATCH_BYTES = 2**28


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Statistics:
    """What was seen of a float model's tensors over some images.

    Attributes:
        model: `fingerprint` of the float model.
        images: how many there were.
        fresh: batch norms used the statistics of the batch.
        tensors: by the name of the operation that puts them out; the model's inputs too.
        pixels: the 8-bit codes that the images have as they are; None where they are no pixels.
        scales: by the name of each tensor whose channels were scaled in the model before, what
            they were divided by; see `prepare.adjust.equalize`.
    """

    model: str
    images: int
    fresh: bool
    tensors: Mapping[str, TensorStatistics]
    pixels: QParams | None = None
    scales: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def collect(
    plan: Plan,
    source: keras.Model,
    images: np.ndarray | Sequence[np.ndarray],
    *,
    reals: Callable[[np.ndarray], np.ndarray] = lambda images: images,
    pixels: QParams | None = None,
    fresh: bool = False,
    per_channel: Collection[str] = (),
    on_images: Callable[[int], None] = lambda images: None,
) -> Statistics:
    """Gathers the statistics of everything that a plan rounds, batch by batch.

    They do not depend on the plan's bits: a plan with other bits in the same places can use them.

    Args:
        source: the float model, with the weights that quantization starts from.
        images: (images, height, width, channels), of one image or more; one array for each of
            several inputs, in the model's order.
        reals: turns a batch of them into float32 as the model takes it.
        pixels: see Statistics.
        fresh: the weights are untrained, so batch norm must use the statistics of the batch.
        per_channel: names of operations whose channels have moments of their own; of these there
            are statistics even where the plan rounds nothing.
        on_images: told after each batch how many images are done.
    Raises:
        ModelError: values are NaN or infinite, with the names of the layers.
    """
    given = [images] if isinstance(images, np.ndarray) else list(images)
    inputs = plan.operations.inputs
    rounded = [point.after for point in plan.points]
    names = [name for name in dict.fromkeys([*rounded, *per_channel]) if name not in inputs]
    run = _runner(plan, source, names, fresh=fresh) if names else lambda batch: {}
    tensors: dict[str, TensorStatistics] = {name: nothing_seen() for name in (*inputs, *names)}
    size = _batch_size(plan)
    for start in range(0, len(given[0]), size):
        batch = [reals(x[start : start + size]) for x in given]
        values = {**dict(zip(inputs, batch, strict=True)), **run(batch)}
        _check_finite(values)
        for name, known in tensors.items():
            seen = observe(values[name], per_channel=name in per_channel)
            tensors[name] = combine([known, seen])
        on_images(start + len(batch[0]))
    return Statistics(
        model=fingerprint(source),
        images=len(given[0]),
        fresh=fresh,
        tensors=tensors,
        pixels=pixels,
    )


def fingerprint(model: keras.Model) -> str:
    """A hash of a model's weights and their shapes; names are left out, which Keras numbers."""
    digest = hashlib.sha256()
    for variable in model.weights:
        values = np.ascontiguousarray(variable, dtype=np.float32)
        digest.update(f"{values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _runner(
    plan: Plan, source: keras.Model, names: Sequence[str], *, fresh: bool
) -> Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]:
    """Gives for a batch the values that operations put out, by the operations' names."""
    model = split_float(plan, source, names)

    def run(batch: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        outputs = model(list(batch), training=fresh)
        outputs = outputs if len(names) > 1 else [outputs]
        arrays = [np.asarray(output, np.float32) for output in outputs]
        return dict(zip(names, arrays, strict=True))

    return run


def _batch_size(plan: Plan) -> int:
    """How many images fit into BATCH_BYTES with all that the model computes of them."""
    bytes_an_image = sum(4 * int(np.prod(operation.shape)) for operation in plan.operations)
    return max(1, min(BATCH_SIZE, BATCH_BYTES // max(1, bytes_an_image)))


def _check_finite(values: Mapping[str, np.ndarray]) -> None:
    broken = [name for name, found in values.items() if not np.isfinite(found).all()]
    if broken:
        raise ModelError(
            f"on the calibration images these layers put out NaN or infinity: {', '.join(broken)}. "
            "Look at the model's weights, and at the range of values that it was made for"
        )
