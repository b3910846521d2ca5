"""A small net with all that calibration has to do with."""

from __future__ import annotations

from functools import partial

import numpy as np

from keras_quant.pixels import normalize
from keras_quant.preprocessing import UNIT
from keras_quant.tf import keras

L = keras.layers

to_unit = partial(normalize, preprocessing=UNIT)


def net(batch_norm: bool = False) -> keras.Model:
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((6, 6, 3), name="image")
    x = L.Conv2D(6, 3, name="conv1")(x)
    if batch_norm:
        x = L.BatchNormalization(name="bn1")(x)
    x = L.ReLU(name="relu1")(x)
    branch = L.Conv2D(6, 3, padding="same", name="conv2")(x)
    x = L.ReLU(name="sum")(L.Add(name="add")([x, branch]))
    x = L.GlobalAveragePooling2D(name="gap")(x)
    x = L.Dense(7, name="hidden")(x)
    return keras.Model(inputs, L.Dense(2, name="logits")(x))


def images_of(count: int = 40) -> np.ndarray:
    """uint8 (count, 6, 6, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, 6, 6, 3)).astype(np.uint8)
