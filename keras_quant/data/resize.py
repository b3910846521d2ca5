"""Images of other sizes, and their middles; pixels stay pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image

from keras_quant.data.images import Size


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


def middle(x: np.ndarray, size: Size) -> np.ndarray:
    """The middle of images, (images, *size, channels); each side is at most theirs."""
    top, left = ((have - want) // 2 for have, want in zip(x.shape[1:3], size, strict=True))
    return np.asarray(x[:, top : top + size[0], left : left + size[1]])
