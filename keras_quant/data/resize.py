"""Images of other sizes, and their middles; pixels stay pixels."""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_quant.data.images import Size
from keras_quant.errors import DataError


def resized(x: np.ndarray, size: Size) -> np.ndarray:
    """Resizes images, bilinearly; where they become smaller, all pixels count.

    Args:
        x: uint8 or float32 (images, height, width, channels).
        size: (height, width).
    Returns: of x's dtype; a value between two pixels is rounded to one.
    """
    if x.shape[1:3] == tuple(size):
        return x
    found = np.empty((len(x), *size, x.shape[-1]), x.dtype)
    for image, into in zip(x, found, strict=True):
        for channel in range(x.shape[-1]):
            # Grey of 8 bits, or of float32: what Pillow makes of such arrays.
            plane = Image.fromarray(np.ascontiguousarray(image[..., channel]))
            into[..., channel] = plane.resize(size[::-1], Image.Resampling.BILINEAR)
    return found


def averaged(x: np.ndarray, size: Size) -> np.ndarray:
    """Makes images smaller by area averaging: a pixel becomes the mean of the area that it covers.

    Pixels that it covers in part count by that part; where the size divides that of the images,
    it is the mean of a block.

    Args:
        x: uint8 or float32 (images, height, width, channels).
        size: (height, width).
    Returns: (images, *size, channels) of x's dtype; uint8 are the exact means, halves rounded up.
    Raises:
        DataError: images are smaller than that.
    """
    height, width, channels = x.shape[1:]
    if (height, width) == tuple(size):
        return x
    if size[0] > height or size[1] > width:
        raise DataError(
            f"images have {height}x{width} pixels (height x width), and are not averaged to "
            f"{size[0]}x{size[1]}, which is larger"
        )
    rows, columns = _covered(height, size[0]), _covered(width, size[1])
    area = rows.length * columns.length
    found = np.empty((len(x), *size, channels), x.dtype)
    for image, into in zip(x, found, strict=True):
        total = np.einsum("ap,apwc->awc", rows.parts, image[rows.places])
        total = np.einsum("bp,abpc->abc", columns.parts, total[:, columns.places])
        # Of uint8 both are sums of integers, in int64.
        into[...] = (total + area // 2) // area if x.dtype == np.uint8 else total / area
    return found


class _Covered(NamedTuple):
    """What of a row of pixels larger ones cover, in units in which all ends are whole.

    Attributes:
        places: of the pixels that each covers, int64 (larger ones, pixels).
        parts: how much of each, int64; 0 where it covers fewer.
        length: of a larger one.
    """

    places: np.ndarray
    parts: np.ndarray
    length: int


@lru_cache(maxsize=64)
def _covered(whole: int, part: int) -> _Covered:
    """What each of `part` larger pixels covers of `whole`."""
    unit = gcd(whole, part)
    length, pixel = whole // unit, part // unit
    start = np.arange(part)[:, np.newaxis] * length
    first, last = start // pixel, (start + length - 1) // pixel
    places = first + np.arange(int((last - first).max()) + 1)
    ends = np.minimum(start + length, (places + 1) * pixel)
    parts = np.maximum(ends - np.maximum(start, places * pixel), 0)
    return _Covered(places=np.minimum(places, whole - 1), parts=parts, length=length)


def sides(shorter: int, whole: Size) -> Size:
    """The (height, width) of that shorter side and of the images' own shape."""
    height, width = (max(1, round(side * shorter / min(whole))) for side in whole)
    return height, width


def middle(x: np.ndarray, size: Size) -> np.ndarray:
    """The middle of images, (images, *size, channels); each side is at most theirs."""
    top, left = ((have - want) // 2 for have, want in zip(x.shape[1:3], size, strict=True))
    return np.asarray(x[:, top : top + size[0], left : left + size[1]])
