"""Quantized layers of every kind to hold methods to their contract with."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.errors import SchemeError
from keras_quant.methods import METHODS, load_method
from keras_quant.methods.method import Method
from keras_quant.model.topology import copy_variables
from keras_quant.qparams import QParams
from keras_quant.schemes.scheme import BINARY, TERNARY, QuantSpec
from keras_quant.tf import keras
from tests.methods import toy

EVERY_METHOD = {name: load_method(name) for name in METHODS if name != "toy"}
EVERY_METHOD["toy"] = toy.METHOD

LAYERS = {
    "conv2d": lambda: keras.layers.Conv2D(5, (3, 2), name="layer"),
    "conv1d": lambda: keras.layers.Conv1D(5, 3, name="layer"),
    "groups": lambda: keras.layers.Conv2D(6, (3, 2), groups=2, name="layer"),
    "transpose": lambda: keras.layers.Conv2DTranspose(5, (3, 2), name="layer"),
    "depthwise": lambda: keras.layers.DepthwiseConv2D((3, 2), name="layer"),
    "multiplied": lambda: keras.layers.DepthwiseConv2D((3, 2), depth_multiplier=2, name="layer"),
    "dense": lambda: keras.layers.Dense(5, use_bias=False, name="layer"),
}
SHAPES = {
    "conv2d": (6, 6, 3),
    "conv1d": (6, 3),
    "groups": (6, 6, 4),
    "transpose": (6, 6, 3),
    "depthwise": (6, 6, 4),
    "multiplied": (6, 6, 4),
    "dense": (7,),
}
# Axes of the kernel that count output channels, where they are not the last one.
CHANNELS = {"depthwise": (2, 3), "multiplied": (2, 3), "transpose": (2,)}
WEIGHTS = {
    "binary": BINARY,
    "ternary": TERNARY,
    "2": QuantSpec(bits=2, narrow_range=False),
    **{str(bits): QuantSpec(bits=bits) for bits in range(3, 9)},
    "4 full range": QuantSpec(bits=4, narrow_range=False),
    "4 per tensor": QuantSpec(bits=4, per_channel=False),
}


def activation(method: Method, name: str, grid: QParams) -> keras.layers.Layer:
    options = method.maker.options()
    step = method.maker.step(f"{name}_step", grid, options)
    return method.maker.activation(name, grid, step, options)


def wrap(
    method: Method, layer: keras.layers.Layer, weight: QuantSpec, shape: tuple
) -> keras.layers.Layer:
    """The quantized twin of a layer that was built for inputs of a shape, with its weights."""
    try:
        twin = method.maker.wrap(layer, weight, method.maker.options())
    except SchemeError as error:  # a method may refuse widths by name
        assert str(weight.bits) in str(error) and layer.name in str(error)
        pytest.skip(str(error))
    twin.build(shape)
    copy_variables(layer, twin)
    return twin


def wrapped(method: Method, kind: str, weight: QuantSpec) -> keras.layers.Layer:
    """A quantized layer with random weights; its first channel is zero."""
    layer, shape = LAYERS[kind](), (None, *SHAPES[kind])
    layer.build(shape)
    rng = np.random.default_rng(0)
    kernel, *others = layer.get_weights()
    kernel = rng.normal(0, 0.2, kernel.shape).astype(np.float32)
    first_channel(kernel, kind)[:] = 0
    layer.set_weights([kernel, *others])
    return wrap(method, layer, weight, shape)


def first_channel(kernel: np.ndarray, kind: str) -> np.ndarray:
    return kernel[:, :, 0] if kind in CHANNELS else kernel[..., 0]


def computed_kernel(layer: keras.layers.Layer, kind: str) -> np.ndarray:
    """The kernel that a layer computes with, found by feeding it one-hot inputs.

    Each product has one term that is not zero, so that the sums are exact.
    """
    shape = layer.get_weights()[0].shape
    if kind == "transpose":
        pixels = np.eye(shape[3], dtype=np.float32)[:, None, None]
        return np.moveaxis(layer(pixels).numpy(), 0, -1)
    seen = (*shape[:2], 1) if kind in CHANNELS else shape[:-1]
    one_hot = np.eye(int(np.prod(seen)), dtype=np.float32).reshape(-1, *seen)
    # Groups of channels see the same values, each with a kernel of its own.
    one_hot = np.tile(one_hot, SHAPES[kind][-1] // seen[-1])
    return layer(one_hot).numpy().reshape(shape)
