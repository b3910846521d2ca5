"""Random small Keras nets of the supported layers, as plain values that hypothesis can shrink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from keras_quant.calibration.collect import collect
from keras_quant.calibration.quantize import choose_grids
from keras_quant.methods import DEFAULT_METHOD, load_method
from keras_quant.methods.readers import tuned_variables
from keras_quant.model.pointwise import hard_swish
from keras_quant.model.topology import layers_by_name
from keras_quant.prepare import plan, with_grids, with_real_steps, wrap
from keras_quant.qparams import unsigned
from keras_quant.schemes.bits import scheme_from_bits
from keras_quant.schemes.scheme import Scheme
from keras_quant.tf import keras

CLASSES = 5
FAR = 1000.0  # calibrated values seldom reach 10
GAMMAS = {"positive": (0.5, 1.5), "signed": (-1.5, 1.5), "some zero": (-1.5, 1.5)}


KERNELS_AND_MOVES = {
    *("conv", "depthwise", "grouped", "multiplied", "transpose", "separable", "dense", "norm"),
    *("max_pool", "pad", "dropout", "upsample", "crop", "reshape", "permute"),
}


@dataclass(frozen=True, kw_only=True)
class Block:
    """One layer, or one with its batch norm and ReLU; what does not fit is made to fit."""

    kind: str
    size: tuple[int, int]
    stride: int
    padding: str
    filters: int
    gamma: str | None
    relu: str | None


@dataclass(frozen=True, kw_only=True)
class Net:
    """A net that ends with a dense layer of CLASSES logits.

    Attributes:
        uniform: whether first and last layer have the bits of the others.
        extreme: whether some channels have kernels of 0, and some are beyond their range always.
        method: a name of METHODS; what learns steps has them a little off where they began.
    """

    shape: tuple[int, int, int]
    blocks: tuple[Block, ...]
    ending: str
    hidden: int
    weight: str
    activation: str
    uniform: bool
    extreme: bool
    seed: int
    method: str = DEFAULT_METHOD

    @property
    def method_for_bits(self) -> str:
        """The method, or one that has the width where it has not.

        Signs are lowered behind kernels and behind codes, and refused behind sums and averages.
        """
        no_steps = (self.method, self.weight) == ("lsq", "1")
        has_sums = self.uniform and self.ending == "mean"
        has_sums |= any(block.kind not in KERNELS_AND_MOVES for block in self.blocks)
        no_signs = self.method == "bnn" and self.activation in "12" and has_sums
        return "pact" if no_steps or no_signs else self.method

    @property
    def bits(self) -> str:
        return f"w{self.weight}a{self.activation}"

    @property
    def scheme(self) -> Scheme:
        """The usual scheme, or one without exceptions for first and last layer."""
        scheme = scheme_from_bits(self.bits)
        if not self.uniform:
            return scheme
        return Scheme(name="uniform", rules=scheme.rules[:1])


sizes = st.tuples(st.integers(1, 4), st.integers(1, 4))
blocks = st.builds(
    Block,
    kind=st.sampled_from(
        [
            *("conv", "depthwise", "residual", "max_pool", "avg_pool", "pad", "dropout"),
            *("projection", "grouped", "multiplied", "transpose", "separable", "norm", "dense"),
            *("function", "bent", "gate", "join", "upsample", "crop", "reshape", "permute"),
            *("sum", "difference", "average", "greatest", "edges", "shift"),
        ]
    ),
    size=sizes,
    stride=st.integers(1, 2),
    padding=st.sampled_from(["same", "valid"]),
    filters=st.integers(1, 9),
    gamma=st.sampled_from([None, *GAMMAS]),
    relu=st.sampled_from([None, "relu", "relu6"]),
)
nets = st.builds(
    Net,
    shape=st.tuples(st.integers(1, 11), st.integers(1, 11), st.integers(1, 3)),
    blocks=st.lists(blocks, min_size=1, max_size=6).map(tuple),
    ending=st.sampled_from(["mean", "flatten"]),
    hidden=st.sampled_from([0, 0, 7]),
    weight=st.sampled_from([*"12345678", "t"]),
    activation=st.sampled_from([*"12345678"]),
    uniform=st.booleans(),
    extreme=st.booleans(),
    seed=st.integers(0, 2**16),
    method=st.sampled_from(["qkeras", "lsq", "pact", "dorefa", "bnn"]),
)


def images_of(net: Net, count: int) -> np.ndarray:
    """Random 8-bit pixels as reals, (count, *shape)."""
    rng = np.random.default_rng(net.seed)
    return rng.integers(0, 256, (count, *net.shape)).astype(np.float32) / np.float32(255)


def quantized(net: Net, images: np.ndarray) -> keras.Model:
    """The fake-quantized model of a net with random weights, calibrated on the images."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(net.seed)
    source = _build(net)
    _randomize(source, net)
    planned = with_real_steps(plan(source, net.scheme), net.method_for_bits)
    planned = with_grids(planned, choose_grids(planned, collect(planned, source, images)))
    if net.extreme:
        _saturate(source, net)
    model = wrap(planned, source, load_method(net.method_for_bits), unsigned(8, 1 / 255))
    _learn(model, net)
    return model


