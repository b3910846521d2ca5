"""What a layer's kernel is multiplied with: second moments of what it reads, and of its answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_quant.prepare.adjust.walk import BATCH, Site
from keras_quant.tf import keras, tf

# Kernels of these are a matrix product of patches; a transposed convolution's is none.
KINDS = ("conv2d", "depthwise_conv2d", "dense")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """Of what each group of a layer reads, and of what it is to put out; means taken out.

    Attributes:
        read: float64 (groups, taps, taps): covariance of the values that a kernel multiplies.
        wanted: float64 (groups, outputs, taps): covariance of these with what is wanted.
        energy: float64 (groups, outputs): variance of what is wanted.
    """

    read: NDArray[np.float64]
    wanted: NDArray[np.float64]
    energy: NDArray[np.float64]


def moments(site: Site) -> Moments:
    """Those of a layer of KINDS over the images of a walk.

    Rows of a kernel are as in `as_rows`.
    """
    totals: list[NDArray[np.float64]] = []
    count = 0
    for x, y in _batches(site):
        parts = [np.sum(x, axis=1), np.sum(y, axis=1)]
        parts += [np.matmul(np.swapaxes(x, 1, 2), x), np.matmul(np.swapaxes(y, 1, 2), x)]
        parts += [np.square(y).sum(axis=1)]
        found = [np.asarray(part, np.float64) for part in parts]
        totals = [a + b for a, b in zip(totals, found, strict=True)] if totals else found
        count += x.shape[1]
    x1, y1, xx, yx, yy = (total / count for total in totals)
    return Moments(
        read=xx - x1[:, :, np.newaxis] * x1[:, np.newaxis],
        wanted=yx - y1[:, :, np.newaxis] * x1[:, np.newaxis],
        energy=np.maximum(0.0, yy - np.square(y1)),
    )


def as_rows(kernel: np.ndarray, site: Site) -> np.ndarray:
    """A kernel in the Keras layout with a row an output: (groups, outputs, taps)."""
    groups = _groups(site)
    if site.operation.kind == "depthwise_conv2d":
        return np.transpose(kernel.reshape(-1, *kernel.shape[-2:]), (1, 2, 0))
    flat = kernel.reshape(-1, groups, kernel.shape[-1] // groups)
    return np.transpose(flat, (1, 2, 0))


def as_kernel(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What `as_rows` was made of, of that shape."""
    return np.transpose(rows, (2, 0, 1)).reshape(shape)


def _groups(site: Site) -> int:
    if site.operation.kind == "depthwise_conv2d":
        return int(site.read.shape[-1])
    return int(getattr(site.layer, "groups", 1))


def _batches(site: Site) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What is read and wanted, float32: (groups, positions, taps), (groups, positions, outputs)."""
    groups = _groups(site)
    for start in range(0, len(site.read), BATCH):
        x, y = (part[start : start + BATCH] for part in (site.read, site.wanted))
        if site.operation.kind == "dense":
            rows = x.reshape(1, -1, x.shape[-1])
        else:
            rows = _patches(site.layer, x)
            taps, channels = rows.shape[-2:]
            if site.operation.kind == "depthwise_conv2d":
                rows = np.transpose(rows.reshape(-1, taps, channels), (2, 0, 1))
            else:
                parts = rows.reshape(-1, taps, groups, channels // groups)
                rows = np.moveaxis(parts, 2, 0).reshape(groups, parts.shape[0], -1)
        answers = np.moveaxis(y.reshape(-1, groups, y.shape[-1] // groups), 1, 0)
        # numpy multiplies matrices in BLAS only where their rows lie in one piece
        yield np.ascontiguousarray(rows), np.ascontiguousarray(answers)


def _patches(layer: keras.layers.Layer, x: np.ndarray) -> np.ndarray:
    """float32 (images, height, width, taps, channels); a Conv1D is one of height 1."""
    flat = x.ndim == 3
    size, strides, rates = (
        (1, *tuple(pair)) if flat else tuple(pair)
        for pair in (layer.kernel_size, layer.strides, layer.dilation_rate)
    )
    x = x[:, np.newaxis] if flat else x
    padding = layer.padding.upper()
    if padding == "CAUSAL":
        x = np.pad(x, ((0, 0), (0, 0), ((size[1] - 1) * rates[1], 0), (0, 0)))
        padding = "VALID"
    ones = ((1, *pair, 1) for pair in (size, strides, rates))
    found = np.asarray(tf.image.extract_patches(x, *ones, padding))
    return found.reshape(*found.shape[:3], int(np.prod(size)), x.shape[-1])
