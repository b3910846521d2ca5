"""Datasets asked for something else: NAME+noise25 has noise in its pixels, NAME+elbo no classes.

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
from keras_quant.errors import DataError, UsageError

MOST_NOISE = 255
# Noise depends on nothing that a user chooses, as the test images of a set do not: runs of any seed
# are judged on the same.
NOISE_SEED = 0
_NOISE = re.compile(r"noise([1-9][0-9]{0,2})")  # one name alone for one deviation
_AT_ONCE = 1000  # images whose noise is in memory as floats


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a name asks for.

    Attributes:
        base: the dataset's own name, or its path.
        noise: standard deviation of the noise that is added, in pixels of 0 to 255; 0 for none.
        elbo: outputs are a variational autoencoder's, see `Dataset`.
    """

    base: str
    noise: int = 0
    elbo: bool = False


def view_of(name: str) -> View:
    """Reads a name such as "cifar10+noise25" or "mnist+elbo"; a path that exists is taken as it is.

    Raises:
        UsageError: what stands behind the last + cannot be read, or two things are asked for.
    """
    base, plus, asked = name.rpartition("+")
    if not plus or not base or os.path.exists(name):  # False for names that no system takes
        return View(base=name)
    found = _NOISE.fullmatch(asked)
    if asked == "elbo":
        view = View(base=base, elbo=True)
    elif found and int(found[1]) <= MOST_NOISE:
        view = View(base=base, noise=int(found[1]))
    else:
        raise UsageError(
            f"dataset {name!r}: behind + stands noise and its standard deviation in pixels, 1 to "
            f"{MOST_NOISE}, as in {base}+noise25, or elbo, for a variational autoencoder"
        )
    first, _, also = base.rpartition("+")
    if first and (also == "elbo" or _NOISE.fullmatch(also)) and not os.path.exists(base):
        raise UsageError(f"dataset {name!r}: asks for +{also} and +{asked}; one of them is allowed")
    return view


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