def _learn(model: keras.Model, net: Net) -> None:
    """Moves learned steps away from where calibration put them, to any real number."""
    rng = np.random.default_rng(net.seed)
    for variable, tuning in tuned_variables(layers_by_name(model).values()):
        if tuning.relative:
            variable.assign(variable * rng.lognormal(0, 0.3, variable.shape).astype(np.float32))


def _build(net: Net) -> keras.Model:
    inputs = x = keras.Input(net.shape, name="image")
    for block in net.blocks:
        x = _ADD[block.kind](x, block)
    if net.ending == "mean":
        x = keras.layers.GlobalAveragePooling2D()(x)
    else:
        x = keras.layers.Flatten()(x)
    if net.hidden:
        x = keras.layers.Dense(net.hidden, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="logits")(x))


def _randomize(model: keras.Model, net: Net) -> None:
    """Biases, and batch norms whose gammas are as the blocks say, in order."""
    rng = np.random.default_rng(net.seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            kind = layer.name.partition("/")[2].replace("_", " ")
            gamma = rng.uniform(*GAMMAS[kind], layer.gamma.shape)
            if kind == "some zero":
                gamma *= rng.integers(0, 2, gamma.shape)
            mean, beta = rng.normal(0, 0.3, (2, *gamma.shape))
            layer.set_weights([gamma, beta, mean, rng.uniform(0.1, 1.5, gamma.shape)])
        elif isinstance(layer, keras.layers.PReLU):
            layer.alpha.assign(rng.uniform(-0.5, 0.5, layer.alpha.shape))
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(rng.normal(0, 0.3, layer.bias.shape))
        if net.extreme and type(layer) in (keras.layers.Conv2D, keras.layers.Dense):
            kernel = layer.kernel.numpy()
            layer.kernel.assign(kernel * (rng.random(kernel.shape[-1]) < 0.8))


def _saturate(model: keras.Model, net: Net) -> None:
    """Moves the biases of some channels far beyond what the fitted scales reach."""
    rng = np.random.default_rng(net.seed)
    for layer in model.layers[:-1]:
        bias = getattr(layer, "beta", getattr(layer, "bias", None))
        if bias is not None:
            far = rng.choice([0.0, -FAR, FAR], bias.shape, p=[0.8, 0.1, 0.1])
            bias.assign_add(far.astype(np.float32))


def _finish(x: Any, block: Block) -> Any:
    if block.gamma:
        number = keras.backend.get_uid("batch_norm")
        name = f"bn{number}/{block.gamma.replace(' ', '_')}"
        x = keras.layers.BatchNormalization(name=name)(x)
    if block.relu:
        x = keras.layers.ReLU(6.0 if block.relu == "relu6" else None)(x)
    return x


def _window(x: Any, block: Block) -> dict[str, Any]:
    fits = all(size <= side for size, side in zip(block.size, x.shape[1:3], strict=True))
    return {"strides": block.stride, "padding": block.padding if fits else "same"}


def _conv(x: Any, block: Block) -> Any:
    layer = keras.layers.Conv2D(block.filters, block.size, **_window(x, block))
    return _finish(layer(x), block)


def _depthwise(x: Any, block: Block) -> Any:
    return _finish(keras.layers.DepthwiseConv2D(block.size, **_window(x, block))(x), block)


def _grouped(x: Any, block: Block) -> Any:
    groups = max(n for n in (1, 2, 3) if x.shape[-1] % n == 0)
    filters = groups * -(-block.filters // groups)
    layer = keras.layers.Conv2D(filters, block.size, groups=groups, **_window(x, block))
    return _finish(layer(x), block)


def _multiplied(x: Any, block: Block) -> Any:
    layer = keras.layers.DepthwiseConv2D(block.size, depth_multiplier=2, **_window(x, block))
    return _finish(layer(x), block)


def _transpose(x: Any, block: Block) -> Any:
    stride = block.stride if max(x.shape[1:3]) < 12 else 1
    more: dict[str, Any] = {}
    if stride == 2 and min(block.size) > 1 and block.relu:
        more["output_padding"] = 1
    if stride == 1 and block.gamma:
        more["dilation_rate"] = 2
    layer = keras.layers.Conv2DTranspose(block.filters, block.size, stride, block.padding, **more)
    return _finish(layer(x), block)


def _separable(x: Any, block: Block) -> Any:
    layer = keras.layers.SeparableConv2D(block.filters, block.size, **_window(x, block))
    return _finish(layer(x), block)


def _dense(x: Any, block: Block) -> Any:
    return _finish(keras.layers.Dense(block.filters)(x), block)


def _residual(x: Any, block: Block) -> Any:
    branch = keras.layers.Conv2D(x.shape[-1], block.size, padding="same")(x)
    branch = _finish(branch, Block(**{**vars(block), "relu": None}))
    x = keras.layers.Add()([x, branch])
    return keras.layers.ReLU()(x) if block.relu else x


def _projection(x: Any, block: Block) -> Any:
    """A residual block both of whose branches compute, with a ReLU inside one."""
    stride = {"strides": block.stride, "padding": "same"}
    left = _finish(keras.layers.Conv2D(block.filters, block.size, **stride)(x), block)
    left = keras.layers.Conv2D(block.filters, 1, use_bias=False)(left)
    left = keras.layers.BatchNormalization(name=f"bn{keras.backend.get_uid('batch_norm')}/signed")(
        left
    )
    right = keras.layers.Conv2D(block.filters, 1, **stride)(x)
    x = keras.layers.Add()([left, right])
    return keras.layers.ReLU()(x) if block.relu else x


def _max_pool(x: Any, block: Block) -> Any:
    return keras.layers.MaxPooling2D(block.size, **_window(x, block))(x)


def _avg_pool(x: Any, block: Block) -> Any:
    size = tuple(min(size, side) for size, side in zip(block.size, x.shape[1:3], strict=True))
    return keras.layers.AveragePooling2D(size, strides=block.stride)(x)


def _pad(x: Any, block: Block) -> Any:
    top, left = block.size
    return keras.layers.ZeroPadding2D(((top - 1, block.stride - 1), (left - 1, 1)))(x)


def _function(x: Any, block: Block) -> Any:
    names = ["sigmoid", "tanh", "swish", "hard_sigmoid", "gelu", "elu", hard_swish]
    return keras.layers.Activation(names[block.filters % len(names)])(x)


def _gate(x: Any, block: Block) -> Any:
    """Squeeze and excite."""
    x = keras.layers.Conv2D(block.filters, 1)(x)
    gate = keras.layers.GlobalAveragePooling2D()(x)
    gate = keras.layers.Dense(block.stride, activation="relu")(gate)
    activation = "sigmoid" if block.relu else "hard_sigmoid"
    gate = keras.layers.Dense(x.shape[-1], activation=activation)(gate)
    return keras.layers.Multiply()([x, gate])


def _bent(x: Any, block: Block) -> Any:
    """A ReLU with a slope, of each channel or each pixel its own or not."""
    if block.relu:
        return keras.layers.LeakyReLU(0.1 * block.filters)(x)
    return keras.layers.PReLU(shared_axes=[1, 2] if block.gamma else None)(x)


def _join(x: Any, block: Block) -> Any:
    """What comes in, a convolution of it, and what came in again."""
    branch = _finish(keras.layers.Conv2D(x.shape[-1], block.size, padding="same")(x), block)
    return keras.layers.Concatenate(axis=1 + block.filters % 3)([x, branch, x])


def _upsample(x: Any, block: Block) -> Any:
    fits = max(x.shape[1:3]) < 12
    return keras.layers.UpSampling2D((block.stride, block.size[1]) if fits else 1)(x)


def _crop(x: Any, block: Block) -> Any:
    rows, columns = (min(n, side) - 1 for n, side in zip(block.size, x.shape[1:3], strict=True))
    return keras.layers.Cropping2D(((rows, 0), (0, columns)))(x)


def _reshape(x: Any, block: Block) -> Any:
    height, width, channels = x.shape[1:]
    return keras.layers.Reshape((width, channels, height))(x)


def _permute(x: Any, block: Block) -> Any:
    orders = [(2, 1, 3), (1, 3, 2), (3, 1, 2), (2, 3, 1), (3, 2, 1)]
    return keras.layers.Permute(orders[block.filters % len(orders)])(x)


def _of_three(layer: Any) -> Any:
    """A layer of what comes in, a convolution of it, and what came in again or one of that."""

    def add(x: Any, block: Block) -> Any:
        branch = keras.layers.Conv2D(x.shape[-1], block.size, padding="same")(x)
        branch = _finish(branch, block)
        last = x if block.stride == 1 else keras.layers.Conv2D(x.shape[-1], 1)(branch)
        return layer()([x, branch, last])

    return add


def _difference(x: Any, block: Block) -> Any:
    branch = keras.layers.Conv2D(x.shape[-1], block.size, padding="same")(x)
    x = keras.layers.Subtract()([x, _finish(branch, block)])
    return keras.layers.ReLU()(x) if block.relu else x


def _edges(x: Any, block: Block) -> Any:
    return keras.layers.AveragePooling2D(block.size, block.stride, "same")(x)


def _shift(x: Any, block: Block) -> Any:
    """A value added to each channel, or to each column."""
    size = (x.shape[1], 1) if block.relu else x.shape[1:3]
    mean = keras.layers.AveragePooling2D(size)(x)
    return keras.layers.Add()([x, keras.layers.Conv2D(x.shape[-1], 1)(mean)])


_ADD = {
    "function": _function,
    "bent": _bent,
    "gate": _gate,
    "join": _join,
    "upsample": _upsample,
    "crop": _crop,
    "reshape": _reshape,
    "permute": _permute,
    "sum": _of_three(keras.layers.Add),
    "average": _of_three(keras.layers.Average),
    "greatest": _of_three(keras.layers.Maximum),
    "difference": _difference,
    "edges": _edges,
    "shift": _shift,
    "conv": _conv,
    "depthwise": _depthwise,
    "residual": _residual,
    "projection": _projection,
    "grouped": _grouped,
    "multiplied": _multiplied,
    "transpose": _transpose,
    "separable": _separable,
    "norm": lambda x, block: _finish(x, Block(**{**vars(block), "gamma": block.gamma or "signed"})),
    "dense": _dense,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "pad": _pad,
    "dropout": lambda x, block: keras.layers.Dropout(0.1 * block.stride)(x),
}
