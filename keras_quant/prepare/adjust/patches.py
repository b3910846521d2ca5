"""What a layer's kernel is multiplied with: patches of what it reads, and their second moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from keras_quant.methods.twins import kernel_variable
from keras_quant.prepare.adjust.walk import Site
from keras_quant.tf import keras

# Kernels of these are a matrix product of patches; a transposed convolution's is none.
KINDS = ("conv2d", "depthwise_conv2d", "dense")
# Positions that are drawn from all images, and bytes of what is read there: a kernel of 3x3x512 has
# 4,608 taps, and so 7,281 positions.
POSITIONS = 2**15
PATCH_BYTES = 2**27

Reals = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """Of what each group of a layer reads, and of what it is to put out; means taken out.

    Attributes:
        read: float64 (groups, taps, taps): covariance of the values that a kernel multiplies.
        wanted: float64 (groups, outputs, taps): covariance of these with what is wanted.
        energy: float64 (groups, outputs): variance of what is wanted.
        count: of positions that they are of; 0 where they are known.
    """

    read: NDArray[np.float64]
    wanted: NDArray[np.float64]
    energy: NDArray[np.float64]
    count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patches:
    """What a kernel is multiplied with at some positions, and what is wanted there; float32.

    Attributes:
        read: (groups, positions, taps), in the order of `as_rows`.
        wanted: (groups, positions, outputs).
        plain: (groups, positions, taps): what the float model reads there; None where nobody asked.
    """

    read: Reals
    wanted: Reals
    plain: Reals | None = None


def draw(site: Site, *, seed: int = 0, plain: np.ndarray | None = None) -> Patches:
    """Patches of a layer of KINDS at positions that are drawn from all images, in random order.

    All that there are, up to POSITIONS, or what PATCH_BYTES hold.

    Args:
        seed: of the positions and their order.
        plain: float32 (images, ...): what the layer reads in the float model, where that is wanted.
    """
    rng, groups = np.random.default_rng(seed), _groups(site)
    taps = int(np.prod(_kernel_shape(site))) // int(site.wanted.shape[-1]) * groups
    total = int(np.prod(site.wanted.shape[:-1]))
    most = min(total, POSITIONS, max(1, PATCH_BYTES // (4 * taps)))
    places = np.unravel_index(rng.choice(total, most, replace=False), site.wanted.shape[:-1])
    wanted = site.wanted[places].reshape(most, groups, -1)
    return Patches(
        read=_patches(site, site.read, places),
        wanted=np.ascontiguousarray(np.moveaxis(wanted, 1, 0)),
        plain=None if plain is None else _patches(site, plain, places),
    )


def moments(patches: Patches) -> Moments:
    """Those of patches."""
    count = patches.read.shape[1]
    x, y = (part - part.mean(axis=1, keepdims=True) for part in (patches.read, patches.wanted))
    rows = np.swapaxes(x, 1, 2)
    return Moments(
        read=np.asarray(rows @ x, np.float64) / count,
        wanted=np.asarray(np.swapaxes(y, 1, 2) @ x, np.float64) / count,
        energy=np.square(y, dtype=np.float64).sum(axis=1) / count,
        count=count,
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


def _kernel_shape(site: Site) -> tuple[int, ...]:
    """Of the float layer's, in the Keras layout."""
    layer = site.operation.layer
    return tuple(kernel_variable(layer).shape)


def _patches(site: Site, x: np.ndarray, places: tuple[np.ndarray, ...]) -> Reals:
    """What is read for the outputs at some places: (groups, positions, taps)."""
    groups = _groups(site)
    if site.operation.kind == "dense":
        return np.ascontiguousarray(x[places][np.newaxis])
    found = _windows(site.operation.layer, x, places)
    positions, channels = found.shape[:2]
    taps = found.reshape(positions, channels, -1)
    if site.operation.kind == "depthwise_conv2d":
        return np.ascontiguousarray(np.moveaxis(taps, 1, 0))
    if groups == 1:
        return np.swapaxes(taps, 1, 2).reshape(1, positions, -1)
    parts = np.swapaxes(taps, 1, 2).reshape(positions, -1, groups, channels // groups)
    return np.ascontiguousarray(np.moveaxis(parts, 2, 0).reshape(groups, positions, -1))


def _windows(
    layer: keras.layers.Layer, x: np.ndarray, places: tuple[np.ndarray, ...]
) -> np.ndarray:
    """(positions, channels, height, width); a Conv1D is one of height 1."""
    if x.ndim == 3:
        x, places = x[:, np.newaxis], (places[0], np.zeros_like(places[0]), places[1])
    sizes, strides, rates = (
        (1,) * (2 - len(tuple(pair))) + tuple(pair)
        for pair in (layer.kernel_size, layer.strides, layer.dilation_rate)
    )
    reach = [(size - 1) * rate + 1 for size, rate in zip(sizes, rates, strict=True)]
    ends = [
        _padding(layer.padding, *settings)
        for settings in zip(x.shape[1:3], reach, strides, strict=True)
    ]
    padded = np.pad(x, ((0, 0), *ends, (0, 0)))
    windows = sliding_window_view(padded, reach, axis=(1, 2))[..., :: rates[0], :: rates[1]]
    return np.asarray(windows[places[0], places[1] * strides[0], places[2] * strides[1]])


def _padding(padding: str, size: int, reach: int, stride: int) -> tuple[int, int]:
    """What TensorFlow puts in front of values and behind them."""
    if padding == "causal":
        return reach - 1, 0
    if padding == "valid":
        return 0, 0
    total = max(0, (-(-size // stride) - 1) * stride + reach - size)
    return total // 2, total - total // 2
