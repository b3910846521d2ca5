"""Small nets of layers that move values, and of calls in other orders than one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_quant.calibration.collect import collect
from keras_quant.calibration.quantize import choose_grids
from keras_quant.methods import load_method
from keras_quant.model.topology import layers_by_name
from keras_quant.prepare import plan, with_grids, wrap
from keras_quant.qparams import unsigned
from keras_quant.schemes.scheme import Scheme
from keras_quant.tf import keras

L = keras.layers


def conv(x: Any, filters: int, size: int = 3, *, relu: bool = True, stride: int = 1) -> Any:
    x = L.Conv2D(filters, size, strides=stride, padding="same", use_bias=False)(x)
    x = L.BatchNormalization()(x)
    return L.ReLU()(x) if relu else x


def head(inputs: Any, x: Any) -> keras.Model:
    return keras.Model(inputs, L.Dense(4, name="logits")(L.Flatten()(x)))


def moved(*layers: Callable[[], Any]) -> Callable[[], keras.Model]:
    """A convolution, the layers, a convolution of one pixel and a head."""

    def make() -> keras.Model:
        inputs = x = keras.Input((7, 6, 3), name="image")
        x = conv(x, 5)
        for layer in layers:
            x = layer()(x)
        if len(x.shape) == 4:
            x = conv(x, 4, 1)
        return head(inputs, x)

    return make


def lengths() -> keras.Model:
    """Rows of pixels as (length, channels)."""
    inputs = keras.Input((6, 5, 3), name="image")
    x = L.Reshape((30, 4))(conv(inputs, 4))
    x = L.Cropping1D((3, 2))(L.ZeroPadding1D((1, 2))(x))
    return head(inputs, x)


def join(*, axis: int, signs: Sequence[bool]) -> Callable[[], keras.Model]:
    """Convolutions, with a ReLU or without one, side by side."""

    def make() -> keras.Model:
        inputs = keras.Input((5, 7, 3), name="image")
        x = conv(inputs, 4)
        x = L.Concatenate(axis=axis)([conv(x, 3, 3, relu=not signed) for signed in signs])
        return head(inputs, conv(x, 4, 1))

    return make


def densenet() -> keras.Model:
    inputs = keras.Input((9, 7, 3), name="image")
    x = conv(inputs, 6)
    for _ in range(3):
        x = L.Concatenate()([x, conv(conv(x, 8, 1), 4)])
    x = L.MaxPooling2D()(conv(x, 8, 1))
    x = L.Concatenate()([x, conv(x, 4)])
    return keras.Model(inputs, L.Dense(5)(L.GlobalAveragePooling2D()(x)))


def unet() -> keras.Model:
    inputs = keras.Input((12, 8, 3), name="image")
    a = conv(inputs, 6)
    b = conv(L.MaxPooling2D()(a), 8)
    x = L.UpSampling2D()(conv(L.MaxPooling2D()(b), 8))
    x = conv(L.Concatenate()([x, b]), 6)
    x = L.Resizing(12, 8, interpolation="nearest")(x)
    x = conv(L.Concatenate()([x, a]), 4)
    return keras.Model(inputs, L.Conv2D(2, 1, name="classes")(x))


def inception() -> keras.Model:
    """Two modules; the second joins values of both signs."""
    inputs = keras.Input((9, 9, 3), name="image")
    x = conv(inputs, 6)
    pool = L.MaxPooling2D(3, 1, "same")
    branches = [conv(x, 4, 1), conv(conv(x, 3, 1), 4), conv(conv(x, 2, 1), 3, 5)]
    x = L.Concatenate()([*branches, conv(pool(x), 3, 1)])
    x = L.Concatenate()([conv(x, 4, 1, relu=False), conv(x, 3), pool(x)])
    return keras.Model(inputs, L.Dense(5)(L.GlobalMaxPooling2D()(x)))


def nested() -> keras.Model:
    """A model inside a model, called on two sizes, whose layers' names are not unique."""
    layers = [L.Conv2D(4, 3, name="conv"), L.BatchNormalization(name="norm"), L.ReLU(name="relu")]
    inner = keras.Sequential(layers, name="inner")
    inputs = keras.Input((9, 9, 3), name="image")
    x = L.ReLU()(L.Conv2D(3, 1, name="conv")(inputs))
    y = L.Add()([inner(x), L.ZeroPadding2D(1)(inner(L.Cropping2D(1)(x)))])
    y = L.ReLU()(L.Conv2D(5, 1)(L.GlobalAveragePooling2D(keepdims=True)(y)))
    return keras.Model(inputs, L.Dense(4)(L.Reshape((5,))(y)))


def siamese() -> keras.Model:
    """Two inputs through one tower, and two outputs."""
    x = inner = keras.Input((7, 8, 3))
    for filters in (4, 5):
        x = L.Conv2D(filters, 3, activation="relu")(x)
    tower = keras.Model(inner, L.Flatten()(L.GlobalMaxPooling2D(keepdims=True)(x)), name="tower")
    a, b = keras.Input((7, 8, 3), name="a"), keras.Input((7, 8, 3), name="b")
    both = L.Concatenate()([tower(a), tower(b)])
    hidden = L.Dense(6, activation="relu", name="hidden")(both)
    return keras.Model([b, a], [L.Dense(3, name="one")(hidden), L.Dense(2, name="two")(both)])


