"""A network of the zoo, fake-quantized as `kq train` does it, but not trained.

Importing this module repairs QKeras' classes for the whole process (methods.qkeras.repair).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from keras_quant.calibration.collect import collect
from keras_quant.calibration.quantize import quantize
from keras_quant.cli.train_options import choose_scheme
from keras_quant.methods import DEFAULT_METHOD
from keras_quant.pixels import normalize, pixel_grid
from keras_quant.prepare import plan
from keras_quant.preprocessing import UNIT
from keras_quant.tf import keras


def fake_quantized(
    source: keras.Model, bits: str, images: np.ndarray, method: str = DEFAULT_METHOD
) -> keras.Model:
    """Calibrates and wraps a float model.

    Args:
        bits: as of `kq train --bits`.
        images: uint8 (images, height, width, channels) to calibrate on.
        method: as of `kq train --method`.
    """
    scheme = choose_scheme(bits=bits, scheme=None, overrides=(), method=method)
    reals, pixels = partial(normalize, preprocessing=UNIT), pixel_grid(UNIT, images.shape[-1])
    statistics = collect(plan(source, scheme), source, images, reals=reals, pixels=pixels)
    return quantize(source, scheme, statistics, method)
