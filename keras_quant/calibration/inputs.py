"""The grid of a model's input: the codes that files are given in place of reals."""

from __future__ import annotations

from keras_quant.calibration.calibrate import CALIBRATION_IMAGES, measured_grid
from keras_quant.data import Dataset
from keras_quant.pixels import PIXEL_BITS, pixel_grid
from keras_quant.qparams import QParams


def input_grid(dataset: Dataset, *, bits: int) -> QParams:
    """Finds the codes of a model's input.

    With 8 bits that of declared pixels has a code for each of them; any other is measured on
    training images.

    Args:
        dataset: with the preprocessing that the model is declared to take.
        bits: width of the input.
    """
    if bits == PIXEL_BITS and dataset.preprocessing is not None:
        return pixel_grid(dataset.preprocessing, dataset.input_shape[-1])
    return measured_grid(dataset.reals(dataset.train.x[:CALIBRATION_IMAGES]), bits=bits)