def recurrent() -> keras.Model:
    """One convolution and batch norm three times; the image joins late; two outputs."""
    shared, norm = L.Conv2D(4, 3, padding="same", name="shared"), L.BatchNormalization(name="norm")
    inputs = keras.Input((7, 7, 3), name="image")
    x = conv(inputs, 4)
    for _ in range(3):
        x = L.ReLU()(norm(shared(x)))
    x = conv(L.Concatenate()([x, inputs]), 4)
    return keras.Model(inputs, [L.Flatten()(x), L.Conv2D(2, 1)(x)])


def branches() -> keras.Model:
    """The image feeds two branches, and an output is read on."""
    inputs = keras.Input((6, 6, 3), name="image")
    a, b = conv(inputs, 4), conv(inputs, 4, 5)
    x = L.Concatenate()([L.MaxPooling2D()(a), conv(b, 3, stride=2)])
    return keras.Model(inputs, [a, L.Dense(3)(L.Flatten()(x))])


def passed_on() -> keras.Model:
    """One tensor goes out twice, and so does the image."""
    inputs = keras.Input((6, 6, 3), name="image")
    logits = L.Dense(4, name="logits")(L.Flatten()(conv(inputs, 4)))
    return keras.Model(inputs, [logits, inputs, logits])


def sequences() -> keras.Model:
    """Sequences that are moved and joined in all ways; they come in, and go out."""
    inputs = keras.Input((9, 4), name="image")
    x = L.ReLU()(L.Conv1D(5, 3, padding="same")(inputs))
    y = L.Cropping1D((1, 2))(L.UpSampling1D(3)(L.MaxPooling1D(2)(x)))
    y = L.ReLU()(L.Conv1D(5, 1)(L.Concatenate(axis=1)([x, y])))
    ends = [L.GlobalAveragePooling1D(keepdims=True)(y), L.GlobalMaxPooling1D(keepdims=True)(y)]
    z = L.Concatenate()([L.Flatten()(L.Concatenate()(ends)), L.GlobalMaxPooling1D()(x)])
    return keras.Model(inputs, [L.Conv1D(2, 3)(y), L.Dense(3)(z)])


def more_axes() -> keras.Model:
    """Values of four axes, joined along each kind of them."""
    inputs = keras.Input((4, 6, 3), name="image")
    x = L.Reshape((2, 2, 6, 5))(conv(inputs, 5))
    y = L.ReLU()(L.BatchNormalization()(L.Dense(5)(x)))
    for axis in (1, 2, -1):
        y = L.Concatenate(axis=axis)([y, y])
    return head(inputs, L.Dense(3, activation="relu")(y))


def shared_shorthands() -> keras.Model:
    """Pixels rescaled in a model inside, and one separable convolution on two sizes."""
    scaled = keras.Sequential([L.Rescaling(2.0, offset=-1.0, name="scale")], name="scaled")
    separable = L.SeparableConv2D(4, 3, padding="same", name="separable")
    a, b = keras.Input((6, 5, 4), name="a"), keras.Input((3, 4, 4), name="b")
    x, y = (L.ReLU()(separable(scaled(image))) for image in (a, b))
    x = L.ReLU()(separable(x))
    joined = L.Concatenate()([L.GlobalAveragePooling2D()(x), L.GlobalMaxPooling2D()(y)])
    return keras.Model([a, b], L.Dense(3)(joined))


def gates() -> keras.Model:
    """Squeeze and excite of pixels; a separable convolution with a function of its own."""
    inputs = keras.Input((6, 7, 3), name="image")
    x = L.SeparableConv2D(8, 3, activation="swish")(conv(inputs, 4))
    gate = L.Conv2D(4, 1, activation="relu")(L.GlobalAveragePooling2D(keepdims=True)(x))
    x = L.Multiply()([x, L.Conv2D(8, 1, activation="hard_sigmoid")(gate)])
    return keras.Model(inputs, [L.Conv2D(2, 1, activation="sigmoid")(x), L.Flatten()(x)])


def sequence_gates() -> keras.Model:
    """Sequences gated by vectors; one PReLU, in a model inside, on two lengths."""
    bent = keras.Sequential([L.PReLU(shared_axes=[1], name="bent")], name="inner")
    inputs = keras.Input((9, 4), name="image")
    x = bent(L.Conv1D(5, 3)(inputs))
    gate = L.Dense(5, activation="sigmoid")(L.GlobalAveragePooling1D()(x))
    x = bent(L.Conv1D(5, 2, strides=2)(L.Multiply()([x, gate])))
    return keras.Model(inputs, [L.Conv1D(2, 1, activation="sigmoid")(x), L.Flatten()(x)])


