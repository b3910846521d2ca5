"""Writes models of models with Keras 3, and what they answer: python keras3_models.py FOLDER."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

L = keras.layers


def nested() -> keras.Model:
    """Layers of one name in both models; the second is built for images of any size."""
    layers = [L.Conv2D(4, 3, name="conv"), L.BatchNormalization(), L.ReLU()]
    inner = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    image, anything = keras.Input((8, 8, 3)), keras.Input((None, None, 2))
    body = keras.Model(anything, L.Conv2D(3, 1, name="body_conv")(anything))
    x = body(L.Conv2D(2, 1, name="conv")(inner(image)))
    return keras.Model(image, L.Dense(3)(L.Flatten()(x)))


def twice() -> keras.Model:
    """Models that are called again and again; one is not given its input's shape."""
    block = keras.Sequential([L.Conv2D(3, 3, padding="same"), L.ReLU()])
    image, inner = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    body = keras.Model(inner, L.Conv2D(3, 1)(inner))
    x = block(block(image))
    y = body(body(x))
    z = L.Add()([y, block(y), x])
    return keras.Model(image, [z, body(z), block(z)])


def deep() -> keras.Model:
    """Four models deep, with a layer of the same name in each."""
    core = keras.Sequential([keras.Input((6,)), L.Dense(6, name="dense"), L.LeakyReLU(0.3)])
    middle = keras.Sequential([keras.Input((6,)), core, L.Dense(6, name="dense")])
    inner = keras.Input((6,))
    body = keras.Model(inner, L.Dense(6, name="dense")(middle(inner)))
    tail = keras.Sequential([L.Dense(2, name="dense", activation="hard_swish")])
    return keras.Sequential([keras.Input((6,)), body, L.Dense(6, name="dense"), tail])


def resized() -> keras.Model:
    """Augmentation, which does nothing in inference, and a Resizing with all that Keras 3 has."""
    layers = [L.RandomFlip("horizontal"), L.Resizing(16, 16, interpolation="nearest")]
    layers += [L.RandomBrightness(0.2), L.Conv2D(4, 3, strides=2), L.Activation("relu")]
    return keras.Sequential([keras.Input((8, 8, 3)), *layers, L.Flatten(), L.Dense(10)])


def ends() -> keras.Model:
    """A model of two inputs and two outputs, called twice."""
    a, b = keras.Input((4,)), keras.Input((3,))
    hidden = L.Dense(5)(L.Concatenate()([a, b]))
    two = keras.Model([a, b], [hidden, L.Dense(4)(hidden)])
    left, right = keras.Input((4,)), keras.Input((3,))
    p, q = two([left, right])
    r, s = two([q, right])
    return keras.Model([left, right], [L.Add()([p, r]), s])


def frozen() -> keras.Model:
    """A compiled model whose inner one is not trained."""
    model = nested()
    model.layers[1].trainable = False
    model.compile("adam", "mse")
    return model


def branches() -> keras.Model:
    """Layers that are made in another order than they are read, named in a third."""

    def mixed(x: keras.KerasTensor) -> keras.KerasTensor:
        made = [L.Dense(4, name=f"dense{9 - number}")(x) for number in range(4)]
        return L.Concatenate()([made[2], made[0], made[3], made[1]])

    inner, vector = keras.Input((16,)), keras.Input((4,))
    body = keras.Model(inner, mixed(inner))
    return keras.Model(vector, body(mixed(vector)))


def arithmetic() -> keras.Model:
    """Operations in place of layers: of values, and of values and numbers."""
    image = keras.Input((6, 6, 3))
    x = (image - 0.5) / 0.25
    a, b = L.Conv2D(4, 3)(x), L.Conv2D(4, 3, activation="relu")(2 * x + 1)
    x = a + b - a * b
    x = keras.ops.relu(1 - x) + keras.ops.maximum(-a, b) + b / 3
    y = keras.ops.concatenate([x, keras.ops.silu(a)], axis=-1) + 0.5
    x = L.Flatten()(keras.ops.sigmoid(y) - keras.ops.tanh(y))
    return keras.Model(image, L.Dense(3)(x))


def dicts() -> keras.Model:
    """Inputs and outputs by name, also of a model inside, whose keys are in no order."""

    def mixed(given: dict[str, keras.KerasTensor]) -> dict[str, keras.KerasTensor]:
        hidden = L.Dense(5)(L.Concatenate()([given["b"], given["a"]]))
        return {"two": L.Dense(4)(hidden), "one": hidden + 1}

    inner = {"b": keras.Input((4,), name="b"), "a": keras.Input((3,), name="a")}
    body = keras.Model(inner, mixed(inner))
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    found = body({"b": left, "a": right})
    total = found["two"] + left
    return keras.Model({"right": right, "left": left}, {"sum": total, "first": found["one"]})


def write(make: Callable[[], keras.Model], folder: Path) -> None:
    random, model = np.random.default_rng(0), make()
    # Variances stay positive; kernels get both signs.
    values = [random.uniform(0.1, 1, w.shape) - 0.5 * (w.ndim > 1) for w in model.get_weights()]
    model.set_weights(values)
    inputs = [random.random((3, *x.shape[1:]), np.float32) for x in model.inputs]
    given = dict(zip(("left", "right"), inputs, strict=True)) if make is dicts else inputs
    given = given if len(given) > 1 else given[0]
    outputs = keras.tree.flatten(model(given, training=False))
    arrays = {f"x{number}": x for number, x in enumerate(inputs)}
    arrays |= {f"y{number}": np.asarray(y) for number, y in enumerate(outputs)}
    np.savez(folder / f"{make.__name__}.npz", **arrays)
    model.save(folder / f"{make.__name__}.keras")
    if make is resized:
        return  # Keras 3.15 cannot write its own augmentation layers as .h5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(folder / f"{make.__name__}.h5")


if __name__ == "__main__":
    for make in (nested, twice, deep, resized, ends, frozen, branches, arithmetic, dicts):
        write(make, Path(sys.argv[1]))
