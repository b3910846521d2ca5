"""What the ONNX formats share of products: the multiplier."""

from __future__ import annotations

import numpy as np

from keras_quant.qparams import QParams


def product_multiplier(first: QParams, second: QParams, output: QParams) -> np.float32:
    """What the reference multiplies a product of codes with, see `kernels.bind_multiply`."""
    product = np.float32(first.scale) * np.float32(second.scale)
    multiplier: np.float32 = product / np.float32(output.scale)
    return multiplier
