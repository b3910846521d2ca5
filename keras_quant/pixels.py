"""Pixels as reals, the only place where images are scaled; and the codes that these have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_quant.errors import DataError
from keras_quant.preprocessing import PIXEL_MAX, Preprocessing, describe
from keras_quant.qparams import QParams, signed, unsigned

PIXEL_BITS = 8
CLEAR_OF_TIE = 2.0**-9
"""How far from a half, in codes, each pixel is to fall at least.

float32 errs by 2**-16 codes where a runtime multiplies by the inverse of the scale; and integers
that make the codes out of pixels (`graph.passes.pixels`) then exist: in 60 of 60 random means and
divisors of three channels, where half of it left one without.
"""
_STEP, _TRIES = 2.0**-15, 2**10


def normalize(x: np.ndarray, preprocessing: Preprocessing | None) -> np.ndarray:
    """Gives the reals that a model takes: pixels as it wants them, float images as they are.

    Args:
        x: uint8 pixels with channels, in the order RGB, on the last axis; or float32.
        preprocessing: what pixels become; not looked at for float images, which are taken for
            preprocessed, so that None will do there.
    Returns: float32 of x's shape; for pixels (float32(k) - mean) / std, each operation rounded
        to float32.
    Raises:
        DataError: pixels without a preprocessing.
    """
    if x.dtype != np.uint8:
        return x
    if preprocessing is None:
        raise DataError(
            "images are 8-bit pixels, and nothing says what they become: give a preprocessing, as "
            "UNIT of keras_quant.preprocessing for 0 to 1"
        )
    if preprocessing.order == "bgr":
        x = x[..., ::-1]
    reals = x.astype(np.float32)
    mean, std = constants(preprocessing)
    if mean.any():
        reals -= mean
    if (std != 1).any():
        reals /= std
    return reals


def constants(preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the divisor of each channel in the model's order, float32 (1 or channels,)."""
    return np.array(preprocessing.mean, np.float32), np.array(preprocessing.std, np.float32)


def reals_of_pixels(preprocessing: Preprocessing, channels: int) -> np.ndarray:
    """The reals of all pixels there are: float32 (256, channels), in the model's order."""
    pixels = np.repeat(np.arange(PIXEL_MAX + 1, dtype=np.uint8)[:, None], channels, axis=1)
    return normalize(pixels, preprocessing)


def check_channels(preprocessing: Preprocessing, shape: tuple[int, ...], what: str) -> None:
    """Checks that images have the channels that a preprocessing has numbers for.

    Args:
        shape: of an image, channels last.
        what: whose images these are, for the error.
    Raises:
        DataError: they have others.
    """
    needed = preprocessing.channels
    if needed is not None and shape[-1] != needed:
        raise DataError(
            f"{what}: images are {shape}, with {shape[-1]} channels; --preprocess takes "
            f"{needed} here ({describe(preprocessing)}). Give one number for all channels, or "
            "another preprocessing"
        )


def pixel_grid(preprocessing: Preprocessing, channels: int) -> QParams:
    """Gives 8-bit codes for what pixels become; the pixels themselves where that can be.

    They are where all channels have one divisor and one mean, which is a whole number: then that
    is the zero point; pixels less 128 have the zero point 0. Any other grid is symmetric, since
    every target takes that, and as fine as the reals allow without one of them near a half between
    two codes: there one runtime would round it up and another down.

    Args:
        channels: of the images.
    """
    divisors, means = set(preprocessing.std), set(preprocessing.mean)
    if len(divisors) == len(means) == 1:
        mean, scale = means.pop(), 1 / divisors.pop()
        if mean == 128:
            return signed(PIXEL_BITS, scale, narrow_range=False)
        if mean in range(PIXEL_MAX + 1):
            return replace(unsigned(PIXEL_BITS, scale), zero_point=int(mean))
    reals = reals_of_pixels(preprocessing, channels).astype(np.float64)
    finest = signed(PIXEL_BITS, 1.0, narrow_range=True)
    scales = np.abs(reals).max() / finest.qmax * (1 + _STEP * np.arange(_TRIES))
    scales = scales.astype(np.float32).astype(np.float64)
    clear = np.array([_distance_to_ties(reals / scale) for scale in scales])
    chosen = np.argmax(np.minimum(clear, CLEAR_OF_TIE))  # the first that is clear, else the best
    return signed(PIXEL_BITS, float(scales[chosen]), narrow_range=True)


def _distance_to_ties(steps: np.ndarray) -> float:
    return float(np.abs(steps - np.floor(steps) - 0.5).min())
