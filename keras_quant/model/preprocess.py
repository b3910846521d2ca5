"""What a Keras model says itself of the pixels that it takes: by its first layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keras_quant.errors import LoweringError, ModelError
from keras_quant.methods.layers import InputGrid
from keras_quant.model.inputs import with_input_shape
from keras_quant.model.topology import Call, Shape, list_calls
from keras_quant.pixels import pixel_grid
from keras_quant.preprocessing import PREPROCESSINGS, RAW, UNIT, Preprocessing, describe
from keras_quant.tf import keras

AFFINE = ("Rescaling", "Normalization")
# Layers in front of these that leave the range of values as it is.
_SEEN_THROUGH = (
    *("InputLayer", "Resizing", "CenterCrop", "Cropping1D", "Cropping2D", "ZeroPadding1D"),
    *("ZeroPadding2D", "Dropout", "Reshape", "Permute"),
)
# A layer is made for pixels of 0 to 255 where reals of 0 to 1 would leave it all but constant: in
# a range this narrow, or this many times as far from 0 as it is wide. Layers that are made for 0
# to 1 spread it over 1 (Rescaling(1.)) at the least; those for pixels leave 1/255 to 1/50 of it, or
# subtract a mean of about 110 beside which 1 is nothing.
NARROW, FAR = 0.1, 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a model's first layers say.

    Attributes:
        preprocessing: what becomes of pixels in front of the model.
        layer: name of the layer that says so.
        cls: its class.
    """

    preprocessing: Preprocessing
    layer: str
    cls: str

    def __str__(self) -> str:
        return (
            f"the model takes {describe(self.preprocessing)}: found in layer {self.layer} "
            f"({self.cls})"
        )


def find_preprocessing(model: keras.Model, shape: Sequence[int] | None = None) -> Found | None:
    """Finds out what a model wants of pixels, from what it does with its input.

    A Rescaling or a Normalization takes raw pixels where reals of 0 to 1 would leave it all but
    constant, and else these. Our InputGrid takes what the grid is made for.

    Args:
        shape: of an image; None where the model takes images of one size.
    Returns: None where the first layers say nothing, or the layers cannot be followed.
    """
    front = list(_front(model, shape))
    if not front:
        return None
    first = front[0]
    cls = type(first.layer).__name__
    if isinstance(first.layer, InputGrid):
        found = _of_grid(first.layer, first.shape[-1])
    else:
        layers = [call.layer for call in front if not isinstance(call.layer, InputGrid)]
        found = RAW if _wants_pixels(layers, first.input_shapes[0]) else UNIT
    return None if found is None else Found(preprocessing=found, layer=first.name, cls=cls)


def input_range(
    model: keras.Model, shape: Sequence[int] | None = None
) -> tuple[float, float] | None:
    """The least and the greatest real that a quantized model tells apart at its input.

    Returns: None where its input is not rounded.
    """
    first = next(_front(model, shape), None)
    if first is None or not isinstance(first.layer, InputGrid):
        return None
    low, high = first.layer.levels
    return first.layer.scale * low, first.layer.scale * high


def _front(model: keras.Model, shape: Sequence[int] | None) -> Iterator[Call]:
    """The first calls that say something of the input: an InputGrid, or affine layers in a row."""
    try:
        calls = list_calls(model if shape is None else with_input_shape(model, shape))
    except (ModelError, LoweringError):
        return
    name = calls[0].name
    while True:
        readers = [call for call in calls if name in call.inputs]
        if len(readers) != 1 or len(readers[0].inputs) != 1:
            return
        cls = type(readers[0].layer).__name__
        if isinstance(readers[0].layer, InputGrid):
            yield readers[0]
            return
        if cls in AFFINE:
            yield readers[0]
        elif cls not in _SEEN_THROUGH and not cls.startswith("Random"):
            return
        name = readers[0].name


def _wants_pixels(layers: list[keras.layers.Layer], shape: Shape) -> bool:
    """Whether reals of 0 to 1 would all but vanish in layers that compute x * gain + shift."""
    low, high = (_through(layers, value, shape) for value in (0.0, 1.0))
    span = float(np.abs(high - low).max())
    distance = float(np.minimum(np.abs(low), np.abs(high)).min())
    return span < NARROW or distance > FAR * span


def _through(layers: list[keras.layers.Layer], value: float, shape: Shape) -> np.ndarray:
    x = np.full((1, *shape), value, np.float32)
    for layer in layers:
        x = layer(x)
    return np.asarray(x)


def _of_grid(grid: InputGrid, channels: int) -> Preprocessing | None:
    """The preprocessing whose pixels have a grid; None where none has."""
    for known in PREPROCESSINGS.values():
        if known.channels in (None, channels):
            made = pixel_grid(known, channels)
            if dataclasses.astuple(made) == dataclasses.astuple(grid.qparams):
                return known
    return None
