"""Ways to give a net less of an image: fewer pixels, or its middle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_quant.data.images import Size
from keras_quant.data.resize import averaged, middle, resized


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to give a model less.

    Attributes:
        title: what it is called in tables.
        make: of images and a size what the model is given.
        rebuilt: whether the model is built for that size; else it gets its own.
    """

    title: str
    make: Callable[[np.ndarray, Size], np.ndarray]
    rebuilt: bool


def _restored(x: np.ndarray, size: Size) -> np.ndarray:
    return resized(resized(x, size), (x.shape[1], x.shape[2]))


def _enlarged(x: np.ndarray, size: Size) -> np.ndarray:
    return resized(middle(x, size), (x.shape[1], x.shape[2]))


WAYS = {
    "resized": Way(title="resized, net for that size", make=resized, rebuilt=True),
    "averaged": Way(title="averaged, net for that size", make=averaged, rebuilt=True),
    "restored": Way(title="resized, and back", make=_restored, rebuilt=False),
    "crop": Way(title="middle, net for that size", make=middle, rebuilt=True),
    "crop-enlarged": Way(title="middle, enlarged", make=_enlarged, rebuilt=False),
}
