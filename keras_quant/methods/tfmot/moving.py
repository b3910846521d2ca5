"""Activations rounded within moving averages of their ranges, as TF-MOT's MovingAverageQuantizer.

low = low * ema + min(x) * (1 - ema) in each training step, and high likewise of max(x); both reach
0 at least. TF-MOT gives each tensor a range of its own. Here what is added, concatenated or put
through one layer twice has one scale, so that integers add without rounding: then each member keeps
its own averages, and the scale is that of the widest. Ranges begin where calibration found them,
in place of -6 to 6.

In inference, and so in the exported files, halves round to even.
"""

from __future__ import annotations

from typing import Any

from keras_quant.methods.layers import fuses_kernels, holds_ranges
from keras_quant.methods.method import Activation
from keras_quant.methods.one_pass import gradient_within
from keras_quant.methods.tfmot.twin import TfmotOptions
from keras_quant.qparams import QParams
from keras_quant.tf import keras, tf

SMALLEST = 2.0**-24  # the scale of a range that shrank to nothing


@keras.utils.register_keras_serializable("keras_quant")
class MovingRange(keras.layers.Layer):
    """Owns the ranges of all activations of a group, and the scale and zero point of them all.

    A part of each layer that rounds them, see `methods.layers.GroupStep`.

    Args:
        qmin, qmax: codes of the leading activation.
        symmetric: real 0 is code 0; else the zero point goes with the range.
        members: how many ranges there are.
    """

    def __init__(
        self, qmin: int, qmax: int, symmetric: bool, members: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.qmin, self.qmax, self.symmetric = int(qmin), int(qmax), bool(symmetric)
        self.is_followed = False
        self.lows: list[tf.Variable] = []
        self.highs: list[tf.Variable] = []
        for _ in range(members):
            self.add_member(0.0, 0.0)
        self.built = True

    @staticmethod
    def of(value: Any) -> MovingRange:
        """The object itself, or what was saved of one."""
        found: MovingRange = (
            keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value
        )
        return found

    def add_member(self, low: float, high: float) -> int:
        """Adds a range. Returns: its place."""
        place = len(self.lows)
        for kind, value, into in (("low", low, self.lows), ("high", high, self.highs)):
            variable = self.add_weight(
                f"{kind}_{place}",
                shape=(),
                dtype=tf.float32,
                trainable=False,
                initializer=keras.initializers.Constant(value),
                experimental_autocast=False,
            )
            into.append(variable)
        return place

    def follow(self, x: tf.Tensor, place: int, ema: float) -> None:
        """Moves the range at a place towards the values of a batch."""
        highest = tf.maximum(_greatest(tf.cast(tf.reduce_max(x), tf.float32)), 0.0)
        self.highs[place].assign(self.highs[place] * ema + highest * (1 - ema))
        if not self.symmetric or self.qmin < 0:
            lowest = tf.minimum(-_greatest(-tf.cast(tf.reduce_min(x), tf.float32)), 0.0)
            self.lows[place].assign(self.lows[place] * ema + lowest * (1 - ema))

    def grid(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The scale, and the zero point of what is not symmetric; float32 scalars.

        Those of the range that holds all members', nudged as in `ranges.nudge`.
        """
        low, high = tf.reduce_min(self.lows), tf.reduce_max(self.highs)
        if self.symmetric:
            scale = high / self.qmax
            if self.qmin < 0:
                scale = tf.maximum(scale, low / self.qmin)
            return tf.maximum(scale, SMALLEST), tf.zeros_like(scale)
        scale = tf.maximum((high - low) / (self.qmax - self.qmin), SMALLEST)
        zero_point = tf.floor(self.qmin - low / scale + 0.5)
        return scale, tf.clip_by_value(zero_point, float(self.qmin), float(self.qmax))

    def get_config(self) -> dict[str, Any]:
        """The codes, and how many members there are."""
        names = ("qmin", "qmax", "symmetric")
        own = {name: getattr(self, name) for name in names} | {"members": len(self.lows)}
        return {**super().get_config(), **own}


def _greatest(value: tf.Tensor) -> tf.Tensor:
    """Where replicas train together, the greatest of what each has of its share of a batch."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return tf.reduce_max(context.all_gather(value[None], axis=0))


@keras.utils.register_keras_serializable("keras_quant")
class MovingGrid(keras.layers.Layer):
    """Rounds values to the grid of its group's range.

    Args:
        step: the group's MovingRange.
        qmin, qmax: lowest and highest code.
        symmetric: real 0 is code 0, whatever the group's zero point is.
        place: of its own range in the group's; None where it follows the others.
        ema: see the module.
    """

    def __init__(
        self,
        step: Any,
        qmin: int,
        qmax: int,
        symmetric: bool,
        place: int | None,
        ema: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.step = MovingRange.of(step)
        self.qmin, self.qmax, self.symmetric = int(qmin), int(qmax), bool(symmetric)
        self.place, self.ema = place, float(ema)

    @property
    def qparams(self) -> QParams:
        """The grid, as inference has it."""
        scale, zero_point = self.step.grid()
        return QParams(
            scale=float(scale),
            zero_point=0 if self.symmetric else int(zero_point),
            qmin=self.qmin,
            qmax=self.qmax,
            bits=(self.qmax - self.qmin).bit_length(),
        )

    def call(self, inputs: tf.Tensor, training: Any = None) -> tf.Tensor:
        """Rounds values; in training, to a range that follows them."""
        training = keras.backend.learning_phase() if training is None else training
        return keras.src.utils.control_flow_util.smart_cond(
            False if holds_ranges() else training,
            lambda: self._follow(inputs),
            lambda: self._round(inputs),
        )

    def _follow(self, x: tf.Tensor) -> tf.Tensor:
        if self.place is not None:
            self.step.follow(x, self.place, self.ema)
        return self._round(x)

    def _round(self, x: tf.Tensor) -> tf.Tensor:
        scale, zero_point = self.step.grid()
        zero_point = tf.zeros_like(scale) if self.symmetric else zero_point
        low, high = self.qmin - zero_point, self.qmax - zero_point
        real, levels = tf.cast(x, tf.float32), self.qmax - self.qmin + 1
        if fuses_kernels() and levels in FUSED_LEVELS:
            return tf.cast(_round_in_one_pass(real, scale, low, high, levels), x.dtype)
        return tf.cast(_round_exactly(real, scale, low, high), x.dtype)

    def get_config(self) -> dict[str, Any]:
        """The group's object itself, and the codes."""
        names = ("step", "qmin", "qmax", "symmetric", "place", "ema")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@tf.custom_gradient
def _round_exactly(
    x: tf.Tensor, scale: tf.Tensor, low: tf.Tensor, high: tf.Tensor
) -> tuple[tf.Tensor, Any]:
    """Rounds half to even; the gradient passes within the range."""
    levels = x / scale
    inside = (levels >= low) & (levels <= high)
    codes = tf.clip_by_value(tf.round(levels), low, high)
    return codes * scale, lambda upstream: (tf.where(inside, upstream, 0.0), None, None, None)


def _round_in_one_pass(
    x: tf.Tensor, scale: tf.Tensor, low: tf.Tensor, high: tf.Tensor, levels: int
) -> tf.Tensor:
    """Rounds half up, by TensorFlow's kernel; see `methods.layers.fused_kernels`."""
    bits, narrow = levels.bit_length() - 1, levels & (levels - 1) != 0

    @tf.custom_gradient
    def rounded(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        lowest, highest = low * scale, high * scale
        y = tf.quantization.fake_quant_with_min_max_vars(
            x, lowest, highest, num_bits=bits + narrow, narrow_range=narrow
        )

        return y, lambda upstream: gradient_within(upstream, x, lowest, highest)

    return rounded(x)


FUSED_LEVELS = frozenset({2**bits - less for bits in range(2, 9) for less in (0, 1)})
"""How many codes TensorFlow's fake-quantize kernels know."""

CLASSES = frozenset({"MovingGrid", "MovingRange"})


def step(name: str, grid: QParams, options: TfmotOptions) -> MovingRange:
    """Makes what the activations of a group share, of the leading one's grid, with its range."""
    made = MovingRange(grid.qmin, grid.qmax, grid.zero_point == 0, name=name)
    made.add_member(*_range(grid))
    return made


def _range(grid: QParams) -> tuple[float, float]:
    """What the lowest and the highest code of a grid stand for; 0 is within."""
    low, high = ((end - grid.zero_point) * grid.scale for end in (grid.qmin, grid.qmax))
    return min(low, 0.0), max(high, 0.0)


def activation(
    name: str, grid: QParams, step: MovingRange, options: TfmotOptions
) -> keras.layers.Layer:
    """Makes the layer that rounds a tensor; its range begins with its grid.

    Of other codes than the leading activation's, a tensor follows: around additions these are
    branches, which are cut at what the sum's scale gives them.
    """
    symmetric = grid.zero_point == 0
    leads = (grid.qmin, grid.qmax, symmetric) == (step.qmin, step.qmax, step.symmetric)
    place = None
    if leads:
        place = step.add_member(*_range(grid)) if step.is_followed else 0
        step.is_followed = True
    return MovingGrid(step, grid.qmin, grid.qmax, symmetric, place, options.ema, name=name)


def read_activation(layer: Any, name: str) -> Activation | None:
    """Reads the grid of a MovingGrid; None for anything else."""
    return Activation(qparams=layer.qparams) if isinstance(layer, MovingGrid) else None
