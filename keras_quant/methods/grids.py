"""Layers that round activations to a step that is learned, or to signs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_quant.methods.layers import GroupStep
from keras_quant.methods.method import Activation
from keras_quant.methods.straight_through import SMALLEST, round_levels, round_to_step, sign
from keras_quant.qparams import QParams, signed
from keras_quant.tf import keras, tf


@keras.utils.register_keras_serializable("keras_quant")
class GroupZeroPoint(GroupStep):
    """Owns the learned step of a group, and its learned zero point.

    What LSQ+ adds (beta of Bhalgat et al. 2020, section 3) is any real number, of which integers
    have only whole multiples of the step: else real 0, and so padding and ReLUs, would have no
    code. So it is learned as a zero point, in codes, and rounded to a whole one where it is used.

    Args:
        scale: to begin with, > 0.
        zero_point: to begin with, within [qmin, qmax].
    """

    def __init__(
        self, scale: float, zero_point: float, qmin: int, qmax: int, **kwargs: Any
    ) -> None:
        super().__init__(scale, **kwargs)
        self.first, self.qmin, self.qmax = float(zero_point), int(qmin), int(qmax)
        self.learned = self.add_weight(
            "zero_point",
            shape=(),
            dtype=tf.float32,
            initializer=keras.initializers.Constant(self.first),
            experimental_autocast=False,
        )

    @property
    def zero_point(self) -> tf.Tensor:
        """float32 (), a whole number; its gradient goes to what is learned."""
        return round_levels(tf.convert_to_tensor(self.learned), self.qmin, self.qmax)

    def get_config(self) -> dict[str, Any]:
        codes = {"zero_point": self.first, "qmin": self.qmin, "qmax": self.qmax}
        return {**super().get_config(), **codes}


class StepGrid(keras.layers.Layer):
    """Rounds values to codes of its group's step.

    Args:
        step: the group's.
        qmin: lowest code.
        qmax: highest code.
        zero_point: the code of real 0, unless the group learns it.
    """

    rounding_counts = True
    scales_gradient = True

    def __init__(self, step: Any, qmin: int, qmax: int, zero_point: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = GroupStep.of(step)
        self.qmin, self.qmax, self.zero_point = int(qmin), int(qmax), int(zero_point)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        learned = getattr(self.step, "zero_point", self.zero_point)
        return round_to_step(
            inputs,
            tf.convert_to_tensor(self.step.scale),
            qmin=self.qmin,
            qmax=self.qmax,
            zero_point=learned,
            rounding_counts=self.rounding_counts,
            gradient_scale=self._gradient_scale(inputs) if self.scales_gradient else 1.0,
        )

    def _gradient_scale(self, inputs: tf.Tensor) -> float:
        features = int(np.prod([size or 1 for size in inputs.shape[1:]]))
        return lsq_gradient_scale(features, self.qmax - self.zero_point)

    @property
    def qparams(self) -> QParams:
        """What it rounds to."""
        zero_point = int(getattr(self.step, "zero_point", self.zero_point))
        return QParams(
            scale=max(float(self.step.scale.numpy()), SMALLEST),
            zero_point=zero_point,
            qmin=self.qmin,
            qmax=self.qmax,
            bits=(self.qmax - self.qmin).bit_length(),
        )

    def get_config(self) -> dict[str, Any]:
        names = ("step", "qmin", "qmax", "zero_point")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def lsq_gradient_scale(count: int, qmax: int) -> float:
    """1 / sqrt(count * qmax): Esser et al. 2020, section 2.2.

    Args:
        count: of the values that share the step; of activations those of one image.
        qmax: the highest code, counted from that of real 0.
    """
    return 1 / math.sqrt(max(1, count) * max(1, qmax))


@keras.utils.register_keras_serializable("keras_quant")
class SignGrid(keras.layers.Layer):
    """Gives -scale below 0, else scale; the gradient passes where |x| <= scale.

    Courbariaux et al. 2016, "Binarized Neural Networks", eq. 1 and 4, with 1 in place of scale.
    """

    def __init__(self, scale: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = float(scale)

    @property
    def qparams(self) -> QParams:
        """Codes -1, 0 and 1, of which it never gives 0."""
        return signed(2, self.scale, narrow_range=True)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale}

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return sign(inputs, reach=self.scale) * tf.cast(self.scale, inputs.dtype)


def read_grid(activation: Any, name: str) -> Activation | None:
    """Reads what a layer of this module computes; see `Reader.activation`."""
    if isinstance(activation, StepGrid):
        return Activation(qparams=activation.qparams)
    return None


def read_sign(activation: Any, name: str) -> Activation | None:
    """Reads what a SignGrid computes; see `Reader.activation`."""
    if isinstance(activation, SignGrid):
        return Activation(qparams=activation.qparams, function=activation, dead_band=0.0)
    return None
