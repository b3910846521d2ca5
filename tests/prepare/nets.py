"""Small nets to plan and to wrap, and what is asked of their plans."""

from __future__ import annotations

from keras_quant.methods import load_method
from keras_quant.prepare import Plan, plan, with_grids, wrap
from keras_quant.qparams import GridSpec, unsigned
from keras_quant.schemes.bits import scheme_from_bits
from keras_quant.tf import keras

L = keras.layers
W4A4 = scheme_from_bits("4")


def unsigned_grid(bits: int) -> GridSpec:
    return GridSpec(bits=bits, signed=False)


def chain() -> keras.Model:
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(4, 3, use_bias=False, name="conv1")(x)
    x = L.BatchNormalization(name="bn1")(x)
    x = L.ReLU(name="relu1")(x)
    x = L.MaxPooling2D(name="max")(x)
    x = L.Conv2D(4, 1, activation="relu", name="conv2")(x)
    x = L.Dropout(0.5, name="drop")(x)
    x = L.GlobalAveragePooling2D(name="gap")(x)
    x = L.Dense(5, name="hidden")(x)
    x = L.Dense(3, activation="softmax", name="logits")(x)
    return keras.Model(inputs, x, name="chain")


def residual() -> keras.Model:
    """Two blocks; the second one's shortcut has a convolution. Then a linear bottleneck."""
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.ReLU(name="relu0")(L.Conv2D(4, 1, name="conv0")(inputs))
    a = L.BatchNormalization(name="bn1")(L.Conv2D(4, 3, padding="same", name="conv1")(x))
    x = L.ReLU(name="sum1")(L.Add(name="add1")([x, a]))
    a = L.Conv2D(4, 1, name="left2")(x)
    b = L.Conv2D(4, 1, name="right2")(x)
    x = L.Add(name="add2")([a, b])
    x = L.Conv2D(4, 1, name="conv3")(x)
    x = L.GlobalAveragePooling2D(name="gap")(L.ReLU(name="relu3")(x))
    return keras.Model(inputs, L.Dense(2, name="logits")(x), name="residual")


def joins() -> keras.Model:
    """A join of a ReLU and a signed convolution, whose join with the image is read."""
    inputs = keras.Input((8, 8, 3), name="image")
    a = L.ReLU(name="relu")(L.Conv2D(4, 1, name="a")(inputs))
    b = L.Conv2D(4, 1, name="b")(inputs)
    x = L.Concatenate(name="join")([a, b])
    x = L.Concatenate(name="late")([x, L.MaxPooling2D(1, name="pool")(inputs)])
    return keras.Model(inputs, L.Dense(2, name="logits")(L.Flatten()(x)), name="joins")


def points_of(planned: Plan) -> dict[str, GridSpec]:
    return {point.after: point.spec for point in planned.points}


def grids_and_groups(planned: Plan) -> dict[str, tuple[int, GridSpec]]:
    return {p.after: (p.group, p.spec) for p in planned.points if not p.readers}


def wrapped(source: keras.Model, bits: str = "4") -> keras.Model:
    planned = plan(source, scheme_from_bits(bits))
    grids = {point.group: point.spec.at(0.25) for point in planned.points}
    return wrap(with_grids(planned, grids), source, load_method("qkeras"), unsigned(8, 1 / 255))
