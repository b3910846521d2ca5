"""Datasets asked for something else: NAME+noise25 has noise in its pixels, NAME+elbo no classes.

NAME+16px has fewer pixels: the same images, labels and splits, averaged.

What a set is asked for is a part of its name, so that whatever reads a run's record, or is told
`--dataset`, trains and judges for the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from keras_quant.data.checks import PARTS
from keras_quant.data.resize import averaged, sides
from keras_quant.errors import DataError, UsageError

MOST_NOISE = 255
# Noise depends on nothing that a user chooses, as the test images of a set do not: runs of any seed
# are judged on the same.
NOISE_SEED = 0
_NOISE = re.compile(r"noise([1-9][0-9]{0,2})")  # one name alone for one deviation
_PIXELS = re.compile(r"([1-9][0-9]{0,4})px")
_AT_ONCE = 1000  # images whose noise is in memory as floats


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a name asks for.

    Attributes:
        base: the dataset's own name, or its path.
        noise: standard deviation of the noise that is added, in pixels of 0 to 255; 0 for none.
        elbo: outputs are a variational autoencoder's, see `Dataset`.
        pixels: of the shorter side that images are made to have; 0 for as many as they have.
    """

    base: str
    noise: int = 0
    elbo: bool = False
    pixels: int = 0

    def shape(self, whole: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of an image, where that of the base's is given.

        Raises:
            DataError: they are vectors, which have no pixels.
            UsageError: they do not have more pixels than are asked for.
        """
        if not self.pixels:
            return whole
        asked = f"dataset {self.base}+{self.pixels}px"
        if len(whole) != 3:
            raise DataError(f"{asked}: {self.base} holds vectors {whole}; images can be averaged")
        size = whole[0], whole[1]
        if self.pixels >= min(size):
            raise UsageError(
                f"{asked}: images have {size[0]}x{size[1]} pixels; 1 to {min(size) - 1} are "
                "allowed at the shorter side"
            )
        return *sides(self.pixels, size), whole[2]


def view_of(name: str) -> View:
    """Reads a name such as "cifar10+noise25" or "mnist+elbo"; a path that exists is taken as it is.

    Raises:
        UsageError: what stands behind the last + cannot be read, or two things are asked for.
    """
    base, plus, asked = name.rpartition("+")
    if not plus or not base or os.path.exists(name):  # False for names that no system takes
        return View(base=name)
    found = _NOISE.fullmatch(asked)
    fewer = _PIXELS.fullmatch(asked)
    if asked == "elbo":
        view = View(base=base, elbo=True)
    elif fewer:
        view = View(base=base, pixels=int(fewer[1]))
    elif found and int(found[1]) <= MOST_NOISE:
        view = View(base=base, noise=int(found[1]))
    else:
        raise UsageError(
            f"dataset {name!r}: behind + stands noise and its standard deviation in pixels, 1 to "
            f"{MOST_NOISE}, as in {base}+noise25, or elbo, for a variational autoencoder, or a "
            f"shorter side of fewer pixels, as in {base}+16px"
        )
    first, _, also = base.rpartition("+")
    if first and _is_asked(also) and not os.path.exists(base):
        raise UsageError(f"dataset {name!r}: asks for +{also} and +{asked}; one of them is allowed")
    return view


def _is_asked(word: str) -> bool:
    return word == "elbo" or any(known.fullmatch(word) for known in (_NOISE, _PIXELS))


def whole_name(name: str) -> str:
    """What the same images are called with all their pixels."""
    view = view_of(name)
    return view.base if view.pixels else name


def with_fewer_pixels(arrays: Mapping[str, np.ndarray], view: View) -> dict[str, np.ndarray]:
    """Averages the images of all parts, see `resize.averaged`.

    Args:
        arrays: x_train, ..., as `read_npz` gives them.
        view: with pixels.
    Raises:
        DataError, UsageError: see `View.shape`.
    """
    found = dict(arrays)
    for name in (f"x_{part}" for part in PARTS):
        if name in arrays:
            height, width, _ = view.shape(arrays[name].shape[1:])
            found[name] = averaged(arrays[name], (height, width))
    return found


def with_noise(arrays: Mapping[str, np.ndarray], view: View) -> dict[str, np.ndarray]:
    """Adds noise to the images of all parts, and keeps what they were.

    Pixels are round(p + d n), held to 0 to 255, with n drawn from the standard normal distribution:
    additive white Gaussian noise as in Zhang et al. 2017 ("Beyond a Gaussian Denoiser", section
    III), but in pixels, as integer files take them. An image has the same noise each time.

    Args:
        arrays: x_train, ..., as `read_npz` gives them.
        view: with noise.
    Returns: the same arrays, with clean_train, ... beside x_train, ...
    Raises:
        DataError: images are floats.
    """
    found = dict(arrays)
    for number, part in enumerate(PARTS):
        clean = arrays.get(f"x_{part}")
        if clean is None:
            continue
        if clean.dtype != np.uint8:
            raise DataError(
                f"dataset {view.base}: images are {clean.dtype}; noise is for 8-bit pixels"
            )
        rng = np.random.default_rng([NOISE_SEED, view.noise, number])
        noisy = np.empty_like(clean)
        for start in range(0, len(clean), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            drawn = rng.standard_normal(clean[rows].shape, dtype=np.float32)
            noisy[rows] = np.clip(np.rint(clean[rows] + view.noise * drawn), 0, 255)
        found |= {f"x_{part}": noisy, f"clean_{part}": clean}
    return found