def combined() -> keras.Model:
    """Sums, differences, averages and the greatest of three, of one sign and of both."""
    inputs = keras.Input((7, 6, 3), name="image")
    a, b, c = conv(inputs, 4), conv(inputs, 4, 5), conv(inputs, 4, 1, relu=False)
    x = L.ReLU()(L.Add()([a, b, c]))
    x = conv(L.Average()([x, a, conv(x, 4)]), 4)
    x = L.ReLU()(L.Subtract()([L.Maximum()([a, x, c]), conv(x, 4, relu=False)]))
    x = L.Subtract()([conv(x, 4), x])
    gates = [L.Conv2D(4, 1, activation="sigmoid")(y) for y in (a, b)]
    return head(inputs, conv(L.Multiply()([x, *gates]), 3))


def broadcast() -> keras.Model:
    """Sums with a value a channel, a row and a column; averages that reach over the edge."""
    inputs = keras.Input((7, 6, 3), name="image")
    x = conv(inputs, 4)
    row, column = L.AveragePooling2D((7, 1))(x), L.AveragePooling2D((1, 6))(x)
    x = L.ReLU()(L.Add()([x, conv(row, 4, 1), conv(column, 4, 1)]))
    x = L.Add()([x, L.Dense(4, activation="relu")(L.GlobalAveragePooling2D()(x))])
    x = conv(L.AveragePooling2D(3, 1, "same")(x), 4)
    return head(inputs, L.AveragePooling2D((4, 2), 2, "same")(x))


def permuted() -> keras.Model:
    """Rows, columns and channels in other orders, and sequences."""
    inputs = keras.Input((7, 6, 3), name="image")
    x = conv(L.Permute((2, 1, 3))(conv(inputs, 4)), 5)
    x = conv(L.Permute((3, 1, 2))(x), 4)
    x = L.Permute((2, 1))(L.Reshape((30, 4))(x))
    return head(inputs, L.ReLU()(L.Conv1D(3, 3)(x)))


NETS: dict[str, Callable[[], keras.Model]] = {
    "upsampling": moved(lambda: L.UpSampling2D((3, 2))),
    "resizing": moved(lambda: L.Resizing(7, 18, interpolation="nearest")),
    "cropping": moved(lambda: L.Cropping2D(((1, 0), (2, 1)))),
    "reshape": moved(lambda: L.Reshape((3, 14, 5))),
    "flatten of vectors": moved(L.Flatten, L.Flatten),
    "global max": moved(L.GlobalMaxPooling2D),
    "global max with axes": moved(lambda: L.GlobalMaxPooling2D(keepdims=True)),
    "mean with axes": moved(lambda: L.GlobalAveragePooling2D(keepdims=True)),
    "lengths": lengths,
    "join of channels": join(axis=-1, signs=[False, False, False]),
    "join of rows": join(axis=1, signs=[False, False]),
    "join of both signs": join(axis=-1, signs=[True, False]),
    "join of one": join(axis=2, signs=[True]),
    "densenet": densenet,
    "unet": unet,
    "inception": inception,
    "nested": nested,
    "siamese": siamese,
    "recurrent": recurrent,
    "branches": branches,
    "passed on": passed_on,
    "sequences": sequences,
    "more axes": more_axes,
    "shared shorthands": shared_shorthands,
    "combined": combined,
    "broadcast": broadcast,
    "permuted": permuted,
    "gates": gates,
    "sequence gates": sequence_gates,
}


def images_of(model: keras.Model, count: int = 16) -> list[np.ndarray]:
    """Random 8-bit pixels as reals for each input, (count, *shape)."""
    rng = np.random.default_rng(0)
    shapes = [(count, *tensor.shape[1:]) for tensor in model.inputs]
    return [rng.integers(0, 256, shape).astype(np.float32) / np.float32(255) for shape in shapes]


def randomized(model: keras.Model) -> keras.Model:
    """Biases, and batch norms whose gammas are negative and zero too."""
    rng = np.random.default_rng(0)
    for layer in layers_by_name(model).values():
        if isinstance(layer, L.BatchNormalization):
            gamma = rng.uniform(-1.5, 1.5, layer.gamma.shape) * rng.integers(0, 4, 1).clip(0, 1)
            mean, beta = rng.normal(0, 0.3, (2, *gamma.shape))
            layer.set_weights([gamma, beta, mean, rng.uniform(0.1, 1.5, gamma.shape)])
        elif isinstance(layer, L.PReLU):
            layer.alpha.assign(rng.uniform(-0.5, 0.5, layer.alpha.shape))
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(rng.normal(0, 0.3, layer.bias.shape))
    return model


def quantized(source: keras.Model, scheme: Scheme, images: list[np.ndarray]) -> keras.Model:
    """The fake-quantized model of a float one, calibrated on the images."""
    planned = plan(source, scheme)
    planned = with_grids(planned, choose_grids(planned, collect(planned, source, images)))
    return wrap(planned, source, load_method("qkeras"), unsigned(8, 1 / 255))
