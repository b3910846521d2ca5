"""Layers whose kernel a method rounds: what the twins of all layers with kernels have in common.

A twin is a Keras layer whose `kernel` is no variable but what the variable of that name is rounded
to, so that all that the layer computes is Keras' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_quant.errors import SchemeError
from keras_quant.graph.ir import Weight
from keras_quant.methods.method import Movable
from keras_quant.schemes.scheme import QuantSpec
from keras_quant.tf import keras, tf

KINDS = ("Conv1D", "Conv2D", "Conv2DTranspose", "Dense", "DepthwiseConv2D")
# Axes of the kernel that count output channels, where they are not the last one.
_CHANNELS = {"Conv2DTranspose": (2,), "DepthwiseConv2D": (2, 3)}
# Where least squares begin, in scales that reach max|w|: a quarter of an octave apart, to 1 / 6.7.
_RATIOS = tuple(2.0 ** (-place / 4) for place in range(12))


class Twin:
    """What a method's twins add to a Keras layer, which comes behind it among the bases.

    Args:
        spec: the bits of the kernel, whether in narrow range, and whether each channel has a
            scale: a QuantSpec's values by their names.
    """

    kind: str
    shared: tuple[str, ...] = ("raw_kernel",)
    # Attributes that hold what nets of several widths have in common, see `training.nested`.
    first: Mapping[str, np.ndarray]
    # What to begin with, by name of a variable of the method's own, in a twin of float weights.

    def __init__(self, *args: Any, spec: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.spec = dict(spec)
        self.first = {}

    @property
    def bits(self) -> int:
        return int(self.spec["bits"])

    @property
    def codes(self) -> tuple[int, int]:
        """The lowest and the highest code."""
        return kernel_codes(**{key: self.spec[key] for key in ("bits", "narrow_range")})

    @property
    def shared_axes(self) -> tuple[int, ...]:
        """Axes of the kernel along which its values share a scale."""
        return shared_axes(self.kind, len(self.raw_kernel.shape), self.spec["per_channel"])

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)  # type: ignore[misc]
        self.add_variables()
        for name, value in self.first.items():
            getattr(self, name).assign(value)
        self.first = {}

    def add_variables(self) -> None:
        """Adds the method's own variables."""

    def add_scale(self, name: str, *, trainable: bool) -> tf.Variable:
        """Adds a float32 variable with one value for all that share a scale, of 1."""
        shared = self.shared_axes
        shape = [1 if axis in shared else n for axis, n in enumerate(self.raw_kernel.shape)]
        return self.add_weight(  # type: ignore[attr-defined]
            name,
            shape=shape,
            dtype=tf.float32,
            initializer="ones",
            trainable=trainable,
            experimental_autocast=False,
        )

    def round_kernel(self, kernel: tf.Tensor) -> tf.Tensor:
        """The kernel that is computed with: codes times `kernel_scale`, in float32.

        Args:
            kernel: float32.
        """
        raise NotImplementedError

    def read_scale(self) -> np.ndarray:
        """float64, broadcasts to the kernel: the distance of its codes."""
        raise NotImplementedError

    @property
    def kernel(self) -> tf.Tensor:
        raw = tf.convert_to_tensor(self.raw_kernel)
        return tf.cast(self.round_kernel(tf.cast(raw, tf.float32)), raw.dtype)

    @kernel.setter
    def kernel(self, variable: tf.Variable) -> None:
        self.raw_kernel = variable

    depthwise_kernel = kernel

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "spec": self.spec}  # type: ignore[misc]


def make_twins(prefix: str, method: type) -> dict[str, Any]:
    """Makes the Keras classes of a method's twins, by the class that each is a twin of.

    Args:
        method: a subclass of Twin.
    """
    return {
        kind: keras.utils.register_keras_serializable("keras_quant")(
            type(
                f"{prefix}{kind}",
                (method, getattr(keras.layers, kind)),
                {"kind": kind, "__module__": method.__module__},
            )
        )
        for kind in KINDS
    }


