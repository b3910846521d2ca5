"""Rounding up or down as something that can be learned: AdaRound's soft codes.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_quant.tf import tf

# Of the rectified sigmoid, below eq. 23.
ZETA, GAMMA = 1.1, -0.1
# Of the regularizer, eq. 24: from the first exponent, which lets codes between move freely, to the
# last, as in the authors' AIMET and in BRECQ (Li et al. 2021).
BETAS = (20.0, 2.0)
# Share of the steps without regularizer at the beginning, as in AIMET and BRECQ.
WARM_UP = 0.2
# How near 0 and 1 soft codes begin at most: beyond, the sigmoid is flat and nothing moves.
EDGE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SoftCodes:
    """Codes of a kernel, each between two neighbours.

    Attributes:
        low: float32 integers: the lower of the two.
        moved: float32 variable of that shape, V of eq. 22.
        qmax: the highest code, and the lowest but for its sign.
    """

    low: NDArray[np.float32]
    moved: tf.Variable
    qmax: int

    def soft(self) -> tf.Tensor:
        """clip(low + h(V)), eq. 22."""
        return tf.clip_by_value(self.low + rectified_sigmoid(self.moved), -self.qmax, self.qmax)

    def hard(self) -> NDArray[np.float64]:
        """The neighbour that each is nearer to; what lies in the middle rounds up."""
        up = np.asarray(rectified_sigmoid(self.moved)) >= 0.5
        return np.clip(self.low.astype(np.float64) + up, -self.qmax, self.qmax)


def soft_codes(values: NDArray[np.float64], codes: NDArray[np.float64], qmax: int) -> SoftCodes:
    """Begins at values, between two neighbours one of which is a code.

    Args:
        values: a kernel over its scale.
        codes: integers; those nearest to the values give the neighbours of eq. 22, floor and
            floor + 1. Where a search has moved a code further away, it is one of the two, the other
            is its neighbour on the side of the value, and that is where it begins.
        qmax: see SoftCodes.
    """
    low = np.clip(np.floor(values), codes - 1, codes)
    begin = np.clip(values - low, EDGE, 1 - EDGE)
    moved = -np.log((ZETA - GAMMA) / (begin - GAMMA) - 1)  # eq. 23, solved for V
    return SoftCodes(
        low=low.astype(np.float32), moved=tf.Variable(moved.astype(np.float32)), qmax=qmax
    )


def rectified_sigmoid(moved: tf.Tensor) -> tf.Tensor:
    """h(V) = clip(sigmoid(V) (zeta - gamma) + gamma, 0, 1), eq. 23: float32, in [0, 1]."""
    return tf.clip_by_value(tf.sigmoid(moved) * (ZETA - GAMMA) + GAMMA, 0.0, 1.0)


def undecided(moved: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    """The mean of 1 - |2 h(V) - 1|**beta, eq. 24 over its number of weights: float32 ()."""
    distance = tf.abs(2.0 * rectified_sigmoid(moved) - 1.0)
    return 1.0 - tf.reduce_mean(tf.pow(distance, beta))


def annealed(progress: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether there is a regularizer, 0.0 or 1.0, and its exponent.

    Args:
        progress: share of the steps that are done, float32 () in [0, 1].
    """
    first, last = BETAS
    share = tf.clip_by_value((progress - WARM_UP) / (1.0 - WARM_UP), 0.0, 1.0)
    return tf.cast(progress >= WARM_UP, tf.float32), first + (last - first) * share
