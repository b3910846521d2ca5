"""Values of tensors at some positions, channel by channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from keras_quant.prepare.plan import Plan
from keras_quant.prepare.wrap import split_float
from keras_quant.tf import keras

# Of a tensor: 4,096 positions of 64 channels, 256 of 1,024.
VALUES = 2**18
# Of all tensors that are drawn from, for one batch.
BATCH_BYTES = 2**26


def draw_channels(
    plan: Plan,
    source: keras.Model,
    images: np.ndarray,
    names: Sequence[str],
    *,
    reals: Callable[[np.ndarray], np.ndarray] = lambda images: images,
) -> Mapping[str, NDArray[np.float32]]:
    """Draws positions of what operations of a float model put out, the same number in each image.

    Args:
        images: one or more, of a model of one input.
        names: of operations.
        reals: turns a batch of images into float32 as the model takes it.
    Returns: by name float32 (positions, channels): all there are, up to VALUES, at least one an
        image.
    """
    if not names:
        return {}
    rng = np.random.default_rng(0)
    model = split_float(plan, source, names)
    shapes = [plan.operations.by_name[name].shape for name in names]
    size = max(1, BATCH_BYTES // sum(4 * int(np.prod(shape)) for shape in shapes))
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for start in range(0, len(images), size):
        outputs = model(reals(images[start : start + size]), training=False)
        outputs = outputs if len(names) > 1 else [outputs]
        for name, output in zip(names, outputs, strict=True):
            values = np.asarray(output, np.float32)
            values = values.reshape(len(values), -1, values.shape[-1])
            most = max(1, VALUES // (len(images) * values.shape[-1]))
            places = rng.permutation(values.shape[1])[:most]
            found[name].append(values[:, places].reshape(-1, values.shape[-1]))
    return {name: np.concatenate(parts) for name, parts in found.items()}
