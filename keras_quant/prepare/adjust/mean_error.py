"""What channels of a rounded layer are off in the mean, and how much of it biases are to take."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_quant.prepare.adjust.values import run
from keras_quant.prepare.adjust.walk import Site
from keras_quant.prepare.plan import Plan

# Of a channel's mean error, what may be added to its bias.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
# Images over which sums are added up in float64.
BATCH = 16
# At which shares are compared: an error that is a mean of so many squares is known to 1 or 2 %.
POSITIONS = 2**14


def mean_error(plan: Plan, site: Site, answer: np.ndarray) -> NDArray[np.float64]:
    """What is to be added to a layer's answer.

    The mean of what it is off, or a part of it: that which errs least behind the batch norm and
    ReLU that follow. Where few large values were cut off, their share of the mean would move all
    others too. The mean is of all values, the errors are of up to POSITIONS, drawn from all images.

    Args:
        answer: float32 (images, ...): what the layer makes of what it reads.
    Returns: float64 (channels,).
    """
    axes = tuple(range(answer.ndim - 1))
    off = np.zeros(answer.shape[-1])
    for start in range(0, len(answer), BATCH):
        batch = slice(start, start + BATCH)
        off += (site.wanted[batch] - answer[batch]).sum(axis=axes, dtype=np.float64)
    off /= answer.size // answer.shape[-1]
    ours, wanted = _drawn(answer, site.wanted)
    wanted = _behind(plan, site, wanted)
    errors = []
    for share in SHARES:
        moved = _behind(plan, site, ours + (share * off).astype(np.float32))
        errors.append(np.square(moved - wanted).mean(axis=axes, dtype=np.float64))
    return np.asarray(off * np.asarray(SHARES)[np.argmin(errors, axis=0)], np.float64)


def _drawn(*values: np.ndarray) -> list[np.ndarray]:
    """Of tensors of one shape the same positions, as images of one position each."""
    first = values[0]
    channels = first.shape[-1]
    total = first.size // channels
    places = np.arange(total)
    if total > POSITIONS:
        places = np.sort(np.random.default_rng(0).choice(total, POSITIONS, replace=False))
    shape = (len(places), *(1,) * (first.ndim - 2), channels)
    return [x.reshape(total, channels)[places].reshape(shape) for x in values]


def _behind(plan: Plan, site: Site, values: np.ndarray) -> np.ndarray:
    """What the float batch norms and the ReLU make of values that alone read a layer."""
    readers = plan.operations.readers[site.operation.name]
    while len(readers) == 1 and readers[0].kind in ("batch_norm", "relu"):
        (reader,) = readers
        if reader.kind == "relu":
            return np.asarray(np.clip(values, 0, reader.max_value), np.float32)
        values = run(reader.layer, [values])
        readers = plan.operations.readers[reader.name]
    return values