def twin_of(
    layer: keras.layers.Layer, spec: QuantSpec, twins: Mapping[str, Any], **settings: Any
) -> Any:
    """The twin of a layer, with its settings but no activation, which is not built.

    Args:
        settings: of the twin's own.
    """
    numbers = {name: getattr(spec, name) for name in ("bits", "narrow_range", "per_channel")}
    config = layer.get_config() | {"activation": "linear", "spec": numbers, **settings}
    return twins[type(layer).__name__].from_config(config)


def refuse_bits(layer: keras.layers.Layer, spec: QuantSpec, why: str) -> None:
    """Raises: SchemeError."""
    raise SchemeError(f"layer {layer.name}: weights of {spec.bits} bit: {why}")


def kernel_codes(bits: int, narrow_range: bool) -> tuple[int, int]:
    """The lowest and the highest code of a kernel; of one bit -1 and 1."""
    highest: int = max(1, 2 ** (bits - 1) - 1)
    return (-highest if narrow_range or bits == 1 else -highest - 1), highest


def shared_axes(kind: str, rank: int, per_channel: bool) -> tuple[int, ...]:
    """Axes of a kernel along which values share a scale."""
    channels = [axis % rank for axis in _CHANNELS.get(kind, (-1,)) if per_channel]
    return tuple(axis for axis in range(rank) if axis not in channels)


def kernel_variable(layer: keras.layers.Layer) -> Any:
    """The variable that holds a float layer's kernel."""
    depthwise = getattr(layer, "depthwise_kernel", None)
    return layer.kernel if depthwise is None else depthwise


def float_kernel(layer: keras.layers.Layer) -> np.ndarray:
    """The float64 kernel of a Keras layer."""
    return np.asarray(kernel_variable(layer), np.float64)


def least_squares_scale(
    kernel: np.ndarray, codes: tuple[int, int], axes: tuple[int, ...]
) -> np.ndarray:
    """The scale whose codes are nearest to a kernel, in squares.

    From each of several first scales, codes q are rounded and <w, q> / <q, q> is the next scale;
    what then errs least is taken (Rastegari et al. 2016, eq. 6, for one bit; Max 1960 for more).

    Args:
        kernel: float64.
        codes: the lowest and the highest.
        axes: along which values share a scale.
    Returns: float32, of 1 along the axes; 1 where all values are 0.
    """

    def mean(values: np.ndarray) -> np.ndarray:
        found: np.ndarray = values.mean(axes, keepdims=True)
        return found

    reaching = np.abs(kernel).max(axes, keepdims=True) / codes[1]
    best, least = np.ones_like(reaching), np.full_like(reaching, np.inf)
    for ratio in _RATIOS:
        scale = np.where(reaching > 0, reaching * ratio, 1.0)
        rounded = np.clip(np.rint(kernel / scale), *codes)
        squares = mean(rounded * rounded)
        fitted = np.divide(mean(kernel * rounded), squares, out=scale.copy(), where=squares > 0)
        error = mean(np.square(np.clip(np.rint(kernel / fitted), *codes) * fitted - kernel))
        best, least = np.where(error < least, fitted, best), np.minimum(error, least)
    found: np.ndarray = best.astype(np.float32)
    return found


def read_twin(layer: Any, twins: Mapping[str, Any]) -> Weight | None:
    """Reads a twin's kernel as codes; see `Reader.kernel`."""
    if type(layer) is not twins.get(getattr(layer, "kind", "")):
        return None
    scale = layer.read_scale()
    codes = np.rint(np.asarray(layer.kernel, np.float64) / scale)
    return Weight(values=codes.astype(np.int16), scale=scale, bits=layer.bits)


def movable_of(layer: Any, twins: Mapping[str, Any]) -> Movable | None:
    """A twin's bias, which may be moved; see `Reader.movable`."""
    is_twin = type(layer) is twins.get(getattr(layer, "kind", ""))
    return Movable(bias=layer.bias) if is_twin else None
